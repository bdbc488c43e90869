"""The executor `serial`: one run after another in this process, with all ranks that torchrun started."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from hashbench.errors import HashbenchError
from hashbench.executors.base import Executor, JobQueue, seeds_together
from hashbench.executors.worker import Worker
from hashbench.experiments.jobs import Job, JobEvent, JobHeld, JobStart, Sweep
from hashbench.experiments.planning import plan_of
from hashbench.system.distributed import world


@dataclass(frozen=True)
class Serial(Executor):
    """One run after another in this process; the default. Ctrl-C ends the run at its last epoch."""

    together: int | None = None  # seeds of a row that are trained at once, at most; by default all, up to eight

    def compute(self, sweep: Sweep, jobs: Sequence[Job], *, workers: int | None) -> Generator[JobEvent | None]:
        """Yield each job as it starts, is put aside and ends; under torchrun, a failure ends them all."""
        if workers not in (None, 1):
            raise HashbenchError("The executor serial computes one run at a time; choose --executor local for more.")
        together = seeds_together(self.together, len(jobs), 1)
        worker = Worker(sweep.plan or plan_of(sweep.request), together=together)
        queue = JobQueue(jobs)
        while turn := queue.next():
            job, wait = turn
            if not wait:
                yield JobStart(job.at)
            end = worker.compute(job, wait=wait)
            if end is None:
                queue.put_aside(job)
                yield JobHeld(job.at)
                continue
            yield end
            if end.error is not None and not world().is_single:
                return  # the state of the other ranks is unknown: the next call starts anew
