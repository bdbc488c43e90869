"""One experiment through its phases: prepare, train, encode, evaluate, store; what comes out is its result."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hashbench.datasets.base import Dataset
from hashbench.datasets.loading.loader import TrainLoader
from hashbench.datasets.sparse import is_sparse
from hashbench.evaluation.centers import class_centers
from hashbench.evaluation.encoding import count, encode_rows
from hashbench.experiments.clock import Clock
from hashbench.experiments.experiment import ENGINE, Experiment, recipe_label
from hashbench.experiments.models import augments_of, make_method, new_model, task_of
from hashbench.experiments.starts import Start
from hashbench.experiments.tuned import recipe_before, tuned_coords
from hashbench.interop.loss_as_method import remarks
from hashbench.methods.contract import DeepMethod, Method, wraps
from hashbench.methods.wrapping import changed_fields, classes_of
from hashbench.metrics import class_separation, code_statistics, evaluate_histograms, first_bits, parse
from hashbench.networks.backbones import file_sha256
from hashbench.networks.chosen import label_of, provenance_of, source_of
from hashbench.networks.model import Model
from hashbench.registry import BACKBONES, METHODS
from hashbench.results.runs import Result, RunDirectory
from hashbench.storage.strict_json import digest
from hashbench.system.distributed import SINGLE, World, join
from hashbench.system.memory import peak_memory_mb, require_memory, reset_peak_memory
from hashbench.system.provenance import provenance, source_sha256
from hashbench.training.features import features, view_features
from hashbench.training.loop import Reports, TrainingProgress, train
from hashbench.training.monitoring import Monitor, monitor_every
from hashbench.training.preparation import RecipeTools, prepare
from hashbench.training.trainset import TrainSet

if TYPE_CHECKING:
    from hashbench.datasets.sparse import Inputs

_LOG = logging.getLogger(__name__)
MEASURES = ("mAP@all", "mAP@1000/hits", "mAP@1000/R", "mAP@1000/min", "P@100", "P@1000", "R@1000")
BALLS_AND_CURVES = ("P@H<=2", "R@H<=2", "PR", "PR@k")
#: What the provenance of a prefix's result takes over from that of its training.
OF_TRAINING = ("source_sha256", "backbone_sha256", "prepared_from_cache", "trained_beside", "processes")


def compute(
    experiment: Experiment,
    dataset: Dataset,
    directory: RunDirectory,
    device: torch.device,
    *,
    progress: bool,
    eval_every: int | None,
    start: Start | None = None,
) -> Result | None:
    """Compute the phases of an experiment and return its result; all else is stored on the way.

    `start` is the run that its identity names as the one whose weights the training begins with.

    All ranks of a world do so together; the result is None but on rank 0, which alone stores anything.
    """
    started, clock, world = datetime.now(UTC), Clock(), join(device)
    reset_peak_memory(device)
    title = f"{experiment.method} {experiment.bits}b s{experiment.seed}" if progress else None
    task, split = task_of(experiment, device), dataset.split
    with clock("data"):
        fixed = partial(fixed_inputs, experiment, dataset, device, progress)
        images = experiment.inputs == "images"
        inputs = dataset.store.inputs if images else fixed(world)
        views = fixed_views(experiment, dataset, device, progress, world)
        data = train_set(
            experiment, dataset, inputs, views, partial(fixed, SINGLE) if images else lambda: inputs, device, world
        )
    with clock("prepare"):
        tools = RecipeTools(task, experiment.recipe, experiment.data.shape, data, bar=title and f"{title} prepare")
        prepared = prepare(make_method(experiment), tools, experiment.identity)
    with clock("train"):
        model = new_model(
            experiment,
            device,
            width=data.width,
            prepared=prepared.tensors,
            start=start.state(device) if start else None,
        )
        monitor = monitor_every(eval_every, model, dataset, partial(encode_rows, model, inputs, world=SINGLE))
        if world.is_main:
            _warn(directory, [f"{experiment.method}: {text}" for text in remarks(type(model.method), task)])
        trained = _fit(model, data, directory, title, monitor, of=code_and_run(experiment, start))
    with clock("encode"):
        query, database = (encode_rows(model, inputs, part, world) for part in (split.query, split.database))
    with clock("evaluate"):
        counted = count(query, database, dataset, world, bits=task.bits)
        if not world.is_main:
            return None
        measured = evaluate_histograms(counted, _measures(dataset))
        statistics = code_statistics(database, counted) | class_separation(database, dataset.labels[1], task.bits)
    with clock("store"):
        directory.write_arrays("histograms", **counted.arrays())
        directory.write_arrays("codes", query=query, database=database)
        directory.write_names(dataset.names)
        if centers := class_centers(model.method, task, inputs=inputs, labels=dataset.store.labels, index=split.train):
            directory.write_arrays("centers", **centers)
        directory.check()
        model.save(directory.model, of=experiment.id)
    return Result(
        id=experiment.id,
        coords=_coords(experiment, dataset, start.label if start else None),
        metrics=measured.metrics,
        bounds=measured.bounds,
        ties=measured.ties,
        curves=measured.curves,
        counts={"train": len(split.train), **measured.counts},
        code_stats=statistics,
        diagnostics=trained.diagnostics,
        epoch={"kept": "last", "of": experiment.recipe.epochs if model.network is not None else 0},
        # What was prepared for another bit length, or trained before an interruption, counts as well.
        time=clock.summary(
            before=clock.before("train", trained.seconds) if trained.beside else 0.0,
            prepare=prepared.seconds,
            train=trained.seconds,
        ),
        images_per_s=trained.images_per_s,
        peak_memory_mb=peak_memory_mb(device),
        provenance={
            **run_provenance(experiment, dataset, device, started),
            "prepared_from_cache": prepared.cached,
            "trained_beside": trained.beside,
            "processes": world.size,
            **_start(start, directory),
        },
    )


def compute_prefix(
    experiment: Experiment, dataset: Dataset, directory: RunDirectory, device: torch.device, training: RunDirectory
) -> Result:
    """Return what the first bits of the codes of a finished `training` find; all but the result is stored on the way.

    Raises HashbenchError where the training's codes are missing.
    """
    started, clock, bits = datetime.now(UTC), Clock(), experiment.bits
    trained = training.read_result()
    codes = training.read_codes(trained.coords["bits"])
    with clock("evaluate"):
        query, database = (first_bits(codes[part], bits) for part in ("query", "database"))
        counted = count(query, database, dataset, SINGLE, bits=bits)
        measured = evaluate_histograms(counted, _measures(dataset))
        statistics = code_statistics(database, counted) | class_separation(database, dataset.labels[1], bits)
    with clock("store"):
        directory.write_arrays("histograms", **counted.arrays())
        directory.write_arrays("codes", query=query, database=database)
        directory.write_names(dataset.names)
    return Result(
        id=experiment.id,
        coords=_coords(experiment, dataset, trained.coords.get("start")),
        metrics=measured.metrics,
        bounds=measured.bounds,
        ties=measured.ties,
        curves=measured.curves,
        counts={"train": len(dataset.split.train), **measured.counts},
        code_stats=statistics,
        diagnostics={},  # the method's are about the whole codes, and stand in the training's result
        epoch=trained.epoch,
        time=clock.summary(prepare=0.0, train=0.0, encode=0.0),
        images_per_s=None,
        peak_memory_mb=None,
        provenance={
            **run_provenance(experiment, dataset, device, started),
            **{name: trained.provenance[name] for name in OF_TRAINING},
            **_start_of_training(trained, training, directory),
            "prefix_of": {"id": trained.id, "path": training.beside(directory)},
        },
    )


def _start(start: Start | None, directory: RunDirectory) -> dict[str, Any]:
    """Return what the provenance of a run in `directory` states of the run whose weights its training began with."""
    if start is None:
        return {}
    path = start.directory.beside(directory)
    return {"start": {"id": start.result.id, "path": path, "weights_sha256": start.weights_sha256}}


def _start_of_training(trained: Result, training: RunDirectory, directory: RunDirectory) -> dict[str, Any]:
    """Return what that of a `training` states of its start, seen from the run in `directory` of its first bits."""
    if "start" not in trained.provenance:
        return {}
    return {"start": {**trained.provenance["start"], "path": training.start(trained).beside(directory)}}


def run_provenance(experiment: Experiment, dataset: Dataset, device: torch.device, started: datetime) -> dict[str, Any]:
    """Return the provenance that a result states of its experiment, its data, and this machine."""
    cls = METHODS.get(experiment.method)
    base = experiment.fields["base"]["name"] if wraps(cls) else None
    return {
        **provenance(experiment.method, base=base, device=device, started=started),
        "fidelity": cls.info.fidelity,
        "family": cls.info.family,
        "labels": "used" if cls.supervised else "withheld",
        "split_sha256": experiment.data.split_sha256,
        "data_integrity": experiment.data.integrity,
        "data_official": dataset.store.official,
        "audit": dataset.audit.counts(),
        "weights": experiment.weights,
        "weights_sha256": _weights_sha256(experiment),
        "backbone": provenance_of(experiment.recipe.backbone),
        "backbone_sha256": None if experiment.inputs == "pixels" else source_of(experiment.recipe.backbone),
    }


def _warn(directory: RunDirectory, sentences: Sequence[str]) -> None:
    """Log warnings, in the run's log as well: there once, also where the run is resumed."""
    for sentence in sentences:
        _LOG.warning(sentence)
        if {"warning": sentence} not in directory.read_log():
            directory.append_log({"warning": sentence})


