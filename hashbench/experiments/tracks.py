"""Tracks: kinds of data sets beside inputs with labels, each with identities, planning and phases of its own.

A track is a module that is imported when a data set of it is named, so what concerns images alone knows none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from hashbench.experiments.planned import PlannedRun, Settings
    from hashbench.metrics.pairs import Pairs
    from hashbench.results.result import Result
    from hashbench.results.runs import RunDirectory

MODULES = {"pairs": "hashbench.experiments.pair_track"}


class TrackExperiment(Protocol):
    """What an experiment of any track says, as `Experiment` does of its own."""

    @property
    def track(self) -> str:
        """The name of its track."""

    @property
    def method(self) -> str:
        """The method's name."""

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that can change a number, as plain data, with the parts that all identities have."""

    @property
    def id(self) -> str:
        """The sha256 of the identity's canonical JSON, hex."""

    @property
    def cell(self) -> str:
        """What runs that differ in nothing but the seed have in common."""


class TrackData(Protocol):
    """What a data set of any track says."""

    @property
    def track(self) -> str:
        """The name of its track."""

    @property
    def name(self) -> str:
        """The name `dataset@protocol`."""

    @property
    def integrity(self) -> str:
        """The sha256 of its contents."""

    @property
    def split_sha256(self) -> str:
        """The sha256 of its split."""

    @property
    def pairs(self) -> Pairs:
        """What is relevant to the queries, and what is left out of their rankings."""

    @property
    def sizes(self) -> tuple[int, int]:
        """The numbers of queries and of database items."""


class Track(Protocol):
    """What the module of a track has."""

    def measures_of(self, name: str, data_dir: Path | None) -> tuple[str, tuple[str, ...]]:
        """Return the full name of the protocol that `name` means, and its measures; reads no data."""

    def load(self, name: str, settings: Settings) -> TrackData:
        """Return the data set that `name` means."""

    def resolve(
        self,
        data: Any,
        cls: type[Any],
        *,
        row: str,
        texts: Mapping[str, str],
        bits: int,
        seed: int,
        settings: Settings,
        device: torch.device,
    ) -> PlannedRun:
        """Return a run of a method on the data, or the reason why there is none."""

    def compute(self, experiment: Any, data: Any, directory: RunDirectory, device: torch.device) -> Result:
        """Compute the phases of an experiment and return its result; all else is stored on the way."""


def track(name: str) -> Track:
    """Return the track called `name`, which is imported now."""
    return cast(Track, import_module(MODULES[name]))
