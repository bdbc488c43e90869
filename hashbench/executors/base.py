"""The contract of an executor: it is given cells as plain data, has them computed anywhere, and says as each ends.

Executors carry no results: what a worker computes lies in the results folder, which all machines share, and a run's
lock sees to it that it is computed once. So an engine may start a cell again whenever it lost sight of it.
"""

from __future__ import annotations

import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hashbench.errors import HashbenchError, unknown
from hashbench.experiments.planning import Request, Settings
from hashbench.experiments.settings import parse_value
from hashbench.registry import EXECUTORS
from hashbench.results.sweeps.run_state import Trace
from hashbench.storage.strict_json import dumps, loads

BEAT = 1.0  # seconds after which an executor that hears nothing says so


@dataclass(frozen=True)
class Errand:
    """One cell to be computed, as plain data."""

    at: int  # its place in the plan, which every process makes the same
    id: str  # its experiment's, by which a worker notices that its own plan is another
    planned: Trace  # what lay in its directory when the sweep was planned
    small: bool = False  # it trains a head on fixed features: several of them fit on one GPU

    @property
    def text(self) -> str:
        """The errand as JSON, for engines that carry it to other machines."""
        return dumps(dataclasses.asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Errand:
        """Return the errand that `text` came from."""
        plain = loads(text)
        planned = {name: found and tuple(found) for name, found in plain["planned"].items()}
        return cls(**{**plain, "planned": Trace(**planned)})


@dataclass(frozen=True)
class Sweep:
    """What all errands of a sweep share, as plain data: what was asked for, where, and by which command."""

    request: Request
    folder: str  # in which relative paths were meant
    argv: tuple[str, ...]  # for the provenance of the results

    @classmethod
    def of(cls, request: Request, argv: Sequence[str]) -> Sweep:
        """Return the sweep of a request made in this process; only this process shows progress."""
        given = request.settings
        settings = dataclasses.replace(
            given,
            runs_dir=given.runs_dir.absolute(),
            data_dir=given.data_dir and given.data_dir.expanduser().absolute(),
            progress=False,
        )
        return cls(dataclasses.replace(request, settings=settings), os.getcwd(), tuple(argv))

    @property
    def text(self) -> str:
        """The sweep as JSON, for engines that carry it to other machines."""
        plain = dataclasses.asdict(self)
        settings = plain["request"]["settings"]
        settings |= {name: settings[name] and str(settings[name]) for name in ("runs_dir", "data_dir")}
        return dumps(plain)

    @classmethod
    def from_text(cls, text: str) -> Sweep:
        """Return the sweep that `text` came from."""
        plain = loads(text)
        asked = plain["request"]
        folders = {name: asked["settings"][name] and Path(asked["settings"][name]) for name in ("runs_dir", "data_dir")}
        lists = {name: tuple(asked[name]) for name in ("methods", "datasets", "bits")}
        request = Request(**{**asked, **lists, "settings": Settings(**{**asked["settings"], **folders})})
        return cls(request, plain["folder"], tuple(plain["argv"]))

    def on(self, device: str) -> Sweep:
        """Return the same sweep for a worker that computes on `device`."""
        settings = dataclasses.replace(self.request.settings, device=device)
        return dataclasses.replace(self, request=dataclasses.replace(self.request, settings=settings))


@dataclass(frozen=True)
class Done:
    """An errand that came to its end, with the reason where it failed."""

    at: int
    error: str | None = None


@dataclass(frozen=True)
class Executor(ABC):
    """An engine that computes cells; its typed fields are the keys of `--executor-option`."""

    def require(self) -> None:  # noqa: B027  (an engine that is always there requires nothing)
        """Raise HashbenchError, with the way to install it, where the engine is missing."""

    @abstractmethod
    def compute(self, sweep: Sweep, errands: Sequence[Errand], *, workers: int | None) -> Generator[Done | None]:
        """Yield each errand as it ends, and None about once a second while none does.

        At most `workers` are computed at a time; None: as many as there is room for. An errand that costs its worker
        its life is tried again a bounded number of times, then Done with the reason. When the generator is closed, as
        Ctrl-C does, the workers end, or the docstring of the class says otherwise.
        """


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
