"""The executor `ray`: a Ray task for each cell, on a cluster that runs, or on one started for this sweep."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from hashbench.errors import HashbenchError
from hashbench.executors.base import BEAT, Done, Errand, Executor, Sweep

SMALL_SHARE = 0.25  # of a GPU, for a head on fixed features
_HANDED_ON = ("HASHBENCH_DATA", "HASHBENCH_CACHE", "HASHBENCH_ACCEPT_UNOFFICIAL")


@dataclass(frozen=True)
class Ray(Executor):
    """A Ray task for each cell; a cell whose node is lost is started on another one. Ctrl-C ends them."""

    address: str | None = None  # of the cluster; by default the one that runs on this machine, else a new one
    cpus: float = 1.0  # CPUs for each cell
    gpus: float | None = None  # GPUs for each cell; by default none without GPUs, else 1, or 0.25 for a frozen backbone
    retries: int = 3  # how often a cell is started again after its node or worker was lost

    def require(self) -> None:
        """Raise HashbenchError where Ray is not installed."""
        if importlib.util.find_spec("ray") is None:
            raise HashbenchError("The executor ray needs Ray, which is not here: pip install 'hashbench[ray]'.")

    def compute(self, sweep: Sweep, errands: Sequence[Errand], *, workers: int | None) -> Generator[Done | None]:
        """Yield each errand as its task ends; Ray decides where and when it is run, and runs it again after a loss."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports home unless told not to, before its import
        import ray

        ours = not ray.is_initialized()
        if ours:
            self._connect(ray)
        text, task = sweep.text, ray.remote(_far_side())
        pending, at = deque(errands), dict[Any, Errand]()
        try:
            while pending or at:
                while pending and (workers is None or len(at) < workers):
                    errand = pending.popleft()
                    needs = {"num_cpus": self.cpus, "num_gpus": self._gpus(ray, errand), "max_retries": self.retries}
                    at[task.options(name="hashbench cell", **needs).remote(text, errand.text)] = errand
                ended, _ = ray.wait([*at], timeout=BEAT)
                if not ended:
                    yield None
                for ref in ended:
                    yield _outcome(ray, ref, at.pop(ref))
        finally:
            for ref in at:
                ray.cancel(ref, force=True)
            if ours:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        variables = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
        try:
            _knock(self.address)
            ray.init(address=self.address, runtime_env={"env_vars": variables}, log_to_driver=False,
                     logging_level="warning", **({} if self.address else {"include_dashboard": False}))  # fmt: skip
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise HashbenchError(
                f"There is no Ray cluster at {self.address or 'this machine'} to connect to ({reason}); start one: "
                f"ray start --head, and name it: --executor-option address=HOST:6379."
            ) from error

    def _gpus(self, ray: Any, errand: Errand) -> float:
        if self.gpus is not None:
            return self.gpus
        if not ray.cluster_resources().get("GPU"):
            return 0.0
        return SMALL_SHARE if errand.small else 1.0


def _knock(address: str | None) -> None:
    """Raise OSError where nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _far_side() -> Callable[[str, str], tuple[str | None]]:
    """Return the task; it is made here so that Ray sends its code, and a node without hashbench can say so."""

    def compute(sweep: str, errand: str) -> tuple[str | None]:
        import platform

        try:
            from hashbench.executors import base, worker
        except ImportError as error:
            return (
                f"{platform.node()} of the Ray cluster cannot import hashbench ({error}); "
                f"install it there, in the environment in which ray was started.",
            )
        return (worker.compute(sweep, base.Errand.from_text(errand)).error,)

    return compute


def _outcome(ray: Any, ref: Any, errand: Errand) -> Done:
    try:
        (error,) = ray.get(ref)
    except ray.exceptions.RayError as lost:
        what = " ".join(str(lost).split())
        error = f"Ray gave it up ({type(lost).__name__}): {what[:500]}"
    return Done(errand.at, error)
