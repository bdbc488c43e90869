"""The device loader: the training set lies on the device as uint8, and batches are gathered and augmented there.

The order of an epoch and all its augmentation parameters are drawn on the CPU before its first step and moved once, so
one seed means the same batches on every device and for every method, and no step waits for the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hashbench.datasets.augment import Geometry, augmentation, resize, to_unit
from hashbench.errors import HashbenchError
from hashbench.seeds import generator


@dataclass(frozen=True)
class Batch:
    """What a training step sees."""

    views: tuple[Tensor, ...]  # (n, C, H, W) float32 in [0, 1] each, or (n, width) float32 for vectors
    labels: Tensor | None  # (n, C) float32, multi-hot
    index: Tensor  # (n,) int64, positions in the training set
    epoch: int
    step: int  # of the whole run

    @property
    def inputs(self) -> Tensor:
        """The first view."""
        return self.views[0]


class TrainLoader:
    """The training set on a device, as shuffled, augmented batches of every epoch."""

    def __init__(
        self,
        inputs: np.ndarray | Tensor,
        labels: np.ndarray | Tensor | None,
        *,
        batch_size: int,
        seed: int,
        device: torch.device | str,
        augment: str = "none",
        size: int = 0,
        views: int = 1,
        channels_last: bool = False,
    ):
        """Move inputs (N, C, H, W) uint8 or (N, width) float32, and labels (N, C), to `device`.

        `size` is the side in pixels of the square views, 0 for the images' own; each batch holds `views` independently
        augmented views. Raises HashbenchError for an unknown augmentation, for one asked of vectors, and for a batch
        size, a number of views or a training set below one.
        """
        for what, value in (("batch size", batch_size), ("number of views", views), ("training set", len(inputs))):
            if value < 1:
                raise HashbenchError(f"A {what} of {value} cannot be trained on; it must be at least 1.")
        self._augmentation = augmentation(augment)
        self._is_images = inputs.ndim == 4
        if augment != "none" and not self._is_images:
            raise HashbenchError(
                f"The augmentation '{augment}' is for images, but these inputs are vectors; use 'none'."
            )
        self._inputs = _to_device(_as_tensor(inputs), device)
        self.labels = None if labels is None else _to_device(_as_tensor(labels), device).float()  # (N, C), multi-hot
        self._bounds = _batch_bounds(len(inputs), batch_size)
        self._seed, self._size, self._views, self._channels_last = seed, size, views, channels_last

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches that show every sample once."""
        return len(self._bounds)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, counted from 0, every sample in exactly one of them."""
        device, count = self._inputs.device, len(self._inputs)
        order = _to_device(torch.randperm(count, generator=generator(self._seed, "order", epoch)), device)
        geometries = [self._draw(epoch, view) for view in range(self._views)]
        for number, (start, stop) in enumerate(self._bounds):
            index = order[start:stop]
            chosen = self._inputs[index]
            yield Batch(
                views=tuple(self._view(chosen, geometry, slice(start, stop)) for geometry in geometries),
                labels=None if self.labels is None else self.labels[index],
                index=index,
                epoch=epoch,
                step=epoch * self.steps_per_epoch + number,
            )

    def _draw(self, epoch: int, view: int) -> Geometry | None:
        if not self._is_images:
            return None
        height, width = self._inputs.shape[-2:]
        stream = generator(self._seed, "augment", epoch, view)
        drawn = self._augmentation.draw(stream, len(self._inputs), height=height, width=width)
        device = self._inputs.device
        return Geometry(_to_device(drawn.boxes, device), _to_device(drawn.flips, device))

    def _view(self, chosen: Tensor, geometry: Geometry | None, place: slice) -> Tensor:
        if geometry is None:
            return chosen
        return _laid_out(self._augmentation.apply(chosen, geometry[place], size=self._size), self._channels_last)


def steps_per_epoch(num_train: int, batch_size: int) -> int:
    """Return the number of batches that a `TrainLoader` makes of `num_train` samples."""
    return len(_batch_bounds(num_train, batch_size))


def inference_batches(
    inputs: np.ndarray | Tensor,
    *,
    batch_size: int,
    device: torch.device | str,
    index: np.ndarray | None = None,
    size: int = 0,
    channels_last: bool = False,
) -> Iterator[Tensor]:
    """Yield inputs in order, without augmentation: images as float32 in [0, 1] of `size`, vectors as they are.

    With `index` (n,), only those inputs, in that order. One batch at a time is read from `inputs`, which may be a
    memory map larger than memory.
    """
    count = len(inputs) if index is None else len(index)
    for start in range(0, count, batch_size):
        chosen = slice(start, start + batch_size) if index is None else index[start : start + batch_size]
        batch = _to_device(_as_tensor(inputs[chosen]), device)
        yield _laid_out(resize(to_unit(batch), size), channels_last) if batch.ndim == 4 else batch


def _batch_bounds(count: int, batch_size: int) -> list[tuple[int, int]]:
    """Return start and stop of each batch; a last batch of one joins the one before, since batch norm needs two."""
    starts = list(range(0, count, batch_size))
    if batch_size > 1 and len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))


def _as_tensor(values: np.ndarray | Tensor) -> Tensor:
    # A copy, because torch cannot share the read-only memory of a memory map.
    return values if isinstance(values, Tensor) else torch.tensor(values)


def _to_device(values: Tensor, device: torch.device | str) -> Tensor:
    if torch.device(device).type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def _laid_out(images: Tensor, channels_last: bool) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
