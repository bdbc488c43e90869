"""DCH: Deep Cauchy Hashing for Hamming Space Retrieval (Cao et al., CVPR 2018)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

import hashbench
from hashbench.methods import balanced_pairs, counted_pairs, label_overlap, labelled_mean, mean_of_pairs, similar

#: The least distance of two samples, in bits: the log of a dissimilar pair needs one.
LEAST = 1e-6


@hashbench.method(
    "dch", paper="doi:10.1109/CVPR.2018.00134", version=1, fidelity="published", family="pairwise", year=2018
)
class DCH(hashbench.DeepMethod):
    """Deep Cauchy Hashing: the Cauchy likelihood of pairs, which falls fast beyond a small Hamming radius.

    With h = tanh v and d = K/2 (1 - cos(h_i, h_j)), the loss is the mean over pairs of w (s log(1 + d/gamma) + (1 - s)
    log(1 + gamma/d)), w as HashNet's, and lambda times that of log(1 + d(|h|, 1)/gamma). Pairs of a sample with itself
    are left out, as in the authors' code, whose released default is the squared Euclidean distance and lambda 0; there,
    dissimilar pairs weigh 1, and the quantization is (|h| - 1)^2. Suites count pairs of a sample with itself, clamp the
    cosine at 0.99, and leave the tanh out: fields.
    """

    gamma: float = hashbench.option(20.0, "scale of the Cauchy distribution, in bits")
    quantization: float = hashbench.option(0.1, "lambda, weight of the quantization term")
    squash: bool = hashbench.option(True, "take the tanh of the outputs")
    largest_cosine: float = hashbench.option(1.0, "at which cosines are clamped; suites: 0.99")
    label_overlap: bool = hashbench.option(
        False, "weigh similar pairs by the share of their labels that are common, |y_i & y_j| / |y_i | y_j|"
    )
    self_pairs: bool = hashbench.option(False, "count each sample's pair with itself")

    maps_over_seeds = True
    #: The authors' code, 2,000 iterations of it; the backbone's rate is a tenth of the head's.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "alexnet",
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "backbone_learning_rate_scale": 0.1,
        "momentum": 0.9,
        "schedule": "constant",
        "batch_size": 128,
    }

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse a Cauchy distribution without width."""
        return None if self.gamma > 0 else "gamma must be more than 0."

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the mean weighted Cauchy loss of pairs, and lambda times the quantization, of labelled samples."""
        assert batch.labels is not None, "DCH is supervised"
        labels = batch.labels
        hashed = out.tanh() if self.squash else out
        unit = F.normalize(hashed, dim=1)
        distance = self._distance(unit @ unit.T, out.shape[1])
        s = similar(labels, labels)
        counted = counted_pairs(labels, labels if self.self_pairs else None)
        weight = balanced_pairs(s, counted)
        if self.label_overlap:
            weight = weight * (label_overlap(labels, labels) * s + 1 - s)
        cauchy = s * (distance / self.gamma).log1p() + (1 - s) * (self.gamma / distance).log1p()
        to_corner = self._distance(unit.abs().sum(dim=1) / out.shape[1] ** 0.5, out.shape[1])
        return {
            "pairs": mean_of_pairs(weight * cauchy, counted),
            "quantization": self.quantization * labelled_mean((to_corner / self.gamma).log1p(), labels),
        }

    def _distance(self, cosine: Tensor, bits: int) -> Tensor:
        """Return the distance in bits, K/2 (1 - cos), of vectors with these cosines."""
        return (bits / 2 * (1 - cosine.clamp(max=self.largest_cosine))).clamp(min=LEAST)
