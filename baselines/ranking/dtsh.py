"""DTSH: Deep Supervised Hashing with Triplet Labels (Wang et al., ACCV 2016, arXiv:1612.03900)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

import hashbench
from hashbench.methods import counted_pairs, labelled_mean, similar, squared_gap


@hashbench.method("dtsh", paper="arXiv:1612.03900", version=1, fidelity="published", family="ranking", year=2016)
class DTSH(hashbench.DeepMethod):
    """Deep Triplet-Supervised Hashing: the likelihood that a similar sample is nearer than a dissimilar one.

    With t = scale u_i u_j' and D = t_qp - t_qn - alpha, the loss is the mean of log(1 + e^D) - D over all triplets of a
    query's in the batch, then over queries, and eta times the mean of (b - u)^2. Scale 1/2, alpha = K/2 and eta = 100
    are the authors'; suites take scale 1, alpha 5 and eta 1. A query is no similar sample of itself; in suites it is (a
    field). Unverified: that the official eta stands before a mean over samples and bits.
    """

    scale: float = hashbench.option(0.5, "of inner products")
    margin: float | None = hashbench.option(None, "alpha, by which a similar sample is to be nearer; unset: K/2")
    quantization: float = hashbench.option(100.0, "eta, weight of the quantization term")
    self_pairs: bool = hashbench.option(False, "count each sample as similar to itself")

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the mean negative log-likelihood of triplets, and eta times the quantization, of labelled samples."""
        assert batch.labels is not None, "DTSH is supervised"
        labels, margin = batch.labels, out.shape[1] / 2 if self.margin is None else self.margin
        product = self.scale * out @ out.T
        counted = counted_pairs(labels, labels if self.self_pairs else None)
        s = similar(labels, labels)
        nearer, farther = s * counted, (1 - s) * counted
        cost = F.softplus(margin - product[:, :, None] + product[:, None, :], threshold=40)  # (query, near, far)
        triplets = nearer.sum(dim=1) * farther.sum(dim=1)
        by_query = (nearer[:, None, :] @ cost @ farther[:, :, None])[:, 0, 0] / triplets.clamp(min=1)
        asked = triplets > 0
        return {
            "triplets": by_query.sum() / asked.sum().clamp(min=1),
            "quantization": self.quantization * labelled_mean(squared_gap(out).mean(dim=1), labels),
        }
