"""The CPU kernel of resized crops: of each image's uint8 pixels, only the few under the filter are weighted.

Columns first, of the box's rows alone. What comes of it has the colours of a pixel side by side, so that the rows are
added up as whole lines, by vector instructions and straight into the view.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hashbench.metrics.compiling import compiled, over_rows

if TYPE_CHECKING:
    from hashbench.datasets.loading.augment import Parameters


@compiled
def _taps(length: int, size: int, flip: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the first of `length` input pixels under each of `size` output pixels, and the weights (K, size) there."""
    scale = np.float32(length) / np.float32(size)
    reach = max(scale, np.float32(1))
    most = min(math.ceil(2 * reach), length)
    first, weights = np.empty(size, np.uint32), np.empty((most, size), np.float32)
    for i in range(size):
        center = scale * (np.float32(i) + np.float32(0.5))
        place = size - 1 - i if flip else i
        start = min(max(math.floor(center - reach + np.float32(0.5)), 0), length - most)
        for k in range(most):
            distance = abs(np.float32(start + k) + np.float32(0.5) - center)
            weights[k, place] = max(np.float32(1) - distance / reach, np.float32(0))
        first[place] = start
        weights[:, place] /= weights[:, place].sum()
    return first, weights


@compiled
def _resample(images: np.ndarray, boxes: np.ndarray, flips: np.ndarray, views: np.ndarray) -> None:
    """Fill `views` (n, height, width, C) from images (n, C, H, W)."""
    _, channels, side, _ = images.shape
    _, height, width, _ = views.shape
    narrowed = np.empty((side, width, channels), np.float32)
    for n in range(len(images)):
        top, left, rows, columns = boxes[n]
        narrowed[:rows] = 0
        first, weights = _taps(columns, width, flips[n])
        for r in range(rows):
            for c in range(channels):
                line = images[n, c, top + r, left : left + columns]
                for k in range(len(weights)):
                    under = line[k:]
                    for x in range(width):
                        narrowed[r, x, c] += weights[k, x] * under[first[x]]
        lines = narrowed.reshape(side, width * channels)
        first, weights = _taps(rows, height, False)
        weights /= np.float32(255)
        for y in range(height):
            view = views[n, y].reshape(width * channels)
            view[:] = 0
            for k in range(len(weights)):
                line_under, weight = lines[first[y] + k], weights[k, y]
                for x in range(width * channels):
                    view[x] += weight * line_under[x]


def compiled_resample(images: Tensor, drawn: Parameters, *, height: int, width: int) -> Tensor:
    """Return what `augment.resample` does, for images on the CPU, on as many threads as torch takes.

    Raises ValueError for a box that is empty or reaches over the edge: the kernel would read what is not the image's.
    """
    pixels, boxes, flips = (values.contiguous().numpy() for values in (images, drawn.boxes, drawn.flips))
    corners, sizes = boxes[:, :2], boxes[:, 2:]
    if (corners < 0).any() or (sizes < 1).any() or (corners + sizes > pixels.shape[2:]).any():
        raise ValueError("Boxes to resample must hold pixels and lie within the image.")
    views = torch.empty(len(pixels), height, width, pixels.shape[1])  # from torch's allocator: huge pages
    out = views.numpy()
    over_rows(len(pixels), lambda n: _resample(pixels[n], boxes[n], flips[n], out[n]), torch.get_num_threads())
    return views.permute(0, 3, 1, 2)
