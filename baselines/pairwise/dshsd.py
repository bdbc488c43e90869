"""DSHSD: Deep Supervised Hashing Based on Stable Distribution (Wu et al., IEEE Access 2019)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import counted_pairs, labelled_mean, mean_of_pairs, similar


@hashbench.method(
    "dshsd", paper="doi:10.1109/ACCESS.2019.2900489", version=1, fidelity="account", family="pairwise", year=2019
)
class DSHSD(hashbench.DeepMethod):
    """Deep Supervised Hashing on a Stable Distribution: a classifier on tanh outputs, and a contrastive term of pairs.

    With h = tanh v and d = |h_i - h_j|^2, the loss is the classification loss of W h, and alpha times the mean over
    pairs of s d / 2 + (1 - s) max(2 K - d, 0) / 2, pairs of a sample with itself included. The classification loss is
    the cross-entropy for one label, the sum of the classes' binary cross-entropies for several. That is an account:
    what a common suite computes. Unverified: the paper's own equations.
    """

    pairs: float = hashbench.option(0.05, "alpha, weight of the contrastive term")
    margin: float = hashbench.option(2.0, "m / K: the squared distance of dissimilar samples, by bit")

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Make the classifier, without bias."""
        self.classifier = nn.Linear(task.bits, task.num_classes, bias=False)
        self._multi_label = task.multi_label

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the classification loss, and alpha times the contrastive term, of labelled samples."""
        assert batch.labels is not None, "DSHSD is supervised"
        labels, hashed = batch.labels, out.tanh()
        logits = self.classifier(hashed)
        if self._multi_label:
            cost = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(dim=1)
        else:
            cost = -(labels * logits.log_softmax(dim=1)).sum(dim=1)
        squares = (hashed**2).sum(dim=1)
        distance = (squares[:, None] + squares - 2 * hashed @ hashed.T).clamp(min=0)
        s = similar(labels, labels)
        pairs = s * distance + (1 - s) * F.relu(self.margin * out.shape[1] - distance)
        return {
            "classification": labelled_mean(cost, labels),
            "pairs": self.pairs / 2 * mean_of_pairs(pairs, counted_pairs(labels, labels)),
        }
