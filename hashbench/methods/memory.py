"""A memory of the training set: the outputs that each sample had last, and its labels."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from hashbench.datasets.loading.batch import Batch


class SampleMemory(nn.Module):
    """The outputs (num_train, bits) that each training sample had last, with its labels (num_train, C).

    A method makes it in `setup`, as `self.memory`, and declares `keeps_samples = SampleMemory.KEPT`, so that ranks
    share the rows. A row without a label has not been seen, or has none; no pair with it counts.
    """

    #: The buffers of a method's `memory`, for its `keeps_samples`.
    KEPT: ClassVar[tuple[str, ...]] = ("memory.outputs", "memory.labels")

    outputs: Tensor
    labels: Tensor

    def __init__(self, num_train: int, bits: int, num_classes: int):
        """Begin with zeros, and without a label."""
        super().__init__()
        self.register_buffer("outputs", torch.zeros(num_train, bits))
        self.register_buffer("labels", torch.zeros(num_train, num_classes, dtype=torch.bool))
        self._latest: Tensor | None = None

    def with_batch(self, out: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return outputs (num_train, bits) and labels (num_train, C) in which the batch's rows are those of now.

        They have no gradient and are copies; `write` puts the batch's rows into the memory itself, after the step.
        """
        assert batch.labels is not None, "a memory of labelled samples is for supervised methods"
        self._latest = out.detach()
        outputs = self.outputs.index_copy(0, batch.index, self._latest.to(self.outputs.dtype))
        labels = self.labels.index_copy(0, batch.index, batch.labels > 0)
        as_bytes = labels.view(torch.uint8)  # a bool becomes a float in six times the time
        return outputs.to(out.dtype), as_bytes.to(batch.labels.dtype)

    def write(self, batch: Batch) -> None:
        """Keep the rows of the batch that `with_batch` saw; a method calls it in `after_step`."""
        assert self._latest is not None, "with_batch comes before write"
        assert batch.labels is not None
        self.outputs[batch.index] = self._latest.to(self.outputs.dtype)
        self.labels[batch.index] = batch.labels > 0
