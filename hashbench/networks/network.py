"""Networks: a backbone with its head, and the fixed maps from images to what other methods learn from."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from hashbench.recipes import Recipe
from hashbench.registry import BACKBONES


class HashNetwork(nn.Module):
    """A backbone and a head; under `bf16` it computes in bfloat16 and returns float32, so that losses need no care.

    A hidden layer between the two becomes the first part of `head`, whose learning rate it has.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, precision: str, *, hidden: nn.Module | None = None):
        super().__init__()
        self.backbone = backbone
        self.head = head if hidden is None else nn.Sequential(hidden, head)
        self.precision = precision
        self._has_hidden = hidden is not None

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs (n, width of the head), float32, of a batch of inputs."""
        return self.outputs(self.features(inputs))

    def features(self, inputs: Tensor) -> Tensor:
        """Return the features (n, width), float32, of a batch: the backbone's, or those of a hidden layer behind it.

        A method that needs both has them from one pass: `f = network.features(x)`, then `out = network.outputs(f)`.
        """
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            found = self.backbone(inputs)
            return (self.head[0](found) if self._has_hidden else found).float()  # type: ignore[index]

    def outputs(self, features: Tensor) -> Tensor:
        """Return the head's outputs (n, width of the head), float32, of features (n, width)."""
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return (self.head[1] if self._has_hidden else self.head)(features).float()  # type: ignore[index]

    def compiled(self) -> HashNetwork:
        """Return the same network, its weights shared, whose three passes go through torch.compile."""
        same = copy.copy(self)
        for name in ("forward", "features", "outputs"):
            setattr(same, name, torch.compile(getattr(self, name)))
        return same


class HiddenLayer(nn.Sequential):
    """One hidden layer of `width`: linear, batch norm, ReLU; between features and a head."""

    def __init__(self, width_in: int, width: int):
        super().__init__(nn.Linear(width_in, width), nn.BatchNorm1d(width), nn.ReLU())
        self.width = width


class Flatten(nn.Module):
    """Images (n, c, h, w) in [0, 1] as vectors of their pixels, for methods that learn from features."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, c h w)."""
        return images.flatten(1)


class FixedBackbone(nn.Module):
    """A pretrained backbone in evaluation mode under a recipe's precision; returns float32."""

    def __init__(self, shape: tuple[int, ...], recipe: Recipe):
        super().__init__()
        self.backbone = BACKBONES.get(recipe.backbone)(input_shape(shape, recipe.size), recipe.pretrained)
        self.width = self.backbone.width
        self.precision = recipe.precision
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (n, width) of images (n, c, h, w) in [0, 1]."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.backbone(images).float()


def input_shape(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Return the shape that reaches the network when inputs of `shape` are resized to `size` pixels (0: not)."""
    return (shape[0], size, size) if size and len(shape) == 3 else shape


def extractor(inputs: str, shape: tuple[int, ...], recipe: Recipe) -> nn.Module | None:
    """Return the fixed map from images of `shape` to what a method learns from: its `inputs`, as a task names them.

    That is a pretrained backbone for "features", flattening for "pixels", and None where the network takes the images.
    """
    if inputs == "features":
        return FixedBackbone(shape, recipe)
    return Flatten(math.prod(shape)) if inputs == "pixels" else None
