"""Features of radial basis functions around anchors, which are training samples."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

#: Distances that are held at once.
BLOCK = 2**24


def draw_anchors(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` different rows of `features` (n, width) at random, all of them where there are fewer."""
    drawn = torch.randperm(len(features), generator=generator)[:count]
    return features[drawn.to(features.device)]


def mean_distance(features: Tensor, anchors: Tensor, *, power: int = 1) -> float:
    """Return the mean Euclidean distance between all `features` (n, width) and all `anchors` (m, width).

    With `power` 2 it is the root of the mean square.
    """
    blocks = (torch.cdist(block, anchors) ** power for block in _blocks(features, anchors))
    mean = sum(float(block.sum(dtype=torch.float64)) for block in blocks) / (len(features) * len(anchors))
    return float(mean ** (1 / power))


def radial_features(features: Tensor, anchors: Tensor, width: float | Tensor) -> Tensor:
    """Return exp(-|x - a|^2 / (2 width^2)) (n, m) of `features` (n, d) and `anchors` (m, d)."""
    found = [torch.exp(torch.cdist(block, anchors) ** 2 / (-2 * width**2)) for block in _blocks(features, anchors)]
    return torch.cat(found) if found else features.new_zeros((0, len(anchors)))


def _blocks(features: Tensor, anchors: Tensor) -> Iterator[Tensor]:
    yield from features.split(max(BLOCK // len(anchors), 1)) if len(features) else ()
