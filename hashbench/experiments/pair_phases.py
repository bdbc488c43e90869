"""One experiment of users and items through its phases: fit, codes or scores, evaluate, store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hashbench.datasets.interactions.base import InteractionDataset
from hashbench.errors import HashbenchError
from hashbench.experiments.clock import Clock
from hashbench.experiments.experiment import ENGINE
from hashbench.methods.contract import options
from hashbench.methods.pairs import PairMethod, PairScorer, PairTask
from hashbench.metrics import Histograms, code_statistics, evaluate_histograms, histograms, pack, parse
from hashbench.metrics.scored import score_histograms
from hashbench.registry import METHODS
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.storage import tensorfiles
from hashbench.system import seeds
from hashbench.system.memory import peak_memory_mb, reset_peak_memory
from hashbench.system.provenance import provenance

if TYPE_CHECKING:
    from hashbench.experiments.pair_track import PairExperiment

MEASURES = ("HR@10", "nDCG@10", "R@20", "mAP@all", "P@10", "PR@k")
OF_CODES = ("P@H<=2", "R@H<=2", "PR")  # what scores have not
SCORES_AT_ONCE = 1 << 24  # of a reference, in memory


def compute(
    experiment: PairExperiment, data: InteractionDataset, directory: RunDirectory, device: torch.device
) -> Result:
    """Compute the phases of an experiment and return its result; all else is stored on the way.

    Raises HashbenchError where the method returns anything but codes or scores of all users and items.
    """
    started, clock = datetime.now(UTC), Clock()
    reset_peak_memory(device)
    task, method = experiment.task(device), experiment.new_method()
    with clock("train"):
        seeds.seed_globals(task.seed, "fit")
        method.fit(task, data.train.copy())  # its own: later runs of the sweep learn from the same matrix
    codes: dict[str, np.ndarray] = {}
    with clock("encode"):
        if not isinstance(method, PairScorer):
            codes = {part: pack(found.numpy()) for part, found in _codes(method, task).items()}
            codes["query"] = codes["query"][data.query]
    with clock("evaluate"):
        counted = _count(codes, data, task.bits) if codes else _count_scores(method, data)
        measured = evaluate_histograms(counted, _measures(data, scored=not codes))
        statistics = code_statistics(codes["database"], counted) if codes else {}
    with clock("store"):
        directory.write_arrays("histograms", **counted.arrays())
        if codes:
            directory.write_arrays("codes", **codes)
        directory.write_names(data.file_of_names)
        directory.check()
        tensorfiles.save({"method": method.state_dict()}, directory.model, of=experiment.id)
    return Result(
        id=experiment.id,
        coords=_coords(experiment, data),
        metrics=measured.metrics,
        bounds=measured.bounds,
        ties=measured.ties,
        curves=measured.curves,
        counts={"train": data.train.nnz, "users": len(data.store.users), **measured.counts},
        code_stats=statistics,
        diagnostics={},
        epoch={"kept": None, "of": 0},
        time=clock.summary(),
        images_per_s=None,
        peak_memory_mb=peak_memory_mb(device),
        provenance=_provenance(experiment, data, device, started, scored=not codes),
    )


def _codes(method: PairMethod, task: PairTask) -> dict[str, torch.Tensor]:
    """Return the codes of all users and of all items, on the CPU."""
    found = {"query": method.row_codes().cpu(), "database": method.column_codes().cpu()}
    for (part, codes), count in zip(found.items(), (task.num_rows, task.num_columns), strict=True):
        if codes.dtype != torch.bool or tuple(codes.shape) != (count, task.bits):
            raise HashbenchError(
                f"The codes of the {part} are {codes.dtype} of shape {tuple(codes.shape)} instead of torch.bool of "
                f"shape {(count, task.bits)}; `hashbench check` tells more of a method."
            )
    return found


def _count(codes: dict[str, np.ndarray], data: InteractionDataset, bits: int) -> Histograms:
    return histograms(codes["query"], codes["database"], None, None, bits=bits, pairs=data.pairs, gains=True)


def _count_scores(method: PairMethod, data: InteractionDataset) -> Histograms:
    assert isinstance(method, PairScorer)
    items, query = len(data.store.items), data.query

    def scores() -> Iterator[np.ndarray]:
        step = max(SCORES_AT_ONCE // items, 1)
        for start in range(0, len(data.store.users), step):
            inside = query[np.searchsorted(query, start) : np.searchsorted(query, start + step)]
            yield method.scores(slice(start, start + step)).cpu().numpy()[inside - start]

    try:
        return score_histograms(scores(), data.pairs, queries=len(query), items=items)
    except ValueError as error:
        raise HashbenchError(f"The method's scores cannot be used: {error}") from error


def _measures(data: InteractionDataset, *, scored: bool) -> list[str]:
    return list(dict.fromkeys([*data.protocol.measures, *MEASURES, *(() if scored else OF_CODES)]))


def _coords(experiment: PairExperiment, data: InteractionDataset) -> dict[str, Any]:
    known = options(METHODS.get(experiment.method))
    return {
        "method": experiment.method,
        "method_version": experiment.method_version,
        "fields": {name: value for name, value in experiment.fields.items() if known[name].default != value},
        "dataset": data.protocol.dataset,
        "protocol": data.protocol.name,
        "evaluated": data.evaluated,
        "relevance": "pairs, some left out",
        "measure": str(parse(data.protocol.measures[0])),
        "backbone": None,
        "recipe": "none",
        "inputs": experiment.track,
        "bits": experiment.bits,
        "seed": experiment.seed,
        "cell": experiment.cell,
        "engine": ENGINE,
    }


def _provenance(
    experiment: PairExperiment, data: InteractionDataset, device: torch.device, started: datetime, *, scored: bool
) -> dict[str, Any]:
    info = METHODS.get(experiment.method).info
    return {
        **provenance(experiment.method, device=device, started=started),
        "fidelity": info.fidelity,
        "family": info.family,
        "split_sha256": data.split_sha256,
        "data_integrity": data.integrity,
        "data_official": data.store.official,
        "weights": None,
        "processes": 1,
        **({"codes": "none"} if scored else {}),
    }
