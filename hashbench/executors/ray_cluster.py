"""The executor `ray`: a Ray task for each run, on a cluster that runs, or on one started for this sweep."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from hashbench.errors import HashbenchError
from hashbench.executors.base import TICK, Executor
from hashbench.experiments.jobs import Job, JobEnd, JobEvent, Sweep

SMALL_SHARE = 0.25  # of a GPU, for a head on fixed features
_PASSED_VARIABLES = ("HASHBENCH_DATA", "HASHBENCH_CACHE", "HASHBENCH_ACCEPT_UNOFFICIAL")


@dataclass(frozen=True)
class Ray(Executor):
    """A Ray task for each run; a run whose node is lost is started on another one. Ctrl-C ends them."""

    address: str | None = None  # of the cluster; by default the one that runs on this machine, else a new one
    cpus: float = 1.0  # CPUs for each run
    gpus: float | None = None  # GPUs for each run; by default none without GPUs, else 1, or 0.25 for a frozen backbone
    retries: int = 3  # how often a run is started again after its node or worker was lost

    def require(self) -> None:
        """Raise HashbenchError where Ray is not installed."""
        if importlib.util.find_spec("ray") is None:
            raise HashbenchError("The executor ray needs Ray, which is not installed: pip install 'hashbench[ray]'.")

    def compute(self, sweep: Sweep, jobs: Sequence[Job], *, workers: int | None) -> Generator[JobEvent | None]:
        """Yield each job as its task ends; Ray decides where and when it is run, and runs it again after a loss."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # without it, Ray sends usage reports; before its import
        import ray

        connects = not ray.is_initialized()
        if connects:
            self._connect(ray)
        text, task = sweep.text, ray.remote(_remote_task())
        pending, at = deque(jobs), dict[Any, Job]()
        try:
            while pending or at:
                while pending and (workers is None or len(at) < workers):
                    job = pending.popleft()
                    needs = {"num_cpus": self.cpus, "num_gpus": self._gpus(ray, job), "max_retries": self.retries}
                    at[task.options(name="hashbench run", **needs).remote(text, job.text)] = job
                ended, _ = ray.wait([*at], timeout=TICK)
                if not ended:
                    yield None
                for ref in ended:
                    yield _outcome(ray, ref, at.pop(ref))
        finally:
            for ref in at:
                ray.cancel(ref, force=True)
            if connects:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        variables = {name: os.environ[name] for name in _PASSED_VARIABLES if name in os.environ}
        try:
            _check_reachable(self.address)
            ray.init(address=self.address, runtime_env={"env_vars": variables}, log_to_driver=False,
                     logging_level="warning", **({} if self.address else {"include_dashboard": False}))  # fmt: skip
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise HashbenchError(
                f"There is no Ray cluster at {self.address or 'this machine'} to connect to ({reason}); start one: "
                f"ray start --head, and name it: --executor-option address=HOST:6379."
            ) from error

    def _gpus(self, ray: Any, job: Job) -> float:
        if self.gpus is not None:
            return self.gpus
        if not ray.cluster_resources().get("GPU"):
            return 0.0
        return SMALL_SHARE if job.small else 1.0


def _check_reachable(address: str | None) -> None:
    """Raise OSError where no process listens at HOST:PORT; Ray itself would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _remote_task() -> Callable[[str, str], tuple[str | None]]:
    """Return the task; it is made here so that Ray sends its code, and a node without hashbench can say so."""

    def compute(sweep: str, job: str) -> tuple[str | None]:
        import platform

        try:
            from hashbench.executors import worker
            from hashbench.experiments.jobs import Job
        except ImportError as error:
            return (
                f"{platform.node()} of the Ray cluster cannot import hashbench ({error}); "
                f"install it there, in the environment in which ray was started.",
            )
        return (worker.compute(sweep, Job.from_text(job)).error,)

    return compute


def _outcome(ray: Any, ref: Any, job: Job) -> JobEnd:
    try:
        (error,) = ray.get(ref)
    except ray.exceptions.RayError as lost:
        what = " ".join(str(lost).split())
        error = f"Ray gave it up ({type(lost).__name__}): {what[:500]}"
    return JobEnd(job.at, error)
