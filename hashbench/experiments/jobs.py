"""A sweep as plain data, for processes that compute runs of it anywhere, and the events of its runs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hashbench.experiments.experiment import Experiment
from hashbench.experiments.planned import PlannedRun, Request, Settings
from hashbench.experiments.planning import Plan
from hashbench.results.sweeps.run_status import RunSnapshot
from hashbench.storage.strict_json import dumps, loads

_FOLDERS = ("runs_dir", "data_dir", "start_from", "tuned")  # settings that are paths


@dataclass(frozen=True)
class Job:
    """One run to be computed, as plain data."""

    at: int  # its place in the plan, which every process makes the same
    id: str  # its experiment's, by which a worker detects that its own plan differs
    snapshot: RunSnapshot  # what lay in its directory when the sweep was planned
    training: RunSnapshot | None = None  # likewise of the run whose codes this one takes the first bits of
    small: bool = False  # it trains a head on fixed features: several of them fit on one GPU
    cell: str = ""  # what it shares with runs that differ in nothing but the seed

    @classmethod
    def of(cls, at: int, run: PlannedRun) -> Job:
        """Return the job of the run at place `at` of a plan."""
        assert run.experiment is not None
        training = None if run.training is None else run.training.snapshot
        trains = isinstance(run.experiment, Experiment) and run.experiment.recipe.train_backbone
        return cls(at, run.experiment.id, run.snapshot, training, small=not trains, cell=run.experiment.cell)

    def as_planned(self, run: PlannedRun) -> PlannedRun:
        """Return the run of another process's plan as the process that planned the sweep saw it."""
        training = run.training
        if training is not None and self.training is not None:
            training = dataclasses.replace(training, snapshot=self.training)
        return dataclasses.replace(run, snapshot=self.snapshot, training=training)

    @property
    def text(self) -> str:
        """The job as JSON, for engines that carry it to other machines."""
        return dumps(dataclasses.asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Job:
        """Return the job that `text` came from."""
        plain = loads(text)
        for of in ("snapshot", "training"):
            if plain[of] is not None:
                plain[of] = RunSnapshot(**{name: found and tuple(found) for name, found in plain[of].items()})
        return cls(**plain)


@dataclass(frozen=True)
class Sweep:
    """What all jobs of a sweep share, as plain data: the request, its folder and its command."""

    request: Request
    folder: str  # in which relative paths were meant
    argv: tuple[str, ...]  # for the provenance of the results
    plan: Plan | None = field(default=None, compare=False, repr=False)  # of the requesting process, and only there

    @classmethod
    def of(cls, plan: Plan, argv: Sequence[str]) -> Sweep:
        """Return the sweep of a plan made in this process; only this process shows progress."""
        given = plan.settings
        settings = dataclasses.replace(
            given,
            runs_dir=given.runs_dir.absolute(),
            data_dir=given.data_dir and given.data_dir.expanduser().absolute(),
            start_from=given.start_from and given.start_from.absolute(),
            tuned=given.tuned and given.tuned.absolute(),
            progress=False,
        )
        return cls(dataclasses.replace(plan.request, settings=settings), os.getcwd(), tuple(argv), plan)

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the plan, with its data sets, behind where the sweep travels to another process."""
        return Sweep, (self.request, self.folder, self.argv)

    @property
    def text(self) -> str:
        """The sweep as JSON, for engines that carry it to other machines."""
        settings = dataclasses.asdict(self.request.settings)
        settings |= {name: settings[name] and str(settings[name]) for name in _FOLDERS}
        request = {**vars(self.request), "settings": settings}
        return dumps({"request": request, "folder": self.folder, "argv": self.argv})

    @classmethod
    def from_text(cls, text: str) -> Sweep:
        """Return the sweep that `text` came from."""
        plain = loads(text)
        given = plain["request"]
        folders = {name: given["settings"][name] and Path(given["settings"][name]) for name in _FOLDERS}
        lists = {name: tuple(given[name]) for name in ("methods", "datasets", "bits")}
        request = Request(**{**given, **lists, "settings": Settings(**{**given["settings"], **folders})})
        return cls(request, plain["folder"], tuple(plain["argv"]))

    def on(self, device: str) -> Sweep:
        """Return the same sweep for a worker that computes on `device`."""
        settings = dataclasses.replace(self.request.settings, device=device)
        return dataclasses.replace(self, request=dataclasses.replace(self.request, settings=settings))


@dataclass(frozen=True)
class JobStart:
    """A job whose run is computed from now on; executors that do not know it leave it out."""

    at: int


@dataclass(frozen=True)
class JobHeld:
    """A job whose run another process computes, so that it is put aside until the others are done."""

    at: int


@dataclass(frozen=True)
class JobEnd:
    """A job that came to its end, with the reason where it failed, and the exception where this process has it."""

    at: int
    error: str | None = None
    cause: Exception | None = field(default=None, compare=False, repr=False)


JobEvent = JobStart | JobHeld | JobEnd
