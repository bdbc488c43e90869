"""DBDH: Deep Balanced Discrete Hashing for Image Retrieval (Zheng et al., Neurocomputing 2020)."""

from __future__ import annotations

from torch import Tensor, nn

import hashbench
from hashbench.methods import SampleMemory, labelled_mean, mean_pair_likelihood, similar


@hashbench.method(
    "dbdh", paper="doi:10.1016/j.neucom.2020.03.037", version=1, fidelity="account", family="pairwise", year=2020
)
class DBDH(hashbench.DeepMethod):
    """Deep Balanced Discrete Hashing: the pair likelihood of outputs cut off at -1 and 1, whose bits balance.

    With u = min(max(v, -1), 1) and t = u_i u_j' / 2, the loss is the mean over pairs of a batch with a memory of the
    training set of log(1 + e^t) - s t, and alpha times the mean over samples of (mean of u over its bits)^2. That is an
    account: what a common suite computes, with rows of samples that were not seen yet left out (ours). Unverified: the
    paper's own equations, weights and training.
    """

    balance: float = hashbench.option(0.1, "alpha, weight of the balance of a sample's bits")
    power: int = hashbench.option(2, "of the mean of a sample's bits, in the balance: 1 or 2")

    keeps_samples = SampleMemory.KEPT

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse another power."""
        return None if self.power in (1, 2) else "power is 1 or 2."

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Begin with an empty memory of the training set."""
        self.memory = SampleMemory(task.num_train, task.bits, task.num_classes)
        self._multi_label = task.multi_label

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the mean negative log-likelihood of pairs, and alpha times the imbalance, of labelled samples."""
        assert batch.labels is not None, "DBDH is supervised"
        cut = out.clamp(-1, 1)
        outputs, labels = self.memory.with_batch(cut, batch)
        s = similar(batch.labels, labels, multi_label=self._multi_label)
        return {
            "pairs": mean_pair_likelihood(cut @ outputs.T / 2, s, batch.labels, labels),
            "balance": self.balance * labelled_mean(cut.mean(dim=1).abs() ** self.power, batch.labels),
        }

    def after_step(self, network: nn.Module, batch: hashbench.Batch) -> None:
        """Write the batch's outputs into the memory."""
        self.memory.write(batch)
