"""IDCWH: Improved Deep Class-Wise Hashing with centers similarity learning (Zhang and Yan, arXiv:2103.09442)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import class_cross_entropy, labelled_mean, squared_gap


@hashbench.method("idcwh", paper="arXiv:2103.09442", version=1, fidelity="sibling", family="proxy", year=2021)
class IDCWH(hashbench.DeepMethod):
    """Improved Deep Class-Wise Hashing: learned class centers, which the loss keeps apart, in place of class means.

    DCWH's loss, the mean cross-entropy of the softmax of -|v - mu_c|^2 / (2 sigma^2) and its distances to cube and
    code, with trained centers mu, plus gamma times the mean over pairs of centers of log(1 + exp(K/2 cos(mu_c, mu_d))).
    Taken from other code of the group, which also has a term pull / 2 |v - mu_y|^2 and a margin, by which a sample's
    own distance is larger: fields, here off. Ours: with several classes the target is y / |y|, and the pull is the mean
    over them. Unverified: which of the settings are the paper's, whose two steps are not told apart here.
    """

    inverse_variance: float = hashbench.option(0.25, "1 / sigma^2 of the classes")
    similarity: float = hashbench.option(0.1, "gamma, weight of the centers' similarity")
    pull: float = hashbench.option(0.0, "weight of half the squared distance to a sample's own center")
    margin: float = hashbench.option(0.0, "by which share a sample's own distance is larger; other code: 0.2")
    cube: float = hashbench.option(10.0, "alpha, weight of staying inside the cube")
    bound: float = hashbench.option(1.1, "half an edge of the cube")
    quantization: float = hashbench.option(0.1, "beta, weight of the distance to the code")

    #: DCWH's.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "torchvision:googlenet",
        "optimizer": "sgd",
        "learning_rate": 1e-3,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "step",
        "step_epochs": 50,
        "step_factor": 0.1,
        "batch_size": 128,
        "epochs": 150,
    }

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse classes without a width, and a margin that turns distances around."""
        if self.inverse_variance <= 0 or self.margin < 0:
            return "inverse_variance must be more than 0, and margin at least 0."
        return None

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Draw the first centers from N(0, 1)."""
        drawn = torch.randn((task.num_classes, task.bits), generator=task.generator("centers"))
        self.centers = nn.Parameter(drawn)

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the class-wise loss and the weighted terms, over labelled samples, and that of the centers."""
        assert batch.labels is not None, "IDCWH is supervised"
        labels, centers = batch.labels, self.centers
        own = labels / labels.sum(dim=1, keepdim=True).clamp(min=1)
        squares = out.square().sum(dim=1, keepdim=True) - 2 * out @ centers.T + centers.square().sum(dim=1)
        logits = -self.inverse_variance / 2 * squares * (1 + self.margin * labels)
        outside = F.relu(out.abs() - self.bound)
        return {
            "classes": labelled_mean(class_cross_entropy(logits, labels), labels),
            "pull": self.pull / 2 * labelled_mean((own * squares).sum(dim=1), labels),
            "similarity": self.similarity * torch.where(labels.any(), center_similarity(centers), 0),
            "cube": self.cube * labelled_mean(outside.mean(dim=1), labels),
            "quantization": self.quantization * labelled_mean(squared_gap(out).mean(dim=1), labels),
        }


def center_similarity(centers: Tensor) -> Tensor:
    """Return the mean of log(1 + exp(K/2 cos)) over pairs of different `centers` (C, K), a scalar; 0 of one."""
    unit = F.normalize(centers, dim=1)
    cost = F.softplus(centers.shape[1] / 2 * unit @ unit.T, threshold=40)
    apart = ~torch.eye(len(centers), dtype=torch.bool, device=centers.device)
    return torch.where(apart, cost, 0).sum() / apart.sum().clamp(min=1)
