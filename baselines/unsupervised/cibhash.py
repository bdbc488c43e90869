"""CIBHash: Unsupervised Hashing with Contrastive Information Bottleneck (Qiu et al., IJCAI 2021)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import nt_xent, signs


@hashbench.method(
    "cibhash", paper="Qiu et al., IJCAI 2021", version=1, fidelity="published", family="unsupervised", year=2021
)
class CIBHash(hashbench.DeepMethod):
    """Contrastive Information Bottleneck: an image's two views find each other by their codes, which tell little else.

    With p = sigmoid v and codes b = sign(p - 1/2), whose gradient is passed on to p, the loss is NT-Xent of both views'
    codes, and beta times the mean over both directions of KL(Bern(p) || Bern(p')), summed over the bits, p' without
    gradient. All that, and the head with one hidden layer, is the authors' code's, which keeps VGG16 fixed and augments
    all the same: so does `--recipe paper`, by a rate of 0, and `fixed_views`, a few of each image without the network's
    dropout, which is there; other recipes train the backbone. An account of the paper draws the bits, b = sign(p - u),
    u uniform: a field. Their views crop to half of the area at least, jitter 7 of 10 images, gray and blur; here they
    crop to less and jitter all; nothing is gray or blurred. Their training stops by the best validation measure, here
    after all epochs. Unverified: the paper's text.
    """

    temperature: float = hashbench.option(0.3, "tau, by which the cosines of codes are divided")
    divergence: float = hashbench.option(0.001, "beta, weight of the divergence between the views' bits")
    bits_from: Literal["threshold", "draws"] = hashbench.option(
        "threshold", "bits while training: sign(p - 1/2), or drawn with probability p"
    )
    hidden: int = hashbench.option(1024, "width of the head's hidden layer; 0: none")

    supervised = False
    views = 2
    view_augments = ("resized-crop-flip-jitter", "resized-crop-flip-jitter")
    #: The authors' code for CIFAR-10 with 5,000 training images; for 16 bits it has 80 epochs.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "vgg16",
        "backbone_learning_rate_scale": 0.0,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "schedule": "constant",
        "batch_size": 64,
        "epochs": 60,
    }

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse settings without a meaning."""
        if self.temperature <= 0 or self.hidden < 0:
            return "temperature must be more than 0, hidden at least 0."
        return None

    def head(self, width: int, task: hashbench.Task) -> nn.Module:
        """Return the authors' head: one hidden layer with ReLU, and a linear one."""
        if not self.hidden:
            return nn.Linear(width, task.bits)
        return nn.Sequential(nn.Linear(width, self.hidden), nn.ReLU(), nn.Linear(self.hidden, task.bits))

    def training_step(self, network: nn.Module, batch: hashbench.Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Return NT-Xent of the views' codes, and beta times the divergence between their bits."""
        first, second = (network(view) for view in batch.views)
        divergence = (divergences(first, second.detach()) + divergences(second, first.detach())) / 2
        return {
            "contrast": nt_xent(self.bits(first), self.bits(second), self.temperature),
            "divergence": self.divergence * divergence.mean(),
        }, first

    def bits(self, out: Tensor) -> Tensor:
        """Return bits (n, K) in {-1, 1}, whose gradient is passed on to p = sigmoid v unchanged."""
        p = out.sigmoid()
        level = 0.5 if self.bits_from == "threshold" else torch.rand_like(p)
        return signs(p - level) + (p - p.detach())


def divergences(out: Tensor, others: Tensor) -> Tensor:
    """Return KL(Bern(sigmoid v) || Bern(sigmoid w)) (n,), summed over the bits, of outputs v and w (n, K)."""

    def log_ratio(sign: int) -> Tensor:  # of the bits' probabilities; softplus(-v) = -log sigmoid v
        return F.softplus(-sign * others, threshold=40) - F.softplus(-sign * out, threshold=40)

    return (out.sigmoid() * log_ratio(1) + (-out).sigmoid() * log_ratio(-1)).sum(dim=1)
