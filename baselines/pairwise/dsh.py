"""DSH: Deep Supervised Hashing for Fast Image Retrieval (Liu et al., CVPR 2016)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import SampleMemory, counted_pairs, labelled_mean, mean_of_pairs, similar


@hashbench.method(
    "dsh", paper="doi:10.1109/CVPR.2016.227", version=1, fidelity="published", family="pairwise", year=2016
)
class DSH(hashbench.DeepMethod):
    """Deep Supervised Hashing: similar samples are pulled together, others pushed to a squared distance of 2 K.

    With d = |v_i - v_j|^2, the loss is the mean over pairs of s d / 2 + (1 - s) max(2 K - d, 0) / 2, and alpha times
    the distances of both samples to the corners, ||v| - 1|_1. The pairs are the unique ones of a batch; suites pair a
    batch with a memory of the training set, the samples themselves included (a field), and take the mean of ||v| - 1|
    over bits, which is alpha / (2 K) here. Unverified: the paper's rates for networks that were trained before.
    """

    quantization: float = hashbench.option(0.01, "alpha, weight of the distance to the corners")
    margin: float = hashbench.option(2.0, "m / K: the squared distance of dissimilar samples, by bit")
    pairs: Literal["batch", "memory"] = hashbench.option(
        "batch", "what a batch's samples are paired with: each other, or the last outputs of all training samples"
    )

    keeps_samples = ()
    #: Of the paper's training of its own small network; the backbone is ours.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "alexnet",
        "optimizer": "sgd",
        "learning_rate": 1e-3,
        "momentum": 0.9,
        "weight_decay": 4e-3,
        "batch_size": 200,
    }

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Begin with an empty memory of the training set, where pairs are made with it."""
        self._multi_label = task.multi_label
        if self.pairs == "memory":
            self.memory = SampleMemory(task.num_train, task.bits, task.num_classes)
            vars(self)["keeps_samples"] = SampleMemory.KEPT

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the contrastive term of pairs, and alpha times the distance to the corners, of labelled samples."""
        assert batch.labels is not None, "DSH is supervised"
        outputs, labels, counted = out, batch.labels, counted_pairs(batch.labels)
        if self.pairs == "memory":
            outputs, labels = self.memory.with_batch(out, batch)
            counted = counted_pairs(batch.labels, labels)
        squares = [(rows**2).sum(dim=1) for rows in (out, outputs)]
        distance = (squares[0][:, None] + squares[1] - 2 * out @ outputs.T).clamp(min=0)
        s = similar(batch.labels, labels, multi_label=self._multi_label)
        pairs = s * distance + (1 - s) * F.relu(self.margin * out.shape[1] - distance)
        corner = labelled_mean((out.abs() - 1).abs().sum(dim=1), batch.labels)
        return {"pairs": mean_of_pairs(pairs, counted) / 2, "quantization": 2 * self.quantization * corner}

    def after_step(self, network: nn.Module, batch: hashbench.Batch) -> None:
        """Write the batch's outputs into the memory, where there is one."""
        if self.pairs == "memory":
            self.memory.write(batch)
