"""The executor `slurm`: a job array of the runs, through submitit."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hashbench.errors import HashbenchError
from hashbench.executors import worker
from hashbench.executors.base import TICK, Executor
from hashbench.experiments.jobs import Job, JobEnd, JobEvent, Sweep


@dataclass(frozen=True)
class Slurm(Executor):
    """A job array, one of its jobs for each run or for some of them; Ctrl-C ends the waiting, and the jobs go on.

    A job that is preempted, or whose time is up, is queued again and resumes from its last epoch.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    timeout_min: int = 1440  # minutes that one job may take
    gpus: int = 1  # GPUs of each job
    cpus: int = 4  # CPUs of each job
    memory_gb: float | None = None  # memory of each job; by default the cluster's
    cells_per_job: int = 1  # short runs are better done several to a job
    logs: str | None = None  # what submitit keeps, in a folder that all machines see; by default beside the runs
    cluster: Literal["slurm", "local"] = "slurm"  # local: all jobs at once on this machine, for a trial

    def require(self) -> None:
        """Raise HashbenchError where submitit or Slurm itself is missing."""
        if importlib.util.find_spec("submitit") is None:
            raise HashbenchError(
                "The executor slurm needs submitit, which is not installed: pip install 'hashbench[slurm]'."
            )
        if self.cluster == "slurm" and shutil.which("sbatch") is None:
            raise HashbenchError(
                "There is no sbatch on this machine, so no job can be given to Slurm; run this on a login node, or say "
                "--executor local for worker processes here."
            )
        if self.cells_per_job < 1:
            raise HashbenchError(f"cells_per_job={self.cells_per_job} is not possible; give 1 or more.")

    def compute(self, sweep: Sweep, jobs: Sequence[Job], *, workers: int | None) -> Generator[JobEvent | None]:
        """Yield each job as its group ends; `workers` bounds how many groups are computed at a time."""
        groups = [jobs[at : at + self.cells_per_job] for at in range(0, len(jobs), self.cells_per_job)]
        folder = Path(self.logs).absolute() if self.logs else _beside(sweep.request.settings.runs_dir)
        executor = self._executor(folder, parallel=workers or len(groups))
        waiting = [*zip(_submitted(executor, JobGroup(sweep.text), groups), groups, strict=True)]
        while waiting:
            ended = [(submitted, group) for submitted, group in waiting if submitted.done()]
            for submitted, group in ended:
                waiting.remove((submitted, group))
                yield from _ends(submitted, group)
            if not ended:
                yield None
                time.sleep(TICK)

    def _executor(self, folder: Path, *, parallel: int) -> Any:
        import submitit

        executor = submitit.AutoExecutor(folder=folder, cluster=self.cluster)
        executor.update_parameters(
            name="hashbench",
            timeout_min=self.timeout_min,
            gpus_per_node=self.gpus,
            cpus_per_task=self.cpus,
            mem_gb=self.memory_gb,
            slurm_partition=self.partition,
            slurm_account=self.account,
            slurm_qos=self.qos,
            slurm_constraint=self.constraint,
            slurm_array_parallelism=parallel,
        )
        return executor


class JobGroup:
    """What one element of the array does: some jobs of a sweep, one after another."""

    def __init__(self, sweep: str):
        self._sweep = sweep

    def __call__(self, jobs: Sequence[Job]) -> list[JobEnd]:
        """Compute the jobs and return how each ended."""
        return [worker.compute(self._sweep, job) for job in jobs]

    def checkpoint(self, jobs: Sequence[Job]) -> Any:
        """Return the same again, for submitit to put into the queue: finished runs are not repeated."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, jobs)


def _submitted(executor: Any, compute: JobGroup, groups: Sequence[Sequence[Job]]) -> list[Any]:
    """Return Slurm's job of each group; raises HashbenchError with Slurm's reason where it refuses them."""
    import submitit

    try:
        with executor.batch():
            return [executor.submit(compute, group) for group in groups]
    except submitit.core.utils.FailedJobError as error:
        lines = [line for line in str(error).splitlines() if "error" in line.lower()] or [str(error)]
        raise HashbenchError(f"Slurm does not take the jobs ({lines[-1].strip()}); see --executor-option.") from error


def _ends(submitted: Any, group: Sequence[Job]) -> list[JobEnd]:
    """Return how the jobs of a group ended; where Slurm lost the group, its unfinished jobs have failed."""
    try:
        found: list[JobEnd] = submitted.result()
        return found
    except Exception as error:  # submitit raises what the group raised, or its own when that left nothing
        what = " ".join(str(error).split())
        reason = f"Its job {submitted.job_id} ended without it ({what[:300]}); {submitted.paths.stderr} may say more."
        return [JobEnd(job.at, reason) for job in group]


def _beside(runs_dir: Path) -> Path:
    """Return a folder beside the results, which hold no pickles."""
    return runs_dir.with_name(f"{runs_dir.name}.slurm")
