"""The contract of an executor: it takes jobs as plain data, computes them anywhere, and yields an event as each ends.

Executors carry no results: what a worker computes lies in the results folder, which all machines share, and a run's
lock ensures that it is computed once. So an engine may start a lost job again.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hashbench.errors import HashbenchError, unknown
from hashbench.experiments.jobs import Job, JobEvent, Sweep
from hashbench.experiments.settings import parse_value
from hashbench.registry import EXECUTORS

TICK = 1.0  # seconds after which an executor without news yields None


@dataclass(frozen=True)
class Executor(ABC):
    """An engine that computes runs; its typed fields are the keys of `--executor-option`."""

    def require(self) -> None:  # noqa: B027  (an engine that is always available requires nothing)
        """Raise HashbenchError, with the way to install it, where the engine is missing."""

    @abstractmethod
    def compute(self, sweep: Sweep, jobs: Sequence[Job], *, workers: int | None) -> Generator[JobEvent | None]:
        """Yield JobEnd for each job as it ends, JobStart and JobHeld where known, None each second without news.

        At most `workers` are computed at a time; None: as many as fit. A job whose worker dies is tried again a
        bounded number of times, then ended with the reason. When the generator is closed, as Ctrl-C does, the workers
        end, unless the docstring of the class states otherwise.
        """


class JobQueue:
    """The jobs that no worker has; those whose runs another process computes come last."""

    def __init__(self, jobs: Iterable[Job]):
        self._free, self._held = deque(jobs), deque[Job]()

    def __len__(self) -> int:
        return len(self._free) + len(self._held)

    def next(self, *, cells: Collection[str] = ()) -> tuple[Job, bool] | None:
        """Return a job, and whether to wait for the process that computes its run; None where none is left.

        Jobs of `cells`, which others are at, come after the rest: whoever trains one may train its other seeds, too.
        """
        if self._free:
            job = next((job for job in self._free if job.cell not in cells), self._free[0])
            self._free.remove(job)
            return job, False
        return (self._held.popleft(), True) if self._held else None

    def put_back(self, job: Job) -> None:
        """Queue a job again that is to be tried once more."""
        self._free.append(job)

    def put_aside(self, job: Job) -> None:
        """Queue a job last whose run another process computes."""
        self._held.append(job)


def seeds_together(given: int | None, jobs: int, workers: int) -> int:
    """Return how many seeds of a row a worker trains at once, at most; by default none is taken that another could.

    Raises HashbenchError for a number `given` that is not possible.
    """
    if given is not None and given < 1:
        raise HashbenchError(f"--executor-option together={given} is not possible; give 1 or more.")
    return given or max(1, jobs // workers)


def parse_options(texts: Iterable[str]) -> dict[str, str]:
    """Return `key=value` texts as a mapping; raises HashbenchError for other forms."""
    parsed = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (equals and key.strip()):
            raise HashbenchError(f"--executor-option '{text}' is not of the form key=value.")
        parsed[key.strip()] = value
    return parsed


def make_executor(name: str, options: Mapping[str, str] | None = None) -> Executor:
    """Return the executor called `name` with its options; raises HashbenchError for what is unknown or missing."""
    cls: type[Executor] = EXECUTORS.get(name)
    known = [field.name for field in dataclasses.fields(cls)]
    for key in options or {}:
        if key not in known:
            raise unknown(f"option of the executor {name}", key, known, hint="`hashbench list executors` shows all.")
    executor = cls(**{key: parse_value(cls, key, text) for key, text in (options or {}).items()})
    executor.require()
    return executor


def _not_an_executor(name: str, thing: Any) -> str | None:
    if not (isinstance(thing, type) and issubclass(thing, Executor)):
        return f"{thing!r} is no class derived from hashbench.Executor."
    return None


EXECUTORS.accepts = _not_an_executor
