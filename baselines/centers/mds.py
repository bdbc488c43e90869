"""MDS: hash centers at a minimal distance from each other (Wang et al., CVPR 2023)."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import (
    SampleMemory,
    labelled_mean,
    lack_of_central_words,
    mean_of_pairs,
    separated_words,
    similar,
    softmax_binary_entropy,
    softplus,
    spread,
    squared_gap,
)


@hashbench.method("mds", paper="CVPR 2023", version=1, fidelity="published", family="centers", year=2023)
class MDS(hashbench.DeepMethod):
    """Minimal-distance-separated hash centers: a softmax on cosines to them, later with similar pairs of a memory.

    The centers keep the Gilbert-Varshamov distance where the search reaches it. With u = tanh v and P the softmax of
    sqrt K cos(u, c), the loss is minus the mean over samples and classes of y log P + (1 - y) log(1 - P); from epoch
    `pairs_from` on plus beta times the mean over similar pairs of log(1 + exp((1 - cos(u_i, m_j)) / 2)), m the outputs
    that the training set had last from a twin of the network, which keeps a share of its weights in each step; plus
    lambda times the mean of (|u| - 1)^2. All that, and the head with batch norm, are the authors' code's. Its memory
    begins with random rows and labels; here a sample counts from its first step on. Its search for centers of 48 bits
    begins at random words; here it is at CSQ's. Unverified: where the paper's settings differ.
    """

    pairs: float = hashbench.option(1.0, "beta, weight of the similar pairs with the memory")
    pairs_from: int = hashbench.option(9, "the epoch, from 0, from which these pairs count")
    quantization: float = hashbench.option(1e-4, "lambda, weight of the quantization term")
    momentum: float = hashbench.option(0.9, "share of its own weights that the twin keeps in a step")
    batch_norm: bool = hashbench.option(True, "batch norm between the head's linear layer and the tanh")
    sweeps: int = hashbench.option(50, "sweeps over the centers in the search for them, at most")

    keeps_samples = SampleMemory.KEPT
    #: The authors' code, but for its epochs: it stops where mAP on the queries no longer grows.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "resnet50",
        "optimizer": "rmsprop",
        "learning_rate": 1e-5,
        "momentum": 0.0,
        "weight_decay": 1e-5,
        "schedule": "constant",
        "batch_size": 64,
        "gradient_clip": 5.0,
    }

    centers: Tensor  # (C, K) in {-1, +1}

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse one class, more classes than there are balanced words, and a twin that runs away."""
        if task.num_classes < 2:
            return "a softmax over hash centers needs 2 classes or more."
        lacking = lack_of_central_words(task.num_classes, task.bits)
        return lacking or (None if 0 <= self.momentum <= 1 else "momentum must be between 0 and 1.")

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Find the centers, and begin with an empty memory of the training set."""
        words = separated_words(task.num_classes, task.bits, task.generator("centers"), sweeps=self.sweeps)
        self.register_buffer("centers", words)
        self.memory = SampleMemory(task.num_train, task.bits, task.num_classes)
        self._multi_label = task.multi_label

    def head(self, width: int, task: hashbench.Task) -> nn.Module:
        """Return a linear layer, with weights from N(0, .01), and batch norm; the tanh is part of the loss."""
        linear = nn.Linear(width, task.bits)
        nn.init.normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)
        return nn.Sequential(linear, nn.BatchNorm1d(task.bits)) if self.batch_norm else linear

    def attach(self, network: nn.Module, task: hashbench.Task) -> None:
        """Begin the twin as a copy of the network."""
        self.twin = copy.deepcopy(network).requires_grad_(False)

    def training_step(self, network: nn.Module, batch: hashbench.Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the terms of the loss, the memory's rows of the batch being the twin's outputs, and the outputs."""
        out = network(batch.inputs)
        with torch.no_grad():
            for own, followed in zip(self.twin.parameters(), network.parameters(), strict=True):
                own.lerp_(followed, 1 - self.momentum)
            slow = self.twin(batch.inputs)
        return self.loss(out, batch, slow), out

    def loss(self, out: Tensor, batch: hashbench.Batch, slow: Tensor | None = None) -> dict[str, Tensor]:
        """Return the weighted terms, over labelled samples; where none are `slow`, the memory takes the outputs."""
        assert batch.labels is not None, "MDS is supervised"
        labels, hashed = batch.labels, out.tanh()
        unit = F.normalize(hashed, dim=1)
        logits = out.shape[1] ** 0.5 * unit @ F.normalize(self.centers.to(out.dtype), dim=1).T
        remembered, owners = self.memory.with_batch((out if slow is None else slow).tanh(), batch)
        pairs = out.new_zeros(())
        if batch.epoch >= self.pairs_from:
            apart = softplus((1 - unit @ F.normalize(remembered, dim=1).T) / 2)
            pairs = self.pairs * mean_of_pairs(apart, similar(labels, owners, multi_label=self._multi_label))
        return {
            "center": labelled_mean(softmax_binary_entropy(logits, labels), labels),
            "pairs": pairs,
            "quantization": self.quantization * labelled_mean(squared_gap(hashed).mean(dim=1), labels),
        }

    def after_step(self, network: nn.Module, batch: hashbench.Batch) -> None:
        """Write the twin's outputs into the memory."""
        self.memory.write(batch)

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return how far apart the centers are, the same after every epoch."""
        smallest, mean = spread(self.centers)
        return {"center_distance_min": smallest, "center_distance_mean": mean}
