"""The built-in conditions: the images as they are, and common corruptions of them, each with a severity."""

from __future__ import annotations

import io
import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from torch import Tensor

from hashbench.errors import HashbenchError
from hashbench.evaluation.conditions.contract import Condition, Queries, condition

TRUNCATE = 4.0  # standard deviations at which the Gaussian kernel ends, as in scipy.ndimage
GREY = 0.5  # what covers an occluded place


@condition("clean")
class Clean(Condition):
    """The queries as they are: the run's own numbers again."""

    takes = ("images", "vectors", "text")

    def apply(self, queries: Queries) -> Tensor:
        """Return the queries."""
        return queries.images


@condition("noise")
class Noise(Condition):
    """Gaussian noise of standard deviation `sigma` on each value, clipped to [0, 1]."""

    sigma: float = 0.1

    def __post_init__(self) -> None:
        _refuse_below_zero("noise", "sigma", self.sigma)

    def apply(self, queries: Queries) -> Tensor:
        """Return the noisy images."""
        shape = queries.images.shape[1:]
        drawn = queries.draw(lambda stream: torch.randn(shape, generator=stream))
        return (queries.images + self.sigma * drawn).clamp(0, 1)


@condition("blur")
class Blur(Condition):
    """Gaussian blur of standard deviation `sigma` pixels, cut off at four of them; images are mirrored at the edges."""

    sigma: float = 1.0

    def __post_init__(self) -> None:
        _refuse_below_zero("blur", "sigma", self.sigma)

    def apply(self, queries: Queries) -> Tensor:
        """Return the blurred images: the kernel is separable, so each axis is one product with a matrix."""
        if int(TRUNCATE * self.sigma + 0.5) == 0:
            return queries.images
        rows, columns = (_gaussian(side, self.sigma).to(queries.images) for side in queries.images.shape[-2:])
        return (rows @ queries.images @ columns.T).clamp(0, 1)


@condition("jpeg")
class Jpeg(Condition):
    """JPEG of `quality` 1 to 95 by Pillow, on the CPU, image by image; colours at half the resolution (4:2:0)."""

    quality: int = 30

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 95:
            raise HashbenchError(f"jpeg(quality={self.quality}) is not possible; give 1 to 95.")

    def apply(self, queries: Queries) -> Tensor:
        """Return the images as they come back from JPEG, at the 256 levels of its pixels."""
        if queries.images.shape[1] not in (1, 3):
            raise HashbenchError(f"jpeg takes grey or RGB images, and these have {queries.images.shape[1]} channels.")
        pixels = (queries.images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        with ThreadPoolExecutor() as pool:
            back = np.stack([*pool.map(self._compressed, pixels)])
        return torch.from_numpy(back).permute(0, 3, 1, 2).to(queries.images.device).float().div_(255).contiguous()

    def _compressed(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels (height, width, channels) uint8 written and read again."""
        from PIL import Image

        file = io.BytesIO()
        grey = pixels.shape[2] == 1
        Image.fromarray(pixels[:, :, 0] if grey else pixels).save(file, format="jpeg", quality=self.quality)
        return np.asarray(Image.open(file)).reshape(pixels.shape)


@condition("occlusion")
class Occlusion(Condition):
    """A grey (0.5) rectangle in the image's proportions, of `share` of its area, at a place drawn for each image."""

    share: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise HashbenchError(f"occlusion(share={self.share:g}) is not possible; give a share of the area, 0 to 1.")

    def apply(self, queries: Queries) -> Tensor:
        """Return the images, each with its rectangle, which lies wholly inside."""
        drawn = queries.draw(lambda stream: torch.rand(2, generator=stream, dtype=torch.float64))
        inside = [
            _interval(drawn[:, axis], side, round(math.sqrt(self.share) * side))
            for axis, side in enumerate(queries.images.shape[-2:])
        ]
        covered = inside[0][:, None, :, None] & inside[1][:, None, None, :]
        return torch.where(covered, torch.full_like(queries.images, GREY), queries.images)


def _interval(drawn: Tensor, side: int, length: int) -> Tensor:
    """Return which of `side` pixels lie in an interval of `length`, (n, side) bool; its start is drawn in [0, 1)."""
    start = (drawn * (side - length + 1)).floor()[:, None]
    place = torch.arange(side, device=drawn.device)
    return (place >= start) & (place < start + length)


@cache
def _gaussian(side: int, sigma: float) -> Tensor:
    """Return the matrix (side, side) float64 of a Gaussian filter along an axis that is mirrored at its ends."""
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    weights /= weights.sum()
    period = max(2 * (side - 1), 1)
    source = (torch.arange(side)[:, None] + offsets) % period  # of each pixel under the kernel
    source = torch.minimum(source, period - source)
    return torch.zeros(side, side, dtype=torch.float64).scatter_add_(1, source, weights.expand(side, -1))


def _refuse_below_zero(name: str, field: str, value: float) -> None:
    if value < 0:
        raise HashbenchError(f"{name}({field}={value:g}) is not possible; give 0 or more.")
