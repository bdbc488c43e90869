"""What the benchmarks of loading and training share: a recipe on made-up data, its bare step and its loop."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from hashbench import recipes
from hashbench.datasets.loading.batch import Batch
from hashbench.datasets.loading.loader import TrainLoader
from hashbench.interop.targets import resolve_method
from hashbench.methods.contract import DeepMethod, Task
from hashbench.networks.model import make_network
from hashbench.networks.network import HashNetwork
from hashbench.recipes import Recipe
from hashbench.registry import BACKBONES
from hashbench.system import allocator
from hashbench.training.loop import Reports, train

CLASSES, BITS = 10, 32

allocator.configure()  # as the command does


@dataclass
class Workload:
    """A method and its network under a recipe, with a made-up training set of one epoch."""

    recipe: Recipe
    method: DeepMethod
    network: HashNetwork
    loader: TrainLoader
    task: Task

    @classmethod
    def of(cls, recipe: Recipe, *, method: str, side: int, steps: int, device: torch.device) -> Workload:
        """Make `steps` batches of images of `side` pixels, or of 1280 features where the backbone is not trained."""
        random, count = np.random.default_rng(0), steps * recipe.batch_size
        images = recipe.train_backbone
        shape: tuple[int, ...] = (3, side, side) if images else (1280,)
        inputs = random.integers(0, 256, (count, *shape), dtype=np.uint8) if images else random.random((count, *shape))
        size = recipe.size if images else 0
        loader = TrainLoader(
            inputs if images else inputs.astype(np.float32),
            np.eye(CLASSES, dtype=np.uint8)[random.integers(0, CLASSES, count)],
            batch_size=recipe.batch_size,
            seed=0,
            device=device,
            augment=recipe.augment if images else "none",
            size=size,
            channels_last=True,
        )
        kind = "images" if images else "features"
        task = Task(CLASSES, BITS, False, kind, count, recipe.epochs, loader.steps_per_epoch, device, 0)
        made = resolve_method(method)()
        assert isinstance(made, DeepMethod)
        made.setup(task, {})
        torch.manual_seed(0)
        seen = (3, size or side, size or side) if images else shape
        backbone = BACKBONES.get(recipe.backbone if images else "identity")(seen, False)
        network = make_network(backbone, lambda width: made.head(width, task), task, recipe)
        return cls(recipe, made.to(device), network, loader, task)

    @property
    def labels(self) -> torch.Tensor | None:
        """The labels, as methods may ask for them."""
        return self.loader.labels

    def batches(self, epoch: int = 0) -> Iterator[Batch]:
        """The batches of the epoch, whichever epoch is asked for."""
        return self.loader.epoch(epoch)

    def fresh(self) -> Iterator[Batch]:
        """No method of these benchmarks asks for a pass without augmentation."""
        raise NotImplementedError

    def features(self) -> torch.Tensor:
        """No method of these benchmarks is prepared from features."""
        raise NotImplementedError

    def bare_steps(self) -> Callable[[], None]:
        """Return one epoch of steps on one batch that is there: network, loss, backward, clipping, optimiser."""
        batch = next(self.loader.epoch(0))
        parameters = [*self.network.parameters(), *self.method.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=0.0, fused=True)
        network = torch.compile(self.network) if self.recipe.compile else self.network

        def steps() -> None:
            self.network.train()
            for _ in range(self.loader.steps_per_epoch):
                sum(self.method.loss(network(batch.inputs), batch).values()).backward()  # type: ignore[union-attr]
                if self.recipe.gradient_clip:
                    nn.utils.clip_grad_norm_(parameters, self.recipe.gradient_clip)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

        return steps

    def whole_loop(self) -> Callable[[], None]:
        """Return one epoch as a run trains it, with everything but the checkpoint."""
        recipe = recipes.load(self.recipe.name, overrides=_changed(self.recipe, epochs=1), multi_label=False)

        def epoch() -> None:
            train(self.method, self.network, task=self.task, recipe=recipe, data=self, reports=Reports())

        return epoch


def _changed(recipe: Recipe, **values: object) -> dict[str, object]:
    """Return all settings of a recipe as overrides, with some `values` in their place."""
    kept = {name: value for name, value in vars(recipe).items() if name not in ("name", "summary")}
    return {**kept, **values}


def seconds(parts: dict[str, Callable[[], object]], *, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Return the seconds of each part in every round; the parts take turns, so that all see the same machine."""
    for part in parts.values():
        part()
    found: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, part in parts.items():
            _wait(device)
            started = time.perf_counter()
            part()
            _wait(device)
            found[name].append(time.perf_counter() - started)
    return found


def ratio(over: list[float], under: list[float]) -> float:
    """Return the median over rounds of the ratio of two parts' seconds."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
