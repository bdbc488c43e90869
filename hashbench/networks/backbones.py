"""Registered backbones: networks from images in [0, 1] (or vectors) to features; each normalises its own input.

A backbone is a module with an attribute `width` (its number of features) whose `forward` takes what the loader yields.
`@backbone(name)` registers a factory `(shape, pretrained) -> nn.Module` for inputs of `shape`: (channels, height,
width) of an image, or (width,) of a vector or of a text's term vector.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from hashbench.datasets.base import KINDS, Kind
from hashbench.datasets.files.downloading import require_network
from hashbench.errors import HashbenchError
from hashbench.registry import BACKBONES
from hashbench.storage import files

BackboneFactory = Callable[[tuple[int, ...], bool], nn.Module]
F = TypeVar("F", bound=BackboneFactory)


@dataclass(frozen=True)
class BackboneInfo:
    """What the registry shows of a backbone."""

    name: str = ""
    version: int = 1  # raised whenever the backbone's numbers may change
    takes: tuple[Kind, ...] = ("images",)  # the kinds of inputs that it is for


def backbone(
    name: str, *, version: int = 1, takes: Collection[str] = ("images",), former_names: Collection[str] = ()
) -> Callable[[F], F]:
    """Register a factory `(shape, pretrained) -> module` as the backbone `name`.

    The module has an attribute `width`, its number of features. `takes` are the kinds of inputs that it is for, any of
    "images", "vectors" and "text" (term vectors, dense). `version` must be raised when its numbers change. A factory
    with an attribute `weights_file`, a Path, has pretrained weights; the file's name enters a run's identity. A
    backbone that was renamed is found by its `former_names` too, with a warning. Raises HashbenchError for a version
    below 1 and for other kinds, and where the name is taken.
    """
    kinds = (takes,) if isinstance(takes, str) else tuple(takes)
    if not kinds or not set(kinds) <= {*KINDS}:
        raise HashbenchError(f"The backbone '{name}' takes {kinds}; give one or more of {', '.join(KINDS)}.")
    if type(version) is not int or version < 1:
        raise HashbenchError(f"The backbone '{name}' has the version {version!r}; give a whole number from 1.")

    def decorate(factory: F) -> F:
        found = BackboneInfo(name, version, tuple(kind for kind in KINDS if kind in kinds))
        object.__setattr__(factory, "info", found)  # also of a frozen dataclass
        return BACKBONES.register(name, factory, former_names=former_names)

    return decorate


def info_of(factory: BackboneFactory) -> BackboneInfo:
    """Return what a factory says of its backbone; one without the decorator takes images."""
    found = getattr(factory, "info", None)
    return found if isinstance(found, BackboneInfo) else BackboneInfo()


class Normalise(nn.Module):
    """(x - mean) / std by channel, after a single channel is repeated to as many as the statistics have."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return images (n, c, h, w) normalised to (n, len(mean), h, w)."""
        if images.shape[1] == 1:
            images = images.expand(-1, len(self.mean), -1, -1)
        return (images - self.mean) / self.std


class Identity(nn.Module):
    """Vectors, or features computed before, as they are."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, vectors: Tensor) -> Tensor:
        """Return `vectors` (n, width)."""
        return vectors


class MLP(nn.Sequential):
    """One linear layer and ReLU: features of vectors that are trained with the head."""

    width = 512

    def __init__(self, width_in: int):
        super().__init__(nn.Linear(width_in, self.width), nn.ReLU())


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al., 2016)."""

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(block(x) + shortcut(x))."""
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class SmallResNet(nn.Module):
    """A ResNet of three basic blocks for small images: 13 million multiply-adds at 32 x 32 pixels, 10 at 28 x 28."""

    def __init__(self, channels: int, widths: tuple[int, ...] = (32, 64, 128)):
        super().__init__()
        self.width = widths[-1]
        self.normalise = Normalise((0.5,) * channels, (0.25,) * channels)
        # The stem halves the resolution: at full resolution the same network costs four times as much.
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        before = (widths[0], *widths[:-1])
        strides = (1, *(2 for _ in widths[1:]))
        self.blocks = nn.Sequential(*map(BasicBlock, before, widths, strides))

    def forward(self, images: Tensor) -> Tensor:
        """Return features (n, 128) of images (n, channels, height, width) in [0, 1]."""
        return self.blocks(self.stem(self.normalise(images))).mean(dim=(2, 3))


@backbone("resnet-small")
def resnet_small(shape: tuple[int, ...], pretrained: bool) -> nn.Module:
    """Return the small ResNet for images of any size; it has no pretrained weights."""
    if pretrained:
        raise HashbenchError(
            "The backbone 'resnet-small' has no pretrained weights; choose another, for example --backbone resnet34, "
            "or train it from nothing with --recipe scratch."
        )
    return SmallResNet(channels=image_channels("resnet-small", shape))


@backbone("identity", takes=("vectors", "text"))
def identity(shape: tuple[int, ...], pretrained: bool) -> nn.Module:
    """Return the backbone for inputs that are features already: vectors pass through."""
    return Identity(_vector_width("identity", shape))


@backbone("mlp", takes=("vectors", "text"))
def mlp(shape: tuple[int, ...], pretrained: bool) -> nn.Module:
    """Return one hidden layer of 512 over vectors; it has no pretrained weights."""
    return MLP(_vector_width("mlp", shape))


class ImageBackbone(nn.Module):
    """A classifier up to its last layer, which is left off; mean and deviation go before it, by default ImageNet's."""

    def __init__(
        self,
        body: nn.Module,
        width: int,
        mean: tuple[float, ...] = (0.485, 0.456, 0.406),
        std: tuple[float, ...] = (0.229, 0.224, 0.225),
    ):
        super().__init__()
        self.width = width
        self.normalise = Normalise(mean, std)
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        """Return features (n, width) of images (n, 1 or 3, height, width) in [0, 1]."""
        return self.body(self.normalise(images))


