"""Augmentations, drawn for a whole epoch on the CPU and applied to a batch at once on its device.

Every augmentation comes down to a box in each image, which may reach over the edge (zeros there), and a flip. Boxes of
the image's own size are gathered by index, pixel for pixel; boxes of other sizes are resampled with the antialiased
bilinear filter of torchvision, which is separable, hence two small matrix products an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hashbench.errors import unknown

PAD_SHARE = 8  # pad-crop pads by an eighth of the side: 4 pixels at 32
AREA = (0.08, 1.0)  # resized-crop: share of the image's area
RATIO = (3 / 4, 4 / 3)  # resized-crop: width over height
ATTEMPTS = 10  # boxes tried before resized-crop takes the largest that fits


@dataclass(frozen=True)
class Geometry:
    """Where n views are cut: `boxes` (n, 4) int64 as top, left, height, width in pixels, and `flips` (n,) bool."""

    boxes: Tensor
    flips: Tensor

    def __getitem__(self, chosen: slice) -> Geometry:
        return Geometry(self.boxes[chosen], self.flips[chosen])


@dataclass(frozen=True)
class Augmentation:
    """A named augmentation: how its boxes are drawn (None: the whole image), and whether half the views are flipped."""

    name: str
    draw_boxes: Callable[[torch.Generator, int, int, int], Tensor] | None = None
    flips: bool = False
    resamples: bool = False  # boxes are of any size, and each becomes a whole view

    def draw(self, generator: torch.Generator, count: int, *, height: int, width: int) -> Geometry:
        """Return the geometry of `count` views of images (height, width)."""
        whole = torch.tensor([[0, 0, height, width]]).expand(count, 4)
        boxes = self.draw_boxes(generator, count, height, width) if self.draw_boxes else whole
        flips = torch.rand(count, generator=generator) < 0.5 if self.flips else torch.zeros(count, dtype=torch.bool)
        return Geometry(boxes, flips)

    def apply(self, images: Tensor, geometry: Geometry, *, size: int = 0) -> Tensor:
        """Return views (n, C, size, size) float32 in [0, 1] of images (n, C, H, W) uint8; size 0 keeps (H, W)."""
        if self.resamples:
            height, width = (size, size) if size else images.shape[-2:]
            return resample(to_unit(images), geometry, height=height, width=width)
        if self.draw_boxes or self.flips:
            images = shift(images, geometry)
        return resize(to_unit(images), size)


def augmentation(name: str) -> Augmentation:
    """Return the augmentation called `name`; raises HashbenchError with the nearest known name."""
    if name not in AUGMENTATIONS:
        raise unknown("augmentation", name, AUGMENTATIONS)
    return AUGMENTATIONS[name]


def to_unit(images: Tensor) -> Tensor:
    """Return images as float32 in [0, 1] from uint8."""
    return images.float().div_(255)


def resize(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Return float images (n, C, *size), bilinear and antialiased; one number is a square's side, 0 the images' own."""
    height, width = (size, size) if isinstance(size, int) else size
    if size == 0 or images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=False, antialias=True)


def shift(images: Tensor, geometry: Geometry) -> Tensor:
    """Return images (n, C, H, W) cut at boxes of their own size, zero outside the image, flipped where asked."""
    count, channels, height, width = images.shape
    rows = geometry.boxes[:, 0, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(count, width)
    columns = geometry.boxes[:, 1, None] + torch.where(geometry.flips[:, None], width - 1 - columns, columns)
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    pixel = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    source = pixel.reshape(count, 1, -1).expand(-1, channels, -1)
    return images.flatten(2).gather(2, source).reshape(images.shape) * inside[:, None]


def resample(images: Tensor, geometry: Geometry, *, height: int, width: int) -> Tensor:
    """Return float views (n, C, height, width): each box of float images (n, C, H, W) resized, flipped where asked."""
    tops, lefts, heights, widths = geometry.boxes.unbind(1)
    down = _filter(tops, heights, images.shape[-2], height)
    across = _filter(lefts, widths, images.shape[-1], width)
    across = torch.where(geometry.flips[:, None, None], across.flip(1), across)
    with torch.autocast(images.device.type, enabled=False):  # the filter's weights need all of float32
        return down[:, None] @ images @ across[:, None].mT


def _filter(start: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """Return weights (n, size, side): output pixel by input pixel, for spans (n,) that lie within `side` pixels."""
    scale = length[:, None, None] / size
    center = scale * (torch.arange(size, device=start.device)[:, None] + 0.5)
    inner = torch.arange(side, device=start.device) - start[:, None, None]  # counted from the span's first pixel
    weights = (1 - (inner + 0.5 - center).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * ((inner >= 0) & (inner < length[:, None, None]))
    return weights / weights.sum(dim=2, keepdim=True)


def _pad_boxes(generator: torch.Generator, count: int, height: int, width: int) -> Tensor:
    """Draw boxes of the image's size anywhere in the image padded by an eighth of its sides."""
    tops, lefts = (
        torch.randint(-(side // PAD_SHARE), side // PAD_SHARE + 1, (count,), generator=generator)
        for side in (height, width)
    )
    return torch.stack([tops, lefts, torch.full_like(tops, height), torch.full_like(tops, width)], dim=1)


def _area_boxes(generator: torch.Generator, count: int, height: int, width: int) -> Tensor:
    """Draw boxes of random area and shape inside the image, distributed as torchvision's RandomResizedCrop."""
    area = torch.empty(count, ATTEMPTS).uniform_(*AREA, generator=generator) * (height * width)
    shape = torch.empty(count, ATTEMPTS).uniform_(*map(math.log, RATIO), generator=generator).exp()
    largest = torch.tensor(_largest_box(height, width)).expand(count, 2)
    heights = torch.cat([(area / shape).sqrt().round().long(), largest[:, :1]], dim=1)
    widths = torch.cat([(area * shape).sqrt().round().long(), largest[:, 1:]], dim=1)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    chosen = fits.int().argmax(dim=1, keepdim=True)  # the first that fits; the last column always does
    heights, widths = heights.gather(1, chosen)[:, 0], widths.gather(1, chosen)[:, 0]
    place = torch.rand(2, count, generator=generator)
    tops, lefts = (place[0] * (height - heights + 1)).long(), (place[1] * (width - widths + 1)).long()
    return torch.stack([tops, lefts, heights, widths], dim=1)


def _largest_box(height: int, width: int) -> tuple[int, int]:
    """Return height and width of the largest box in the image whose shape is within RATIO."""
    if width < RATIO[0] * height:
        return round(width / RATIO[0]), width
    if width > RATIO[1] * height:
        return height, round(height * RATIO[1])
    return height, width


AUGMENTATIONS = {
    chosen.name: chosen
    for chosen in (
        Augmentation("none"),
        Augmentation("flip", flips=True),
        Augmentation("pad-crop", draw_boxes=_pad_boxes),
        Augmentation("pad-crop-flip", draw_boxes=_pad_boxes, flips=True),
        Augmentation("resized-crop-flip", draw_boxes=_area_boxes, flips=True, resamples=True),
    )
}
