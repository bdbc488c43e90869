"""A method with the network that it trains: built from an experiment, saved with its run, loaded to encode images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hashbench.datasets.loading.augment import resize, to_unit
from hashbench.datasets.loading.loader import steps_per_epoch
from hashbench.errors import HashbenchError
from hashbench.experiments.experiment import Experiment
from hashbench.methods.contract import DeepMethod, Method, Task
from hashbench.recipes import Recipe
from hashbench.registry import BACKBONES, METHODS
from hashbench.storage.tensorfiles import save
from hashbench.system import seeds
from hashbench.training.features import FixedBackbone, Flatten, input_shape
from hashbench.training.loop import HashNetwork

ENCODE_BATCH = 512


@contextmanager
def float32_as_it_says() -> Iterator[None]:
    """Keep a GPU from computing convolutions of float32 in TF32: precision is the recipe's to say, not the device's."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
        yield


class Model:
    """A method, and for a deep one its network; turns what the method learns from (or images) into codes."""

    def __init__(
        self,
        experiment: Experiment,
        task: Task,
        width: int,
        prepared: dict[str, Tensor],
        *,
        weights_follow: bool = False,
    ):
        """Build it untrained; `width` is that of the inputs where the method does not learn from images.

        Where all `weights_follow` from a run's state, pretrained ones are not read, and need not be there.
        """
        self.experiment = experiment
        self.task = task
        self.width = width
        self.prepared = prepared
        self.method = make_method(experiment)
        self.network: HashNetwork | None = None
        if isinstance(self.method, DeepMethod):
            backbone = make_backbone(experiment, width, pretrained=experiment.recipe.pretrained and not weights_follow)
            torch.manual_seed(seeds.derive(task.seed, "init", "method"))
            self.method.setup(task, prepared)
            torch.manual_seed(seeds.derive(task.seed, "init", "head"))
            head = self.method.head(int(backbone.width), task)  # type: ignore[arg-type]
            self.network = make_network(backbone, head, experiment.recipe, task.device)
        self.method.to(task.device)

    @torch.inference_mode()
    def codes(self, inputs: Tensor) -> Tensor:
        """Return the codes, bool (n, bits), of a batch of what the method learns from, on its device."""
        if self.network is None:
            return self.method.encode(inputs)
        assert isinstance(self.method, DeepMethod)
        self.network.eval()
        self.method.eval()
        return self.method.codes(self.network(inputs))

    @float32_as_it_says()
    @torch.inference_mode()
    def encode(self, images: Tensor | np.ndarray, *, batch_size: int = ENCODE_BATCH) -> np.ndarray:
        """Return the codes, bool (n, bits), of images (n, channels, height, width), uint8 or floats in [0, 1].

        Images of another size are resized to the data set's first (bilinear, antialiased), then treated as in training.
        Vectors (n, width) are taken as they are. Raises HashbenchError where the shape does not fit.
        """
        given, wanted = torch.as_tensor(images), self.experiment.data.shape
        if given.ndim != len(wanted) + 1 or given.shape[1] != wanted[0]:
            sides = ", ".join(map(str, wanted))
            raise HashbenchError(f"The inputs have shape {tuple(given.shape)}; this run takes (n, {sides}).")
        found = [np.empty((0, self.task.bits), dtype=bool)]
        for batch in given.split(batch_size):
            inputs = self._prepared(batch)
            found.append(self.codes(inputs if self._extractor is None else self._extractor(inputs)).cpu().numpy())
        return np.concatenate(found)

    def save(self, path: Path) -> None:
        """Write what a run keeps, weights and buffers only; raises HashbenchError when it cannot be written."""
        save({"width": self.width, "prepared": self.prepared, **self.state()}, path)

    def state(self) -> dict[str, Any]:
        """Return the weights and buffers of method and network by name."""
        return {
            "method": self.method.state_dict(),
            "network": None if self.network is None else self.network.state_dict(),
        }

    def take(self, state: dict[str, Any]) -> None:
        """Take on what `state` of a trained model returned."""
        if self.network is None:  # a method that is fitted makes its buffers then
            for name, value in state["method"].items():
                self.method.register_buffer(name, value.to(self.task.device))
        else:
            self.method.load_state_dict(state["method"])
            self.network.load_state_dict(state["network"])

    def _prepared(self, batch: Tensor) -> Tensor:
        """Return a batch as the loader would yield it: float in [0, 1], at the data set's size, then the recipe's."""
        batch = batch.to(self.task.device)
        batch = to_unit(batch) if batch.dtype == torch.uint8 else batch.float()
        if batch.ndim != 4:
            return batch
        _, height, width = self.experiment.data.shape
        size = 0 if self.experiment.inputs == "pixels" else self.experiment.recipe.size
        return resize(resize(batch, (height, width)), size).contiguous(memory_format=torch.channels_last)

    @cached_property
    def _extractor(self) -> nn.Module | None:
        """What comes between images and the method's inputs; built on first use, since runs have its outputs cached."""
        if self.experiment.inputs not in ("features", "pixels"):
            return None
        return extractor(self.experiment).to(self.task.device)


