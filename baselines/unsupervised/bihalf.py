"""Bi-half: Deep Unsupervised Image Hashing by Maximizing Bit Entropy (Li & van Gemert, AAAI 2021, arXiv:2012.12334)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import hashbench
from hashbench.methods import cosine_gap


@hashbench.method("bihalf", paper="arXiv:2012.12334", version=1, fidelity="published", family="unsupervised", year=2021)
class BiHalf(hashbench.DeepMethod):
    """Bi-half: in a batch each bit is +1 for the upper half of its outputs; cosines of codes follow those of features.

    The codes b of a batch are the nearest to the outputs v whose bits are evenly split; the gradient in v is that in b
    plus gamma (v - b) / (n K), so the term `quantization`, gamma / 2 times the mean of (v - b)^2, stands for the second
    part, which their code adds without showing it. The loss on b is GreedyHash's, the mean of (cos(b_i, b_j) - cos(x_i,
    x_j))^2 over pairs of the two halves of a batch, x the features. All that is the authors' code's, which trains one
    layer on the fixed features of VGG16: the recipe `frozen` is nearest. There the features have dropout while it
    trains, here none. Codes are the signs of v, in their code too. Ours: where the backbone is trained, the features
    are targets without gradient. An odd last sample has no pair, as in a suite. Unverified: the paper's text.
    """

    gamma: float = hashbench.option(6.0, "weight of v - b in the gradient")

    supervised = False
    #: The authors' code for CIFAR-10, with 50,000 training images and with 5,000.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "vgg16",
        "train_backbone": False,
        "optimizer": "sgd",
        "learning_rate": 1e-4,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "step",
        "step_epochs": 120,
        "step_factor": 0.1,
        "batch_size": 32,
        "epochs": 300,
        "augment": "none",
    }

    def training_step(self, network: nn.Module, batch: hashbench.Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the gap between cosines of codes and features, and the term that draws outputs to their codes."""
        features = network.features(batch.inputs)  # type: ignore[operator]
        out = network.outputs(features)  # type: ignore[operator]
        codes = halves(out)
        return {
            "similarity": cosine_gap(features, codes + (out - out.detach())),
            "quantization": self.gamma / 2 * (out - codes).square().mean(),
        }, out


def halves(out: Tensor) -> Tensor:
    """Return codes (n, bits) of outputs: in each column +1 for the n // 2 largest, else -1; without gradient."""
    ranks = out.detach().argsort(dim=0, descending=True, stable=True).argsort(dim=0)
    return torch.where(ranks < len(out) // 2, 1.0, -1.0).to(out.dtype)
