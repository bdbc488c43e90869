"""GreedyHash without labels: Towards Fast Optimization for Accurate Hash Coding in CNN (Su et al., NeurIPS 2018)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

import hashbench
from hashbench.methods import cosine_gap, cubic_gap, straight_through_signs


@hashbench.method(
    "greedyhash-u", paper="Su et al., NeurIPS 2018", version=1, fidelity="published", family="unsupervised", year=2018
)
class GreedyHashU(hashbench.DeepMethod):
    """GreedyHash without labels: cosines of codes follow those of features, and the gradient passes the sign.

    With b = sign v and features x of the same pass, the loss is the mean of (cos(b_i, b_j) - cos(x_i, x_j))^2 over
    pairs, a sample of the first half of a batch with one of the second, and alpha times the mean of ||v| - 1|^3. All
    that is the authors' code's, which trains one layer on the fixed features of VGG16: the recipe `frozen` is nearest.
    There the features have dropout while it trains, here none. Ours: where the backbone is trained too, the features
    are targets without gradient. An odd last sample has no pair, as in a suite. Unverified: the paper's text.
    """

    quantization: float = hashbench.option(0.1, "alpha, weight of the quantization term; a suite for ImageNet100: 1")

    supervised = False
    #: The authors' code for CIFAR-10 with 50,000 training images; for 16 bits it has 300 epochs.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "vgg16",
        "train_backbone": False,
        "optimizer": "sgd",
        "learning_rate": 1e-4,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "constant",
        "batch_size": 32,
        "epochs": 60,
        "augment": "none",
    }

    def training_step(self, network: nn.Module, batch: hashbench.Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the gap between cosines of codes and features, and alpha times the quantization term."""
        features = network.features(batch.inputs)  # type: ignore[operator]
        out = network.outputs(features)  # type: ignore[operator]
        return {
            "similarity": cosine_gap(features, straight_through_signs(out)),
            "quantization": self.quantization * cubic_gap(out).mean(),
        }, out
