"""From a trained model to the histograms of its codes; each rank of a world encodes and counts its share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from hashbench.datasets.base import Dataset
from hashbench.datasets.loading.loader import inference_batches
from hashbench.metrics import Histograms, histograms, pack, parse
from hashbench.networks.model import ENCODE_BATCH, Model
from hashbench.system.distributed import World

if TYPE_CHECKING:
    from hashbench.datasets.sparse import Inputs


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
    codes = [torch.empty(0, model.task.bits, dtype=torch.bool, device=model.task.device)]
    codes += [model.codes(batch) for batch in batches]  # brought to the host at once, so that no batch waits for it
    return world.all_gather(torch.from_numpy(pack(torch.cat(codes).cpu().numpy()))).numpy()


def count(query: np.ndarray, database: np.ndarray, dataset: Dataset, world: World, *, bits: int) -> Histograms:
    """Return the histograms of the whole database, of which each rank counts its share."""
    of_query, of_database = dataset.labels
    mine = world.share(len(database))
    counted = histograms(
        query,
        database[mine],
        of_query,
        None if of_database is None else of_database[mine],
        bits=bits,
        pairs=dataset.pairs.between(mine.start, mine.stop),
        gains=dataset.graded or any(parse(name).needs_gains for name in dataset.protocol.measures),
    )
    arrays = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in counted.arrays().items()}
    return Histograms.from_arrays({name: total.numpy() for name, total in world.all_reduced(arrays).items()})
