"""Seeds of a row trained side by side against one after another, and against a bare loop of the same products.

python benchmarks/seeds.py [--method crh,dpn --bits 16,64 --seeds 5]

One thread; the seconds are those of the processor, so that other processes count little. `at most` is how much faster
steps would be that did nothing but these products.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click
import numpy as np
import torch
from steps import ratio
from tabulate import tabulate

from hashbench import recipes
from hashbench.datasets.loading.batch import Batch
from hashbench.datasets.loading.loader import TrainLoader
from hashbench.interop.targets import resolve_method
from hashbench.methods.contract import DeepMethod, Task
from hashbench.networks.model import make_network
from hashbench.registry import BACKBONES
from hashbench.training.loop import Reports, Training, train
from hashbench.training.together import train_together

CLASSES, WIDTH, BATCH, EPOCHS = 100, 1280, 128, 3
CPU = torch.device("cpu")


@dataclass
class Seeds:
    """A method on made-up features, once for each seed; each call of a part is a training from the start."""

    method: str
    bits: int
    count: int
    loader: TrainLoader

    @classmethod
    def of(cls, method: str, bits: int, count: int, steps: int) -> Seeds:
        """Make `steps` batches of features."""
        random = np.random.default_rng(0)
        features = random.standard_normal((steps * BATCH, WIDTH)).astype(np.float32)
        labels = np.eye(CLASSES, dtype=np.uint8)[random.integers(0, CLASSES, len(features))]
        return cls(method, bits, count, TrainLoader(features, labels, batch_size=BATCH, seed=0, device=CPU))

    def trainings(self) -> list[Training]:
        """Return the trainings of all seeds, none begun."""
        return [self._training(seed) for seed in range(self.count)]

    def parts(self) -> dict[str, Callable[[], object]]:
        """A training of all seeds: one after another, side by side, and the products of its steps alone."""
        batches = [next(_Data(self.loader.of_seed(seed)).batches()) for seed in range(self.count)]
        weights = [training.network.head for training in self.trainings()]
        with torch.no_grad():
            outs = [head(batch.inputs) for head, batch in zip(weights, batches, strict=True)]

        def alone() -> None:
            for one in self.trainings():
                train(one.method, one.network, task=one.task, recipe=one.recipe, data=one.data, reports=Reports())

        def together() -> None:
            assert train_together(self.trainings(), bar=None)

        @torch.no_grad()
        def products() -> None:
            for _ in range(EPOCHS * self.loader.steps_per_epoch):
                for head, batch, out in zip(weights, batches, outs, strict=True):
                    head(batch.inputs)
                    torch.mm(out.T, batch.inputs)

        return {"alone": alone, "together": together, "products": products}

    def _training(self, seed: int) -> Training:
        recipe = recipes.load("frozen", overrides={"epochs": EPOCHS}, multi_label=False)
        steps = self.loader.steps_per_epoch
        task = Task(CLASSES, self.bits, False, "features", steps * BATCH, EPOCHS, steps, CPU, seed)
        method = resolve_method(self.method)()
        assert isinstance(method, DeepMethod)
        similar = torch.rand(CLASSES, CLASSES, generator=task.generator("benchmark"))  # of classes, as SHC has it
        method.setup(task, {variant: similar for variant in ("paper", "release")})
        network = make_network(
            BACKBONES.get("identity")((WIDTH,), False), lambda width: method.head(width, task), task, recipe
        )
        return Training(method, network, task, recipe, _Data(self.loader.of_seed(seed)), Reports())


@dataclass
class _Data:
    """A training set of which only batches are asked for."""

    loader: TrainLoader

    @property
    def labels(self) -> torch.Tensor | None:
        return self.loader.labels

    def batches(self, epoch: int = 0) -> Iterator[Batch]:
        return self.loader.epoch(epoch)

    def fresh(self) -> Iterator[Batch]:
        raise NotImplementedError

    def features(self) -> torch.Tensor:
        raise NotImplementedError


def seconds(parts: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the processor's seconds of each part in every round, in which they take turns."""
    found: dict[str, list[float]] = {name: [] for name in parts}
    for at in range(rounds + 1):
        for name, part in parts.items():
            started = time.process_time()
            part()
            if at:  # the first round warms up
                found[name].append(time.process_time() - started)
    return found


@click.command(help=__doc__)
@click.option("--method", "methods", default="crh,csq,dpn,shc,classifier", show_default=True)
@click.option("--bits", default="16,32,64", show_default=True)
@click.option("--seeds", "count", default=5, show_default=True)
@click.option("--steps", default=79, show_default=True, help="Steps in the epoch, of 128 vectors each.")
@click.option("--rounds", default=5, show_default=True, help="Times that everything takes its turn.")
def main(methods: str, bits: str, count: int, steps: int, rounds: int) -> None:
    torch.set_num_threads(1)
    rows = []
    for method in methods.split(","):
        for length in map(int, bits.split(",")):
            found = seconds(Seeds.of(method, length, count, steps).parts(), rounds)
            step = 1000 / steps / EPOCHS
            rows.append(
                [
                    method,
                    length,
                    f"{step * statistics.median(found['alone']):.2f}",
                    f"{step * statistics.median(found['together']):.2f}",
                    f"{ratio(found['alone'], found['together']):.2f}",
                    f"{ratio(found['alone'], found['products']):.1f}",
                    f"{100 * ratio(found['products'], found['together']):.0f}%",
                ]
            )
    headers = [
        "method",
        "bits",
        f"ms a step of {count} seeds",
        "side by side",
        "faster by",
        "at most",
        "products of it",
    ]
    print(tabulate(rows, headers=headers, disable_numparse=True))


if __name__ == "__main__":
    main()
