"""What a sweep is asked for, and one run of it as it is planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch

from hashbench.errors import HashbenchError
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.settings import setting_text
from hashbench.experiments.starts import Start
from hashbench.experiments.tracks import TrackExperiment
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.results.studies import Study
from hashbench.results.sweeps.run_status import EMPTY, START, RunSnapshot, RunStatus, is_stale, run_status, snapshot

Rerun = Literal["missing", "failed", "stale", "all"]


@dataclass(frozen=True)
class Settings:
    """What the runs of a sweep share: recipe and its overrides, folders, and device."""

    recipe: str | None = None
    backbone: str | None = None
    epochs: int | None = None
    overrides: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # {"crh": {"reassign": "false"}, ...}
    evaluate_on: str = "test"
    device: str = "auto"
    start_from: Path | None = None  # a finished run, or a folder of them, whose weights the trainings begin with
    tuned: Path | None = None  # a study, or a folder of them: each row takes the best settings of the one that fits it
    tuned_on: str | None = None  # the data set and protocol of those studies; None: each run's own
    runs_dir: Path = Path("runs")
    data_dir: Path | None = None
    accept_unofficial: bool = False
    data_size: int | None = None  # side in pixels of prepared image files; None: as their protocols state
    progress: bool = True
    eval_every: int | None = None  # epochs between measures in the log, for inspection only; no part of any identity
    rerun: Rerun = "missing"  # what is run: runs without a result; of those the failed; stale ones too; all anew

    def __post_init__(self) -> None:
        """Take texts for paths and values for the texts of overrides, as scripts give them."""
        texts = {
            owner: {field: setting_text(value) for field, value in given.items()}
            for owner, given in self.overrides.items()
        }
        object.__setattr__(self, "overrides", texts)
        object.__setattr__(self, "runs_dir", Path(self.runs_dir))
        object.__setattr__(self, "start_from", None if self.start_from is None else Path(self.start_from))
        object.__setattr__(self, "tuned", None if self.tuned is None else Path(self.tuned))
        object.__setattr__(self, "data_dir", None if self.data_dir is None else Path(self.data_dir))


@dataclass(frozen=True)
class Request:
    """A request for a sweep, as plain data: any process on any machine makes the same plan of it."""

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    bits: tuple[int, ...]
    seeds: int  # how many
    settings: Settings
    first_seed: int = 0


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep's grid: an experiment and its run directory, or the reason why there is none."""

    dataset: str
    method: str  # and the fields set for its row: `crh (reassign=false)`
    bits: int
    seed: int
    experiment: Experiment | TrackExperiment | None = None
    directory: RunDirectory | None = None
    source_sha256: str | None = None  # of the method's file as it is now, with its base's where it has one
    backbone_sha256: str | None = None  # of the backbone's, where it is a plug-in's
    skipped: str | None = None
    snapshot: RunSnapshot = EMPTY  # what lay in the directory when the sweep was planned
    start: Start | None = None  # the run whose weights its training begins with, where it is one
    study: Study | None = None  # the study that its settings come from, where it is one
    training: PlannedRun | None = None  # the run of longer codes whose first bits this one evaluates, where it is one

    @property
    def status(self) -> RunStatus:
        """The run's state now."""
        if self.directory is None:
            return RunStatus("skipped", str(self.skipped))
        return run_status(self.directory, self.sources)

    def status_by(self, result: Result | HashbenchError) -> RunStatus:
        """Return the status of a run whose result, or why it cannot be read, is known."""
        assert self.directory is not None
        return run_status(self.directory, self.sources, result=result)

    @property
    def sources(self) -> dict[str, str | None]:
        """The sha256 of the files behind the run as they are now, as its spec and its provenance call them."""
        start = {START: self.start.weights_sha256} if self.start else {}
        return {"source_sha256": self.source_sha256, "backbone_sha256": self.backbone_sha256, **start}

    def state_experiment(self, directory: RunDirectory, device: torch.device) -> None:
        """Write into `directory`, which is locked, what is computed there from now on."""
        assert self.experiment is not None
        started = datetime.now(UTC).isoformat(timespec="seconds")
        how = {"device": str(device), "started": started, **self.sources}
        directory.write_spec({"identity": self.experiment.identity, "how": how})

    @property
    def finished(self) -> bool:
        """Whether the run has a result."""
        return self.directory is not None and self.directory.finished

    @property
    def failed_meanwhile(self) -> bool:
        """Whether another process of the sweep tried it since it was planned, and failed."""
        return self.directory is not None and snapshot(self.directory).failure not in (None, self.snapshot.failure)

    def to_compute(self, rerun: Rerun) -> bool:
        """Return whether the run is to be computed now; False too where another process did so since the plan."""
        if self.directory is None:
            return False
        now = snapshot(self.directory)
        if now.result is not None:
            anew = rerun == "all" or (rerun == "stale" and is_stale(self.directory, self.sources))
            return anew and now.result == self.snapshot.result
        return self.snapshot.failure is not None if rerun == "failed" else True

    def __str__(self) -> str:
        return f"{self.method} on {self.dataset}, {self.bits} bits, seed {self.seed}"
