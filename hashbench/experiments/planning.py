"""A sweep before it runs: a request resolved into experiments, each with its run directory or a reason to skip it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from hashbench.datasets import catalogue
from hashbench.datasets.base import Dataset, Kind
from hashbench.errors import HashbenchError, unknown
from hashbench.experiments.experiment import IDENTITY, Data, Experiment, grid, resolve_recipe
from hashbench.experiments.models import augments_of, depends_on_world, task_of
from hashbench.experiments.settings import parse_row, parse_value, setting_text
from hashbench.experiments.starts import Start, Starts, cannot_start
from hashbench.experiments.tracks import TrackData, TrackExperiment, track
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
from hashbench.metrics.measures import parse
from hashbench.networks.chosen import identity_of, misfit, resolve_backbone, source_of, weights_name
from hashbench.networks.network import input_shape
from hashbench.recipes import PAPER, Recipe
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.results.studies import Study
from hashbench.results.sweeps.estimates import Work
from hashbench.results.sweeps.run_status import EMPTY, RunSnapshot, RunStatus, is_stale, run_status, snapshot
from hashbench.results.tables.blocks import tuned_words, views_words
from hashbench.system import distributed
from hashbench.system.provenance import source_sha256

if TYPE_CHECKING:
    from hashbench.methods.pairs import PairMethod

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
        return {"source_sha256": self.source_sha256, "backbone_sha256": self.backbone_sha256}

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
    variants = {variant.label: variant for variant in map(_variant, methods)}
    coordinates = grid([*variants], dataset_names, bits, seeds, first_seed=first_seed)
    owners = {*(variant.cls.info.name for variant in variants.values()), "recipe"}
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
        run = first and _of_seed(first, s, named)
        resolved.append(run or _planned(loaded[d], variants[m], b, s, lengths, named, device, starts, studies))
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


@dataclass(frozen=True)
class _Variant:
    """A method with the fields, as texts, that are set for one row of the table alone."""

    cls: type[Method] | type[PairMethod]
    texts: Mapping[str, str]

    @property
    def label(self) -> str:
        """The row's name: `crh (reassign=false)`."""
        return self._label([])

    def label_after(self, *what: str) -> str:
        """Return the row's name with what its trainings begin with, or where its settings come from."""
        return self._label(what)

    def _label(self, more: Sequence[str]) -> str:
        fields = ", ".join([*(f"{field}={text}" for field, text in sorted(self.texts.items())), *more])
        return f"{self.cls.info.name} ({fields})" if fields else self.cls.info.name


def _tuned(variant: _Variant, study: Study) -> _Variant:
    """Return the row with the best settings of a study."""
    return _Variant(variant.cls, {**variant.texts, **settings_of(study, variant.cls.info.name)})


def _with_recipe(settings: Settings, study: Study) -> Settings:
    """Return the settings with those of the recipe that a study found best."""
    recipe = {**settings.overrides.get("recipe", {}), **settings_of(study, "recipe")}
    return dataclasses.replace(settings, overrides={**settings.overrides, "recipe": recipe})


def _variant(text: str) -> _Variant:
    target, texts = parse_row(text)
    return _Variant(resolve_method(target), texts)


def _planned(
    dataset: Dataset | TrackData,
    variant: _Variant,
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
        return _resolve(dataset, variant, bits, seed, lengths, settings, device, starts, studies)
    if studies is not None:
        raise HashbenchError(f"{dataset.name} holds {dataset.track}, which is not tuned; leave --tuned out.")
    given: dict[str, Any] = {"row": variant.label, "texts": variant.texts, "bits": bits, "seed": seed}
    return track(dataset.track).resolve(dataset, variant.cls, **given, settings=settings, device=device)


def _resolve(
    dataset: Dataset,
    variant: _Variant,
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
    the `studies`, the one that fits is found first; `study` is the one whose best settings are in variant and settings.
    """
    cls, method = variant.cls, variant.cls.info.name
    run = PlannedRun(dataset.name, variant.label, bits, seed)
    if not issubclass(cls, Method):
        return dataclasses.replace(
            run, skipped="it learns from pairs of two kinds of things, which this data set has not; name another."
        )
    data, paper = _data(dataset), settings.recipe == PAPER
    if paper and not cls.paper_recipe:
        return dataclasses.replace(run, skipped="it states no published settings for --recipe paper; use another.")
    texts = {**settings.overrides.get(method, {}), **variant.texts}
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
        variant, settings = _tuned(variant, study), _with_recipe(settings, study)
        return _resolve(dataset, variant, bits, seed, lengths, settings, device, starts, studies, study)
    run = dataclasses.replace(run, method=variant.label_after(*words))
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
        run = dataclasses.replace(run, method=variant.label_after(*words, f"start={start.label}"))
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
        else _resolve(
            dataset, variant, experiment.training_bits, seed, lengths, settings, device, starts, studies, study
        ),
    )


def _of_seed(run: PlannedRun, seed: int, settings: Settings) -> PlannedRun | None:
    """Return what a run that starts from no other is with another seed; None where that is for its track to say."""
    if run.skipped is not None:
        return dataclasses.replace(run, seed=seed)
    if not isinstance(run.experiment, Experiment):
        return None
    experiment = dataclasses.replace(run.experiment, seed=seed)
    directory = _directory(experiment, settings)
    training = run.training and _of_seed(run.training, seed, settings)
    return dataclasses.replace(
        run, seed=seed, experiment=experiment, directory=directory, snapshot=snapshot(directory), training=training
    )


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
