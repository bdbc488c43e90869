"""DTSH: Deep Supervised Hashing with Triplet Labels (Wang et al., ACCV 2016, arXiv:1612.03900)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

import hashbench
from hashbench.methods import counted_pairs, labelled_mean, similar, softplus, squared_gap


@hashbench.method("dtsh", paper="arXiv:1612.03900", version=2, fidelity="published", family="ranking", year=2016)
class DTSH(hashbench.DeepMethod):
    """Deep Triplet-Supervised Hashing: the likelihood that a similar sample is nearer than a dissimilar one.

    With t = scale u_i u_j' and D = t_qp - t_qn - alpha, the loss is the mean of log(1 + e^D) - D over all triplets of
    a batch, and eta times the sum of (b - u)^2, divided by the number of triplets: the published sums. Scale 1/2, alpha
    = K/2 and eta = 100 are the authors'. Suites take scale 1, alpha 5, and eta 1 before the mean over samples and bits
    (`scaling = "means"`), beside the mean over queries of the mean over a query's triplets. A query is no similar
    sample of itself; in suites it is (a field). The authors' code takes no triplets of a batch: a query has 50 x 50 for
    each other class, from stored outputs of the training set without gradient, so that eta weighs less beside their
    sum than here (0.004 of a sample on CIFAR-10, here 0.3 at batch 64).
    """

    scale: float = hashbench.option(0.5, "of inner products")
    margin: float | None = hashbench.option(None, "alpha, by which a similar sample is to be nearer; unset: K/2")
    quantization: float = hashbench.option(100.0, "eta, weight of the quantization term; with means, suites take 1")
    scaling: Literal["sums", "means"] = hashbench.option(
        "sums", "whether eta stands between sums over triplets and samples, as in the paper, or between means"
    )
    self_pairs: bool = hashbench.option(False, "count each sample as similar to itself")

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the mean negative log-likelihood of triplets, and the weighted quantization, of labelled samples."""
        assert batch.labels is not None, "DTSH is supervised"
        labels, margin = batch.labels, out.shape[1] / 2 if self.margin is None else self.margin
        product = self.scale * out @ out.T
        counted = counted_pairs(labels, labels if self.self_pairs else None)
        s = similar(labels, labels)
        nearer, farther = s * counted, (1 - s) * counted
        cost = softplus(margin - product[:, :, None] + product[:, None, :])  # (query, near, far)
        by_query = (nearer[:, None, :] @ cost @ farther[:, :, None])[:, 0, 0]
        triplets = nearer.sum(dim=1) * farther.sum(dim=1)
        if self.scaling == "means":
            asked = (triplets > 0).sum().clamp(min=1)
            gap = labelled_mean(squared_gap(out).mean(dim=1), labels)
            return {
                "triplets": (by_query / triplets.clamp(min=1)).sum() / asked,
                "quantization": self.quantization * gap,
            }
        count = triplets.sum()
        gap = (squared_gap(out).sum(dim=1) * labels.any(dim=1)).sum() / count.clamp(min=1)
        return {
            "triplets": by_query.sum() / count.clamp(min=1),
            "quantization": self.quantization * torch.where(count > 0, gap, 0),  # nothing of a batch without triplets
        }
