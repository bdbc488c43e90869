"""OrthoHash: One Loss for All, a cosine similarity based objective (Hoe et al., NeurIPS 2021, arXiv:2109.14449)."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import class_cross_entropy, labelled_mean, max_distance_words, random_words, spread

#: By which a cosine stays away from 1 and -1, where its angle has no gradient.
AWAY = 1e-5


@hashbench.method("orthohash", paper="arXiv:2109.14449", version=1, fidelity="published", family="proxy", year=2021)
class OrthoHash(hashbench.DeepMethod):
    """OrthoHash: margin softmax on cosines to fixed random words, of outputs that batch norm balances.

    With binary words o_c drawn by fair bits, the loss is the mean cross-entropy of the softmax of s (cos(v, o_c) - m
    y_c) to y / |y|; v comes from a linear layer without bias and batch norm, and there is no quantization term. The
    authors' code has the margin on the angle, and words that a search sets apart, as options: fields. Its default scale
    is 8, that is sqrt K at 64 bits. Two classes may draw the same word. Left out: its other losses for several labels.
    """

    scale: float | None = hashbench.option(None, "s, scale of the cosines; none: sqrt K")
    margin: float = hashbench.option(0.2, "m, taken from the cosine to a sample's own words")
    margin_on: Literal["cosine", "angle"] = hashbench.option(
        "cosine", "what the margin changes: the cosine, or the angle by so many radians"
    )
    words: Literal["random", "max-distance"] = hashbench.option(
        "random", "the classes' words: independent fair bits, or as far apart as search gets"
    )
    batch_norm: bool = hashbench.option(True, "batch norm after the linear layer of the head")

    maps_over_seeds = True
    #: Published; the authors' code's for all its data sets.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "alexnet",
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "backbone_learning_rate_scale": 0.1,
        "weight_decay": 5e-4,
        "schedule": "step",
        "step_epochs": 80,
        "step_factor": 0.1,
        "batch_size": 256,
        "epochs": 100,
    }

    centers: Tensor  # (C, K) in {-1, +1}

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse words that differ for more classes than there are, and a scale without a meaning."""
        if self.words == "max-distance" and 2**task.bits < task.num_classes:
            return f"{task.bits} bits give {2**task.bits} words, too few for {task.num_classes} classes; use more bits."
        return None if self.scale is None or self.scale > 0 else "scale must be more than 0."

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Draw the words."""
        draw = {"random": random_words, "max-distance": max_distance_words}[self.words]
        self.register_buffer("centers", draw(task.num_classes, task.bits, task.generator("centers")))
        self._scale = math.sqrt(task.bits) if self.scale is None else self.scale

    def head(self, width: int, task: hashbench.Task) -> nn.Module:
        """Return a linear layer without bias, weights from N(0, .01), and batch norm."""
        linear = nn.Linear(width, task.bits, bias=False)
        nn.init.normal_(linear.weight, std=0.01)
        return nn.Sequential(linear, nn.BatchNorm1d(task.bits)) if self.batch_norm else linear

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the mean margin softmax loss of the labelled samples."""
        assert batch.labels is not None, "OrthoHash is supervised"
        cosine = F.normalize(out, dim=1) @ F.normalize(self.centers, dim=1).T
        margin = self.margin * batch.labels
        if self.margin_on == "angle":
            logits = self._scale * (cosine.clamp(AWAY - 1, 1 - AWAY).acos() + margin).cos()
        else:
            logits = self._scale * (cosine - margin)
        return {"words": labelled_mean(class_cross_entropy(logits, batch.labels), batch.labels)}

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return how far apart the words are, the same after every epoch."""
        smallest, mean = spread(self.centers)
        return {"center_distance_min": smallest, "center_distance_mean": mean}
