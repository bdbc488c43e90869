"""TALR: Hashing as Tie-Aware Learning to Rank (He et al., CVPR 2018, arXiv:1705.08562)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

import hashbench
from hashbench.methods import counted_pairs, labelled_mean, similar, soft_bins


@hashbench.method("talr", paper="arXiv:1705.08562", version=1, fidelity="published", family="ranking", year=2018)
class TALR(hashbench.DeepMethod):
    """Tie-Aware Learning to Rank: the average precision of each query of a batch, with its ties, on soft histograms.

    With h = 2 sigmoid(gamma v) - 1, distances (K - h_i h_j') / 2 are binned softly; with c of all and c+ of similar
    samples in a bin, and C, C+ those up to it, a query's precision is the mean over its similar samples of c+ (C+ +
    C+_before + 1) / (C + C_before + 1). That is the simplified form of the paper's appendix, which is the authors'
    code's; the main text's, with logarithms, and the one of nDCG are not here. Their demonstrations take K bins below
    32 bits and K / 2 from there on for CIFAR-10, 16 and gamma = 10 for ImageNet. A query is not ranked for itself; one
    without similar samples has precision 0.
    """

    scale: float = hashbench.option(1.0, "gamma, steepness of the sigmoid")
    bins: int | None = hashbench.option(None, "parts of the distances from 0 to K, their ends being centres; unset: K")

    #: The authors' code for CIFAR-10; the network, VGG-F, is not here.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "alexnet",
        "optimizer": "sgd",
        "learning_rate": 1e-2,
        "backbone_learning_rate_scale": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "constant",
        "batch_size": 250,
        "epochs": 50,
    }

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse a histogram without bins, and a flat sigmoid."""
        if self.scale <= 0 or (self.bins is not None and self.bins < 1):
            return "bins must be at least 1 and scale more than 0."
        return None

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return minus the mean relaxed average precision of labelled queries."""
        assert batch.labels is not None, "TALR is supervised"
        labels, bits = batch.labels, out.shape[1]
        hashed = (self.scale / 2 * out).tanh()
        shares = soft_bins((bits - hashed @ hashed.T) / 2, (self.bins or bits) + 1, largest=bits)
        counted = counted_pairs(labels).to(out.dtype)
        near = similar(labels, labels) * counted
        alike, ranked = ((weight[:, None] @ shares)[:, 0] for weight in (near, counted))  # (query, bin)
        precision = (2 * alike.cumsum(dim=1) - alike + 1) / (2 * ranked.cumsum(dim=1) - ranked + 1)
        average = (alike * precision).sum(dim=1) / near.sum(dim=1).clamp(min=1)
        return {"precision": -labelled_mean(average, labels)}
