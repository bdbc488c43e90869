"""The preparation stage of deep methods: run once per data, recipe and seed, cached, shared by all bit lengths."""

from __future__ import annotations

import hashlib
import inspect
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from hashbench.datasets.loading.batch import Batch
from hashbench.errors import HashbenchError
from hashbench.methods.contract import DeepMethod, Method, Task, base_of, defines, options
from hashbench.networks.chosen import code_of
from hashbench.networks.model import make_backbone, make_network
from hashbench.networks.network import HashNetwork, extractor
from hashbench.recipes import Recipe
from hashbench.storage.cache import cache_root
from hashbench.storage.files import exclusive, lock_of, make_folder, remove_abandoned
from hashbench.storage.strict_json import digest
from hashbench.storage.tensorfiles import Unusable, load, save
from hashbench.system import seeds
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
        self.task, self.recipe, self.data = task, recipe, data
        self._shape, self._bar = shape, bar

    def train(self, outputs: int, loss: Callable[[Tensor, Batch], dict[str, Tensor]]) -> nn.Module:
        """Return the recipe's network with a linear head of `outputs`, trained with `loss` on the training set."""
        network = self.network(outputs)
        reports = Reports(bar=self._bar)
        train(LossOnly(loss), network, task=self.task, recipe=self.recipe, data=self.data, reports=reports)
        return network

    def network(self, outputs: int) -> HashNetwork:
        """Return the recipe's network with a linear head of `outputs`, untrained."""
        task, recipe, data = self.task, self.recipe, self.data
        backbone = make_backbone(task, recipe, self._shape, data.width, pretrained=recipe.pretrained, purpose="prepare")
        return make_network(backbone, lambda width: nn.Linear(width, outputs), task, recipe, purpose="prepare")

    @torch.inference_mode()
    def outputs(self, network: nn.Module) -> Tensor:
        """Return the network's outputs (num_train, outputs), float32, on the training set in order, not augmented."""
        network.eval()
        return torch.cat([network(batch.inputs) for batch in self.data.fresh()])

    @torch.no_grad()
    def view_features(self) -> tuple[Tensor, ...]:
        """Return features (num_train, width), float32, of each view of the first epoch, in the training set's order.

        They are the pretrained backbone's, in evaluation mode; without one the pixels, and of vectors these themselves.
        """
        fixed = self.fixed()
        found, order = [], []
        bar = tqdm(total=self.task.num_train, unit="img", unit_scale=True, desc=self._bar, disable=self._bar is None,
                   leave=False, dynamic_ncols=True)  # fmt: skip
        with bar:
            for batch in self.data.batches():
                found.append([fixed(view) for view in batch.views])
                order.append(batch.index)
                bar.update(len(batch.index))
        places = torch.cat(order).argsort()
        return tuple(torch.cat(view)[places] for view in zip(*found, strict=True))

    def fixed(self) -> nn.Module:
        """Return the fixed map from a batch's views to features."""
        if self.task.inputs != "images":
            return nn.Identity()
        found = extractor("features" if self.recipe.pretrained else "pixels", self._shape, self.recipe)
        assert found is not None
        return found.to(self.task.device)

    def on(self, data: TrainSet) -> RecipeTools:
        """Return the same tools for another view of the training set."""
        return RecipeTools(self.task, self.recipe, self._shape, data, bar=self._bar)


class LossOnly(DeepMethod):
    """A method with a loss and no hooks."""

    def __init__(self, loss: Callable[[Tensor, Batch], dict[str, Tensor]]):
        self._loss = loss

    def loss(self, out: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return what the function returns."""
        return self._loss(out, batch)


def compute_prepared(method: DeepMethod, tools: RecipeTools) -> dict[str, Tensor]:
    """Return what `method` prepares, computed now; what it draws from global generators follows from the seed.

    Raises HashbenchError where it reads a field that is not in `prepared_by`, by which its result is cached.
    """
    seeds.seed_globals(tools.task.seed, "prepare")
    with _undeclared_fields_refused(method):
        return method.prepare(tools.task, tools.data, tools)


@contextmanager
def _undeclared_fields_refused(method: DeepMethod) -> Iterator[None]:
    cls = type(method)
    undeclared = options(cls).keys() - {*cls.prepared_by, "base"}

    def read(self: DeepMethod, name: str) -> Any:
        if name in undeclared:
            raise HashbenchError(
                f"`prepare` of {cls.__name__} reads its field {name}, by which its result is not cached; declare it: "
                f"prepared_by = {(*cls.prepared_by, name)}."
            )
        return cls.__getattribute__(self, name)

    method.__class__ = type(cls.__name__, (cls,), {"__getattribute__": read})
    try:
        yield
    finally:
        method.__class__ = cls


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
    base = base_of(method)
    if base is not None and not defines(type(method), "prepare"):  # its base's, shared with runs of the base itself
        return _prepare(base, tools, {**identity, "method": identity["method"]["fields"]["base"]})
    of = _cache_key([type(one) for one in (method, base) if one is not None], identity)
    if of is None:
        return _prepared(None, "", method, tools)
    path = cache_root() / "prepared" / f"{identity['method']['name']}-{of[:16]}.pt"
    with suppress(FileNotFoundError, Unusable):
        return _cached(path, of, tools.task)
    make_folder(path.parent)
    remove_abandoned(path.parent)
    with exclusive(lock_of(path)):  # workers with other bit lengths wait here
        try:
            return _cached(path, of, tools.task)
        except FileNotFoundError:
            pass
        except Unusable as error:
            _LOG.warning("%s %s and is prepared anew.", path, error)
        return _prepared(path, of, method, tools)


def _cached(path: Path, of: str, task: Task) -> Prepared:
    """Return what an earlier run has prepared; raises FileNotFoundError where none has, else as `load` does."""
    state = load(path, task.device, of=of)
    return Prepared(state["tensors"], state["seconds"], cached=True)


def _prepared(path: Path | None, of: str, method: DeepMethod, tools: RecipeTools) -> Prepared:
    started = time.perf_counter()
    tensors = compute_prepared(method, tools)
    seconds = time.perf_counter() - started
    if path is not None:
        save({"tensors": tensors, "seconds": seconds}, path, of=of)
    return Prepared(tensors, seconds, cached=False)


def _cache_key(classes: Sequence[type[DeepMethod]], identity: Mapping[str, Any]) -> str | None:
    """Return the hash of what a preparation follows from: method, source, data, recipe, seed and fields.

    `classes` are the method's own and its base's; what a wrapper prepares depends on all fields of the base. None where
    the source cannot be read, as of a class in a notebook: the cache would keep what an earlier definition prepared.
    """
    try:
        source = "".join(inspect.getsource(inspect.getmodule(cls) or cls) for cls in classes)
    except (OSError, TypeError):
        return None
    name, version, fields = (identity["method"][part] for part in ("name", "version", "fields"))
    return digest(
        {
            **{part: identity[part] for part in ("engine", "data", "recipe", "weights", "inputs", "seed")},
            **({"backbone": code} if (code := code_of(identity["recipe"]["backbone"])) else {}),
            "method": [name, version],
            "source": hashlib.sha256(source.encode()).hexdigest(),
            "fields": {field: fields[field] for field in {*classes[0].prepared_by, *(["base"] if classes[1:] else [])}},
        }
    )
