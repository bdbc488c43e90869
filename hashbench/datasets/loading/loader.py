"""The device loader: batches of uint8 are gathered from the device's memory or streamed to it, and augmented there.

Both tiers give the same tensors; free memory decides between them (streaming.py). The order of an epoch and all its
augmentation parameters are drawn on the CPU before its first step and moved once, so one seed means the same batches on
every device and for every method, and no step waits for the host.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hashbench.datasets.loading.augment import Parameters, augmentation, resize, to_device, to_unit
from hashbench.datasets.loading.batch import Batch
from hashbench.datasets.loading.streaming import choose_tier, resident, row_bytes, streamed
from hashbench.datasets.sparse import is_sparse
from hashbench.errors import HashbenchError
from hashbench.system.seeds import generator

if TYPE_CHECKING:
    from hashbench.datasets.sparse import Inputs

INPUTS = -1  # the source of all views that have no fixed ones


class TrainLoader:
    """The training set on a device, as shuffled, augmented batches of every epoch."""

    def __init__(
        self,
        inputs: Inputs | Tensor,
        labels: np.ndarray | Tensor | None,
        *,
        index: np.ndarray | None = None,
        batch_size: int,
        seed: int,
        device: torch.device | str,
        augment: str | Sequence[str] = "none",
        fixed_views: Mapping[str, np.ndarray] | None = None,
        size: int = 0,
        channels_last: bool = False,
    ):
        """Serve inputs (N, C, H, W) uint8 or (N, width) float32, or those at `index` (n,), with labels (n, C).

        Vectors may be the rows of a CSR matrix; batches of them are dense.

        The inputs may be a memory map larger than memory: then they stay there, and each batch is read ahead. `augment`
        names the augmentation of the one view that a batch holds, or of each of several, drawn independently; `size` is
        the side in pixels of the square views, 0 for the images' own. Vectors may have augmentations whose
        `fixed_views` (views * n, width) are given by name, row v * n + i being view v of input i: a view is one of
        these, drawn anew in each epoch, and views of one augmentation are different ones. Raises HashbenchError for an
        unknown augmentation, for another one given to vectors, and for a batch size, a number of views or a training
        set below one.
        """
        count = inputs.shape[0] if index is None else len(index)
        augments = (augment,) if isinstance(augment, str) else tuple(augment)
        for what, value in (("batch size", batch_size), ("number of views", len(augments)), ("training set", count)):
            if value < 1:
                raise HashbenchError(f"A {what} of {value} cannot be trained on; it must be at least 1.")
        self._augmentations = [augmentation(name) for name in augments]
        self._is_images = inputs.ndim == 4
        self._fixed_views: dict[str, np.ndarray | Tensor] = dict(fixed_views or {})
        for name in augments:
            if name != "none" and not self._is_images and name not in self._fixed_views:
                raise HashbenchError(
                    f"The augmentation '{name}' is for images, but these inputs are vectors; use 'none'."
                )
        self._device = torch.device(device)
        # Sparse rows are dense only as batches: the whole of them may be larger than any memory.
        fixed_bytes = sum(views.nbytes for views in self._fixed_views.values())
        self.tier = (
            "streamed" if is_sparse(inputs) else choose_tier(count * row_bytes(inputs) + fixed_bytes, self._device)
        )
        self._inputs: Inputs | Tensor = inputs
        self._index = np.arange(count) if index is None else np.asarray(index)
        if self.tier == "resident":
            assert not is_sparse(inputs)
            self._inputs = resident(inputs, index, self._device)
            self._fixed_views = {name: resident(views, None, self._device) for name, views in self._fixed_views.items()}
        self.labels = None if labels is None else to_device(torch.as_tensor(labels), device).float()  # (n, C)
        self._count, self._shape = count, tuple(inputs.shape[1:])
        self._bounds = _batch_bounds(count, batch_size)
        self._seed, self._size, self._channels_last = seed, size, channels_last

    def of_seed(self, seed: int) -> TrainLoader:
        """Return the loader of the same training set in another seed's order; the two share what lies on the device."""
        other = copy.copy(self)
        other._seed = seed
        return other

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches that show every sample once."""
        return len(self._bounds)

    def epoch(
        self, epoch: int, cut: Callable[[int, int], tuple[int, int]] = lambda start, stop: (start, stop)
    ) -> Iterator[Batch]:
        """Yield the batches of an epoch, counted from 0, every sample in exactly one of them.

        `cut` gives the share of each batch, from `start` to `stop` in the epoch's order, that this device takes.
        """
        order = torch.randperm(self._count, generator=generator(self._seed, "order", epoch))
        on_device = to_device(order, self._device)
        drawn = [self._draw(epoch, view) for view in range(len(self._augmentations))]
        bounds = [cut(*whole) for whole in self._bounds]
        sources = self._sources(epoch, order)
        gathered = (self._gathered(*source, bounds) for source in sources.values())
        batches = zip(self._bounds, bounds, *gathered, strict=True)
        for number, ((first, last), (start, stop), *some) in enumerate(batches):
            index = on_device[start:stop]
            chosen = dict(zip(sources, some, strict=True))
            yield Batch(
                views=tuple(
                    self._view(chosen[view if view in chosen else INPUTS], view, parameters, slice(start, stop))
                    for view, parameters in enumerate(drawn)
                ),
                labels=None if self.labels is None else self.labels.index_select(0, index),
                index=index,
                epoch=epoch,
                step=epoch * self.steps_per_epoch + number,
                whole=last - first,
            )

    def _sources(self, epoch: int, order: Tensor) -> dict[int, tuple[Inputs | Tensor, Tensor]]:
        """Return the array that each view with fixed ones takes its rows from, and these rows in the epoch's order.

        All other views share the INPUTS.
        """
        sources: dict[int, tuple[Inputs | Tensor, Tensor]] = {}
        for name, views in self._fixed_views.items():
            stream = generator(self._seed, "fixed views", name, epoch)
            drawn = torch.rand(self._count, len(views) // self._count, generator=stream).argsort(dim=1, stable=True)
            own = [view for view, augmentation in enumerate(self._augmentations) if augmentation.name == name]
            for view, chosen in zip(own, drawn.T[: len(own)], strict=True):
                sources[view] = (views, chosen * self._count + order)
        if len(sources) < len(self._augmentations):
            rows = order if self.tier == "resident" else torch.from_numpy(self._index[order.numpy()])
            sources[INPUTS] = (self._inputs, rows)
        return sources

    def _gathered(self, inputs: Inputs | Tensor, rows: Tensor, bounds: list[tuple[int, int]]) -> Iterator[Tensor]:
        """Yield the inputs of each batch, on the device: their `rows`, (n,) on the host, are cut at `bounds`."""
        if self.tier == "resident":
            assert isinstance(inputs, Tensor)
            on_device = to_device(rows, self._device)
            return (inputs.index_select(0, on_device[start:stop]) for start, stop in bounds)
        places = rows.numpy()
        return streamed(inputs, (places[start:stop] for start, stop in bounds), self._device)

    def _draw(self, epoch: int, view: int) -> Parameters | None:
        if not self._is_images:
            return None
        height, width = self._shape[-2:]
        stream = generator(self._seed, "augment", epoch, view)
        drawn = self._augmentations[view].draw(stream, self._count, height=height, width=width)
        return drawn.to(self._device)

    def _view(self, chosen: Tensor, view: int, drawn: Parameters | None, place: slice) -> Tensor:
        if drawn is None:
            return chosen
        augmented = self._augmentations[view].apply(chosen, drawn[place], size=self._size)
        return _laid_out(augmented, self._channels_last)


def steps_per_epoch(num_train: int, batch_size: int) -> int:
    """Return the number of batches that a `TrainLoader` makes of `num_train` samples."""
    return len(_batch_bounds(num_train, batch_size))


def inference_batches(
    inputs: Inputs | Tensor,
    *,
    batch_size: int,
    device: torch.device | str,
    index: np.ndarray | None = None,
    size: int = 0,
    channels_last: bool = False,
) -> Iterator[Tensor]:
    """Yield inputs in order, without augmentation: images as float32 in [0, 1] of `size`, vectors dense.

    With `index` (n,), only those inputs, in that order. A few batches at a time are read from `inputs`, ahead of their
    use; it may be a memory map larger than memory.
    """
    count = inputs.shape[0] if index is None else len(index)
    starts = range(0, count, batch_size)
    rows = (slice(at, at + batch_size) if index is None else index[at : at + batch_size] for at in starts)
    for batch in streamed(inputs, rows, torch.device(device)):
        yield _laid_out(resize(to_unit(batch), size), channels_last) if batch.ndim == 4 else batch


def _batch_bounds(count: int, batch_size: int) -> list[tuple[int, int]]:
    """Return start and stop of each batch; a last batch of one joins the one before, since batch norm needs two."""
    starts = list(range(0, count, batch_size))
    if batch_size > 1 and len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))


def _laid_out(images: Tensor, channels_last: bool) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
