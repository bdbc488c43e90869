"""What is relevant under a condition that says so: from a run's fixed features, computed once and kept in the cache."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch

from hashbench.datasets.base import Dataset
from hashbench.datasets.sparse import bytes_of_rows
from hashbench.errors import HashbenchError
from hashbench.evaluation.conditions.contract import Condition, FixedFeatures, as_identity
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.phases import fixed_inputs
from hashbench.metrics.pairs import Pairs, read_pairs
from hashbench.networks.chosen import weights_name
from hashbench.storage.cache import cache_root
from hashbench.storage.files import exclusive, lock_of, make_folder, remove_abandoned
from hashbench.storage.strict_json import digest
from hashbench.storage.tensorfiles import Unusable, load, save
from hashbench.system.distributed import SINGLE
from hashbench.system.provenance import source_sha256

_LOG = logging.getLogger(__name__)
ROWS = 4096  # that are hashed at a time


@dataclass(frozen=True, eq=False)
class Relevance:
    """What is relevant to a run's queries by its fixed features."""

    pairs: Pairs
    features_sha256: str  # of the features of queries and database, in their order


def features_key(experiment: Experiment, dataset: Dataset) -> tuple[Any, ...]:
    """Return what the fixed features of a run follow from: runs of one key have the same."""
    recipe, split = experiment.recipe, dataset.split
    backbone = (recipe.backbone, experiment.weights, recipe.size, recipe.precision) if recipe.pretrained else ()
    return (dataset.name, dataset.evaluated, split.sha256, dataset.store.integrity, *backbone)


def fixed_features(
    experiment: Experiment, dataset: Dataset, device: torch.device, *, progress: bool = False
) -> FixedFeatures:
    """Return a run's inputs as what no training changes: vectors, features of its fixed backbone, or pixels.

    Raises HashbenchError where the backbone's weights are others than the run's.
    """
    recipe = experiment.recipe
    if dataset.kind == "images" and recipe.pretrained and weights_name(recipe.backbone) != experiment.weights:
        raise HashbenchError(
            f"The run has the backbone '{recipe.backbone}' with the weights {experiment.weights}, and here it has "
            f"others; put those of the run in their place."
        )
    inputs = fixed_inputs(experiment, dataset, device, progress, SINGLE)
    split, left_out = dataset.split, None
    if (excluded := dataset.pairs.excluded) is not None:
        from scipy.sparse import csr_array

        left_out = csr_array(
            (excluded.gain, (excluded.query, excluded.items)), shape=(len(split.query), len(split.database))
        )
    return FixedFeatures(inputs, split.query, split.database, left_out, progress)


def relevance_under(condition: Condition, features: FixedFeatures, *, anew: bool = False) -> Relevance:
    """Return what `condition` makes relevant; `anew` counts it again, whatever is kept in the cache.

    It lies in the cache under the hash of condition, its source, and the features; what is damaged there is computed
    anew with a warning. Of two processes, one computes and the other waits.
    """
    features_sha256 = _hash(features)
    if anew:
        return _relevance(condition.relevance(features), features, features_sha256)
    left_out = features.left_out
    of = digest(
        {
            "condition": as_identity(condition),
            "source": source_sha256(type(condition)),
            "features": features_sha256,
            "left_out": None if left_out is None else sha256(b"".join(bytes_of_rows(left_out))).hexdigest(),
        }
    )
    path = cache_root() / "relevance" / f"{condition.info.name}-{of[:16]}.pt"
    make_folder(path.parent)
    remove_abandoned(path.parent)
    with exclusive(lock_of(path)):
        try:
            state = load(path, of=of)
            return _relevance(_matrix(state, features), features, features_sha256)
        except FileNotFoundError:
            pass
        except Unusable as error:
            _LOG.warning("%s %s and is computed anew.", path, error)
        found = condition.relevance(features)
        save({name: torch.from_numpy(getattr(found, name)) for name in ("data", "indices", "indptr")}, path, of=of)
        return _relevance(found, features, features_sha256)


def _matrix(state: dict[str, Any], features: FixedFeatures) -> Any:
    from scipy.sparse import csr_array

    arrays = tuple(state[name].numpy() for name in ("data", "indices", "indptr"))
    return csr_array(arrays, shape=(len(features.query), len(features.database)))


def _relevance(matrix: Any, features: FixedFeatures, features_sha256: str) -> Relevance:
    queries, items = len(features.query), len(features.database)
    try:
        pairs = read_pairs(matrix, features.left_out, queries=queries, items=items)
    except ValueError as error:
        raise HashbenchError(f"What the condition makes relevant cannot be used: {error}") from error
    return Relevance(pairs, features_sha256)


def _hash(features: FixedFeatures) -> str:
    """Return the sha256 of the features of queries and database, in their order."""
    found = sha256()
    for index in (features.query, features.database):
        found.update(f"{len(index)}x{features.inputs.shape[1]}:".encode())
        for start in range(0, len(index), ROWS):
            for row in bytes_of_rows(features.inputs[index[start : start + ROWS]]):
                found.update(len(row).to_bytes(8, "little") + row)
    return found.hexdigest()
