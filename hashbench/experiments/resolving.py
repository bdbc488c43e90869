"""A row of a table resolved into a run: its experiment and directory, or the reason why there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from hashbench.datasets.base import Dataset, Kind
from hashbench.errors import HashbenchError, no_exit
from hashbench.experiments.experiment import IDENTITY, Data, Experiment, resolve_recipe
from hashbench.experiments.models import augments_of, depends_on_world, task_of
from hashbench.experiments.planned import PlannedRun, Settings
from hashbench.experiments.settings import parse_row, parse_value
from hashbench.experiments.starts import Starts, cannot_start
from hashbench.experiments.tracks import TrackData, track
from hashbench.experiments.tuned import Studies, settings_of, tuned_coords
from hashbench.experiments.tuned import identity_of as tuned_identity
from hashbench.interop.targets import resolve_method
from hashbench.methods.contract import DeepMethod, Method, Task, defines, wraps
from hashbench.methods.wrapping import (
    OF_BASE,
    base_class,
    classes_of,
    construct,
    owner_of,
    resolve,
    unsupported,
)
from hashbench.networks.chosen import identity_of, misfit, source_of, weights_name
from hashbench.networks.network import input_shape
from hashbench.recipes import PAPER, Recipe
from hashbench.results.runs import RunDirectory
from hashbench.results.studies import Study
from hashbench.results.sweeps.run_status import snapshot
from hashbench.results.tables.blocks import tuned_words, views_words
from hashbench.system import distributed
from hashbench.system.provenance import source_sha256

if TYPE_CHECKING:
    from hashbench.methods.pairs import PairMethod


@dataclass(frozen=True)
class RequestedRow:
    """A method with the fields, as texts, that are set for one row of the table alone."""

    cls: type[Method] | type[PairMethod]
    texts: Mapping[str, str]

    @property
    def label(self) -> str:
        """The row's name: `crh (reassign=false)`."""
        return self.label_after()

    def label_after(self, *what: str) -> str:
        """Return the row's name with what its trainings begin with, or where its settings come from."""
        fields = ", ".join([*(f"{field}={text}" for field, text in sorted(self.texts.items())), *what])
        return f"{self.cls.info.name} ({fields})" if fields else self.cls.info.name


def requested_row(text: str) -> RequestedRow:
    """Return the row that a text asks for; raises HashbenchError for a method that there is not."""
    target, texts = parse_row(text)
    return RequestedRow(resolve_method(target), texts)


def planned_run(
    dataset: Dataset | TrackData,
    row: RequestedRow,
    bits: int,
    seed: int,
    lengths: tuple[int, ...],
    settings: Settings,
    device: torch.device,
    starts: Starts | None,
    studies: Studies | None,
) -> PlannedRun:
    """Return the run as its data set's track resolves it, or as `_resolve` does."""
    if isinstance(dataset, Dataset):
        return _resolve(dataset, row, bits, seed, lengths, settings, device, starts, studies)
    if studies is not None:
        raise HashbenchError(f"{dataset.name} holds {dataset.track}, which is not tuned; leave --tuned out.")
    given: dict[str, Any] = {"row": row.label, "texts": row.texts, "bits": bits, "seed": seed}
    return track(dataset.track).resolve(dataset, row.cls, **given, settings=settings, device=device)


