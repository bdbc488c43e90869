"""One experiment to one result, and a sweep of them: prepare, train, encode, evaluate, store."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hashbench import looking, preparation
from hashbench.backbones import file_sha256
from hashbench.centers import class_centers
from hashbench.datasets.base import Dataset
from hashbench.datasets.loader import TrainLoader, inference_batches
from hashbench.errors import HashbenchError
from hashbench.experiment import ENGINE, Experiment, changed_fields, recipe_label
from hashbench.features import features
from hashbench.memory import is_out_of_memory, out_of_memory, peak_memory_mb, reset_peak_memory
from hashbench.methods.base import DeepMethod, Method, options
from hashbench.metrics import code_statistics, evaluate_histograms, histograms, pack
from hashbench.model import ENCODE_BATCH, Model, float32_as_it_says, restored, task_of
from hashbench.planning import Cell, Plan, Settings, plan, resolve_device
from hashbench.plugging.loading import resolve_method
from hashbench.provenance import provenance
from hashbench.registry import BACKBONES, METHODS
from hashbench.results.claims import Held, Watch
from hashbench.results.files import make_folder
from hashbench.results.progress import record_sweep
from hashbench.results.store import Result, RunDirectory
from hashbench.training import Hooks, Progress, train
from hashbench.trainset import TrainSet

MEASURES = ("mAP@all", "mAP@1000/hits", "mAP@1000/R", "mAP@1000/min", "P@100", "P@1000", "R@1000")
WAIT = 1.0  # seconds between two looks at cells that other processes are at
BALLS_AND_CURVES = ("P@H<=2", "R@H<=2", "PR", "PR@k")


@dataclass(frozen=True)
class Outcome:
    """What came of a plan: results in its order, and the cells that failed with what went wrong."""

    results: Sequence[Result]
    failures: Sequence[tuple[Cell, Exception]]

    def raise_first_failure(self) -> None:
        """Raise HashbenchError about the first failure, if there is one, and say how many there were."""
        if self.failures:
            cell, error = self.failures[0]
            others = f" ({len(self.failures)} cells failed; FAILED.json in a run directory says more.)"
            raise HashbenchError(f"{cell}: {reason_of(error)}{others if len(self.failures) > 1 else ''}") from error


def reason_of(error: Exception) -> str:
    """Return why a cell failed, in one line."""
    text = str(error) if isinstance(error, HashbenchError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def execute(
    plan: Plan,
    *,
    on_cell: Callable[[Cell, int, int], None] = lambda cell, at, of: None,
    on_wait: Callable[[Sequence[tuple[Cell, Held]]], None] = lambda held: None,
) -> Outcome:
    """Run what is to do and load what is finished; `on_cell` hears of each cell before its turn.

    A cell that fails leaves FAILED.json behind, and the others go on. A cell that another process is at is put aside;
    once only such are left, `on_wait` hears of them, and they are taken up as they are finished or their owners die.
    """
    rerun = plan.settings.rerun
    left = {at: cell for at, cell in enumerate(plan.cells) if cell.to_compute(rerun) or cell.finished}
    record_sweep(plan.settings.runs_dir, (cell.directory for cell in plan.cells if cell.directory is not None))
    results: dict[int, Result] = {}
    failures: list[tuple[Cell, Exception]] = []
    watch, met, waiting_for = Watch(), set[int](), ""
    while left:
        held: dict[int, Held] = {}
        for at, cell in left.items():
            if at not in met:
                on_cell(cell, at + 1, len(plan.cells))
            met.add(at)
            try:
                results[at] = run_cell(plan, cell, watch=watch)
            except Held as other:
                held[at] = other
            except Exception as error:  # whatever a plug-in does, the other cells are worth finishing
                failures.append((cell, error))
        if len(held) == len(left):
            if str(held) != waiting_for:
                on_wait([(left[at], other) for at, other in held.items()])
                waiting_for = str(held)
            time.sleep(WAIT)
        left = {at: left[at] for at in held}
    return Outcome([results[at] for at in sorted(results)], failures)


def run_cell(plan: Plan, cell: Cell, *, watch: Watch | None = None) -> Result:
    """Return the result of one cell of a plan: loaded where it is finished, else computed and stored.

    Raises Held where another process is at it (without `watch`, one of another machine counts as alive for ever); any
    other error of a computation leaves FAILED.json behind and goes on.
    """
    if cell.directory is None or cell.experiment is None:
        raise HashbenchError(f"{cell}: {cell.skipped}")
    if cell.finished and not cell.to_compute(plan.settings.rerun):
        return cell.directory.read_result()
    with cell.directory.lock(watch) as directory:
        if cell.to_compute(plan.settings.rerun):  # no other process did, between the first look and the lock
            if cell.failed_meanwhile:
                raise HashbenchError(f"it has failed since this sweep was planned: {directory.read_failure()}")
            _compute_into(directory.again if directory.finished else directory, cell, plan)
        if directory.again.finished:
            directory.adopt(directory.again)
        return directory.read_result()


def sweep(
    methods: Sequence[str], datasets: Sequence[str], bits: Sequence[int], *, seeds: int = 1, **settings: Any
) -> list[Result]:
    """Run every method on every data set at every code length with seeds 0..seeds-1; returns the results.

    `settings` are the fields of `Settings`, for example `recipe="frozen", runs_dir=Path("runs")`. Raises HashbenchError
    at the end when a cell failed; the others are kept.
    """
    outcome = execute(plan(methods, datasets, bits, seeds=seeds, settings=Settings(**settings)))
    outcome.raise_first_failure()
    return list(outcome.results)


def run(method: str, dataset: str, *, bits: int, seed: int = 0, **settings: Any) -> Result:
    """Run one experiment and return its result; raises HashbenchError with the reason where it is not possible."""
    made = plan([method], [dataset], [bits], seeds=seed + 1, settings=Settings(**settings))
    cell = made.cells[-1]
    if cell.skipped is not None:
        raise HashbenchError(f"{cell}: {cell.skipped}")
    outcome = execute(dataclasses.replace(made, cells=[cell]))
    outcome.raise_first_failure()
    return outcome.results[0]


def load(run: str | Path, *, method: str | None = None, device: str = "auto") -> Model:
    """Return the trained model of a finished run: `load("runs/.../s0-3f9a2c71").encode(images)`.

    Where the method's class came from a module or file, `method` names it again: no code runs because a run says so.
    """
    directory = RunDirectory(Path(run))
    directory.read_result()  # an unfinished run has no model
    spec = directory.read_spec()
    experiment = Experiment.from_identity(spec["identity"])
    found = resolve_method(method).info.name if method is not None else experiment.method
    if found != experiment.method or found not in METHODS:
        which = "there" if method is None else method
        raise HashbenchError(
            f"{run} was trained by '{experiment.method}', which is not {which}; name its class as it was named then, "
            f"for example --method path/file.py:{experiment.method}."
        )
    if not directory.model.is_file():
        raise HashbenchError(f"There is no {directory.model}; run again to have the weights, or copy them along.")
    return restored(experiment, directory.model, resolve_device(device))


def _compute_into(directory: RunDirectory, cell: Cell, plan: Plan) -> None:
    """Compute a cell and store all of it in `directory`, which is ours; leave FAILED.json where that fails."""
    assert cell.experiment is not None
    make_folder(directory.path)
    _forget_other_source(directory, cell.source_sha256)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    how = {"device": str(plan.device), "started": started, "source_sha256": cell.source_sha256}
    directory.write_spec({"identity": cell.experiment.identity, "how": how})
    dataset, progress = plan.datasets[cell.dataset], plan.settings.progress
    try:
        with float32_as_it_says():
            result = _compute(
                cell.experiment, dataset, directory, plan.device, progress=progress, eval_every=plan.settings.eval_every
            )
            directory.write_result(result)
    except Held:
        raise
    except Exception as error:
        directory.check()  # who lost the run, or its folder, fails of that and of nothing else
        with suppress(HashbenchError):  # where nothing can be written, the error itself is what to say
            directory.write_failure(error)
        if is_out_of_memory(error):
            raise out_of_memory(cell.experiment, plan.device, error) from error
        raise


def _forget_other_source(directory: RunDirectory, source_sha256: str | None) -> None:
    """Remove a checkpoint that other code of the method has made: half a training each makes no result of either."""
    if not (directory.checkpoint.is_file() and directory.spec.is_file()):
        return
    then = directory.read_spec()["how"].get("source_sha256")
    if then not in (None, source_sha256):
        directory.checkpoint.unlink()
        directory.append_log({"warning": "started over: the method's source changed since the checkpoint was made"})


def _compute(
    experiment: Experiment,
    dataset: Dataset,
    directory: RunDirectory,
    device: torch.device,
    *,
    progress: bool,
    eval_every: int | None,
) -> Result:
    """Take an experiment through its phases and return what it found; all but the result is stored on the way."""
    started, clock = datetime.now(UTC), _Clock()
    reset_peak_memory(device)
    title = f"{experiment.method} {experiment.bits}b s{experiment.seed}" if progress else None
    task, split = task_of(experiment, device), dataset.split
    with clock("data"):
        fixed = partial(_fixed_inputs, experiment, dataset, device, progress)
        inputs = dataset.store.inputs if experiment.inputs == "images" else fixed()
        data = _train_set(experiment, dataset, inputs, fixed, device)
    with clock("prepare"):
        prepared = preparation.prepare(experiment, task, data, bar=title and f"{title} prepare")
    with clock("train"):
        model = Model(experiment, task, data.width, prepared.tensors)
        look = looking.every(eval_every, model, dataset, partial(_encode, model, inputs))
        trained = _fit(model, data, directory, title, look)
    with clock("encode"):
        query, database = (_encode(model, inputs, part) for part in (split.query, split.database))
    with clock("evaluate"):
        labels = (dataset.store.labels[split.query], dataset.store.labels[split.database])
        counted = histograms(query, database, *labels, bits=task.bits, gains=dataset.multi_label)
        measured = evaluate_histograms(counted, _measures(dataset))
        statistics = code_statistics(database, counted)
    with clock("store"):
        directory.write_arrays("histograms", **counted.arrays())
        directory.write_arrays("codes", query=query, database=database)
        if centers := class_centers(model.method, task, inputs=inputs, labels=dataset.store.labels, index=split.train):
            directory.write_arrays("centers", **centers)
        directory.check()
        model.save(directory.model)
    return Result(
        id=experiment.id,
        coords=_coords(experiment, dataset),
        metrics=measured.metrics,
        bounds=measured.bounds,
        ties=measured.ties,
        curves=measured.curves,
        counts={"train": len(split.train), **measured.counts},
        code_stats=statistics,
        diagnostics=trained.diagnostics,
        epoch={"kept": "last", "of": experiment.recipe.epochs if model.network is not None else 0},
        # What was prepared for another bit length, or trained before an interruption, was paid for all the same.
        time=clock.summary(prepare=prepared.seconds, train=trained.seconds),
        images_per_s=trained.images_per_s,
        peak_memory_mb=peak_memory_mb(device),
        provenance={
            **provenance(experiment.method, device=device, started=started),
            "split_sha256": experiment.data.split_sha256,
            "data_integrity": experiment.data.integrity,
            "data_official": dataset.store.official,
            "audit": dataset.audit.counts(),
            "weights": experiment.weights,
            "weights_sha256": _weights_sha256(experiment),
            "prepared_from_cache": prepared.cached,
        },
    )


def _fit(model: Model, data: TrainSet, directory: RunDirectory, title: str | None, look: looking.Look) -> Progress:
    if model.network is None:
        started = time.perf_counter()
        model.method.fit(model.task, data)
        return Progress(seconds=time.perf_counter() - started)
    assert isinstance(model.method, DeepMethod)
    hooks = Hooks(log=directory.append_log, checkpoint=directory.checkpoint, bar=title, look=look)
    recipe = model.experiment.recipe
    return train(model.method, model.network, task=model.task, recipe=recipe, data=data, fresh=data.fresh, hooks=hooks)


def _train_set(
    experiment: Experiment,
    dataset: Dataset,
    inputs: np.ndarray,
    fixed: Callable[[], np.ndarray],
    device: torch.device,
) -> TrainSet:
    """Return the training set, its labels withheld from unsupervised methods."""
    recipe, index = experiment.recipe, dataset.split.train
    supervised = METHODS.get(experiment.method).supervised
    loader = TrainLoader(
        inputs,
        dataset.store.labels[index] if supervised else None,
        index=index,
        batch_size=recipe.batch_size,
        seed=experiment.seed,
        device=device,
        augment=recipe.augment if experiment.inputs == "images" else "none",
        size=experiment.network_size,
        views=recipe.views,
        channels_last=True,
    )
    return TrainSet(loader, inputs, index, size=experiment.network_size, device=device, features=fixed)


def _fixed_inputs(experiment: Experiment, dataset: Dataset, device: torch.device, progress: bool) -> np.ndarray:
    """Return all inputs as what no training changes: the backbone's features, pixels where it has none, or vectors."""
    store = dataset.store
    if store.kind == "vectors":
        return store.inputs
    if experiment.recipe.pretrained:
        return features(store, experiment.recipe, weights=experiment.weights, device=device, progress=progress)
    return store.inputs.reshape(len(store.inputs), -1).astype(np.float32) / 255


