"""A sweep before it runs: a request resolved into experiments, each with its run directory or a reason to skip it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from hashbench.datasets import catalogue
from hashbench.datasets.base import Dataset
from hashbench.errors import HashbenchError, unknown
from hashbench.experiments.experiment import grid
from hashbench.experiments.planned import PlannedRun, Request, Rerun, Settings
from hashbench.experiments.resolving import of_seed, planned_run, requested_row
from hashbench.experiments.starts import Starts
from hashbench.experiments.tracks import TrackData, track
from hashbench.experiments.tuned import Studies
from hashbench.metrics.measures import parse
from hashbench.networks.chosen import resolve_backbone
from hashbench.results.sweeps.estimates import Work
from hashbench.system import distributed


@dataclass(frozen=True)
class Plan:
    """A resolved sweep: its runs in order, the data sets they need, and the device."""

    request: Request
    runs: Sequence[PlannedRun]
    datasets: Mapping[str, Dataset | TrackData]
    device: torch.device

    @property
    def settings(self) -> Settings:
        """What the runs share."""
        return self.request.settings

    def work(self, run: PlannedRun) -> Work:
        """Return what a run that is not skipped has to do."""
        assert run.experiment is not None
        data = self.datasets[run.dataset]
        queries, database = (
            (len(data.split.query), len(data.split.database)) if isinstance(data, Dataset) else data.sizes
        )
        return Work.of(run.experiment.identity, queries=queries, database=database)


def plan(
    methods: Sequence[str],
    dataset_names: Sequence[str],
    bits: Sequence[int],
    *,
    seeds: int = 1,
    first_seed: int = 0,
    settings: Settings,
    loaded: Mapping[str, Dataset | TrackData] | None = None,
) -> Plan:
    """Resolve the grid of a sweep: reads the data sets unless they are `loaded`, trains nothing, writes nothing.

    `methods` are rows of a table: a target as `resolve_method` takes (a name, or a class in a module or file, whose
    code is then run), and fields that it alone has, `crh (reassign=false)`. Raises HashbenchError for anything unknown
    or impossible in the request, and for a run to start from that is not there; a single run that its method does not
    support is skipped with the reason.
    """
    if settings.rerun not in get_args(Rerun):
        raise unknown("--rerun", settings.rerun, get_args(Rerun))
    rows = {row.label: row for row in map(requested_row, methods)}
    coordinates = grid([*rows], dataset_names, bits, seeds, first_seed=first_seed)
    owners = {*(row.cls.info.name for row in rows.values()), "recipe"}
    for owner in settings.overrides:
        if owner not in owners:
            raise unknown("owner of a --set", owner, sorted(owners))
    named = _with_backbones_named(settings)
    device = resolve_device(settings.device)
    for name in dataset_names:
        _require_measures(*_measures_of(name, settings.data_dir))  # refuse all wrong names before reading
    loaded = {name: _load(name, settings) for name in dataset_names} if loaded is None else loaded
    _refuse_equal_names(loaded)
    lengths = tuple(sorted({*bits}))
    if settings.start_from is not None and settings.tuned is not None:
        raise HashbenchError("--start-from and --tuned do not go together: studies train from the beginning.")
    starts = None if settings.start_from is None else Starts(settings.start_from)
    if settings.tuned_on is not None and settings.tuned is None:
        raise HashbenchError("--tuned-on says of which data set the studies of --tuned are; give both, or neither.")
    studies = None if settings.tuned is None else Studies(settings.tuned, settings.tuned_on)
    resolved: list[PlannedRun] = []
    cells: dict[tuple[str, str, int], PlannedRun] = {}  # the first run of each
    for d, m, b, s in coordinates:
        first = None if starts is not None else cells.get((d, m, b))
        run = first and of_seed(first, s, named)
        resolved.append(run or planned_run(loaded[d], rows[m], b, s, lengths, named, device, starts, studies))
        cells.setdefault((d, m, b), resolved[-1])
    request = Request(tuple(methods), tuple(dataset_names), tuple(bits), seeds, settings, first_seed)
    return Plan(request, resolved, {dataset.name: dataset for dataset in loaded.values()}, device)


def plan_of(request: Request) -> Plan:
    """Return the plan of a request; raises HashbenchError as `plan` does."""
    return plan(
        request.methods,
        request.datasets,
        request.bits,
        seeds=request.seeds,
        first_seed=request.first_seed,
        settings=request.settings,
    )


def _with_backbones_named(settings: Settings) -> Settings:
    """Return the settings with backbones by their registered names; one in a file, which is run once, has one now."""
    recipe = dict(settings.overrides.get("recipe", {}))
    if "backbone" in recipe:
        recipe["backbone"] = resolve_backbone(recipe["backbone"])
    backbone = settings.backbone and resolve_backbone(settings.backbone)
    overrides = {**settings.overrides, "recipe": recipe} if recipe else settings.overrides
    return dataclasses.replace(settings, backbone=backbone, overrides=overrides)


def resolve_device(name: str) -> torch.device:
    """Return the device called auto, cpu, cuda or cuda:N; raises HashbenchError where it is not there.

    Under torchrun, auto and cuda are this rank's own.
    """
    name = distributed.local_device(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise HashbenchError(f"There is no device '{name}'; choose auto, cpu, cuda or cuda:0.") from None
    if device.type not in ("cpu", "cuda"):
        raise HashbenchError(f"The device '{name}' is not supported; choose auto, cpu, cuda or cuda:0.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise HashbenchError(f"The device '{name}' is not there (CUDA devices: {found}); choose --device cpu or auto.")
    return device


def _measures_of(name: str, data_dir: Path | None) -> tuple[str, tuple[str, ...]]:
    """Return the full name of the protocol that a name means, and its measures, without reading any data."""
    if (other := catalogue.track_of(name)) is not None:
        return track(other).measures_of(name, data_dir)
    protocol = catalogue.find_protocol(name, data_dir=data_dir)
    return protocol.full_name, protocol.measures


def _load(name: str, settings: Settings) -> Dataset | TrackData:
    if (other := catalogue.track_of(name)) is not None:
        return track(other).load(name, settings)
    return catalogue.load(
        name,
        data_dir=settings.data_dir,
        evaluate_on=settings.evaluate_on,
        accept_unofficial=settings.accept_unofficial,
        size=settings.data_size,
    )


def _require_measures(protocol: str, measures: Sequence[str]) -> None:
    """Raise HashbenchError for a measure that no run could have, before any is trained for it."""
    for place, name in enumerate(measures):
        try:
            measure = parse(name)
        except ValueError as error:
            raise HashbenchError(f"The protocol {protocol} cannot be measured: {error}") from None
        if measure.mode is not None:
            raise HashbenchError(
                f"The protocol {protocol} asks for '{measure}', which needs the order of the database; a run "
                "keeps histograms alone: write mAP@1000/hits or mAP@all."
            )
        if measure.is_curve and place == 0:
            raise HashbenchError(
                f"The protocol {protocol} has the curve '{measure}' as its default measure; tables need a "
                "single value: name it second."
            )


def _refuse_equal_names(loaded: Mapping[str, Dataset | TrackData]) -> None:
    """Raise HashbenchError where two sets of own data have one name: their runs could not be told apart in a table."""
    first: dict[str, str] = {}
    for given, dataset in loaded.items():
        other = first.setdefault(dataset.name, given)
        if _integrity(loaded[other]) != _integrity(dataset):
            raise HashbenchError(f"'{other}' and '{given}' are both called {dataset.name}; rename the folder of one.")


def _integrity(dataset: Dataset | TrackData) -> str:
    return dataset.store.integrity if isinstance(dataset, Dataset) else dataset.integrity
