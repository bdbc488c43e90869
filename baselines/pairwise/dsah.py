"""DSAH: Dual Semantic Asymmetric Hashing (Lu et al., arXiv:2110.12478)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import hashbench
from hashbench.methods import (
    coordinate_descent,
    counted_pairs,
    labelled_mean,
    labelled_pairs,
    random_words,
    ridge,
    similar,
    similarity_sums,
)


@hashbench.method("dsah", paper="arXiv:2110.12478", version=1, fidelity="reconstructed", family="pairwise", year=2021)
class DSAH(hashbench.DeepMethod):
    """Dual Semantic Asymmetric Hashing: outputs near the learned codes of their class, codes that tell what they are.

    With h = tanh v, the code b_j of each training sample, S of a pair and m the mean code of a class, the loss is alpha
    times the mean of S |h_i - b_j|^2 / K over a batch's pairs with the training set, and gamma times that of |h_i -
    m|^2 / K. After each epoch W1 and W2 are ridge regressions from the codes to Y and to 1 - Y, then the codes minimise
    alpha / n sum_ij S |h_i - b_j|^2 / K + beta (|Y - B W1|^2 + |1 - Y - B W2|^2) bit by bit (DCC). The network encodes
    the database, as for all methods. Known from abstract and digests: ours are all weights and means, the outputs that
    codes are found from (each sample's last), S = 0 for dissimilar pairs, the mean over a sample's classes, gamma's
    term left out where codes are found, and the first codes: random words, then rounds of W1, W2 and B without outputs.
    Without a bias, 1 - Y, mostly ones, draws all codes to one word: on fashion-mnist-10k `dual=false` did much better.
    """

    pairs: float = hashbench.option(1.0, "alpha, weight of the distances of pairs")
    classification: float = hashbench.option(1.0, "beta, weight of the regressions from codes to labels")
    structure: float = hashbench.option(1.0, "gamma, weight of the distance to a class's mean code")
    dissimilar: float = hashbench.option(0.0, "S of dissimilar pairs, that of similar ones is 1; -1 pushes them apart")
    dual: bool = hashbench.option(True, "regress 1 - Y too; false: Y alone")
    decay: float = hashbench.option(1.0, "weight of |W1|^2 and |W2|^2")
    first_rounds: int = hashbench.option(5, "rounds before training")
    sweeps: int = hashbench.option(1, "sweeps of DCC over the bits in a round")

    keeps_samples = ("outputs",)

    labels: Tensor  # (N, C) bool, of the training set
    fitted: Tensor  # (N, K): its codes in {-1, +1}, zeros without a label
    outputs: Tensor  # (N, K): h that each sample had last, zeros before

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse weights and sweeps without a meaning."""
        if min(self.classification, self.decay) <= 0 or min(self.pairs, self.structure) < 0:
            return "classification and decay must be more than 0, pairs and structure not less."
        return None if self.sweeps >= 1 and self.first_rounds >= 0 else "sweeps must be at least 1, first_rounds 0."

    def prepare(self, task: hashbench.Task, data: hashbench.TrainingData, tools: hashbench.Tools) -> dict[str, Tensor]:
        """Return the labels of the training set, for its samples have codes before they are trained on."""
        assert data.labels is not None, "DSAH is supervised"
        return {"labels": data.labels > 0}

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Find first codes, from random words and labels alone."""
        self.register_buffer("labels", prepared["labels"].clone())
        self._multi_label = task.multi_label
        words = random_words(task.num_train, task.bits, task.generator("codes")).to(self.labels.device)
        self.register_buffer("fitted", words * self.labels.any(dim=1, keepdim=True))
        self.register_buffer("outputs", torch.zeros_like(self.fitted))
        for _ in range(self.first_rounds):
            self.fit_codes()

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the weighted mean distances to codes of similar samples, and to mean codes, of labelled samples."""
        assert batch.labels is not None, "DSAH is supervised"
        hashed, fitted, labels = out.tanh(), self.fitted.to(out.dtype), self.labels.view(torch.uint8).to(out.dtype)
        self._latest = hashed.detach()
        bits = out.shape[1]
        sizes, class_sums = labels.sum(dim=0), labels.T @ fitted  # (C,) and (C, K)
        if self.dissimilar == 0 and not self._multi_label:  # S is 1 within a class: the same whole numbers
            classes, labelled = batch.labels.argmax(dim=1), batch.labels.sum(dim=1) > 0
            weight, pull = sizes[classes] * labelled, class_sums[classes].where(labelled[:, None], 0)
        else:
            s = similar(batch.labels, labels, multi_label=self._multi_label)
            weights = (self.dissimilar + (1 - self.dissimilar) * s) * counted_pairs(batch.labels, labels)
            weight, pull = weights.sum(dim=1), weights @ fitted
        # sum_j S |h - b_j|^2 with |b_j|^2 = K, so that only sums over the training set meet the gradient.
        distances = weight * (hashed.square().sum(dim=1) + bits) - 2 * (hashed * pull).sum(dim=1)
        *_, counted = labelled_pairs(batch.labels, labels)
        means = class_sums / sizes.clamp(min=1)[:, None]
        own = batch.labels @ means / batch.labels.sum(dim=1, keepdim=True).clamp(min=1)
        return {
            "pairs": self.pairs / bits * distances.sum() / counted,
            "structure": self.structure * labelled_mean((hashed - own).square().mean(dim=1), batch.labels),
        }

    def after_step(self, network: nn.Module, batch: hashbench.Batch) -> None:
        """Keep the batch's outputs for the end of the epoch."""
        self.outputs[batch.index] = self._latest.to(self.outputs.dtype)

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Find codes anew; returns the share of their bits that changed."""
        before = self.fitted.clone()
        self.fit_codes()
        return {"code_bits_moved": float((self.fitted != before).double().mean())}

    @torch.no_grad()
    def fit_codes(self) -> None:
        """Find W1 and W2 from the codes, then the codes by DCC."""
        labels, labelled = self.labels.to(self.fitted.dtype), self.labels.any(dim=1, keepdim=True)
        targets = torch.cat([labels, (1 - labels) * labelled], dim=1) if self.dual else labels
        classifier = ridge(self.fitted, targets, self.decay)  # (K, 2 C): W1 and W2 side by side
        pulls = similarity_sums(self.outputs * labelled, labels, dissimilar=self.dissimilar) * labelled
        weight = self.pairs / (labelled.sum().clamp(min=1) * self.fitted.shape[1])
        linear = self.classification * targets @ classifier.T + weight * pulls
        quadratic = self.classification * classifier @ classifier.T
        self.fitted.copy_(coordinate_descent(self.fitted, quadratic, linear, sweeps=self.sweeps))
