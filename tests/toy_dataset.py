"""A data set that trains in a fraction of a second, and a backbone that stands for a pretrained one."""

from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import nn

import hashbench
from hashbench.datasets import Store


def bands() -> Store:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 50)
    images = random.integers(0, 120, (150, 1, 12, 12), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, 4 * label : 4 * label + 4] += 100  # a band, so that a flip changes nothing
    return Store("toy", images, np.eye(3, dtype=np.uint8)[labels], ("a", "b", "c"))


@hashbench.dataset("toy", protocols="toy.toml")
def toy(data_dir: Path | None) -> Store:
    return bands()


@hashbench.dataset("toy-words", protocols="toy.toml")
def toy_words(data_dir: Path | None) -> Store:
    """Return the toy's bright pixels as the words of documents."""
    images = bands()
    counts = np.where(images.inputs > 100, images.inputs // 50, 0).reshape(150, -1).astype(np.float32)
    return Store("toy-words", csr_matrix(counts), images.labels, images.classes)


class ToyBackbone(nn.Module):
    built = 0

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.width = 16
        type(self).built += 1
        weight = torch.randn(16, int(np.prod(shape)), generator=torch.Generator().manual_seed(1))
        self.weight = nn.Parameter(weight / weight.shape[1] ** 0.5)

    def forward(self, images):
        return images.flatten(1) @ self.weight.T


@hashbench.backbone("toy-backbone")
def toy_backbone(shape: tuple[int, ...], pretrained: bool) -> nn.Module:
    return ToyBackbone(shape)


toy_backbone.weights_file = Path(__file__)
