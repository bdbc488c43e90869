"""Finished runs measured again under conditions: nothing is trained, and the database's codes are those stored.

A condition changes the queries, or what is relevant to them; in the second case the queries' codes are the run's, too.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hashbench.datasets import catalogue
from hashbench.datasets.base import Dataset
from hashbench.errors import HashbenchError, no_exit, unknown
from hashbench.evaluation.conditions.contract import (
    Condition,
    as_identity,
    as_text,
    changes_relevance,
    places_of,
    relevance_in,
)
from hashbench.evaluation.encoding import count, encode_under, refuse_other_inputs
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.phases import run_provenance
from hashbench.experiments.planning import resolve_device
from hashbench.experiments.relevance import Relevance, features_key, fixed_features, relevance_under
from hashbench.experiments.runner import changed_since, load, load_with_result, require_code
from hashbench.experiments.settings import parse_row, parse_value
from hashbench.metrics import class_separation, code_statistics, evaluate_histograms, histograms
from hashbench.metrics.measures import Measure, parse
from hashbench.networks.model import Model
from hashbench.registry import CONDITIONS
from hashbench.results.result import Result
from hashbench.results.runs import Replaced, RunDirectory
from hashbench.results.sweeps.run_status import is_stale, snapshot
from hashbench.storage.locks import LockWatch, RunLocked
from hashbench.storage.strict_json import digest
from hashbench.system.distributed import SINGLE
from hashbench.system.memory import is_out_of_memory, peak_memory_mb, reset_peak_memory
from hashbench.system.provenance import source_sha256

WAIT = 1.0  # seconds between two looks at what another process computes
_OF_THE_RUN = ("split_sha256", "data_integrity", "data_official", "audit", "weights", "weights_sha256", "processes")


def parse_condition(text: str) -> Condition:
    """Return the condition that a text like `noise(sigma=0.1)` means; raises HashbenchError for any other text.

    Fields that are not named have their defaults; a surrogate is a run's folder, in which that run must be finished.
    """
    name, texts = parse_row(text, what="condition", example="noise(sigma=0.1)")
    cls: type[Condition] = CONDITIONS.get(name)
    known = {field.name: field for field in dataclasses.fields(cls)}
    for field in texts:
        if field not in known:
            raise unknown(f"field of {name}", field, known, hint="`hashbench list conditions` shows all.")
    values = {field: parse_value(cls, field, value) for field, value in texts.items()}
    for field, declared in known.items():
        needed = declared.default is declared.default_factory is dataclasses.MISSING
        if needed and field not in values:
            raise HashbenchError(f"The condition '{name}' needs {field}; write {name}({field}=...).")
    chosen = cls(**values)
    if chosen.queries is not None and chosen.queries < 1:
        raise HashbenchError(f"{name}(queries={chosen.queries}) is not possible; give 1 or more.")
    if chosen.surrogate is not None:
        RunDirectory(Path(chosen.surrogate)).read_result()  # what is not there is said before anything is measured
    return chosen


@dataclass(frozen=True)
class Measuring:
    """One run under one condition: where it is stored, and its identity."""

    run: Result
    condition: Condition

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that can change a number, as plain data; its sha256 is the id of the result."""
        condition = as_identity(self.condition)
        if self.surrogate is not None:
            condition["fields"]["surrogate"] = self.surrogate.read_result().id  # what it is, not where it lies
        return {"condition": condition, "run": self.run.id, "seed": self.run.coords["seed"]}

    @property
    def surrogate(self) -> RunDirectory | None:
        """The run on whose model an attack is made, where that is another one."""
        return None if self.condition.surrogate is None else RunDirectory(Path(self.condition.surrogate))

    @property
    def id(self) -> str:
        """The sha256 of the identity's canonical JSON, hex."""
        return digest(self.identity)

    @property
    def directory(self) -> RunDirectory:
        """Where it is stored, below the run."""
        return RunDirectory(_path(self.run)).under(self.condition.info.name, self.id)

    @property
    def replaced(self) -> bool:
        """Whether run or surrogate have other codes or weights now than those with which the result was measured."""
        try:
            stored = self.directory.read_result()
        except Replaced:
            return True
        of = stored.provenance.get("surrogate", {})  # it may lie elsewhere than the one that is named
        return self.surrogate is not None and bool(self.surrogate.others_than(of.get("measured_with", {})))

    def __str__(self) -> str:
        return f"{_path(self.run)} under {as_text(self.identity['condition'])}"


@dataclass(frozen=True)
class Measured:
    """What came of one measuring: its result, or the error that ended it."""

    of: Measuring
    result: Result | None = None
    error: Exception | None = None


