"""The preparation stage of deep methods: run once per data, recipe and seed, cached, shared by all bit lengths."""

from __future__ import annotations

import hashlib
import inspect
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hashbench.datasets.loading.batch import Batch
from hashbench.methods.contract import DeepMethod, Method, Task
from hashbench.networks.chosen import code_of
from hashbench.networks.model import make_backbone, make_network
from hashbench.recipes import Recipe
from hashbench.storage.cache import cache_root
from hashbench.storage.files import exclusive, make_folder
from hashbench.storage.strict_json import digest
from hashbench.storage.tensorfiles import save
from hashbench.training.loop import Reports, train
from hashbench.training.trainset import TrainSet

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """What `DeepMethod.prepare` returned, what it cost in seconds, and whether it came from the cache."""

    tensors: dict[str, Tensor]
    seconds: float
    cached: bool


class RecipeTools:
    """The tools of `DeepMethod.prepare`: networks trained on the training set by the experiment's recipe."""

    def __init__(self, task: Task, recipe: Recipe, shape: tuple[int, ...], data: TrainSet, *, bar: str | None):
        """`shape` is that of the data set's inputs, `bar` the title of a progress bar, None for none."""
        self.task, self.data = task, data
        self._recipe, self._shape, self._bar = recipe, shape, bar

    def train(self, outputs: int, loss: Callable[[Tensor, Batch], dict[str, Tensor]]) -> nn.Module:
        """Return the recipe's network with a linear head of `outputs`, trained with `loss` on the training set."""
        task, recipe, data = self.task, self._recipe, self.data
        backbone = make_backbone(task, recipe, self._shape, data.width, pretrained=recipe.pretrained, purpose="prepare")
        network = make_network(backbone, lambda width: nn.Linear(width, outputs), task, recipe, purpose="prepare")
        train(_LossOnly(loss), network, task=task, recipe=recipe, data=data, reports=Reports(bar=self._bar))
        return network

    @torch.inference_mode()
    def outputs(self, network: nn.Module) -> Tensor:
        """Return the network's outputs (num_train, outputs), float32, on the training set in order, not augmented."""
        network.eval()
        return torch.cat([network(batch.inputs) for batch in self.data.fresh()])

    def on(self, data: TrainSet) -> RecipeTools:
        """Return the same tools for another view of the training set."""
        return RecipeTools(self.task, self._recipe, self._shape, data, bar=self._bar)


class _LossOnly(DeepMethod):
    """A method with a loss and no hooks."""

    def __init__(self, loss: Callable[[Tensor, Batch], dict[str, Tensor]]):
        self._loss = loss

    def loss(self, out: Tensor, batch: Batch) -> dict[str, Tensor]:
        return self._loss(out, batch)


def prepare(method: Method, tools: RecipeTools, identity: Mapping[str, Any]) -> Prepared:
    """Return what `method` prepares, from the cache where the same was prepared before.

    `identity` is the experiment's, parts of which name the cache file. Of a world, rank 0 prepares, as it would alone,
    and broadcasts what it found.
    """
    world, device = tools.data.world, tools.task.device
    if world.is_single:
        return _prepare(method, tools, identity)
    found = None
    if world.is_main:
        found = _prepare(method, tools.on(tools.data.alone), identity)
        found = replace(found, tensors={name: tensor.cpu() for name, tensor in found.tensors.items()})
    shared = world.broadcast(found)
    assert shared is not None
    return replace(shared, tensors={name: tensor.to(device) for name, tensor in shared.tensors.items()})


def _prepare(method: Method, tools: RecipeTools, identity: Mapping[str, Any]) -> Prepared:
    if not isinstance(method, DeepMethod) or type(method).prepare is DeepMethod.prepare:
        return Prepared({}, 0.0, cached=False)
    path = _cache_file(type(method), identity)
    if path is None:
        return _prepared(None, method, tools)
    found = _cached(path, tools.task)
    if found is None:
        make_folder(path.parent)
        with exclusive(path.with_suffix(".lock")):  # workers with other bit lengths wait here
            found = _cached(path, tools.task)
            if found is None:
                if path.is_file():
                    _LOG.warning("%s is damaged and is prepared anew.", path)
                return _prepared(path, method, tools)
    return found


def _cached(path: Path, task: Task) -> Prepared | None:
    """Return what an earlier run has prepared; None where none has, or its file is damaged."""
    try:
        state = torch.load(path, map_location=task.device, weights_only=True)
        return Prepared(state["tensors"], state["seconds"], cached=True)
    except Exception:  # it is not there, or torch raises one of a dozen kinds
        return None


def _prepared(path: Path | None, method: DeepMethod, tools: RecipeTools) -> Prepared:
    started = time.perf_counter()
    tensors = method.prepare(tools.task, tools.data, tools)
    seconds = time.perf_counter() - started
    if path is not None:
        save({"tensors": tensors, "seconds": seconds}, path)
    return Prepared(tensors, seconds, cached=False)


def _cache_file(cls: type[DeepMethod], identity: Mapping[str, Any]) -> Path | None:
    """Return where the preparation is kept: under method, source, data, recipe, seed and the fields it depends on.

    None where the source cannot be read, as of a class in a notebook: the cache would keep what an earlier definition
    prepared.
    """
    try:
        source = inspect.getsource(inspect.getmodule(cls) or cls)
    except (OSError, TypeError):
        return None
    name, version, fields = (identity["method"][part] for part in ("name", "version", "fields"))
    key = digest(
        {
            **{part: identity[part] for part in ("engine", "data", "recipe", "weights", "inputs", "seed")},
            **({"backbone": code} if (code := code_of(identity["recipe"]["backbone"])) else {}),
            "method": [name, version],
            "source": hashlib.sha256(source.encode()).hexdigest(),
            "fields": {field: fields[field] for field in cls.prepared_by},
        }
    )
    return cache_root() / "prepared" / f"{name}-{key[:16]}.pt"
