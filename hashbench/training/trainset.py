"""The training set of a run as methods and the trainer see it: batches on the device, labels, features."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hashbench.datasets.loading.batch import Batch
from hashbench.datasets.loading.loader import TrainLoader, inference_batches
from hashbench.datasets.sparse import dense, is_sparse
from hashbench.errors import HashbenchError
from hashbench.system.distributed import SINGLE, World
from hashbench.system.memory import require_memory

if TYPE_CHECKING:
    from hashbench.datasets.sparse import Inputs

DENSE_BYTES = 2**31  # of sparse rows that methods without gradient may have as one matrix


class TrainSet:
    """The training inputs and labels on the device; never a query, never the rest of the database."""

    def __init__(
        self,
        loader: TrainLoader,
        inputs: Inputs,
        index: np.ndarray,
        *,
        size: int,
        device: torch.device,
        features: Callable[[], Inputs],
        world: World = SINGLE,
    ):
        """`loader` serves the inputs at `index`; `features` computes the fixed features of all inputs.

        `world` are the ranks that share every batch, and every pass over the set.
        """
        self.world = world
        self._loader, self._inputs, self._index = loader, inputs, index
        self._size, self._device, self._features = size, device, features

    @property
    def alone(self) -> TrainSet:
        """The same without the world, for rank 0 while the others wait: whole batches."""
        return TrainSet(
            self._loader, self._inputs, self._index, size=self._size, device=self._device, features=self._features
        )

    def of_seed(self, seed: int) -> TrainSet:
        """Return the same training set in another seed's order."""
        other = copy.copy(self)
        other._loader = self._loader.of_seed(seed)
        return other

    @property
    def labels(self) -> Tensor | None:
        """The labels (num_train, num_classes), float multi-hot; None for unsupervised methods."""
        return self._loader.labels

    @property
    def width(self) -> int:
        """The length of one input as a vector."""
        return int(np.prod(self._inputs.shape[1:]))

    def batches(self, epoch: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch, shuffled and augmented by (seed, epoch)."""
        return self._loader.epoch(epoch, self.world.batch_share)

    def fresh(self) -> Iterator[Batch]:
        """Yield the training set in order, without augmentation."""
        start, stop = self.world.batch_share(0, len(self._index))
        rows = self._index[start:stop]
        for inputs in inference_batches(
            self._inputs, batch_size=512, device=self._device, index=rows, size=self._size, channels_last=True
        ):
            index = torch.arange(start, start + len(inputs), device=self._device)
            labels = None if self.labels is None else self.labels[index]
            yield Batch(views=(inputs,), labels=labels, index=index, epoch=0, step=0, whole=len(self._index))
            start += len(inputs)

    def features(self) -> Tensor:
        """Return (num_train, width) float features of the fixed backbone, or pixels or vectors where there is none.

        Raises HashbenchError where they do not fit in memory, and for sparse rows that are more than DENSE_BYTES dense.
        """
        found = self._features()
        if is_sparse(found):
            count, width = len(self._index), found.shape[1]
            if 4 * count * width > DENSE_BYTES:
                raise HashbenchError(
                    f"The training set as a dense matrix of {count:,} x {width:,} is larger than "
                    f"{DENSE_BYTES / 2**30:.0f} GiB; give the data set fewer terms, or choose a method that is trained "
                    f"in batches."
                )
        count, width = len(self._index), found.shape[1]
        for device in dict.fromkeys((torch.device("cpu"), self._device)):
            require_memory(
                4 * count * width,
                device,
                what=f"The training set as a matrix of {count:,} x {width:,}",
                instead="choose fewer training inputs, smaller ones, or a method that is trained in batches",
            )
        return torch.from_numpy(dense(found[self._index])).to(self._device)
