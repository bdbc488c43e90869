"""GreedyHash: Towards Fast Optimization for Accurate Hash Coding in CNN (Su et al., NeurIPS 2018)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

import hashbench
from hashbench.methods import class_cross_entropy, cubic_gap, labelled_mean, straight_through_signs


@hashbench.method(
    "greedyhash", paper="Su et al., NeurIPS 2018", version=1, fidelity="published", family="pointwise", year=2018
)
class GreedyHash(hashbench.DeepMethod):
    """GreedyHash: a classifier on the codes, whose gradient passes the sign as if it were not there.

    With b = sign v, the loss is the mean cross-entropy of the softmax of W b, and alpha times the mean of ||v| - 1|^3.
    All that, and W without bias, is the paper's and its authors' code's, for one label. With several, the target is y /
    |y|, as in a suite; another takes a sample's first class alone. Unverified: what else differs in the paper's
    training from its code's.
    """

    quantization: float = hashbench.option(0.1, "alpha, weight of the quantization term; ImageNet: 1")

    per_sample = True
    #: The authors' code for CIFAR-10 with 5,000 training images. With 50,000: 40 epochs, a step after 20; for ImageNet:
    #: 100 epochs, a step after 80. It resizes images of CIFAR-10 and augments nothing.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "alexnet",
        "optimizer": "sgd",
        "learning_rate": 1e-3,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "step",
        "step_epochs": 30,
        "step_factor": 0.1,
        "batch_size": 32,
        "epochs": 50,
        "augment": "none",
    }

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Make the classifier on the codes, without bias."""
        self.classifier = nn.Linear(task.bits, task.num_classes, bias=False)

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the classification of the codes, and alpha times the quantization term, of labelled samples."""
        assert batch.labels is not None, "GreedyHash is supervised"
        logits = self.classifier(straight_through_signs(out))
        return {
            "classification": labelled_mean(class_cross_entropy(logits, batch.labels), batch.labels),
            "quantization": self.quantization * labelled_mean(cubic_gap(out).mean(dim=1), batch.labels),
        }