@dataclass(frozen=True)
class TorchvisionFactory:
    """Builds a torchvision model without its last layer, pretrained on ImageNet or with fresh weights."""

    name: str
    weights: str  # torchvision's `<enum>.<entry>`
    last_layer: str  # its path in the model
    fixed_size: int = 0  # the only input size that the pretrained weights take; 0: any

    on_meta: ClassVar[bool] = True  # a run's plan passes inputs through it there, and knows whether it takes their size

    def __call__(self, shape: tuple[int, ...], pretrained: bool) -> nn.Module:
        """Return the backbone; raises HashbenchError when its weights cannot be had or do not fit the size."""
        from torchvision.models import get_model

        image_channels(self.name, shape)
        self.require_size(shape, pretrained)
        size = {"image_size": shape[1]} if self.fixed_size else {}
        model = get_model(self.name, weights=None, **size)
        if pretrained:
            model.load_state_dict(self.load_weights())
        parent, _, leaf = self.last_layer.rpartition(".")
        width = model.get_submodule(self.last_layer).in_features
        setattr(model.get_submodule(parent), leaf, nn.Identity())
        return ImageBackbone(model, width)

    def require_size(self, shape: tuple[int, ...], pretrained: bool) -> None:
        """Raise HashbenchError where the pretrained weights take another size than that of `shape`."""
        if pretrained and self.fixed_size not in (0, shape[1]):
            raise HashbenchError(
                f"The pretrained backbone '{self.name}' takes {self.fixed_size} pixels, not {shape[1]}; "
                f"say --set recipe.size={self.fixed_size}."
            )

    @property
    def url(self) -> str:
        """Where torchvision publishes the weights."""
        from torchvision.models import get_weight

        return str(get_weight(self.weights).url)

    @property
    def weights_file(self) -> Path:
        """Where torch keeps the weights; the file's name ends with the start of its sha256."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.url.rpartition("/")[2]

    def load_weights(self) -> dict[str, Tensor]:
        """Return the weights, downloaded where they are missing, checked against the tag in their name.

        Raises HashbenchError naming the file, its source and its folder when it cannot be had or is damaged.
        """
        path, tag = self.weights_file, self.weights_file.stem.rpartition("-")[2]
        if not path.is_file():
            try:
                require_network()
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(self.url, str(path), hash_prefix=tag, progress=True)
            except Exception as error:
                raise HashbenchError(
                    f"The weights of '{self.name}' could not be downloaded ({type(error).__name__}: {error}); "
                    f"put the file {path.name} from {self.url} into {path.parent}."
                ) from error
        if not file_sha256(path).startswith(tag):
            raise HashbenchError(
                f"The weights file {path} is damaged: its sha256 does not start with {tag}; delete it."
            )
        return torch.load(path, map_location="cpu", weights_only=True)


resnet18 = TorchvisionFactory("resnet18", "ResNet18_Weights.IMAGENET1K_V1", "fc")
resnet34 = TorchvisionFactory("resnet34", "ResNet34_Weights.IMAGENET1K_V1", "fc")
resnet50 = TorchvisionFactory("resnet50", "ResNet50_Weights.IMAGENET1K_V1", "fc")
alexnet = TorchvisionFactory("alexnet", "AlexNet_Weights.IMAGENET1K_V1", "classifier.6")
vgg16 = TorchvisionFactory("vgg16", "VGG16_Weights.IMAGENET1K_V1", "classifier.6")
mobilenet_v2 = TorchvisionFactory("mobilenet_v2", "MobileNet_V2_Weights.IMAGENET1K_V1", "classifier.1")
vit_b_16 = TorchvisionFactory("vit_b_16", "ViT_B_16_Weights.IMAGENET1K_V1", "heads.head", fixed_size=224)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, hex; in a process, a file that has not changed is read once."""
    return _file_sha256(path, files.version_of(path))


@cache
def _file_sha256(path: Path, version: tuple[int, ...] | None) -> str:
    return files.sha256(path)


def _vector_width(name: str, shape: tuple[int, ...]) -> int:
    if len(shape) != 1:
        raise HashbenchError(f"The backbone '{name}' takes vectors, not images; choose another with --backbone.")
    return shape[0]


def image_channels(name: str, shape: tuple[int, ...]) -> int:
    """Return the channels of images of `shape`; raises HashbenchError for other inputs."""
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise HashbenchError(f"The backbone '{name}' takes images of 1 or 3 channels, not inputs of shape {shape}.")
    return shape[0]
