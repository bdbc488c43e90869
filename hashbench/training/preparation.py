"""The preparation stage of deep methods: run once per data, recipe and seed, cached, shared by all bit lengths."""

from __future__ import annotations

import hashlib
import inspect
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hashbench.datasets.loading.batch import Batch
from hashbench.experiments.experiment import Experiment
from hashbench.methods.contract import DeepMethod, Task
from hashbench.networks.model import make_backbone, make_method, make_network
from hashbench.storage.cache import cache_root
from hashbench.storage.files import make_folder, only_one
from hashbench.storage.strict_json import digest
from hashbench.storage.tensorfiles import save
from hashbench.system import seeds
from hashbench.training.loop import Hooks, train
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

    def __init__(self, experiment: Experiment, task: Task, data: TrainSet, *, bar: str | None):
        self._experiment, self._task, self._data, self._bar = experiment, task, data, bar

    def train(self, outputs: int, loss: Callable[[Tensor, Batch], dict[str, Tensor]]) -> nn.Module:
        """Return the recipe's network with a linear head of `outputs`, trained with `loss` on the training set."""
        backbone = make_backbone(
            self._experiment, self._data.width, pretrained=self._experiment.recipe.pretrained, purpose="prepare"
        )
        torch.manual_seed(seeds.derive(self._task.seed, "prepare", "head"))
        head = nn.Linear(int(backbone.width), outputs)  # type: ignore[arg-type]
        network = make_network(backbone, head, self._experiment.recipe, self._task.device)
        train(_LossOnly(loss), network, task=self._task, recipe=self._experiment.recipe, data=self._data,
              fresh=self._data.fresh, hooks=Hooks(bar=self._bar))  # fmt: skip
        return network

    @torch.inference_mode()
    def outputs(self, network: nn.Module) -> Tensor:
        """Return the network's outputs (num_train, outputs), float32, on the training set in order, not augmented."""
        network.eval()
        return torch.cat([network(batch.inputs) for batch in self._data.fresh()])


class _LossOnly(DeepMethod):
    """A method that is nothing but a loss."""

    def __init__(self, loss: Callable[[Tensor, Batch], dict[str, Tensor]]):
        self._loss = loss

    def loss(self, out: Tensor, batch: Batch) -> dict[str, Tensor]:
        return self._loss(out, batch)


def prepare(experiment: Experiment, task: Task, data: TrainSet, *, bar: str | None) -> Prepared:
    """Return what the experiment's method prepares, from the cache where the same was prepared before.

    Of a team, rank 0 prepares, as it would alone, and the others are given what it found.
    """
    if data.team.alone:
        return _prepare(experiment, task, data, bar=bar)
    found = None
    if data.team.leads:
        found = _prepare(experiment, task, data.alone, bar=bar)
        found = replace(found, tensors={name: tensor.cpu() for name, tensor in found.tensors.items()})
    shared = data.team.from_first(found)
    assert shared is not None
    return replace(shared, tensors={name: tensor.to(task.device) for name, tensor in shared.tensors.items()})


def _prepare(experiment: Experiment, task: Task, data: TrainSet, *, bar: str | None) -> Prepared:
    method = make_method(experiment)
    if not isinstance(method, DeepMethod) or type(method).prepare is DeepMethod.prepare:
        return Prepared({}, 0.0, cached=False)
    path = _cache_file(experiment, type(method))
    if path is None:
        return _prepared(None, method, experiment, task, data, bar)
    found = _cached(path, task)
    if found is None:
        make_folder(path.parent)
        with only_one(path.with_suffix(".lock")):  # workers meet here, each with another bit length
            found = _cached(path, task)
            if found is None:
                if path.is_file():
                    _LOG.warning("%s is damaged and is prepared anew.", path)
                return _prepared(path, method, experiment, task, data, bar)
    return found


def _cached(path: Path, task: Task) -> Prepared | None:
    """Return what an earlier run has prepared; None where none has, or its file is damaged and has to be made anew."""
    try:
        state = torch.load(path, map_location=task.device, weights_only=True)
        return Prepared(state["tensors"], state["seconds"], cached=True)
    except Exception:  # it is not there, or torch raises one of a dozen kinds
        return None


def _prepared(
    path: Path | None, method: DeepMethod, experiment: Experiment, task: Task, data: TrainSet, bar: str | None
) -> Prepared:
    started = time.perf_counter()
    tensors = method.prepare(task, data, RecipeTools(experiment, task, data, bar=bar))
    seconds = time.perf_counter() - started
    if path is not None:
        save({"tensors": tensors, "seconds": seconds}, path)
    return Prepared(tensors, seconds, cached=False)


def _cache_file(experiment: Experiment, cls: type[DeepMethod]) -> Path | None:
    """Return where the preparation is kept: under method, source, data, recipe, seed and the fields it depends on.

    None where the source cannot be had, as of a class in a notebook: what it prepared before it was defined anew would
    pass for it.
    """
    identity = experiment.identity
    try:
        source = inspect.getsource(inspect.getmodule(cls) or cls)
    except (OSError, TypeError):
        return None
    key = digest(
        {
            **{part: identity[part] for part in ("engine", "data", "recipe", "weights", "inputs", "seed")},
            "method": [experiment.method, experiment.method_version],
            "source": hashlib.sha256(source.encode()).hexdigest(),
            "fields": {name: experiment.fields[name] for name in cls.prepared_by},
        }
    )
    return cache_root() / "prepared" / f"{experiment.method}-{key[:16]}.pt"
