"""From a trained model to the histograms of its codes; each rank of a world encodes and counts its share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hashbench.datasets.base import Dataset
from hashbench.datasets.loading.loader import inference_batches
from hashbench.errors import HashbenchError
from hashbench.evaluation.conditions.contract import Condition, Queries
from hashbench.metrics import Histograms, histograms, pack, parse, unpack
from hashbench.networks.model import ENCODE_BATCH, Model, true_float32
from hashbench.system.distributed import World

if TYPE_CHECKING:
    from hashbench.datasets.sparse import Inputs
    from hashbench.metrics.pairs import Pairs

SMALL_BATCH = 64  # as features of a fixed backbone are computed; attacks need memory for gradients, too


def encode_rows(model: Model, inputs: Inputs, index: np.ndarray, world: World) -> np.ndarray:
    """Return the packed codes (n, ceil(bits / 8)), uint8, of the inputs at `index`; each rank encodes its share."""
    batches = inference_batches(
        inputs,
        batch_size=ENCODE_BATCH,
        device=model.task.device,
        index=index[world.share(len(index))],
        size=model.input_size,
        channels_last=True,
    )
    codes = [torch.empty(0, model.bits, dtype=torch.bool, device=model.task.device)]
    codes += [model.codes(batch) for batch in batches]  # brought to the host at once, so that no batch waits for it
    return world.all_gather(torch.from_numpy(pack(torch.cat(codes).cpu().numpy()))).numpy()


@true_float32()
def encode_under(
    condition: Condition,
    model: Model,
    dataset: Dataset,
    database: np.ndarray,
    *,
    places: Sequence[int] | None = None,
    surrogate: tuple[Model, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the packed codes (n, ceil(bits / 8)), uint8, of the data set's queries as `condition` changes them.

    `database` are the packed codes (N, ceil(bits / 8)) of its database; `places` those of the queries in the query set,
    None for all. An attack made on a `surrogate`, another model with its codes of the database, sees that alone. With
    the codes come the labels (n, C), uint8, that a targeted attack leads the queries to; None under other conditions.
    Raises HashbenchError where the condition cannot change such queries, or returns anything but images.
    """
    refuse_other_inputs(condition, dataset)
    places = range(len(dataset.split.query)) if places is None else places
    seen, codes_seen = (model, database) if surrogate is None else surrogate
    labels, split, device = torch.from_numpy(dataset.store.labels), dataset.split, model.task.device
    attack, known = type(condition).attack, {}
    if attack:
        known = {
            "database_codes": torch.from_numpy(unpack(codes_seen, seen.bits)),
            "database_labels": labels[split.database],
        }
    batches = inference_batches(
        dataset.store.inputs,
        batch_size=SMALL_BATCH if attack or model.task.inputs == "features" else ENCODE_BATCH,
        device=device,
        index=split.query[places],
    )
    codes = [np.empty((0, database.shape[1]), dtype=np.uint8)]
    targets = [labels[:0]]
    done = 0
    for images in batches:
        mine = places[done : done + len(images)]
        if attack:
            known["labels"] = labels[split.query[mine]].to(device)
        queries = Queries(images, mine, condition.info.name, model.task.seed, seen, **known)
        with torch.set_grad_enabled(attack):
            changed = condition.apply(queries)
        _refuse_other_images(condition, changed, images)
        if condition.targets:
            targets.append(condition.target_labels(queries).cpu())
        codes.append(pack(model.encode(changed.detach(), batch_size=len(images))))
        done += len(images)
    return np.concatenate(codes), torch.cat(targets).numpy() if condition.targets else None


def refuse_other_inputs(condition: Condition, dataset: Dataset) -> None:
    """Raise HashbenchError where the condition is not for what the data set holds."""
    if dataset.kind not in condition.takes:
        raise HashbenchError(
            f"The condition '{condition.info.name}' changes {' or '.join(condition.takes)}, and {dataset.name} holds "
            f"{dataset.kind}; `hashbench list conditions` shows what each takes."
        )
    if condition.surrogate is not None and not type(condition).attack:
        raise HashbenchError(
            f"The condition '{condition.info.name}' is no attack, so that no surrogate changes it; leave it out."
        )
    if condition.targets and dataset.pairs:
        raise HashbenchError(
            f"The condition '{condition.info.name}' counts items of other labels as relevant, and in {dataset.name} "
            f"pairs say what is; leave it out."
        )


def _refuse_other_images(condition: Condition, changed: Tensor, images: Tensor) -> None:
    name = f"The condition '{condition.info.name}'"
    if not isinstance(changed, Tensor) or (changed.shape, changed.dtype) != (images.shape, images.dtype):
        found = f"{changed.dtype} {(*changed.shape,)}" if isinstance(changed, Tensor) else type(changed).__name__
        raise HashbenchError(f"{name} returned {found} where {images.dtype} {(*images.shape,)} went in.")
    if images.ndim == 4 and not bool(((changed >= 0) & (changed <= 1)).all()):
        raise HashbenchError(f"{name} returned images outside of [0, 1]; it must clip them.")


def count(
    query: np.ndarray, database: np.ndarray, dataset: Dataset, world: World, *, bits: int, pairs: Pairs | None = None
) -> Histograms:
    """Return the histograms of the whole database, of which each rank counts its share.

    `pairs` say what is relevant, and what is left out, instead of the data set.
    """
    of_query, of_database = dataset.labels if pairs is None else (None, None)
    mine = world.share(len(database))
    counted = histograms(
        query,
        database[mine],
        of_query,
        None if of_database is None else of_database[mine],
        bits=bits,
        pairs=(dataset.pairs if pairs is None else pairs).between(mine.start, mine.stop),
        gains=dataset.graded or any(parse(name).needs_gains for name in dataset.protocol.measures),
    )
    arrays = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in counted.arrays().items()}
    return Histograms.from_arrays({name: total.numpy() for name, total in world.all_reduced(arrays).items()})
