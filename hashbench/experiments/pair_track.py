"""The track of pairs of users and items: what such an experiment is, and how a sweep plans and computes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hashbench.datasets.interactions import loading
from hashbench.datasets.interactions.base import InteractionDataset
from hashbench.errors import HashbenchError
from hashbench.experiments.experiment import ENGINE
from hashbench.experiments.pair_phases import compute as compute
from hashbench.experiments.planned import PlannedRun, Settings
from hashbench.experiments.settings import parse_value
from hashbench.methods.contract import options, resolve_fields
from hashbench.methods.pairs import PairMethod, PairTask
from hashbench.registry import METHODS
from hashbench.results.runs import RunDirectory
from hashbench.results.sweeps.run_status import snapshot
from hashbench.storage.strict_json import digest
from hashbench.system import distributed
from hashbench.system.provenance import source_sha256

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PairExperiment:
    """One run of a method of pairs, fully resolved: the same identity gives the same numbers."""

    method: str
    method_version: int
    fields: Mapping[str, Any]
    data: Mapping[str, Any]  # names, contents by hash, and sizes
    bits: int
    seed: int

    track: ClassVar[str] = InteractionDataset.track

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that can change a number; recipe and weights, which all identities have, are empty."""
        return {
            "engine": ENGINE,
            "method": {"name": self.method, "version": self.method_version, "fields": dict(self.fields)},
            "data": dict(self.data),
            "recipe": {"backbone": None, "epochs": 0},
            "weights": None,
            "inputs": self.track,
            "bits": self.bits,
            "seed": self.seed,
        }

    @property
    def id(self) -> str:
        """The sha256 of the identity's canonical JSON, hex."""
        return digest(self.identity)

    @property
    def cell(self) -> str:
        """What runs that differ in nothing but the seed have in common, 64 hex digits."""
        return digest({name: value for name, value in self.identity.items() if name != "seed"})

    def task(self, device: torch.device) -> PairTask:
        """Return the task that the experiment sets its method."""
        rows, columns = self.data["shape"]
        return PairTask(self.bits, rows, columns, self.seed, device)

    def new_method(self) -> PairMethod:
        """Return a fresh method with the experiment's fields."""
        made: PairMethod = METHODS.get(self.method)(**self.fields)
        return made


def measures_of(name: str, data_dir: Path | None) -> tuple[str, tuple[str, ...]]:
    """Return the full name of the protocol that `name` means, and its measures; reads no data."""
    protocol = loading.find(name, data_dir)[1]
    return protocol.full_name, protocol.measures


def load(name: str, settings: Settings) -> InteractionDataset:
    """Return the data set that `name` means; raises HashbenchError as `loading.load` does."""
    return loading.load(
        name,
        data_dir=settings.data_dir,
        evaluate_on=settings.evaluate_on,
        accept_unofficial=settings.accept_unofficial,
    )


def resolve(
    data: InteractionDataset,
    cls: type[Any],
    *,
    row: str,
    texts: Mapping[str, str],
    bits: int,
    seed: int,
    settings: Settings,
    device: torch.device,
) -> PlannedRun:
    """Return the run with its experiment, or with the reason why its method cannot do it.

    Raises HashbenchError for settings of a training with images, which such a run has not.
    """
    run = PlannedRun(data.name, row, bits, seed)
    if not issubclass(cls, PairMethod):
        return dataclasses.replace(
            run, skipped="it learns from inputs, and this data set has pairs of users and items; take a method of the "
            "family recommendation."
        )  # fmt: skip
    if not distributed.world().is_single:
        return dataclasses.replace(run, skipped="it is fitted in one process; give the command without torchrun.")
    _refuse_settings(data, settings)
    method = cls.info.name
    known = options(cls)
    given = {**settings.overrides.get(method, {}), **texts}
    resolve_fields(method, known, given)  # unknown names are refused before any value is parsed
    fields = resolve_fields(method, known, {name: parse_value(cls, name, text) for name, text in given.items()})
    experiment = PairExperiment(method, cls.info.version, fields, _facts(data), bits, seed)
    try:
        reason = experiment.new_method().supports(experiment.task(device))
    except Exception as error:  # of a plug-in
        reason = f"its supports() failed: {type(error).__name__}: {error}"
    if reason is not None:
        return dataclasses.replace(run, skipped=reason)
    directory = RunDirectory.at(
        settings.runs_dir, dataset=data.name, method=method, bits=bits, seed=seed, id=experiment.id
    )
    return dataclasses.replace(
        run,
        experiment=experiment,
        directory=directory,
        source_sha256=source_sha256(cls),
        snapshot=snapshot(directory),
    )


def _facts(data: InteractionDataset) -> dict[str, Any]:
    return {
        "dataset": data.protocol.dataset,
        "protocol": data.protocol.name,
        "integrity": data.integrity,
        "split_sha256": data.split_sha256,
        "evaluated": data.evaluated,
        "shape": [len(data.store.users), len(data.store.items)],
        "num_train": data.train.nnz,
    }


def _refuse_settings(data: InteractionDataset, settings: Settings) -> None:
    given = {
        "--recipe": settings.recipe,
        "--backbone": settings.backbone,
        "--epochs": settings.epochs,
        "--size": settings.data_size,
        "--eval-every": settings.eval_every,
        "--start-from": settings.start_from,
        "--set recipe": settings.overrides.get("recipe") or None,
    }
    for name, value in given.items():
        if value is not None:
            raise HashbenchError(
                f"{name} does not apply to {data.name}, whose methods learn from pairs without recipe or network; "
                f"leave it out, or set a method's own field (--set hashcf.epochs=50)."
            )
