"""DHN: Deep Hashing Network for Efficient Similarity Retrieval (Zhu et al., AAAI 2016)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor, nn

import hashbench
from hashbench.methods import (
    SampleMemory,
    labelled_mean,
    log_cosh_gap,
    mean_pair_likelihood,
    similar,
)


@hashbench.method(
    "dhn", paper="doi:10.1609/aaai.v30i1.10235", version=2, fidelity="published", family="pairwise", year=2016
)
class DHN(hashbench.DeepMethod):
    """Deep Hashing Network: the likelihood of a batch's pairs, and log cosh of the distance to the corners.

    With h = tanh v and t = h_i h_j', the loss is the mean of log(1 + e^t) - s t, and lambda times the mean over samples
    of the sum over bits of log cosh(|h| - 1). That and lambda = 0.2 are what the authors' code takes the gradient of; a
    sample's pair with itself counts, as there. Suites halve t, compare with a memory of the training set, leave out the
    tanh, and take 0.1 of a mean over bits: fields. Unverified: the paper's lambda, which it finds by cross-validation.
    """

    scale: float = hashbench.option(1.0, "of inner products; suites: 0.5")
    quantization: float = hashbench.option(0.2, "lambda, weight of the quantization term; suites, of a mean: 0.1")
    quantization_over: Literal["sum", "mean"] = hashbench.option(
        "sum", "what the quantization term of a sample is of its bits'; suites take the mean"
    )
    pairs: Literal["batch", "memory"] = hashbench.option(
        "batch", "what a batch's samples are paired with: each other, or the last outputs of all training samples"
    )
    squash: bool = hashbench.option(True, "take the tanh of the outputs")

    keeps_samples = ()
    #: The authors' code: 3,000 iterations on 10,500 images of NUS-WIDE, whose rate is halved every 500.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "alexnet",
        "optimizer": "sgd",
        "learning_rate": 2e-4,
        "backbone_learning_rate_scale": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "step",
        "step_epochs": 3,
        "step_factor": 0.5,
        "batch_size": 64,
        "epochs": 18,
    }

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Begin with an empty memory of the training set, where pairs are made with it."""
        self._multi_label = task.multi_label
        if self.pairs == "memory":
            self.memory = SampleMemory(task.num_train, task.bits, task.num_classes)
            vars(self)["keeps_samples"] = SampleMemory.KEPT

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the mean negative log-likelihood of pairs, and lambda times the quantization, of labelled ones."""
        assert batch.labels is not None, "DHN is supervised"
        hashed = out.tanh() if self.squash else out
        outputs, labels = (hashed, batch.labels) if self.pairs == "batch" else self.memory.with_batch(hashed, batch)
        s = similar(batch.labels, labels, multi_label=self._multi_label)
        gap = log_cosh_gap(hashed)
        gap = gap.sum(dim=1) if self.quantization_over == "sum" else gap.mean(dim=1)
        return {
            "pairs": mean_pair_likelihood(self.scale * hashed @ outputs.T, s, batch.labels, labels),
            "quantization": self.quantization * labelled_mean(gap, batch.labels),
        }

    def after_step(self, network: nn.Module, batch: hashbench.Batch) -> None:
        """Write the batch's outputs into the memory, where there is one."""
        if self.pairs == "memory":
            self.memory.write(batch)
