"""A batch: what the loader makes and a training step sees."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Samples of one training step: their views, labels and positions."""

    views: tuple[Tensor, ...]  # (n, C, H, W) float32 in [0, 1] each, or (n, width) float32 for vectors
    labels: Tensor | None  # (n, C) float32, multi-hot
    index: Tensor  # (n,) int64, positions in the training set
    epoch: int
    step: int  # of the whole run
    whole: int = 0  # samples of the batch over all devices that share it; 0: these are all

    @property
    def inputs(self) -> Tensor:
        """The first view."""
        return self.views[0]
