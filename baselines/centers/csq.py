"""CSQ: Central Similarity Quantization (Yuan et al., CVPR 2020, arXiv:1908.00347).

Every class has a fixed hash center, far from all others; each bit of an image is pulled to its center's.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor, nn

import hashbench
from hashbench.methods import (
    bit_cross_entropy,
    central_words,
    labelled_mean,
    lack_of_central_words,
    log_cosh_gap,
    majority,
    random_words,
    spread,
    squared_gap,
)


@hashbench.method("csq", paper="arXiv:1908.00347", version=1, fidelity="published", family="centers", year=2020)
class CSQ(hashbench.DeepMethod):
    """Central Similarity Quantization: cross-entropy of every bit to the class's fixed hash center.

    Centers are rows of the Hadamard matrix where the bits are a power of two and at least half the classes, else
    balanced random words. An image of several classes is pulled to the majority of their centers. All that is the
    paper's; the quantization term and its weight are by default those of the code in common use. Ours: rows are drawn,
    where the authors' tutorial takes the first, and of `center_draws` balanced codebooks the widest is kept, no word
    twice, where the tutorial draws until 64 bits are 20 apart, and 32 in the mean. The official ResNet-50 head drops
    half of its first hidden layer, which is not here; hidden layers are as wide as the features, as there.
    """

    quantization: float = hashbench.option(
        1e-4, "lambda, weight of the quantization term; official code: 0.05 with ResNet-50, 0.001 or 1e-4 with AlexNet"
    )
    quantization_term: Literal["squared", "log-cosh"] = hashbench.option(
        "squared", "mean of (|tanh v| - 1)^2, or the paper's log cosh(|tanh v| - 1)"
    )
    center_draws: int = hashbench.option(20, "balanced codebooks drawn, of which the widest is kept")
    head_layers: int = hashbench.option(1, "linear layers of the head, with ReLU between; official ResNet-50 code: 3")

    #: The official ResNet-50 code's.
    per_sample = True
    maps_over_seeds = True
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "resnet50",
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "backbone_learning_rate_scale": {"single-label": 0.01, "multi-label": 0.05},
        "schedule": "step",
        "step_epochs": 10,
        "step_factor": 0.7,
        "batch_size": 64,
        "epochs": 90,
    }

    paper_fields: ClassVar[dict[str, Any]] = {"quantization": 0.05, "head_layers": 3}

    centers: Tensor  # (C, K) in {-1, +1}
    ties: Tensor  # (K,): the word that decides where an image's centers are evenly split

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse more classes than there are balanced words, and settings without a meaning."""
        if min(self.center_draws, self.head_layers) < 1:
            return "center_draws and head_layers must be at least 1."
        return lack_of_central_words(task.num_classes, task.bits)

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Draw the centers, and the word that decides ties."""
        generator = task.generator("centers")
        words = central_words(task.num_classes, task.bits, generator, draws=self.center_draws)
        self.register_buffer("centers", words)
        self.register_buffer("ties", random_words(1, task.bits, generator)[0])

    def head(self, width: int, task: hashbench.Task) -> nn.Module:
        """Return `head_layers` linear layers; the tanh that follows the last in the paper is part of the loss."""
        hidden = [layer for _ in range(self.head_layers - 1) for layer in (nn.Linear(width, width), nn.ReLU())]
        return nn.Sequential(*hidden, nn.Linear(width, task.bits))

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return mean BCE((tanh v + 1) / 2, (c + 1) / 2) and lambda times the quantization, over labelled samples."""
        assert batch.labels is not None, "CSQ is supervised"
        target = majority(batch.labels, self.centers, self.ties)
        terms = {"center": labelled_mean(bit_cross_entropy(out, target), batch.labels)}
        if self.quantization:
            gap = {"squared": squared_gap, "log-cosh": log_cosh_gap}[self.quantization_term]
            terms["quantization"] = self.quantization * labelled_mean(gap(out.tanh()).mean(dim=1), batch.labels)
        return terms

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return how far apart the centers are, the same after every epoch."""
        smallest, mean = spread(self.centers)
        return {"center_distance_min": smallest, "center_distance_mean": mean}
