"""ADSH: Asymmetric Deep Supervised Hashing (Jiang & Li, AAAI 2018, arXiv:1707.08325)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

import hashbench
from hashbench.methods import coordinate_descent, labelled_mean, labelled_pairs, mean_of_labelled_pairs, similar

#: Samples of a round whose pairs with the training set are held at once.
BLOCK = 256


@hashbench.method("adsh", paper="arXiv:1707.08325", version=1, fidelity="published", family="pairwise", year=2018)
class ADSH(hashbench.DeepMethod):
    """Asymmetric Deep Supervised Hashing: a network's outputs and the training set's codes are fitted in turn.

    With h = tanh u, the code v_j of each training sample and S = 2 s - 1, the loss is the mean of (h_i v_j' - K S)^2
    over a batch's pairs with the training set, and gamma / N times the mean of |v_i - h_i|^2. After a round, v takes
    the best signs bit by bit (DCC). The paper's round trains three epochs on 2,000 random samples; here it is the next
    2,000 of an epoch's order, once, so that each sample is trained on as often as by other methods. The paper searches
    the learned v; here the network encodes the database, as for all methods. The authors' code gives dissimilar pairs
    S = -r, r = similar by dissimilar pairs (of the round; in the loss, here, of the batch): a field.
    """

    quantization: float = hashbench.option(200.0, "gamma, weight of the distance to a sample's own code")
    subset: int = hashbench.option(2000, "samples of a round, after which codes are found anew")
    sweeps: int = hashbench.option(1, "sweeps of DCC over the bits")
    dissimilar: Literal["-1", "balanced"] = hashbench.option(
        "-1", "S of dissimilar pairs: -1, or -r, r the number of similar pairs by that of dissimilar ones"
    )

    keeps_samples = ("outputs", "round_of")
    #: The authors' PyTorch code: 50 rounds are 300,000 images, 5 epochs of the CIFAR-10 database.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "resnet50",
        "optimizer": "sgd",
        "learning_rate": 1e-3,
        "momentum": 0.0,
        "weight_decay": 5e-4,
        "schedule": "step",
        "step_epochs": 1,
        "step_factor": 0.1,
        "batch_size": 64,
        "epochs": 5,
    }
    paper_fields: ClassVar[dict[str, Any]] = {"dissimilar": "balanced"}

    labels: Tensor  # (N, C) bool, of the training set
    fitted: Tensor  # (N, K): its codes v in {-1, +1}, zeros before the first round ends
    outputs: Tensor  # (N, K): h that each sample had last
    round_of: Tensor  # (N,): the round of that

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse rounds without samples, and DCC without a sweep."""
        return None if min(self.subset, self.sweeps) >= 1 else "subset and sweeps must be at least 1."

    def prepare(self, task: hashbench.Task, data: hashbench.TrainingData, tools: hashbench.Tools) -> dict[str, Tensor]:
        """Return the labels of the training set, for its samples have codes before they are trained on."""
        assert data.labels is not None, "ADSH is supervised"
        return {"labels": data.labels > 0}

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Begin with codes of zeros, as the authors' code, and divide an epoch into rounds."""
        self.register_buffer("labels", prepared["labels"].clone())
        self.register_buffer("fitted", torch.zeros(task.num_train, task.bits))
        self.register_buffer("outputs", torch.zeros(task.num_train, task.bits))
        self.register_buffer("round_of", torch.full((task.num_train,), -1))
        self._steps, self._bits, self._visited = task.steps_per_epoch, task.bits, 0
        self._multi_label = task.multi_label
        self._rounds = min(max(round(task.num_train / self.subset), 1), task.steps_per_epoch)  # of an epoch
        self._weight = self.quantization / max(int(self.labels.any(dim=1).sum()), 1)

    def round_at(self, step: int) -> int:
        """Return the round, from 0, that a step of the whole training belongs to."""
        return step * self._rounds // self._steps

    def training_step(self, network: nn.Module, batch: hashbench.Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Find codes anew where a round within the epoch has ended, then train as usual."""
        if batch.step % self._steps and self.round_at(batch.step) != self.round_at(batch.step - 1):
            self._fit_codes(self.round_at(batch.step - 1))
        return super().training_step(network, batch)

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the mean squared error of inner products, and weighted distances to codes, of labelled samples."""
        assert batch.labels is not None, "ADSH is supervised"
        hashed, fitted, labels = out.tanh(), self.fitted.to(out.dtype), self.labels.view(torch.uint8).to(out.dtype)
        self._latest = hashed.detach()
        s = similar(batch.labels, labels, multi_label=self._multi_label)
        r = ratio(s.sum(), labelled_pairs(batch.labels, labels)[2]) if self.dissimilar == "balanced" else 1.0
        wanted = s.mul_(1 + r).sub_(r).mul_(self._bits)
        error = (hashed @ fitted.T).sub_(wanted).square()
        own = ((hashed - fitted[batch.index]) ** 2).sum(dim=1)
        return {
            "pairs": mean_of_labelled_pairs(error, batch.labels, labels),
            "quantization": self._weight * labelled_mean(own, batch.labels),
        }

    def after_step(self, network: nn.Module, batch: hashbench.Batch) -> None:
        """Keep the batch's outputs for the end of the round."""
        self.outputs[batch.index] = self._latest.to(self.outputs.dtype)
        self.round_of[batch.index] = self.round_at(batch.step)
        self._visited += batch.whole or len(batch.index)

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Find codes anew, for the epoch's last round has ended; returns the share of their bits that changed."""
        before = self.fitted.clone()
        self._fit_codes(self.round_at((epoch + 1) * self._steps - 1))
        return {"code_bits_moved": float((self.fitted != before).double().mean())}

    @torch.no_grad()
    def _fit_codes(self, number: int) -> None:
        """Take a DCC sweep on |U V' - K S|^2 + gamma |V_omega - U|^2, U and omega of the round of this number."""
        dtype, labelled = self.fitted.dtype, self.labels.any(dim=1)
        members = (self.round_of == number) & labelled
        outputs, labels = self.outputs * members[:, None], self.labels.to(dtype)
        alike, pairs = torch.zeros_like(outputs), torch.zeros((), dtype=dtype, device=outputs.device)
        chosen = members.to(dtype).topk(min(self._visited, len(members))).indices  # all, without waiting for a count
        for rows in chosen.split(BLOCK):
            s = similar(labels, labels[rows], multi_label=self._multi_label) * members[rows].to(dtype)
            alike += s @ outputs[rows]
            pairs += s.sum()
        r = ratio(pairs, labelled.sum() * members.sum()) if self.dissimilar == "balanced" else 1.0
        linear = (1 + r) * alike - r * labelled[:, None] * outputs.sum(dim=0)
        linear = self._bits * linear + self.quantization * outputs
        self.fitted.copy_(coordinate_descent(self.fitted, outputs.T @ outputs, linear, sweeps=self.sweeps))
        self._visited = 0


def ratio(similar: Tensor, counted: Tensor) -> Tensor:
    """Return the number of similar pairs by that of the other ones counted, scalars all."""
    return similar / (counted - similar).clamp(min=1)
