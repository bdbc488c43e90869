"""A method on toy data: what the contract's checks train, interrupt, save and encode with.

All of it goes through the code that trains, saves and loads a run; only data and backbone are made here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from hashbench import recipes
from hashbench.checks.gpu_pass import GpuPass, gpu_pass
from hashbench.datasets.loading.loader import TrainLoader
from hashbench.experiments.experiment import Data, Experiment
from hashbench.experiments.models import augments_of, make_method, new_model, task_of
from hashbench.experiments.resolving import without_views
from hashbench.methods.contract import DeepMethod, Method
from hashbench.methods.wrapping import resolve, unsupported
from hashbench.networks.backbones import backbone
from hashbench.networks.model import Model
from hashbench.system.distributed import SINGLE, World
from hashbench.training.loop import Reports, train
from hashbench.training.preparation import RecipeTools, compute_prepared
from hashbench.training.trainset import TrainSet

CLASSES = 5
SHAPE = (3, 8, 8)  # as vectors longer than the longest code, which PCA needs
NUM_TRAIN, NUM_QUERIES = 80, 24
EPOCHS, BATCH_SIZE = 3, 32
CPU = torch.device("cpu")
LearnedFrom = Literal["images", "pixels", "vectors", "text"]


class ToyBackbone(nn.Sequential):
    """One convolution with batch norm: a network that trains in a millisecond a step."""

    width = 64

    def __init__(self, channels: int):
        super().__init__(nn.Conv2d(channels, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())


@backbone("toy")
def toy_backbone(shape: tuple[int, ...], pretrained: bool) -> nn.Module:
    """Return the backbone of the checks, for images of 8 x 8 pixels."""
    return ToyBackbone(shape[0])


@dataclass(frozen=True)
class Trained:
    """A model after its training, and what its epochs reported."""

    model: Model
    epochs: list[dict[str, Any]]  # the lines of the run's log
    hooks: list[tuple[int, dict[str, Tensor], Any]]  # of each end_epoch: epoch, sums, what it returned

    @property
    def state(self) -> Any:
        """All weights, buffers and extra state."""
        network = self.model.network
        return [self.model.method.state_dict(), network.state_dict() if network is not None else None]


class Interrupted(Exception):
    """The interruption from which a training is resumed."""


@dataclass(eq=False)
class Case:
    """A method at one code length on toy data of one kind."""

    cls: type[Method]
    bits: int
    multi_label: bool
    inputs: LearnedFrom
    prepared: dict[str, Tensor] = field(default_factory=dict)
    lengths: tuple[int, ...] = ()  # that one training serves; (): its own and half of it, where the method has prefixes

    def __str__(self) -> str:
        return f"{self.data_kind} at {self.bits} bits"

    @property
    def data_kind(self) -> str:
        """The kind of the data in words; images are not said."""
        labels = "multi-label" if self.multi_label else "single-label"
        return f"{labels} {self.inputs}" if self.inputs in ("vectors", "text") else labels

    @property
    def deep(self) -> bool:
        """Whether the method is trained by gradients."""
        return issubclass(self.cls, DeepMethod)

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment, seed 0, with the method's default fields."""
        several = issubclass(self.cls, DeepMethod) and self.cls.views > 1
        overrides = {"epochs": EPOCHS, "batch_size": BATCH_SIZE,
                     "backbone": "toy" if self.inputs in ("images", "pixels") else "identity",
                     "augment": "pad-crop-flip" if several else "none"}  # fmt: skip
        return Experiment(
            method=self.cls.info.name,
            method_version=self.cls.info.version,
            fields=resolve(self.cls, {}),
            data=Data("toy", "check", "", "", "validation", self.shape, CLASSES, self.multi_label, NUM_TRAIN),
            recipe=recipes.load("scratch", overrides=overrides, multi_label=self.multi_label),
            weights=None,
            inputs=self.inputs,
            bits=self.bits,
            seed=0,
            lengths=self.lengths or ((self.bits // 2, self.bits) if self.cls.prefixes else ()),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the data set's inputs."""
        return (math.prod(SHAPE),) if self.inputs in ("vectors", "text") else SHAPE

    def supports(self) -> str | None:
        """Return why the method does not do the task, or None."""
        reason = without_views(self.cls, self.experiment)
        return reason or unsupported(make_method(self.experiment), task_of(self.experiment, CPU))

    @cached_property
    def queries(self) -> Tensor:
        """What the method encodes: images, or vectors, dense."""
        images, _ = toy(NUM_QUERIES, multi_label=self.multi_label, seed=1)
        return (
            torch.from_numpy(images).float() / 255 if self.inputs == "images" else torch.from_numpy(self._rows(images))
        )

    @cached_property
    def trained(self) -> Trained:
        """The model after an uninterrupted training."""
        return self.train()

    @cached_property
    def on_gpu(self) -> GpuPass:
        """What a pass over all hooks found, on a CUDA device that is not there."""
        return gpu_pass(self)

    def new_model(self, device: torch.device = CPU) -> Model:
        """Return the method and its network before training."""
        return new_model(self.experiment, device, width=math.prod(SHAPE), prepared=self.prepared)

    def data(self, *, classes: int = CLASSES, world: World = SINGLE) -> TrainSet:
        """Return the training set, with samples of the first `classes` classes only; of a `world` this rank's share."""
        images, labels = toy(NUM_TRAIN, multi_label=self.multi_label, seed=0, present=classes)
        rows = self._rows(images)
        vectors = csr_matrix(rows) if self.inputs == "text" else rows
        inputs = images if self.inputs == "images" else vectors
        loader = TrainLoader(
            inputs,
            labels if self.cls.supervised else None,
            batch_size=BATCH_SIZE,
            seed=0,
            device=CPU,
            augment=augments_of(self.cls, self.experiment.recipe) if self.inputs == "images" else "none",
            channels_last=True,
        )
        return TrainSet(loader, inputs, np.arange(NUM_TRAIN), size=0, device=CPU, features=lambda: vectors, world=world)

    def _rows(self, images: np.ndarray) -> np.ndarray:
        """Return images as vectors (n, width) float32 of their pixels; for text, of which most are zero."""
        rows = images.reshape(len(images), -1).astype(np.float32) / 255
        return np.where(rows > 0.6, rows, np.float32(0)) if self.inputs == "text" else rows

    def train(
        self,
        *,
        classes: int = CLASSES,
        checkpoint: Path | None = None,
        stop_in: int | None = None,
        world: World = SINGLE,
    ) -> Trained:
        """Return a model trained from the start, or from `checkpoint`; raises Interrupted in epoch `stop_in`."""
        done = Trained(self.new_model(), [], [])
        model, data = done.model, self.data(classes=classes, world=world)
        if model.network is None:
            model.fit(data)
            return done
        method = model.method
        assert isinstance(method, DeepMethod)
        end_epoch = method.end_epoch

        def recorded(epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
            returned = end_epoch(epoch, sums)
            done.hooks.append((epoch, sums, returned))
            return returned

        def log(line: dict[str, Any]) -> None:
            if line.get("epoch") == stop_in and stop_in is not None:
                raise Interrupted
            done.epochs.append(line)

        method.end_epoch = recorded  # type: ignore[method-assign]
        reports = Reports(log=log, checkpoint=checkpoint)
        train(method, model.network, task=model.task, recipe=model.recipe, data=data, reports=reports, world=world)
        return done

    def prepare(self) -> dict[str, Tensor]:
        """Return what the method prepares, not from the cache."""
        method, task, data = make_method(self.experiment), task_of(self.experiment, CPU), self.data()
        assert isinstance(method, DeepMethod)
        return compute_prepared(method, RecipeTools(task, self.experiment.recipe, self.shape, data, bar=None))


def toy(count: int, *, multi_label: bool, seed: int, present: int = CLASSES) -> tuple[np.ndarray, np.ndarray]:
    """Return images (count, 3, 8, 8) uint8 that show their classes' patterns, and labels (count, 5) uint8.

    Only the first `present` classes occur, each of them more than once; with `multi_label` up to three in an image.
    """
    patterns = np.random.default_rng(99).integers(40, 200, (CLASSES, *SHAPE))
    random = np.random.default_rng(seed)
    labels = np.eye(CLASSES, dtype=np.uint8)[np.arange(count) % present]
    if multi_label:
        more = random.random((count, CLASSES)) < 0.3
        more[:, present:] = False
        labels |= more
    noise = random.integers(-30, 30, (count, *SHAPE))
    mixed = np.tensordot(labels, patterns, axes=1) / labels.sum(axis=1)[:, None, None, None]
    return np.clip(mixed + noise, 0, 255).astype(np.uint8), labels
