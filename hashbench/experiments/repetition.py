"""Finished runs repeated in part: queries encoded again with the stored model, and whole cells computed anew."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from hashbench.datasets.base import Dataset
from hashbench.datasets.loading.loader import inference_batches
from hashbench.errors import HashbenchError
from hashbench.evaluation.conditions.contract import from_identity, places_of
from hashbench.evaluation.encoding import SMALL_BATCH, encode_under
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.phases import compute
from hashbench.experiments.reevaluation import Evaluator
from hashbench.experiments.starts import start_of
from hashbench.metrics import evaluate_histograms, first_bits, histograms, pack, unpack
from hashbench.metrics.measures import parse
from hashbench.networks.chosen import weights_name
from hashbench.networks.model import ENCODE_BATCH, Model, true_float32
from hashbench.registry import METHODS
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.results.sweeps.estimates import plural
from hashbench.results.sweeps.run_status import snapshot
from hashbench.storage.strict_json import digest

NEAR_ZERO = {"fp32": 1e-4}  # of an output's usual size: what rounding may move over zero; by precision of the recipe
LESS_PRECISE = 1e-2
TOLERANCE = 1e-9


def sampled(results: Sequence[Result], number: int) -> list[Result]:
    """Return `number` runs, those with the smallest sha256 of their id: the same ones whenever they are asked for."""
    runs = {result.id: result for result in results if not result.condition}
    return sorted(runs.values(), key=lambda result: digest(["rerun", result.id]))[:number]


def check_model(result: Result, evaluator: Evaluator, number: int) -> Iterator[str]:
    """Encode `number` queries of a run with its stored model, and yield how the codes differ from the stored ones.

    The queries are those whose places have the smallest sha256 with the run's id; under a condition, which sees the
    queries in their order, the first ones. Raises HashbenchError where model or data are not here, and where bits
    differ whose outputs lie so near zero that rounding on another machine may have flipped them.
    """
    assert result.path is not None
    directory = RunDirectory(result.path)
    experiment = Experiment.from_identity(directory.run.read_spec()["identity"])
    dataset = evaluator.dataset_of(experiment)
    codes = directory.read_codes()
    model = evaluator.model_of(directory.run, snapshot(directory.run).result)
    of_all, queries = len(codes["query"]), len(dataset.split.query)
    measured = directory.read_spec()["identity"]["condition"] if result.condition else None
    measured_places = places_of(measured, dataset.split.sha256, queries) if measured else range(queries)
    if len(measured_places) != of_all:
        yield f"there are {of_all} codes of queries, and {len(measured_places)} queries"
        return
    number = min(number, of_all)
    outputs: np.ndarray | None = None
    if measured is not None:
        places = np.arange(number)
        condition = from_identity(measured)
        surrogate = None
        if "surrogate" in result.provenance:
            surrogate = evaluator.surrogate_of(directory.surrogate(result), directory.run)
        again, _ = encode_under(
            condition, model, dataset, codes["database"], places=measured_places[:number], surrogate=surrogate
        )
    else:
        places = _places(result.id, of_all, number)
        packed, outputs = _encode(model, dataset, dataset.split.query[places])
        again = packed
    then, now = (unpack(found, experiment.bits) for found in (codes["query"][places], again))
    flipped = then != now
    if not flipped.any():
        return
    bits, rows = int(flipped.sum()), int(flipped.any(axis=1).sum())
    told = f"{bits} {plural('bit', bits)} of {rows} of {number} queries differ from those by model.pt"
    if outputs is None:
        yield f"{told}; how near zero its outputs are is not known"
        return
    relative = np.abs(outputs) / max(float(np.sqrt((outputs.astype(np.float64) ** 2).mean())), 1e-30)
    near = relative <= NEAR_ZERO.get(experiment.recipe.precision, LESS_PRECISE)
    at = ", ".join(f"query {places[row]} bit {bit}: {outputs[row, bit]:.1e}" for row, bit in np.argwhere(flipped)[:3])
    if (flipped & ~near).any():
        yield f"{told}, {int((flipped & near).sum())} of them with outputs near zero; its outputs there are {at}"
        return
    raise HashbenchError(f"{told}, all with outputs near zero ({at}), where rounding on another machine flips them")


def check_rerun(result: Result, evaluator: Evaluator) -> Iterator[str]:
    """Compute a run anew in a scratch folder, and yield how its measures differ from the stored ones.

    A difference names what of the machine is another than the run's. Raises HashbenchError where that is not possible.
    """
    assert result.path is not None
    experiment = Experiment.from_identity(RunDirectory(result.path).read_spec()["identity"])
    evaluator.require_code(result.path, experiment)
    if experiment.world > 1:
        raise HashbenchError(f"{experiment.world} processes computed it together; run it again with torchrun")
    version = METHODS.get(experiment.method).info.version
    weights = weights_name(experiment.recipe.backbone) if experiment.recipe.pretrained else None
    if (experiment.id, experiment.method_version, experiment.weights) != (result.id, version, weights):
        raise HashbenchError(
            f"it is of {experiment.method} version {experiment.method_version} with the weights {experiment.weights}, "
            f"and here are version {version} and {weights}, or another engine"
        )
    start = start_of(RunDirectory(result.path), result)
    dataset = evaluator.dataset_of(experiment)
    recipe = dataclasses.replace(experiment.recipe, name=result.coords["recipe"].partition("(")[0])
    whole = dataclasses.replace(experiment, bits=experiment.training_bits, recipe=recipe)
    with tempfile.TemporaryDirectory(prefix="hashbench-verify-") as folder, true_float32():
        scratch = RunDirectory(Path(folder))
        again = compute(whole, dataset, scratch, evaluator.device, progress=False, eval_every=None, start=start)
        assert again is not None
        measures = again.metrics
        if experiment.bits != whole.bits:
            measures = _of_first_bits(scratch.read_arrays("codes"), dataset, experiment.bits, result)
    other = [
        f"{name} {_short(result.provenance.get(name))} then and {_short(again.provenance.get(name))} now"
        for name in ("libraries", "device_name", "threads", "source_sha256")
        if result.provenance.get(name) != again.provenance.get(name)
    ]
    machine = f" ({'; '.join(other)})" if other else ""
    for name, value in result.metrics.items():
        now = measures.get(name)
        if now is None and value is None:
            continue
        if now is None or value is None or abs(now - value) > TOLERANCE:
            yield f"{name} is {_number(value)} in the result and {_number(now)} computed anew{machine}"


def _of_first_bits(codes: dict[str, np.ndarray], dataset: Dataset, bits: int, result: Result) -> dict[str, float]:
    query, database = (first_bits(codes[part], bits) for part in ("query", "database"))
    wanted = [parse(name) for name in result.metrics]
    gains = dataset.graded or any(measure.needs_gains for measure in wanted)
    found = histograms(query, database, *dataset.labels, bits=bits, pairs=dataset.pairs, gains=gains)
    return dict(evaluate_histograms(found, wanted, ties=result.ties).metrics)  # type: ignore[arg-type]


@true_float32()
def _encode(model: Model, dataset: Dataset, index: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return packed codes (n, ceil(bits / 8)) and, where their signs are the codes, the outputs (n, bits)."""
    size = SMALL_BATCH if model.task.inputs == "features" else ENCODE_BATCH
    codes, outputs = [], []
    for batch in inference_batches(dataset.store.inputs, batch_size=size, device=model.task.device, index=index):
        codes.append(model.encode(batch, batch_size=len(batch)))
        if model.network is not None:
            with torch.inference_mode():
                outputs.append(model.outputs(batch).float().cpu().numpy())
    found = np.concatenate(codes)
    signed = np.concatenate(outputs) if outputs else None
    if signed is not None:
        signed = signed[:, : model.bits]
        if signed.shape != found.shape or not np.array_equal(signed >= 0, found):
            signed = None
    return pack(found), signed


def _places(id: str, queries: int, number: int) -> np.ndarray:
    """Return the places of `number` queries, chosen by a sha256, ascending."""
    order = sorted(range(queries), key=lambda place: digest([id, place]))
    return np.sort(np.array(order[:number], dtype=np.int64))


def _number(value: float | None) -> str:
    return "null" if value is None else f"{value:.6g}"


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return str(value)[:40]