def _encode(model: Model, inputs: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the packed codes (n, ceil(bits / 8)), uint8, of the inputs at `index`."""
    batches = inference_batches(
        inputs,
        batch_size=ENCODE_BATCH,
        device=model.task.device,
        index=index,
        size=model.experiment.network_size,
        channels_last=True,
    )
    codes = [model.codes(batch) for batch in batches]  # brought to the host at once, so that no batch waits for it
    return pack(torch.cat(codes).cpu().numpy())


def _coords(experiment: Experiment, dataset: Dataset) -> dict[str, Any]:
    cls: type[Method] = METHODS.get(experiment.method)
    data, recipe = experiment.data, experiment.recipe
    return {
        "method": experiment.method,
        "method_version": experiment.method_version,
        "fields": changed_fields(options(cls), experiment.fields),
        "dataset": data.dataset,
        "protocol": data.protocol,
        "evaluated": data.evaluated,
        "measure": dataset.protocol.measures[0],
        "backbone": recipe.backbone,
        "recipe": recipe_label(recipe, paper=cls.paper_recipe, multi_label=data.multi_label),
        "inputs": experiment.inputs,
        "bits": experiment.bits,
        "seed": experiment.seed,
        "cell": experiment.cell,
        "engine": ENGINE,
    }


def _measures(dataset: Dataset) -> list[str]:
    graded = ["nDCG@100"] if dataset.multi_label else []
    return list(dict.fromkeys([*dataset.protocol.measures, *MEASURES, *graded, *BALLS_AND_CURVES]))


def _weights_sha256(experiment: Experiment) -> str | None:
    if experiment.weights is None:
        return None
    return file_sha256(BACKBONES.get(experiment.recipe.backbone).weights_file)


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._phases: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._phases[phase] = time.perf_counter() - started

    def summary(self, **paid: float) -> dict[str, float]:
        """Return the seconds of each phase, those `paid` for it where given, of all, and of what lies in no phase."""
        total = time.perf_counter() - self._started
        phases = self._phases | paid
        return {**phases, "total": total, "untracked": max(total - sum(phases.values()), 0.0)}