class Evaluator:
    """Measures runs again; keeps the model and the data set of the last one."""

    def __init__(
        self,
        *,
        method: str | None = None,
        backbone: str | None = None,
        dataset: str | None = None,
        data_dir: Path | str | None = None,
        data_size: int | None = None,
        accept_unofficial: bool = False,
        device: str = "auto",
        progress: bool = False,
    ):
        """`method`, `backbone` and `dataset` name again what came from a file or path; the others are as for a run.

        Raises HashbenchError for a device that is not there.
        """
        self._device, self._progress = resolve_device(device), progress
        self._method, self._backbone, self._name = method, backbone, dataset
        self.warnings: list[str] = []  # of the measurings so far
        self._data = {"data_dir": data_dir, "size": data_size, "accept_unofficial": accept_unofficial}
        self._dataset: tuple[Any, Dataset] | None = None
        self._model: tuple[Any, Model] | None = None
        self._surrogate: tuple[Any, Model] | None = None
        self._relevance: tuple[Any, Relevance] | None = None
        self._watch = LockWatch()

    def all(self, wanted: Iterable[Measuring]) -> Generator[Measured]:
        """Yield each of `wanted` once it is measured or has failed; those that other processes compute come last."""
        free, held = deque(wanted), deque[Measuring]()
        while free or held:
            wait = not free
            each = held.popleft() if wait else free.popleft()
            try:
                with no_exit():
                    result = self.measure(each)
                yield Measured(each, result)
            except RunLocked:
                held.append(each)
                if wait:
                    time.sleep(WAIT)
            except Exception as error:  # whatever a plug-in does, the others go on
                told = HashbenchError("it takes more memory than there is; choose smaller fields, where it has such.")
                told.__cause__ = error
                yield Measured(each, error=told if is_out_of_memory(error) else error)

    def measure(self, wanted: Measuring) -> Result:
        """Return the result of one measuring: loaded where it is finished, else computed and stored.

        What was measured with other codes or weights than are there now is computed anew, and `warnings` say so. Raises
        RunLocked where another process computes it.
        """
        directory = wanted.directory
        if directory.finished and not wanted.replaced:
            if is_stale(directory, {"condition_sha256": source_sha256(type(wanted.condition))}):
                self.warnings.append(
                    f"{directory.path} was measured with another source of the condition, of the same version; delete "
                    f"the folder to have it anew."
                )
            return directory.read_result()
        run = RunDirectory(_path(wanted.run))
        experiment = Experiment.from_identity(run.read_spec()["identity"])
        dataset = self.dataset_of(experiment)
        refuse_other_inputs(wanted.condition, dataset)
        with directory.lock(self._watch) as own:
            again = own.finished and wanted.replaced
            if again or not own.finished:
                self._compute(wanted, run, experiment, dataset, own)
            if again:
                self.warnings.append(f"{own.path} was measured with other codes or weights, and is measured anew.")
            return own.read_result()

    def _compute(
        self, wanted: Measuring, run: RunDirectory, experiment: Experiment, dataset: Dataset, own: RunDirectory
    ) -> None:
        started, clock = datetime.now(UTC), time.perf_counter()
        condition, then = wanted.condition, snapshot(run).result
        measured_with, of_surrogate = run.content(), _surrogate(wanted)
        measures = list(dict.fromkeys([*_measures_of(wanted.run), *map(parse, condition.measures)]))
        codes, model, relevance = run.read_codes(experiment.bits), None, None
        identity, coords = wanted.identity, wanted.run.coords
        places = places_of(identity["condition"], dataset.split.sha256, len(codes["query"]))
        before = codes["query"][places]
        if changes_relevance(type(condition)):
            if condition.queries is not None:
                raise HashbenchError(f"{condition.info.name} measures every query; leave queries out.")
            self.require_code(run.path, experiment)
            measured_with.pop(run.model.name, None)  # the queries' codes are the run's, too
            relevance = self.relevance_of(condition, experiment, dataset)
        else:
            model = self.model_of(run, then)
        now = run_provenance(experiment, dataset, self._device, started)
        sources = {name: now[name] for name in ("source_sha256", "backbone_sha256")}
        changed = changed_since(experiment, wanted.run)
        if changed is not None:
            self.warnings.append(f"{run.path}: {changed}, and the stored codes of its database are older.")
        reset_peak_memory(self._device)
        encoding = time.perf_counter()
        query, targets = before, None
        if model is not None:
            surrogate = self.surrogate_of(wanted.surrogate, run) if wanted.surrogate else None
            query, targets = encode_under(
                condition, model, dataset, codes["database"], places=places, surrogate=surrogate
            )
            dataset = dataset.of_queries(places)
        evaluating = time.perf_counter()
        pairs = None if relevance is None else relevance.pairs
        counted = count(query, codes["database"], dataset, SINGLE, bits=experiment.bits, pairs=pairs)
        measured = evaluate_histograms(counted, measures, ties=wanted.run.ties)  # type: ignore[arg-type]
        led = {} if targets is None else _led_to(targets, query, codes["database"], dataset, measures, experiment.bits)
        ended = time.perf_counter()
        flipped = np.unpackbits(query ^ before, axis=1).sum(axis=1)
        result = Result(
            id=wanted.id,
            coords={
                **coords,
                "evaluated": f"{wanted.run.part}, {as_text(identity['condition'])}",
                "cell": digest({"condition": identity["condition"], "run": coords["cell"]}),
                **(
                    {"relevance": relevance_in(condition.info.name, experiment.identity, coords.get("relevance"))}
                    if relevance
                    else {}
                ),
            },
            metrics=measured.metrics,
            bounds=measured.bounds,
            ties=measured.ties,
            curves=measured.curves,
            counts={"train": wanted.run.counts.get("train"), **measured.counts},
            code_stats=code_statistics(codes["database"], counted)
            | class_separation(codes["database"], None if pairs else dataset.labels[1], experiment.bits),
            diagnostics={
                "changed_codes": float((flipped > 0).mean()),
                "flipped_bits": float(flipped.mean()),
                **({"relevant_items": float(counted.r.sum() / counted.queries)} if relevance else {}),
                **led,
            },
            epoch=wanted.run.epoch,
            time={"encode": evaluating - encoding, "evaluate": ended - evaluating, "total": ended - clock},
            images_per_s=None,
            peak_memory_mb=peak_memory_mb(self._device),
            provenance={
                **now,
                **{name: value for name, value in wanted.run.provenance.items() if name in _OF_THE_RUN},
                "condition_sha256": source_sha256(type(wanted.condition)),
                "measured_with": measured_with,
                **({"features_sha256": relevance.features_sha256} if relevance else {}),
                **of_surrogate,
                **_tuned(wanted),
            },
        )
        if snapshot(run).result != then:
            raise HashbenchError(f"{run.path} was computed again meanwhile; evaluate it again.")
        if _surrogate(wanted) != of_surrogate:
            raise HashbenchError(f"{condition.surrogate} was computed again meanwhile; evaluate {run.path} again.")
        how = {"device": str(self._device), "started": result.provenance["started"], **sources}
        own.remove_result()
        own.write_spec({"identity": identity, "how": how})
        others = [run, *(RunDirectory(path) for path in sorted(own.path.parent.iterdir()) if path != own.path)]
        own.share_arrays("histograms", others, counted.arrays())
        own.share_arrays("codes", others, {"query": query})
        own.write_result(result)

    @property
    def device(self) -> torch.device:
        """On which it computes."""
        return self._device

    def require_code(self, run: Path, experiment: Experiment) -> None:
        """Raise HashbenchError where method or backbone of a run are not here, or are others than the run's."""
        require_code(run, experiment, method=self._method, backbone=self._backbone)

    def dataset_of(self, experiment: Experiment) -> Dataset:
        """Return the data set of a run; raises HashbenchError where it is not here, or is another than the run's."""
        data = experiment.data
        key = (data.name, data.evaluated, data.integrity)
        if self._dataset is None or self._dataset[0] != key:
            self._dataset = None  # its memory goes before the next one comes
            given: dict[str, Any] = {**self._data, "evaluate_on": data.evaluated, "integrity": data.integrity}
            loaded = catalogue.load(self._name or data.name, **given)
            self._dataset = (key, loaded)
        dataset = self._dataset[1]
        if (dataset.split.sha256, dataset.store.integrity) != (data.split_sha256, data.integrity):
            raise HashbenchError(
                f"{dataset.name} is here, but with other images or another split than the run's; name its files with "
                f"--data-dir or --dataset, and the size of prepared images with --size."
            )
        return dataset

    def relevance_of(self, condition: Condition, experiment: Experiment, dataset: Dataset) -> Relevance:
        """Return what a condition makes relevant to a run's queries."""
        key = (features_key(experiment, dataset), condition)
        if self._relevance is None or self._relevance[0] != key:
            self._relevance = None
            found = fixed_features(experiment, dataset, self._device, progress=self._progress)
            self._relevance = (key, relevance_under(condition, found))
        return self._relevance[1]

    def model_of(self, run: RunDirectory, version: Any) -> Model:
        """Return the stored model of a run; `version` tells one from that of the run computed again."""
        key = (run.path, version)
        if self._model is None or self._model[0] != key:
            self._model = None
            loaded = load_with_result(  # whose notes are said elsewhere
                run.path, method=self._method, backbone=self._backbone, device=str(self._device)
            )
            self._model = (key, loaded.model)
        return self._model[1]

    def surrogate_of(self, surrogate: RunDirectory, run: RunDirectory) -> tuple[Model, np.ndarray]:
        """Return the model of another run, on which an attack on `run` is made, and its packed codes of the database.

        Raises HashbenchError where it is the run itself, or has other queries, database or images than that.
        """
        result, attacked = surrogate.read_result(), run.read_result()
        if result.id == attacked.id or result.condition:
            what = "the run that is attacked" if result.id == attacked.id else "a run under a condition"
            raise HashbenchError(f"The surrogate {surrogate.path} is {what}; name another run.")
        theirs, mine = (Experiment.from_identity(one.read_spec()["identity"]).data for one in (surrogate, run))
        if theirs != mine:
            raise HashbenchError(
                f"The surrogate {surrogate.path} is of {theirs.name} {theirs.shape}, and {run.path} of {mine.name} "
                f"{mine.shape}, or of another split of it; name a run on the same data."
            )
        key = (surrogate.path, snapshot(surrogate).result)
        if self._surrogate is None or self._surrogate[0] != key:
            self._surrogate = None
            self._surrogate = (key, load(surrogate.path, device=str(self._device)))
        return self._surrogate[1], surrogate.read_codes(result.coords["bits"])["database"]


