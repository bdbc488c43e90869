"""DPSH: Feature Learning based Deep Supervised Hashing with Pairwise Labels (Li et al., IJCAI 2016)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor, nn

import hashbench
from hashbench.methods import (
    SampleMemory,
    balanced_pairs,
    counted_pairs,
    labelled_mean,
    mean_of_labelled_pairs,
    mean_pair_likelihood,
    pair_likelihood,
    similar,
    squared_gap,
)


@hashbench.method("dpsh", paper="arXiv:1511.03855", version=1, fidelity="published", family="pairwise", year=2016)
class DPSH(hashbench.DeepMethod):
    """Deep Pairwise-Supervised Hashing: likelihood of a batch's pairs with the whole training set's last outputs.

    With t = u_i u_j' / 2, the loss is the mean of log(1 + e^t) - s t, and eta K / N times the mean of (b - u)^2: the
    published sums, divided by the number of pairs, as the authors' code does. Rows of samples that were not seen yet
    count for nothing (ours); the authors' code and suites begin with zeros, which count in the mean alone. `scaling =
    "means"` with `quantization = 0.1` is common use. Unverified: the paper's own learning rate, found by search.
    """

    quantization: float = hashbench.option(50.0, "eta, weight of the quantization term; with means, suites take 0.1")
    scaling: Literal["sums", "means"] = hashbench.option(
        "sums", "whether eta stands before a sum over samples and bits, as in the paper, or before their mean"
    )
    balance: bool = hashbench.option(False, "weigh similar and dissimilar pairs as HashNet does; one suite does")

    keeps_samples = SampleMemory.KEPT
    #: The authors' PyTorch code; the network, CNN-F, is not here.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "alexnet",
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "momentum": 0.0,
        "weight_decay": 1e-5,
        "schedule": "step",
        "step_epochs": 50,
        "step_factor": 0.1,
        "batch_size": 128,
        "epochs": 150,
    }

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Begin with an empty memory of the training set."""
        self.memory = SampleMemory(task.num_train, task.bits, task.num_classes)
        self._multi_label = task.multi_label
        self._weight = self.quantization * (task.bits / task.num_train if self.scaling == "sums" else 1)

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the mean negative log-likelihood of pairs, and the weighted quantization, over labelled samples."""
        assert batch.labels is not None, "DPSH is supervised"
        outputs, labels = self.memory.with_batch(out, batch)
        s = similar(batch.labels, labels, multi_label=self._multi_label)
        inner = out @ outputs.T / 2
        if self.balance:
            likelihood = pair_likelihood(inner, s) * balanced_pairs(s, counted_pairs(batch.labels, labels))
            pairs = mean_of_labelled_pairs(likelihood, batch.labels, labels)
        else:
            pairs = mean_pair_likelihood(inner, s, batch.labels, labels)
        return {
            "pairs": pairs,
            "quantization": self._weight * labelled_mean(squared_gap(out).mean(dim=1), batch.labels),
        }

    def after_step(self, network: nn.Module, batch: hashbench.Batch) -> None:
        """Write the batch's outputs into the memory."""
        self.memory.write(batch)
