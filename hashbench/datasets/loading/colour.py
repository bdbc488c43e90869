"""Colour jitter of a batch at once, each image by numbers of its own: torchvision's ColorJitter in a fixed order.

Brightness, then contrast, saturation and hue; torchvision draws the order of the four for each image.
"""

from __future__ import annotations

import torch
from torch import Tensor

BRIGHTNESS = CONTRAST = SATURATION = 0.4  # factors from 1 - 0.4 to 1 + 0.4
HUE = 0.1  # shifts from -0.1 to 0.1 of the circle
GREY = (0.2989, 0.587, 0.114)  # ITU-R 601-2, as torchvision and PIL have it


def draw_colours(generator: torch.Generator, count: int) -> Tensor:
    """Return (count, 4) float32: the factors of brightness, contrast and saturation, and the shift of hue."""
    reach = torch.tensor([BRIGHTNESS, CONTRAST, SATURATION, HUE])
    middle = torch.tensor([1.0, 1.0, 1.0, 0.0])
    return middle + reach * (2 * torch.rand(count, 4, generator=generator) - 1)


def jitter(images: Tensor, colours: Tensor) -> Tensor:
    """Return images (n, 1 or 3, H, W), float in [0, 1], with their `colours` (n, 4); hue is not for one channel."""
    brightness, contrast, saturation, hue = colours[:, :, None, None, None].unbind(1)
    images = (images * brightness).clamp(0, 1)
    images = _blend(images, _grey(images).mean(dim=(1, 2, 3), keepdim=True), contrast)
    if images.shape[1] == 1:
        return images
    images = _blend(images, _grey(images), saturation)
    return _turned(images, hue[:, 0])


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other.expand_as(images), images, factor.expand_as(images)).clamp(0, 1)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return (GREY[0] * red + GREY[1] * green + GREY[2] * blue)[:, None]


def _turned(images: Tensor, shift: Tensor) -> Tensor:
    """Return RGB images (n, 3, H, W) with their hue shifted by `shift` (n, 1, 1), in turns of the circle."""
    red, green, blue = images.unbind(1)
    value, least = images.amax(dim=1), images.amin(dim=1)
    chroma = value - least
    spread = torch.where(chroma > 0, chroma, 1)
    sixth = torch.where(
        value == red,
        (green - blue) / spread,
        torch.where(value == green, 2 + (blue - red) / spread, 4 + (red - green) / spread),
    )
    sixth = sixth + 6 * shift
    # Channel n of a colour is value - chroma * max(0, min(k, 4 - k, 1)), where k = (n + hue in sixths) mod 6.
    channels = []
    for n in (5, 3, 1):
        k = torch.remainder(n + sixth, 6)
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=1)
