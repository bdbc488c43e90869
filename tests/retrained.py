"""A run as it is where the same experiment was trained on another machine: the same id, other weights and codes."""

from pathlib import Path

import numpy as np
import torch

import hashbench
from hashbench import datasets
from hashbench.results.runs import RunDirectory


def retrain(run):
    """Give a finished run on the toy data other weights, the codes by these, and a result that states both files."""
    directory, model, dataset = RunDirectory(Path(run)), hashbench.load(run), datasets.load("toy")
    with torch.no_grad():
        for place, weights in enumerate(model.network.parameters()):
            noise = torch.randn(weights.shape, generator=torch.Generator().manual_seed(place))
            weights.add_(noise * (weights.std(correction=0) + 0.1))
    result = directory.read_result()
    model.save(directory.model, of=result.id)
    parts = {"query": dataset.split.query, "database": dataset.split.database}
    codes = {part: np.packbits(model.encode(dataset.store.inputs[rows]), axis=1) for part, rows in parts.items()}
    directory.write_arrays("codes", **codes)
    directory.write_result(result)
