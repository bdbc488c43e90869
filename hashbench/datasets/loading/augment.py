"""Augmentations, drawn for a whole epoch on the CPU and applied to a batch at once on its device.

Every augmentation comes down to a box in each image, which may reach over the edge (zeros there), a flip, and then a
change of colours (colour.py). Boxes of the image's own size are gathered by index, pixel for pixel; boxes of other
sizes are resampled with the antialiased bilinear filter of torchvision, which is separable: on a CPU a compiled kernel
adds up the few pixels under it, elsewhere it is two small matrix products an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from hashbench.datasets.loading.colour import draw_colours, jitter
from hashbench.errors import unknown

PAD_SHARE = 8  # pad-crop pads by an eighth of the side: 4 pixels at 32
AREA = (0.08, 1.0)  # resized-crop: share of the image's area
RATIO = (3 / 4, 4 / 3)  # resized-crop: width over height
ATTEMPTS = 10  # boxes tried before resized-crop takes the largest that fits


DrawBoxes = Callable[[torch.Generator, int, int, int], Tensor]  # (generator, count, height, width)


@dataclass(frozen=True)
class Parameters:
    """What was drawn for n views: where they are cut, which are flipped, how their colours are changed."""

    boxes: Tensor  # (n, 4) int64: top, left, height, width in pixels
    flips: Tensor  # (n,) bool
    colours: Tensor | None = None  # (n, 4) float32: brightness, contrast, saturation, hue; None: as they are

    def __getitem__(self, chosen: slice) -> Parameters:
        return self._each(lambda drawn: drawn[chosen])

    def to(self, device: torch.device | str) -> Parameters:
        """Return the same on `device`; the copy to a GPU is asynchronous."""
        return self._each(lambda drawn: to_device(drawn, device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Parameters:
        colours = None if self.colours is None else change(self.colours)
        return Parameters(change(self.boxes), change(self.flips), colours)


@dataclass(frozen=True)
class Augmentation:
    """A named augmentation: how boxes are drawn (None: the whole image), whether half are flipped, colours jittered."""

    name: str
    draw_boxes: DrawBoxes | None = None
    flips: bool = False
    resamples: bool = False  # boxes are of any size, and each becomes a whole view
    jitters: bool = False

    def draw(self, generator: torch.Generator, count: int, *, height: int, width: int) -> Parameters:
        """Return the parameters of `count` views of images (height, width)."""
        whole = torch.tensor([[0, 0, height, width]]).expand(count, 4)
        boxes = self.draw_boxes(generator, count, height, width) if self.draw_boxes else whole
        flips = torch.rand(count, generator=generator) < 0.5 if self.flips else torch.zeros(count, dtype=torch.bool)
        colours = draw_colours(generator, count) if self.jitters else None
        return Parameters(boxes, flips, colours)

    def apply(self, images: Tensor, drawn: Parameters, *, size: int = 0) -> Tensor:
        """Return views (n, C, size, size) float32 in [0, 1] of images (n, C, H, W) uint8; size 0 keeps (H, W)."""
        views = self._cut(images, drawn, size)
        return views if drawn.colours is None else jitter(views, drawn.colours)

    def _cut(self, images: Tensor, drawn: Parameters, size: int) -> Tensor:
        if self.resamples:
            height, width = (size, size) if size else images.shape[-2:]
            return resample(images, drawn, height=height, width=width)
        if self.draw_boxes or self.flips:
            images = shift(images, drawn)
        return resize(to_unit(images), size)


def augmentation(name: str) -> Augmentation:
    """Return the augmentation called `name`; raises HashbenchError with the nearest known name."""
    if name not in AUGMENTATIONS:
        raise unknown("augmentation", name, AUGMENTATIONS)
    return AUGMENTATIONS[name]


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """Return `values` on `device`; the copy to a GPU is asynchronous."""
    if torch.device(device).type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def to_unit(images: Tensor) -> Tensor:
    """Return images as float32 in [0, 1] from uint8."""
    return images.float().div_(255)


def resize(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Return float images (n, C, *size), bilinear and antialiased; one number is a square's side, 0 the images' own."""
    height, width = (size, size) if isinstance(size, int) else size
    if size == 0 or images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=False, antialias=True)


def shift(images: Tensor, drawn: Parameters) -> Tensor:
    """Return images (n, C, H, W) cut at boxes of their own size, zero outside the image, flipped where drawn."""
    count, channels, height, width = images.shape
    rows = drawn.boxes[:, 0, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(count, width)
    columns = drawn.boxes[:, 1, None] + torch.where(drawn.flips[:, None], width - 1 - columns, columns)
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    pixel = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    source = pixel.reshape(count, 1, -1).expand(-1, channels, -1)
    return images.flatten(2).gather(2, source).reshape(images.shape) * inside[:, None]


def resample(images: Tensor, drawn: Parameters, *, height: int, width: int) -> Tensor:
    """Return views (n, C, height, width) float32 in [0, 1]: each box of images (n, C, H, W) uint8 resized and flipped.

    The boxes lie within the images.
    """
    if images.device.type == "cpu":
        try:
            from hashbench.datasets.loading.kernels_numba import compiled_resample
        except ImportError:  # without numba the products do, several times slower
            pass
        else:
            return compiled_resample(images, drawn, height=height, width=width)
    return dense_resample(images, drawn, height=height, width=width)


def dense_resample(images: Tensor, drawn: Parameters, *, height: int, width: int) -> Tensor:
    """Return what `resample` does, on any device: products with the whole matrices of the filter."""
    tops, lefts, heights, widths = drawn.boxes.unbind(1)
    down = _filter(tops, heights, images.shape[-2], height)
    across = _filter(lefts, widths, images.shape[-1], width)
    across = torch.where(drawn.flips[:, None, None], across.flip(1), across)
    with torch.autocast(images.device.type, enabled=False):  # the filter's weights need all of float32
        rows = (to_unit(images) @ across[:, None].mT).permute(0, 2, 3, 1)
        views = down @ rows.flatten(2)  # the larger product last, and straight into the layout of channels last
    return views.unflatten(2, (width, -1)).permute(0, 3, 1, 2)


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


def _combined() -> Iterator[Augmentation]:
    """Yield every combination of a cut, a flip and colour jitter; its name lists them in this order."""
    cuts: tuple[tuple[str, DrawBoxes | None], ...] = (
        ("", None),
        ("pad-crop", _pad_boxes),
        ("resized-crop", _area_boxes),
    )
    for (cut, draw_boxes), flips, jitters in product(cuts, (False, True), (False, True)):
        parts = [cut, "flip" if flips else "", "jitter" if jitters else ""]
        name = "-".join(filter(None, parts)) or "none"
        yield Augmentation(name, draw_boxes, flips=flips, resamples=draw_boxes is _area_boxes, jitters=jitters)


AUGMENTATIONS = {chosen.name: chosen for chosen in _combined()}
