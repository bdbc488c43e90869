"""Measures during training (`--eval-every`): for inspection only, without effect on the training."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from hashbench.datasets.base import Dataset
from hashbench.evaluation.encoding import count
from hashbench.metrics import evaluate_histograms
from hashbench.networks.model import Model
from hashbench.system.distributed import SINGLE
from hashbench.training.loop import Monitor


def monitor_every(
    epochs: int | None, model: Model, dataset: Dataset, encode: Callable[[np.ndarray], np.ndarray]
) -> Monitor:
    """Return the function from an epoch (0-based) to the data set's measures after each `epochs`-th, else None.

    `encode` gives the packed codes of the inputs at an index; without `epochs`, no epoch is measured. It restores
    modes and random streams, so the training's numbers are the same with and without it.
    """
    split = dataset.split

    def monitor(epoch: int) -> dict[str, float] | None:
        if not epochs or (epoch + 1) % epochs:
            return None
        modules: list[nn.Module] = [model.method] if model.network is None else [model.method, model.network]
        with _undisturbed(modules, model.task.device):
            query, database = encode(split.query), encode(split.database)
        counted = count(query, database, dataset, SINGLE, bits=model.task.bits)
        return evaluate_histograms(counted, dataset.protocol.measures, bounds=False).metrics

    return monitor


@contextmanager
def _undisturbed(modules: list[nn.Module], device: torch.device) -> Iterator[None]:
    """Restore what the evaluation may change: the modes of modules, and the states of the global generators."""
    training = {module: module.training for owner in modules for module in owner.modules()}
    python, numpy = random.getstate(), np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for module, mode in training.items():
            module.training = mode
