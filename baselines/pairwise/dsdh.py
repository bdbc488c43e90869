"""DSDH: Deep Supervised Discrete Hashing (Li et al., NeurIPS 2017, arXiv:1705.10999)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

import hashbench
from hashbench.methods import (
    SampleMemory,
    coordinate_descent,
    labelled_mean,
    mean_pair_likelihood,
    ridge,
    signs,
    similar,
)


@hashbench.method("dsdh", paper="arXiv:1705.10999", version=1, fidelity="published", family="pairwise", year=2017)
class DSDH(hashbench.DeepMethod):
    """Deep Supervised Discrete Hashing: DPSH's likelihood of pairs, towards codes that classify the training set.

    With t = u_i u_j' / 2, the loss is the mean of log(1 + e^t) - s t over a batch's pairs with the training set's last
    outputs, and eta K / N times the mean of (b - u)^2. After each epoch W minimises mu |Y - B W|^2 + nu |W|^2, then the
    codes B minimise mu |Y - B W|^2 + eta |B - U|^2 bit by bit (DCC). The authors' code finds W and B in each batch, for
    its samples alone, with nu = 0.1: fields. It doubles the likelihood's gradient, as a pair counts for both samples;
    here the memory has none, as in DPSH. Before its first DCC a sample's code is the sign of its output (ours; a suite
    draws it), and samples that were not seen yet count for nothing. Unverified: nu and the sweeps of the paper.
    """

    classification: float = hashbench.option(1.0, "mu, weight of the classification by codes")
    decay: float = hashbench.option(1.0, "nu, weight of |W|^2; authors' code: 0.1")
    quantization: float = hashbench.option(55.0, "eta, weight of the quantization term; with means, a suite takes 0.01")
    scaling: Literal["sums", "means"] = hashbench.option(
        "sums", "whether eta stands in the loss before a sum over samples and bits, or before their mean"
    )
    discrete: Literal["epoch", "batch"] = hashbench.option(
        "epoch", "codes are found after each epoch, for the training set, or in each step, for the batch, from zeros"
    )
    sweeps: int = hashbench.option(10, "sweeps of DCC over the bits")

    keeps_samples = SampleMemory.KEPT
    #: The authors' code, whose rates fall evenly in the logarithm to 1e-6; the network, CNN-F, is not here.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "alexnet",
        "optimizer": "sgd",
        "learning_rate": 1e-2,
        "momentum": 0.0,
        "weight_decay": 5e-4,
        "schedule": "step",
        "step_epochs": 1,
        "step_factor": 10 ** (-4 / 149),
        "batch_size": 128,
        "epochs": 150,
    }
    paper_fields: ClassVar[dict[str, Any]] = {"decay": 0.1, "discrete": "batch"}

    fitted: Tensor  # (N, K): the training set's codes in {-1, +1}, 0 before the first DCC

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse a regression without weight, and DCC without a sweep."""
        if self.classification <= 0 or self.decay <= 0:
            return "classification and decay must be more than 0."
        return None if self.sweeps >= 1 else "sweeps must be at least 1."

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Begin with an empty memory of the training set, and without codes."""
        self.memory = SampleMemory(task.num_train, task.bits, task.num_classes)
        self._multi_label = task.multi_label
        self.register_buffer("fitted", torch.zeros(task.num_train, task.bits))
        self._weight = self.quantization * (task.bits / task.num_train if self.scaling == "sums" else 1)

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the mean negative log-likelihood of pairs, and weighted distances to codes, of labelled samples."""
        assert batch.labels is not None, "DSDH is supervised"
        outputs, labels = self.memory.with_batch(out, batch)
        s = similar(batch.labels, labels, multi_label=self._multi_label)
        if self.discrete == "batch":
            codes = self.fit_codes(torch.zeros_like(out), out.detach(), batch.labels, of=signs(out))
        else:
            fitted = self.fitted[batch.index].to(out.dtype)
            codes = torch.where(fitted == 0, signs(out), fitted)
        return {
            "pairs": mean_pair_likelihood(out @ outputs.T / 2, s, batch.labels, labels),
            "quantization": self._weight * labelled_mean(((codes - out) ** 2).mean(dim=1), batch.labels),
        }

    def after_step(self, network: nn.Module, batch: hashbench.Batch) -> None:
        """Write the batch's outputs into the memory."""
        self.memory.write(batch)

    def fit_codes(self, start: Tensor, outputs: Tensor, labels: Tensor, *, of: Tensor) -> Tensor:
        """Return codes (n, K) from DCC that begins at `start`, with W by ridge regression from the codes `of`."""
        labelled = labels.any(dim=1, keepdim=True)
        classifier = ridge(of * labelled, labels, self.decay / self.classification)
        linear = self.classification * labels @ classifier.T + self.quantization * outputs * labelled
        quadratic = self.classification * classifier @ classifier.T
        return coordinate_descent(start, quadratic, linear, sweeps=self.sweeps)

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Find the training set's codes anew; returns the share of their bits that changed."""
        if self.discrete == "batch":
            return {}
        outputs, labels = self.memory.outputs, self.memory.labels.to(self.fitted.dtype)
        before = torch.where((self.fitted == 0) & labels.any(dim=1, keepdim=True), signs(outputs), self.fitted)
        self.fitted.copy_(self.fit_codes(before, outputs, labels, of=before))
        return {"code_bits_moved": float((self.fitted != before).double().mean())}