def code_and_run(experiment: Experiment, start: Start | None = None) -> str:
    """Return the hash of what a checkpoint belongs to: the run, the code of method and backbone, and the start."""
    sources = sources_of(experiment)
    of = {"id": experiment.id, "source": sources["source_sha256"], "backbone": sources["backbone_sha256"]}
    return digest({**of, **({"start": start.weights_sha256} if start else {})})


def sources_of(experiment: Experiment) -> dict[str, str | None]:
    """Return the sha256 of the files of method and backbone as they are now, as a provenance states them."""
    return {
        "source_sha256": source_sha256(*classes_of(METHODS.get(experiment.method), experiment.fields)),
        "backbone_sha256": None if experiment.inputs == "pixels" else source_of(experiment.recipe.backbone),
    }


def _fit(
    model: Model, data: TrainSet, directory: RunDirectory, title: str | None, monitor: Monitor, *, of: str
) -> TrainingProgress:
    if model.network is None:
        started = time.perf_counter()
        if data.world.is_main:
            model.fit(data)
        if not data.world.is_single:
            model.load_state(data.world.broadcast(model.state()))
        return TrainingProgress(seconds=time.perf_counter() - started)
    assert isinstance(model.method, DeepMethod)
    written = Reports(log=directory.append_log, checkpoint=directory.checkpoint, of=of, bar=title, monitor=monitor)
    reports = written if data.world.is_main else Reports()
    return train(
        model.method, model.network, task=model.task, recipe=model.recipe, data=data, reports=reports, world=data.world
    )


