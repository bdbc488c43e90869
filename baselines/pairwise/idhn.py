"""IDHN: Improved Deep Hashing with Soft Pairwise Similarity for Multi-label Images (Zhang et al., TMM 2020)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

import hashbench
from hashbench.methods import (
    SampleMemory,
    labelled_mean,
    mean_of_labelled_pairs,
    mean_pair_likelihood,
    pair_likelihood,
    similar,
)


@hashbench.method("idhn", paper="arXiv:1803.02987", version=1, fidelity="account", family="pairwise", year=2020)
class IDHN(hashbench.DeepMethod):
    """Improved Deep Hashing Network: the likelihood of pairs that share all labels or none, a squared error of others.

    With u = v / (1 + |v|), p = u_i u_j' against a memory of the training set, and s = y_i y_j' / sqrt(|y_i| |y_j|), a
    pair with s of 0 or 1 costs log(1 + e^t) - s t, t = alpha p; others cost gamma ((p + K) / 2 - s K)^2. The loss is
    the mean over pairs, and lambda times that of ||u| - 1|. That is an account. The authors' code takes alpha = 5 / K,
    gamma K ((p + K) / 2K - s)^2, a K-th of it, and the pairs of a batch; the first two are fields and those of
    `--recipe paper`, the third is not here. A common suite takes alpha p in place of p, and doubles: (alpha p + K - 2 s
    K)^2. Rows of samples that were not seen yet are left out (ours).
    """

    scale: float | None = hashbench.option(
        0.5, "alpha, scale of inner products in the likelihood; unset: 5 / K, the authors' code"
    )
    soft: float = hashbench.option(0.1, "gamma, weight of pairs that share some labels")
    quantization: float = hashbench.option(0.1, "lambda, weight of the quantization term")
    soft_error: Literal["similarity", "suite", "code"] = hashbench.option(
        "similarity",
        "the error of a pair that shares some labels: ((p + K) / 2 - s K)^2, or as a common suite has it, or as the "
        "authors' code has it",
    )

    keeps_samples = SampleMemory.KEPT
    #: The authors' code; it halves the rate every 500 steps on 4,000 images of FLICKR25K.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "alexnet",
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "backbone_learning_rate_scale": 0.01,
        "schedule": "step",
        "step_epochs": 16,
        "step_factor": 0.5,
        "batch_size": 128,
        "epochs": 100,
    }
    paper_fields: ClassVar[dict[str, Any]] = {"scale": None, "soft_error": "code"}

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Begin with an empty memory of the training set."""
        self.memory = SampleMemory(task.num_train, task.bits, task.num_classes)
        self._multi_label = task.multi_label
        self._scale = 5 / task.bits if self.scale is None else self.scale

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the mean loss of pairs, and lambda times the quantization, of labelled samples."""
        assert batch.labels is not None, "IDHN is supervised"
        squashed = out / (1 + out.abs())
        outputs, labels = self.memory.with_batch(squashed, batch)
        product = squashed @ outputs.T
        if self._multi_label:
            soft_pairs = self._soft_pairs(product, batch.labels, labels)
            pairs = mean_of_labelled_pairs(soft_pairs, batch.labels, labels)
        else:  # which share all labels or none
            s = similar(batch.labels, labels, multi_label=False)
            pairs = mean_pair_likelihood(self._scale * product, s, batch.labels, labels)
        return {
            "pairs": pairs,
            "quantization": self.quantization * labelled_mean((squashed.abs() - 1).abs().mean(dim=1), batch.labels),
        }

    def _soft_pairs(self, product: Tensor, labels: Tensor, others: Tensor) -> Tensor:
        """Return the loss of each pair (n, m) from its inner product p."""
        both = labels @ others.T
        counts = labels.sum(dim=1)[:, None], others.sum(dim=1)
        share = both / (counts[0] * counts[1]).clamp(min=1).sqrt()
        is_hard = (both == 0) | ((both == counts[0]) & (both == counts[1]))
        bits = self.memory.outputs.shape[1]
        if self.soft_error == "suite":
            error = (self._scale * product + bits - 2 * share * bits) ** 2
        else:
            error = ((product + bits) / 2 - share * bits) ** 2
            error = error / bits if self.soft_error == "code" else error
        return torch.where(is_hard, pair_likelihood(self._scale * product, share), self.soft * error)

    def after_step(self, network: nn.Module, batch: hashbench.Batch) -> None:
        """Write the batch's outputs into the memory."""
        self.memory.write(batch)