def evaluate_run(
    run: Result | Path | str,
    *,
    under: str,
    method: str | None = None,
    backbone: str | None = None,
    dataset: str | None = None,
    data_dir: Path | str | None = None,
    data_size: int | None = None,
    accept_unofficial: bool = False,
    device: str = "auto",
) -> Result:
    """Return a finished run measured again under a condition: `evaluate_run(run, under="noise(sigma=0.1)")`.

    The run's model encodes the queries as the condition changes them; the database's codes are those stored. It is
    computed once and kept in the run's folder `under`. `method`, `backbone` and `dataset` name again what came from a
    file or path, `path/file.py:Class` or `arrays:path/file.npz`; the other settings are as for `hashbench.run`. Raises
    HashbenchError where it is not possible.
    """
    found = RunDirectory(Path(run)).read_result() if isinstance(run, str | Path) else run
    evaluator = Evaluator(
        method=method,
        backbone=backbone,
        dataset=dataset,
        data_dir=data_dir,
        data_size=data_size,
        accept_unofficial=accept_unofficial,
        device=device,
    )
    (measured,) = evaluator.all([Measuring(found, parse_condition(under))])
    for warning in evaluator.warnings:
        warnings.warn(warning, stacklevel=2)
    if measured.error is not None:
        raise measured.error
    assert measured.result is not None
    return measured.result