def train_set(
    experiment: Experiment,
    dataset: Dataset,
    inputs: Inputs,
    views: Mapping[str, np.ndarray],
    fixed: Callable[[], Inputs],
    device: torch.device,
    world: World,
) -> TrainSet:
    """Return the training set, its labels withheld from unsupervised methods; `views` are its fixed ones."""
    recipe, index = experiment.recipe, dataset.split.train
    cls: type[Method] = METHODS.get(experiment.method)
    loader = TrainLoader(
        inputs,
        dataset.store.labels[index] if cls.supervised else None,
        index=index,
        batch_size=recipe.batch_size,
        seed=experiment.seed,
        device=device,
        augment=augments_of(cls, recipe) if experiment.inputs == "images" or views else "none",
        fixed_views=views,
        size=experiment.network_size,
        channels_last=True,
    )
    return TrainSet(loader, inputs, index, size=experiment.network_size, device=device, features=fixed, world=world)


def fixed_inputs(
    experiment: Experiment, dataset: Dataset, device: torch.device, progress: bool, world: World
) -> Inputs:
    """Return all inputs as what no training changes: the backbone's features, pixels where it has none, or vectors."""
    store = dataset.store
    if store.kind != "images":
        return store.inputs
    if experiment.recipe.pretrained:
        return features(
            store, experiment.recipe, weights=experiment.weights, device=device, progress=progress, world=world
        )
    assert not is_sparse(store.inputs)
    count, width = len(store.inputs), store.inputs[0].size
    require_memory(
        4 * count * width,
        torch.device("cpu"),
        what=f"The pixels of {store.name} as vectors, {count:,} x {width:,},",
        instead="prepare image files at a smaller --size, or take a recipe with a pretrained backbone",
    )
    pixels = store.inputs.reshape(count, width).astype(np.float32)
    pixels /= 255
    return pixels