def _resolve(
    dataset: Dataset,
    row: RequestedRow,
    bits: int,
    seed: int,
    lengths: tuple[int, ...],
    settings: Settings,
    device: torch.device,
    starts: Starts | None,
    studies: Studies | None,
    study: Study | None = None,
) -> PlannedRun:
    """Return the run with its experiment, or with the reason why its method cannot do it.

    `lengths` are all that are asked for, ascending; `starts` the runs of one of which it begins with the weights. Of
    the `studies`, the one that fits is found first; `study` is the one whose best settings are in row and settings.
    """
    cls, method = row.cls, row.cls.info.name
    run = PlannedRun(dataset.name, row.label, bits, seed)
    if not issubclass(cls, Method):
        return dataclasses.replace(
            run, skipped="it learns from pairs of two kinds of things, which this data set has not; name another."
        )
    data, paper = _data(dataset), settings.recipe == PAPER
    if paper and not cls.paper_recipe:
        return dataclasses.replace(run, skipped="it states no published settings for --recipe paper; use another.")
    texts = {**settings.overrides.get(method, {}), **row.texts}
    fields = _fields(cls, texts, paper=cls.paper_fields if paper else {})
    recipe = resolve_recipe(
        settings.recipe,
        data=data,
        kind=dataset.kind,
        paper=cls.paper_recipe,
        settings=settings.overrides.get("recipe", {}),
        backbone=settings.backbone,
        epochs=settings.epochs,
    )
    inputs = _learns_from(cls, data, recipe, dataset.kind)
    if {*augments_of(cls, recipe)} == {"none"}:
        recipe = dataclasses.replace(recipe, fixed_views=0)  # without which it trains the same
    words = [views_words(recipe.fixed_views)] if recipe.fixed_views else []  # of the label, after the fields
    try:
        reason = _unfit(cls, recipe, dataset.kind)
        if reason is not None:
            return dataclasses.replace(run, skipped=reason)
        weights = weights_name(recipe.backbone) if recipe.pretrained else None
        backbone = {} if inputs == "pixels" else identity_of(recipe.backbone, input_shape(data.shape, recipe.size))
    except HashbenchError as error:
        return dataclasses.replace(run, skipped=str(error))
    experiment = Experiment(
        method=method,
        method_version=cls.info.version,
        fields=fields,
        data=data,
        recipe=recipe,
        weights=weights,
        inputs=inputs,
        bits=bits,
        seed=seed,
        lengths=lengths if cls.prefixes else (),
        backbone=backbone,
    )
    if study is not None:
        experiment = dataclasses.replace(experiment, tuned=tuned_identity(study, data.name))
        words = tuned_words(tuned_coords(experiment)["tuned"]) + words
        run = dataclasses.replace(run, study=study)
    elif studies is not None:
        study = studies.of(experiment)
        row, settings = _tuned(row, study), _with_recipe(settings, study)
        return _resolve(dataset, row, bits, seed, lengths, settings, device, starts, studies, study)
    run = dataclasses.replace(run, method=row.label_after(*words))
    if issubclass(cls, DeepMethod) and not distributed.world().is_single and depends_on_world(cls, experiment, device):
        experiment = dataclasses.replace(experiment, world=distributed.world().size)
    classes = classes_of(cls, experiment.fields)
    reason = (
        _not_shareable(classes)
        or without_views(cls, experiment)
        or _unsupported(construct(cls, experiment.fields), task_of(experiment, device))
    )
    if starts is not None:
        reason = reason or cannot_start(cls)
    if reason is not None:
        return dataclasses.replace(run, skipped=reason)
    start = None if starts is None else starts.of(experiment)
    if start is not None:
        experiment = dataclasses.replace(experiment, start=start.identity)
        run = dataclasses.replace(run, method=row.label_after(*words, f"start={start.label}"))
    directory = _directory(experiment, settings)
    return dataclasses.replace(
        run,
        experiment=experiment,
        directory=directory,
        source_sha256=source_sha256(*classes),
        backbone_sha256=None if experiment.inputs == "pixels" else source_of(recipe.backbone),
        snapshot=snapshot(directory),
        start=start,
        training=None
        if bits == experiment.training_bits
        else _resolve(dataset, row, experiment.training_bits, seed, lengths, settings, device, starts, studies, study),
    )


def of_seed(run: PlannedRun, seed: int, settings: Settings) -> PlannedRun | None:
    """Return what a run that starts from no other is with another seed; None where that is for its track to say."""
    if run.skipped is not None:
        return dataclasses.replace(run, seed=seed)
    if not isinstance(run.experiment, Experiment):
        return None
    experiment = dataclasses.replace(run.experiment, seed=seed)
    directory = _directory(experiment, settings)
    training = run.training and of_seed(run.training, seed, settings)
    return dataclasses.replace(
        run, seed=seed, experiment=experiment, directory=directory, snapshot=snapshot(directory), training=training
    )


def _tuned(row: RequestedRow, study: Study) -> RequestedRow:
    """Return the row with the best settings of a study."""
    return RequestedRow(row.cls, {**row.texts, **settings_of(study, row.cls.info.name)})


def _with_recipe(settings: Settings, study: Study) -> Settings:
    """Return the settings with those of the recipe that a study found best."""
    recipe = {**settings.overrides.get("recipe", {}), **settings_of(study, "recipe")}
    return dataclasses.replace(settings, overrides={**settings.overrides, "recipe": recipe})


def _directory(experiment: Experiment, settings: Settings) -> RunDirectory:
    return RunDirectory.at(
        settings.runs_dir, dataset=experiment.data.name, method=experiment.method, bits=experiment.bits,
        seed=experiment.seed, id=experiment.id,
    )  # fmt: skip