def restored(experiment: Experiment, path: Path, device: torch.device) -> Model:
    """Return the trained model of an experiment from its model.pt; raises HashbenchError when it does not fit."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        model = Model(experiment, task_of(experiment, device), state["width"], state["prepared"], weights_follow=True)
        model.take(state)
    except HashbenchError:
        raise
    except Exception as error:
        raise HashbenchError(f"{path} does not fit this version of {experiment.method}: {error}") from error
    return model


def task_of(experiment: Experiment, device: torch.device) -> Task:
    """Return what an experiment tells its method."""
    data, recipe = experiment.data, experiment.recipe
    return Task(
        num_classes=data.num_classes,
        bits=experiment.bits,
        multi_label=data.multi_label,
        inputs=experiment.inputs,
        num_train=data.num_train,
        epochs=recipe.epochs,
        steps_per_epoch=steps_per_epoch(data.num_train, recipe.batch_size),
        device=device,
        seed=experiment.seed,
        dataset=data.dataset,
    )


def is_split(cls: type[DeepMethod], experiment: Experiment, device: torch.device) -> bool:
    """Return whether ranks that share a batch would see less than one device does: so that their number matters.

    So it is where samples are compared, where a sample may have no label (the loss is a mean over those that have
    one), and for batch norm on the CPU, for which torch has no synchronised one.
    """
    if not cls.per_sample or experiment.data.multi_label:
        return True
    if device.type == "cuda" or experiment.inputs != "images":
        return False
    backbone = make_backbone(experiment, 0, pretrained=False)
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in backbone.modules())


def make_method(experiment: Experiment) -> Method:
    """Return a fresh method with the experiment's fields; raises HashbenchError when it is not to be had."""
    made: Method = METHODS.get(experiment.method)(**experiment.fields)
    return made


def make_network(backbone: nn.Module, head: nn.Module, recipe: Recipe, device: torch.device) -> HashNetwork:
    """Return backbone and head as one network on the device, in the memory format that convolutions run fastest in."""
    network = HashNetwork(backbone, head, recipe.precision)
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def make_backbone(experiment: Experiment, width: int, *, pretrained: bool, purpose: str = "init") -> nn.Module:
    """Return the backbone that is trained, its fresh weights drawn from the seed's stream for `purpose`.

    `width` is that of the vectors or features that the method learns from, where it does not learn from images.
    """
    torch.manual_seed(seeds.derive(experiment.seed, purpose, "backbone"))
    recipe = experiment.recipe
    if experiment.inputs != "images":
        return BACKBONES.get("identity")((width,), False)
    return BACKBONES.get(recipe.backbone)(input_shape(experiment.data.shape, recipe.size), pretrained)


def extractor(experiment: Experiment) -> nn.Module:
    """Return the fixed map from images to what a method learns from: a pretrained backbone, or flattening."""
    shape = experiment.data.shape
    if experiment.inputs == "features":
        return FixedBackbone(shape, experiment.recipe)
    return Flatten(math.prod(shape))
