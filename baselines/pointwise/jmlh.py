"""JMLH: Embarrassingly Simple Binary Representation Learning (Shen et al., ICCV workshops 2019, arXiv:1908.09573)."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import class_cross_entropy, labelled_mean, straight_through_draws


@hashbench.method("jmlh", paper="arXiv:1908.09573", version=1, fidelity="published", family="pointwise", year=2019)
class JMLH(hashbench.DeepMethod):
    """JMLH: a classifier on bits that are drawn in training, kept close to fair coins.

    With p = sigmoid v and bits b in {0, 1}, each 1 with its probability, the loss is the mean cross-entropy of the
    softmax of W b + c, and lambda times the mean over samples of KL(Bern(p) || Bern(1/2)), summed over the bits; the
    gradient of b passes on to p. The authors' released code, for one label, has b = [p > 1/2] in training too, and
    lambda 0.2: fields. With several labels the target is y / |y|, as in a suite. Unverified: the paper's own form of
    that, and its training.
    """

    divergence: float = hashbench.option(0.1, "lambda, weight of the divergence from fair coins; released code: 0.2")
    bits_from: Literal["draws", "threshold"] = hashbench.option(
        "draws", "bits in training: drawn by their probability, or 1 where it is more than a half"
    )

    #: The authors' code, which trains on fixed features of 4,096 numbers for 100,000 steps; whose, and epochs, are
    #: unverified.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "alexnet",
        "train_backbone": False,
        "augment": "none",
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "schedule": "constant",
        "batch_size": 400,
    }

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Make the classifier on the bits."""
        self.classifier = nn.Linear(task.bits, task.num_classes)

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the classification of the bits, and lambda times the divergence, of labelled samples."""
        assert batch.labels is not None, "JMLH is supervised"
        p = out.sigmoid()
        if self.bits_from == "draws":
            bits = straight_through_draws(p)
        else:
            bits = (out.detach() > 0).to(p.dtype) + (p - p.detach())
        divergence = math.log(2) - p * F.softplus(-out, threshold=40) - (1 - p) * F.softplus(out, threshold=40)
        return {
            "classification": labelled_mean(class_cross_entropy(self.classifier(bits), batch.labels), batch.labels),
            "divergence": self.divergence * labelled_mean(divergence.sum(dim=1), batch.labels),
        }
