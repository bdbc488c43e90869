"""The classifier row: what a plain classifier reaches when every class has one code, whatever the images look like.

On classes seen in training such codes score as high as many a published method, without any notion of similarity
(Sablayrolles et al., "How should we evaluate supervised hashing?", arXiv:1609.06753): read the others beside it.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import max_distance_words


@hashbench.method(
    "classifier", paper="arXiv:1609.06753", version=1, fidelity="reference", family="reference", year=2016
)
class Classifier(hashbench.DeepMethod):
    """Cross-entropy on C logits; the code is the word that the arg-max class holds in a random wide codebook."""

    per_sample = True
    maps_over_seeds = True

    words: Tensor  # (C, K) bool

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse several labels per sample, and more classes than words."""
        if task.multi_label:
            return "a word per class needs data with one class per sample; this data set has several."
        if 2**task.bits < task.num_classes:
            return f"{task.bits} bits give {2**task.bits} words, too few for {task.num_classes} classes; use more bits."
        return None

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Give each class a word, far from all others."""
        words = max_distance_words(task.num_classes, task.bits, task.generator("centers"))
        self.register_buffer("words", words > 0)

    def head(self, width: int, task: hashbench.Task) -> nn.Module:
        """Return a linear layer to one logit per class."""
        return nn.Linear(width, task.num_classes)

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the cross-entropy, mean over labelled samples."""
        assert batch.labels is not None, "the classifier is supervised"
        return {"cross_entropy": -(batch.labels * F.log_softmax(out, dim=1)).sum() / batch.labels.sum().clamp(min=1)}

    def codes(self, out: Tensor) -> Tensor:
        """Return the words, bool (n, bits), of the classes with the largest logits."""
        return self.words[out.argmax(dim=1)]
