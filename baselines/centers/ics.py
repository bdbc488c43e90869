"""ICS: Instance-weighted Central Similarity for multi-label images (Zhang et al., arXiv:2108.05274)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

import hashbench
from hashbench.methods import (
    bit_cross_entropy,
    central_words,
    labelled_mean,
    lack_of_central_words,
    spread,
    squared_gap,
)


@hashbench.method("ics", paper="arXiv:2108.05274", version=1, fidelity="sibling", family="centers", year=2021)
class ICS(hashbench.DeepMethod):
    """Instance-weighted Central Similarity: CSQ for several labels, whose centers each sample weighs for itself.

    Sample i has a weight w for each of its classes, on the simplex, from y / |y| on, and the target sum_j w_j c_j,
    which is not made binary. In each batch, w takes a gradient step on the sample's loss and is projected on the
    simplex; a weight that reaches 0 stays there. The loss is the cross-entropy of the bits to the target, plus entropy
    times sum w log w, plus lambda times the mean of (|tanh v| - 1)^2, all means over samples. On single labels it is
    CSQ. Taken from other code that contains these steps; ours: the gradient is that of each sample's own loss, so that
    no batch size matters, and the head is one layer. `weights = "closed-form"` has w = softmax(-loss_j / mu) instead.
    """

    quantization: float = hashbench.option(0.05, "lambda, weight of the quantization term")
    weights: Literal["steps", "closed-form", "uniform"] = hashbench.option(
        "steps", "of a sample's centers: gradient steps, softmax of minus their losses over mu, or y / |y| for ever"
    )
    weight_rate: float = hashbench.option(0.1, "length of a gradient step of the weights")
    entropy: float = hashbench.option(1e-3, "weight of sum w log w, which draws weights together")
    temperature: float = hashbench.option(1.0, "mu of the closed form")
    center_draws: int = hashbench.option(20, "balanced codebooks drawn, of which the widest is kept")

    keeps_samples = ("kept",)
    #: CSQ's, of its official ResNet-50 code.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "resnet50",
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "backbone_learning_rate_scale": {"single-label": 0.01, "multi-label": 0.05},
        "schedule": "step",
        "step_epochs": 10,
        "step_factor": 0.7,
        "batch_size": 64,
        "epochs": 90,
    }

    centers: Tensor  # (C, K) in {-1, +1}
    kept: Tensor  # (N, C): each training sample's weights, zeros before its first step

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse more classes than there are balanced words, and settings without a meaning."""
        if self.center_draws < 1 or self.temperature <= 0 or min(self.weight_rate, self.entropy) < 0:
            return "center_draws must be at least 1, temperature more than 0, weight_rate and entropy not negative."
        return lack_of_central_words(task.num_classes, task.bits)

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Draw the centers, and begin without weights."""
        words = central_words(task.num_classes, task.bits, task.generator("centers"), draws=self.center_draws)
        self.register_buffer("centers", words)
        self.register_buffer("kept", torch.zeros(task.num_train, task.num_classes))

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the bits' cross-entropy to the weighted centers, entropy and quantization, over labelled samples."""
        assert batch.labels is not None, "ICS is supervised"
        labels = batch.labels
        weights = self.weights_of(out.detach(), batch)
        self._latest = weights
        targets = weights @ self.centers.to(out.dtype)
        return {
            "center": labelled_mean(bit_cross_entropy(out, targets), labels),
            "entropy": self.entropy * labelled_mean(torch.xlogy(weights, weights).sum(dim=1), labels),
            "quantization": self.quantization * labelled_mean(squared_gap(out.tanh()).mean(dim=1), labels),
        }

    def weights_of(self, out: Tensor, batch: hashbench.Batch) -> Tensor:
        """Return the weights (n, C) of the batch's samples after their step, zero for classes that are not theirs."""
        assert batch.labels is not None
        labels, centers = batch.labels, self.centers.to(out.dtype)
        uniform = labels / labels.sum(dim=1, keepdim=True).clamp(min=1)
        if self.weights == "uniform":
            return uniform
        agreement = out @ centers.T / out.shape[1]  # the loss of a center is, but for a constant, minus this
        if self.weights == "closed-form":
            logits = (agreement / self.temperature).masked_fill(labels == 0, -torch.inf)
            return torch.where(labels.any(dim=1, keepdim=True), logits.softmax(dim=1), 0)
        before = self.kept[batch.index].to(out.dtype)
        before = torch.where(before.any(dim=1, keepdim=True), before, uniform)
        own = before > 0
        gradient = self.entropy * (before.clamp(min=torch.finfo(out.dtype).tiny).log() + 1) - agreement
        return on_simplex(before - self.weight_rate * gradient, own)

    def after_step(self, network: nn.Module, batch: hashbench.Batch) -> None:
        """Keep the batch's weights."""
        self.kept[batch.index] = self._latest.to(self.kept.dtype)

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return how far apart the centers are, and the mean distance of weights from uniform ones."""
        smallest, mean = spread(self.centers)
        own = self.kept > 0
        uniform = own / own.sum(dim=1, keepdim=True).clamp(min=1)
        moved = float((self.kept - uniform).abs().sum(dim=1).mean())
        return {"center_distance_min": smallest, "center_distance_mean": mean, "weights_from_uniform": moved}


def on_simplex(values: Tensor, own: Tensor) -> Tensor:
    """Return the nearest points (n, C) to `values` on the simplex of each row's `own` entries; the others are 0.

    The largest r entries less a common number, where r is as large as keeps them positive (Duchi et al., ICML 2008).
    """
    ordered = values.masked_fill(~own, -torch.inf).sort(dim=1, descending=True).values
    finite = ordered.isfinite()
    ranks = torch.arange(1, values.shape[1] + 1, dtype=values.dtype, device=values.device)
    excess = (torch.where(finite, ordered, 0).cumsum(dim=1) - 1) / ranks
    count = ((ordered > excess) & finite).sum(dim=1, keepdim=True)
    common = excess.gather(1, (count - 1).clamp(min=0))
    return torch.where(own, (values - common).clamp(min=0), 0)