def _led_to(
    targets: np.ndarray, query: np.ndarray, database: np.ndarray, dataset: Dataset, measures: list[Measure], bits: int
) -> dict[str, float | None]:
    """Return `t-mAP@all` and the like: the measures where items of the target labels (Q, C) are the relevant ones."""
    labels = dataset.store.labels[dataset.split.database]
    gains = any(measure.needs_gains for measure in measures)
    found = evaluate_histograms(histograms(query, database, targets, labels, bits=bits, gains=gains), measures)
    return {f"t-{name}": value for name, value in found.metrics.items()}


def _surrogate(wanted: Measuring) -> dict[str, Any]:
    """Return what the provenance of a result states of the run on whose model the attack was made."""
    if wanted.surrogate is None:
        return {}
    id = wanted.identity["condition"]["fields"]["surrogate"]
    path = wanted.surrogate.beside(wanted.directory)
    return {"surrogate": {"id": id, "path": path, "measured_with": wanted.surrogate.content()}}


def _tuned(wanted: Measuring) -> dict[str, Any]:
    """Return what the provenance of a result states of the study behind the run's settings."""
    if "tuned" not in wanted.run.provenance:
        return {}
    of_run = wanted.run.provenance["tuned"]
    study = RunDirectory(_path(wanted.run) / of_run["path"])
    return {"tuned": {**of_run, "path": study.beside(wanted.directory)}}


def _measures_of(run: Result) -> list[Measure]:
    """Return the run's measures; raises HashbenchError for one of a plug-in that is not installed here."""
    try:
        return [parse(name) for name in (*run.metrics, *run.curves)]
    except ValueError as error:
        raise HashbenchError(str(error)) from error


def _path(run: Result) -> Path:
    """Return a run's folder; raises HashbenchError for a result without one, and for one under a condition already."""
    if run.path is None:
        raise HashbenchError("This result has no run directory with a model; read it from its folder.")
    if run.condition:
        raise HashbenchError(f"{run.path} is a run under a condition already; name the run itself.")
    return run.path