def fixed_views(
    experiment: Experiment, dataset: Dataset, device: torch.device, progress: bool, world: World
) -> dict[str, np.ndarray]:
    """Return the features of the training images' fixed views (views * num_train, width) by augmentation, if any."""
    recipe = experiment.recipe
    if not recipe.fixed_views:
        return {}
    return {
        augment: view_features(
            dataset.store,
            dataset.split.train,
            recipe,
            augment=augment,
            engine=ENGINE,
            weights=experiment.weights,
            device=device,
            progress=progress,
            world=world,
        )
        for augment in sorted({*augments_of(METHODS.get(experiment.method), recipe)} - {"none"})
    }


def _coords(experiment: Experiment, dataset: Dataset, start: str | None) -> dict[str, Any]:
    cls: type[Method] = METHODS.get(experiment.method)
    data, recipe = experiment.data, experiment.recipe
    return {
        "method": experiment.method,
        "method_version": experiment.method_version,
        **({"base_version": experiment.fields["base"]["version"]} if wraps(cls) else {}),
        "fields": changed_fields(cls, experiment.fields),
        "dataset": data.dataset,
        "protocol": data.protocol,
        "evaluated": data.evaluated,
        **_relevance(dataset),
        "measure": str(parse(dataset.protocol.measures[0])),
        "backbone": recipe.backbone,
        **({"backbone_is": label_of(experiment.backbone)} if experiment.backbone else {}),
        "recipe": recipe_label(recipe_before(experiment), paper=cls.paper_recipe, multi_label=data.multi_label),
        **({"fixed_views": recipe.fixed_views} if recipe.fixed_views else {}),
        "inputs": experiment.inputs,
        "bits": experiment.bits,
        **({"lengths": list(experiment.lengths)} if experiment.lengths else {}),
        **({"start": start} if start else {}),
        **tuned_coords(experiment),
        "seed": experiment.seed,
        "cell": experiment.cell,
        "engine": ENGINE,
    }


def _relevance(dataset: Dataset) -> dict[str, str]:
    """Return what says which items are relevant, where that is more than shared labels."""
    pairs = dataset.pairs
    if not pairs:
        return {}
    relevance = "labels" if pairs.relevant is None else "pairs"
    return {"relevance": relevance if pairs.excluded is None else f"{relevance}, some left out"}


def _measures(dataset: Dataset) -> list[str]:
    graded = ["nDCG@100"] if dataset.graded else []
    return list(dict.fromkeys([*dataset.protocol.measures, *MEASURES, *graded, *BALLS_AND_CURVES]))


def _weights_sha256(experiment: Experiment) -> str | None:
    if experiment.weights is None:
        return None
    path = BACKBONES.get(experiment.recipe.backbone).weights_file
    return file_sha256(path) if path.is_file() else None  # a trained run is measured again without them