def _fields(cls: type[Method], texts: Mapping[str, str], *, paper: Mapping[str, Any]) -> dict[str, Any]:
    """Return every field of a method, its base's among them: as typed, else the `paper`'s, else its default."""
    named = [name for name in texts if name == "base" and wraps(cls)]
    if named and texts["base"] != paper.get("base", base_class(cls).info.name):
        paper = {name: value for name, value in paper.items() if not name.startswith(OF_BASE)}  # fields of another
    given: dict[str, Any] = {**paper, **texts}
    resolve(cls, given)  # unknown names are refused before any value is parsed
    parsed = {name: parse_value(*owner_of(cls, name, given), texts[name]) for name in texts if name not in named}
    return resolve(cls, given | parsed)


def _unsupported(method: Method, task: Task) -> str | None:
    """Return why the method does not support the task; an exception of a plug-in counts as a reason."""
    try:
        with no_exit():
            return unsupported(method, task)
    except Exception as error:
        return f"its supports() failed: {type(error).__name__}: {error}"


def _not_shareable(classes: Sequence[type[Method]]) -> str | None:
    """Return why several ranks cannot train the method, of its own class and its base's, together; None if they can."""
    deep = [cls for cls in classes if issubclass(cls, DeepMethod)]
    if distributed.world().is_single or all(cls.per_sample for cls in deep):
        return None
    if any(defines(cls, "after_step") and not _declares_samples(cls) for cls in deep):
        return (
            "its after_step would keep only one rank's share of a batch; declare keeps_samples, or train it on one "
            "device."
        )
    return None


def _declares_samples(cls: type[DeepMethod]) -> bool:
    return any("keeps_samples" in vars(base) for base in cls.__mro__ if base is not DeepMethod)


def without_views(cls: type[Method], experiment: Experiment) -> str | None:
    """Return why a method of several views cannot have them, or None."""
    if not issubclass(cls, DeepMethod) or cls.views == 1:
        return None
    fixed_views = experiment.recipe.fixed_views
    if experiment.inputs != "images" and not fixed_views:
        return (
            f"it trains on {cls.views} views of an image, and {experiment.inputs} cannot be augmented; use images and "
            f"a recipe that trains the backbone, or --recipe frozen --set recipe.fixed_views=10."
        )
    augments = augments_of(cls, experiment.recipe)
    if {*augments} == {"none"}:
        return f"its {cls.views} views of an image would be the same without augmentation; set recipe.augment."
    alike = max(augments.count(name) for name in augments if name != "none")
    if fixed_views and alike > fixed_views:
        return f"it compares {alike} views of one augmentation; recipe.fixed_views={fixed_views} is too few for it."
    return None


def _data(dataset: Dataset) -> Data:
    return Data(
        dataset=dataset.protocol.dataset,
        protocol=dataset.protocol.name,
        integrity=dataset.store.integrity,
        split_sha256=dataset.split.sha256,
        evaluated=dataset.evaluated,
        shape=tuple(dataset.store.inputs.shape[1:]),
        num_classes=dataset.num_classes,
        multi_label=dataset.multi_label,
        num_train=len(dataset.split.train),
    )


def _learns_from(
    cls: type[Method], data: Data, recipe: Recipe, kind: Kind
) -> Literal["images", "features", "pixels", "vectors", "text"]:
    if kind != "images":
        return kind
    deep = issubclass(cls, DeepMethod)
    if deep and recipe.train_backbone:
        return "images"
    if deep and recipe.augment != "none" and not recipe.fixed_views:
        raise HashbenchError(
            "A frozen backbone's features are computed once, so they cannot be augmented; "
            "say --set recipe.augment=none, give recipe.fixed_views, or train the backbone."
        )
    return "features" if recipe.pretrained else "pixels"


def _unfit(cls: type[Method], recipe: Recipe, kind: Kind) -> str | None:
    """Return why a method cannot use the layers of a recipe, or those are not for the data, or None."""
    if kind == "images" and (reason := misfit(recipe.backbone, kind)):
        return reason  # of a method's own recipe; one that was asked for is refused before
    if issubclass(cls, DeepMethod):
        return None
    if recipe.hidden:
        return f"it trains no layers, so recipe.hidden={recipe.hidden} does not apply; use --recipe frozen."
    if kind != "images" and recipe.backbone != IDENTITY:
        return f"it learns from the {kind} themselves, so the backbone '{recipe.backbone}' does not apply."
    return None
