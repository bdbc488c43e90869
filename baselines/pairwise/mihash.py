"""MIHash: Hashing with Mutual Information (Cakir et al., ICCV 2017, arXiv:1703.08919)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

import hashbench
from hashbench.methods import counted_pairs, labelled_mean, similar, soft_bins


@hashbench.method("mihash", paper="arXiv:1703.08919", version=1, fidelity="published", family="pairwise", year=2017)
class MIHash(hashbench.DeepMethod):
    """Hashing with Mutual Information: what a distance to a query says about being its neighbour.

    With h = 2 sigmoid(A v) - 1 and distances (K - h_i h_j') / 2 in a batch, binned softly, the loss is minus the mutual
    information H(D) - H(D | neighbour) in bits, a mean over queries. A = 1 and K / 2 bins are those of the authors'
    later code (arXiv:1803.00974), to which that of the paper refers its readers; the latter has A = 40, for normalised
    features, and 16 bins. The later code's commands have values of their own for each data set (CIFAR-10 at 32 bits: 1
    and 32 bins, or 30 and 12 on more images). A suite takes natural logarithms, leaves the last centre out, and counts
    a query among its non-neighbours. Unverified: A and bins of the paper's text. A query is no neighbour of itself.
    """

    scale: float = hashbench.option(1.0, "A, steepness of the sigmoid; the paper's code: 40")
    bins: int | None = hashbench.option(
        None, "parts of the distances from 0 to K, their ends being centres; unset: K / 2; the paper's code: 16"
    )

    #: The later code's command for CIFAR-10 with 5,000 training images; the network, VGG-F, is not here.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "alexnet",
        "optimizer": "sgd",
        "learning_rate": 1e-3,
        "backbone_learning_rate_scale": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "step",
        "step_epochs": 50,
        "step_factor": 0.5,
        "batch_size": 256,
        "epochs": 100,
    }

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse a histogram without bins, and a flat sigmoid."""
        if self.scale <= 0 or (self.bins is not None and self.bins < 1):
            return "bins must be at least 1 and scale more than 0."
        return None

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return minus the mean mutual information of distance and neighbourhood, over labelled queries."""
        assert batch.labels is not None, "MIHash is supervised"
        labels, bits = batch.labels, out.shape[1]
        hashed = (self.scale / 2 * out).tanh()
        bins = self.bins or max(bits // 2, 1)
        shares = soft_bins((bits - hashed @ hashed.T) / 2, bins + 1, largest=bits)  # (query, other, bin)
        counted, s = counted_pairs(labels).to(out.dtype), similar(labels, labels)
        alike, unlike = ((weight[:, None] @ shares)[:, 0] for weight in (s * counted, (1 - s) * counted))
        near, total = (s * counted).sum(dim=1), counted.sum(dim=1).clamp(min=1)
        far = counted.sum(dim=1) - near
        conditional = near * _entropy(alike, near) + far * _entropy(unlike, far)
        information = _entropy(alike + unlike, total) - conditional / total
        return {"information": -labelled_mean(information, labels)}


def _entropy(counts: Tensor, total: Tensor) -> Tensor:
    """Return the entropy (n,), in bits, of histograms (n, bins) whose entries add up to `total` (n,); 0 of none."""
    share = counts / total.clamp(min=1)[:, None]
    return -(share * torch.where(share > 0, share, 1).log()).sum(dim=1) / math.log(2)
