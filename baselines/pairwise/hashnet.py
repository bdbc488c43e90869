"""HashNet: Deep Learning to Hash by Continuation (Cao et al., ICCV 2017, arXiv:1702.00758)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

import hashbench
from hashbench.methods import balanced_pairs, counted_pairs, label_overlap, mean_of_pairs, pair_likelihood, similar


@hashbench.method("hashnet", paper="arXiv:1702.00758", version=1, fidelity="published", family="pairwise", year=2017)
class HashNet(hashbench.DeepMethod):
    """HashNet: the weighted likelihood of pairs of tanh(beta v), with a beta that grows until the tanh is a sign.

    With t = a h_i h_j' and a = 10 / K, the loss is the mean over pairs of w (log(1 + e^t) - s t); w is |S|/|S1| for
    similar and |S|/|S0| for dissimilar pairs of the batch. beta = sqrt(1 + 0.005 iteration) is raised every 200
    iterations, as in the authors' code. That code pairs two batches of 36 with each other; here the pairs are those of
    one batch, none with itself (ours; suites count these, a field). Unverified: the rates of the paper's own training.
    """

    scale: float = hashbench.option(10.0, "a K: the inner product of two codes is scaled to at most this")
    growth: float = hashbench.option(0.005, "by which beta^2 grows in an iteration")
    growth_every: int = hashbench.option(200, "iterations between which beta stays")
    label_overlap: bool = hashbench.option(
        False, "weigh similar pairs by the share of their labels that are common, |y_i & y_j| / |y_i | y_j|"
    )
    self_pairs: bool = hashbench.option(False, "count each sample's pair with itself")

    maps_over_seeds = True
    #: The authors' PyTorch code, which halves the rate every 2,000 iterations; epochs are unverified.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "resnet50",
        "optimizer": "sgd",
        "learning_rate": 3e-3,
        "backbone_learning_rate_scale": 0.1,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 5e-4,
        "batch_size": 72,
    }

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse a continuation without steps."""
        return None if self.growth_every >= 1 and self.growth >= 0 else "growth_every is at least 1, growth at least 0."

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Note what the continuation depends on."""
        self._bits, self._steps_per_epoch = task.bits, task.steps_per_epoch

    def beta(self, step: int) -> float:
        """Return the factor of the outputs in a step of the whole training, from 0."""
        return float((1 + self.growth * (step // self.growth_every * self.growth_every)) ** 0.5)

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the mean weighted negative log-likelihood of the batch's pairs of labelled samples."""
        assert batch.labels is not None, "HashNet is supervised"
        labels = batch.labels
        hashed = (self.beta(batch.step) * out).tanh()
        s = similar(labels, labels)
        counted = counted_pairs(labels, labels if self.self_pairs else None)
        weight = balanced_pairs(s, counted)
        if self.label_overlap:
            weight = weight * (label_overlap(labels, labels) * s + 1 - s)
        likelihood = pair_likelihood(self.scale / self._bits * hashed @ hashed.T, s)
        return {"pairs": mean_of_pairs(weight * likelihood, counted)}

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the beta of the next epoch's first step."""
        return {"beta": self.beta((epoch + 1) * self._steps_per_epoch)}
