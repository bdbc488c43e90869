"""MLH: Mutual Learning of Hashing by a center branch and a pairwise branch (arXiv:2510.07703)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import (
    counted_pairs,
    gilbert_varshamov_distance,
    labelled_mean,
    mean_of_pairs,
    pair_likelihood,
    similar,
    softmax_binary_entropy,
    spaced_words,
    spread,
)


@hashbench.method("mlh", paper="arXiv:2510.07703", version=1, fidelity="reconstructed", family="centers", year=2025)
class MLH(hashbench.DeepMethod):
    """Mutual Learning for Hashing: codes near hash centers, taught by codes that follow pairs, and the other way round.

    Both branches mix the outputs of shared linear experts, each by weights of its own, a softmax of a linear layer.
    With u = tanh v of the center branch and w of the pairwise one, the loss is 4 times MDS's softmax on cosines of u to
    centers at the Gilbert-Varshamov distance, plus the mean pair likelihood of w with t = w_i w_j' / 2, plus the mean
    of 1 - cos(u, w). The codes are the center branch's. Reconstructed from digests; ours: four experts, their soft
    weights, the gradient of the last term in both branches, pairs of a batch without those of a sample with itself.
    """

    center: float = hashbench.option(4.0, "weight of the center branch's loss; 0: without")
    pairs: float = hashbench.option(1.0, "weight of the pairwise branch's loss; 0: without")
    mutual: float = hashbench.option(1.0, "weight of the distance between both branches; 0: without")
    taught: Literal["both", "center", "pairs"] = hashbench.option(
        "both", "the branch that the mutual term's gradient goes to"
    )
    experts: int = hashbench.option(4, "linear layers that both branches mix")

    centers: Tensor  # (C, K) in {-1, +1}

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse one class, more classes than words, and a head without experts."""
        if task.num_classes < 2:
            return "a softmax over hash centers needs 2 classes or more."
        if self.experts < 1:
            return "experts must be at least 1."
        if task.bits < 63 and 2**task.bits < task.num_classes:
            return f"{task.bits} bits give {2**task.bits} words, too few for {task.num_classes} classes; use more bits."
        return None

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Draw the centers."""
        distance = gilbert_varshamov_distance(task.num_classes, task.bits)
        words = spaced_words(task.num_classes, task.bits, distance, task.generator("centers"))
        self.register_buffer("centers", words)

    def head(self, width: int, task: hashbench.Task) -> nn.Module:
        """Return the layers to the outputs (n, 2 bits) of both branches, the center branch first."""
        return SharedExperts(width, task.bits, self.experts)

    def codes(self, out: Tensor) -> Tensor:
        """Return the codes, bool (n, bits), of the center branch."""
        return out.chunk(2, dim=1)[0] >= 0

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the weighted losses of both branches, and of the distance between them, over labelled samples."""
        assert batch.labels is not None, "MLH is supervised"
        labels = batch.labels
        central, paired = out.tanh().chunk(2, dim=1)
        cosines = F.normalize(central, dim=1) @ F.normalize(self.centers.to(out.dtype), dim=1).T
        likelihood = pair_likelihood(paired @ paired.T / 2, similar(labels, labels))
        one = central.detach() if self.taught == "pairs" else central
        other = paired.detach() if self.taught == "center" else paired
        entropy = softmax_binary_entropy(central.shape[1] ** 0.5 * cosines, labels)
        return {
            "center": self.center * labelled_mean(entropy, labels),
            "pairs": self.pairs * mean_of_pairs(likelihood, counted_pairs(labels)),
            "mutual": self.mutual * labelled_mean(1 - F.cosine_similarity(one, other, dim=1), labels),
        }

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return how far apart the centers are, the same after every epoch."""
        smallest, mean = spread(self.centers)
        return {"center_distance_min": smallest, "center_distance_mean": mean}


class SharedExperts(nn.Module):
    """Two branches (n, bits) each, side by side, of linear experts that both mix by weights of their own."""

    def __init__(self, width: int, bits: int, experts: int):
        """Make the experts, and a linear layer for the weights of each branch."""
        super().__init__()
        self.bits = bits
        self.experts = nn.Linear(width, experts * bits)
        self.gates = nn.ModuleList([nn.Linear(width, experts) for _ in range(2)])

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs (n, 2 bits) of `features` (n, width)."""
        found = self.experts(features).unflatten(1, (-1, self.bits))  # (n, experts, bits)
        branches = [(gate(features).softmax(dim=1)[:, None] @ found)[:, 0] for gate in self.gates]
        return torch.cat(branches, dim=1)
