"""DCWH: Deep Class-Wise Hashing (Zhe, Chen and Yan, arXiv:1803.04137)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

import hashbench
from hashbench.methods import class_cross_entropy, labelled_mean, squared_gap


@hashbench.method("dcwh", paper="arXiv:1803.04137", version=1, fidelity="published", family="proxy", year=2018)
class DCWH(hashbench.DeepMethod):
    """Deep Class-Wise Hashing: outputs near the mean output of their class, measured against the other classes' means.

    With class means mu_c, the loss is the mean cross-entropy of the softmax of -|v - mu_c|^2 / (2 sigma^2), plus alpha
    / K times the mean of sum_k max(|v_k| - 1.1, 0), plus beta / K times that of |b - v|^2. The means, N(0, 1) at first,
    are those of a pass over the training set after each epoch. Public code of the same group moves them after every
    second epoch and has beta 0.01; it leaves the K out, divides by the batch size once more where v_k > 1.1 and in |b -
    v|^2, and adds 1e-6 to a sample's sum of exponentials and to its probability. With several classes the target is y /
    |y| (ours). Unverified: the paper's stages, in which the last two terms may follow each other.
    """

    inverse_variance: float = hashbench.option(0.5, "1 / sigma^2 of the classes; the paper has 0.5 to 1")
    cube: float = hashbench.option(10.0, "alpha, weight of staying inside the cube")
    bound: float = hashbench.option(1.1, "half an edge of the cube")
    quantization: float = hashbench.option(0.1, "beta, weight of the distance to the code")
    every: int = hashbench.option(1, "epochs between updates of the class means; public code: 2")
    output_source: Literal["fresh", "training"] = hashbench.option(
        "fresh", "outputs of the means: those of a pass of their own, not augmented, or of the epoch's training steps"
    )

    per_sample = True
    #: The rate and its steps are published; momentum and weight decay are the public code's.
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

    centers: Tensor  # (C, K): the class means

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse classes without a width, and no epoch between updates."""
        if self.inverse_variance <= 0 or self.every < 1:
            return "inverse_variance must be more than 0, every at least 1."
        return None

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Draw the first class means."""
        generator = task.generator("centers")
        self.register_buffer("centers", torch.randn((task.num_classes, task.bits), generator=generator))

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the class-wise loss, and the weighted distances to cube and code, of labelled samples."""
        assert batch.labels is not None, "DCWH is supervised"
        labels, centers = batch.labels, self.centers.to(out.dtype)
        # -|v - mu|^2 / 2 without |v|^2, which is the same for all classes.
        logits = self.inverse_variance * (out @ centers.T - centers.square().sum(dim=1) / 2)
        outside = F.relu(out.abs() - self.bound)
        return {
            "classes": labelled_mean(class_cross_entropy(logits, labels), labels),
            "cube": self.cube * labelled_mean(outside.mean(dim=1), labels),
            "quantization": self.quantization * labelled_mean(squared_gap(out).mean(dim=1), labels),
        }

    def wants_fresh_pass(self, epoch: int) -> bool:
        """Ask for a pass of its own where the means are about to be updated."""
        return self.output_source == "fresh" and self._due(epoch)

    def epoch_sums(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the classes' sums of outputs (C, K), and their counts of samples (C,)."""
        assert batch.labels is not None, "DCWH is supervised"
        labels = batch.labels.double()
        return {"outputs": labels.T @ out.double(), "samples": labels.sum(dim=0)}

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Move the class means where it is time; returns by how much, the root of the mean square."""
        if not self._due(epoch):
            return {"centers_moved": 0.0}
        counts = sums["samples"][:, None]
        means = torch.where(counts > 0, sums["outputs"] / counts.clamp(min=1), self.centers).to(self.centers)
        moved = float((means - self.centers).square().mean().sqrt())
        self.centers.copy_(means)
        return {"centers_moved": moved}

    def _due(self, epoch: int) -> bool:
        return (epoch + 1) % self.every == 0
