"""CRH: Center-Reassigned Hashing (Yin et al., arXiv:2511.12162, AAAI 2026).

A preset codebook of binary words; each class holds one; while the network trains, classes are re-assigned to words so
that the centers follow the data. The bits are split into heads, each with its own codebook and assignment.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hashbench.datasets.loading.batch import Batch
from hashbench.methods.codebooks import distinct_words, spread, widest
from hashbench.methods.contract import DeepMethod, Task, method, option
from hashbench.methods.reassignment import reassign, reassignment_due, word_costs


@method("crh", paper="arXiv:2511.12162", version=1, fidelity="account", family="centers", year=2026)
class CRH(DeepMethod):
    """Center-Reassigned Hashing: margin softmax on cosines to hash centers that are re-assigned while training.

    The equations are implemented from a third party's account of the paper and of its official code; neither could be
    read. Unverified, and therefore fields: `cosine_of`, `solver`, `code_source`, `head_rule`, `codebook_draws` (and by
    what the best draw is chosen; here: largest minimum, then largest mean distance).
    """

    margin: float = option(0.2, "m of eq. 2, subtracted from the cosine of the positive classes")
    scale: float | None = option(None, "s of eq. 2; none: sqrt(2) ln(C - 1)")
    quantization: float | None = option(None, "lambda of eq. 4; none: 0.1 single-label, 0 multi-label")
    codebook_size: int | None = option(None, "M, words in a head's codebook; none: min(2 C, 2^K)")
    codebook_draws: int = option(1, "codebooks drawn, of which the most widely spread is kept; the release: 1000")
    heads: int | None = option(None, "H, codebooks that share the K bits; none: K / d")
    head_width: int | None = option(None, "d, bits of a head; none: K / H where heads is given, else by head_rule")
    head_rule: Literal["power-of-two", "smallest-divisor"] = option(
        "power-of-two", "head width: the smallest power of two (or just divisor of K) that holds the codebook"
    )
    reassign: bool = option(True, "re-assign classes to words while training; false: fixed random centers")
    solver: Literal["greedy", "hungarian"] = option("greedy", "how eq. 6 is minimised")
    every_epoch_until: int = option(20, "epochs after each of which classes are re-assigned")
    then_every: int = option(5, "epochs between re-assignments afterwards")
    cosine_of: Literal["v", "tanh"] = option("v", "what eq. 2 compares with the centers")
    code_source: Literal["training", "fresh"] = option(
        "training", "codes of eq. 5: those of the epoch's training passes, or of a fresh pass without augmentation"
    )

    per_sample = True
    maps_over_seeds = True
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "resnet34",
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "final_learning_rate": 1e-7,
        "betas": (0.5, 0.999),
        "weight_decay": 1e-5,
        "batch_size": 128,
        "gradient_clip": 1.0,
        "epochs": {"single-label": 300, "multi-label": 30},
    }

    words: Tensor  # (H, M, d): each head's codebook
    assignment: Tensor  # (H, C): the word that each class holds
    centers: Tensor  # (C, K): the concatenated words, eq. 8

    def supports(self, task: Task) -> str | None:
        """Refuse what has no codebook: too few bits for the classes, or heads that do not divide the bits."""
        classes, bits = task.num_classes, task.bits
        if classes <= 2 and self.scale is None:
            return "with 2 classes or fewer the paper's scale is 0; give one, for example --set crh.scale=4."
        if bits < 63 and 2**bits < classes:
            return f"{bits} bits give {2**bits} words, which cannot hold {classes} classes; use more bits."
        size = self._codebook_size(task)
        if size < classes:
            return f"a codebook of {size} words cannot hold {classes} classes; raise codebook_size or leave it out."
        if bits < 63 and 2**bits < size:
            return f"{bits} bits give {2**bits} words, fewer than codebook_size={size}."
        if self.heads is not None and self.head_width is not None:
            return "heads and head_width say the same twice; give one of them."
        for name in ("heads", "head_width"):
            parts = getattr(self, name)
            if parts is not None and (parts < 1 or bits % parts):
                return f"{name}={parts} does not divide {bits} bits."
        width = self._head_width(task)
        if width < 63 and 2**width < size:
            return f"heads of {width} bits give {2**width} words, fewer than the codebook's {size}; use wider heads."
        if min(self.codebook_draws, self.every_epoch_until + 1, self.then_every) < 1:
            return "codebook_draws and then_every must be at least 1, every_epoch_until at least 0."
        return None

    def setup(self, task: Task, prepared: dict[str, Tensor]) -> None:
        """Draw the codebooks and give each class a random word of its own in every head."""
        self.task = task
        size, width = self._codebook_size(task), self._head_width(task)
        generator = task.generator("centers")
        heads = range(task.bits // width)
        books = [widest(distinct_words(size, width, generator) for _ in range(self.codebook_draws)) for _ in heads]
        start = [torch.randperm(size, generator=generator)[: task.num_classes] for _ in heads]
        self.register_buffer("words", torch.stack(books))
        self.register_buffer("assignment", torch.stack(start))
        self.register_buffer("centers", self._centers())
        self._scale = math.sqrt(2) * math.log(task.num_classes - 1) if self.scale is None else self.scale
        lambda_default = 0.0 if task.multi_label else 0.1
        self._lambda = lambda_default if self.quantization is None else self.quantization

    def loss(self, out: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return eq. 1 with the margin softmax of eq. 2, and lambda times eq. 3, over the labelled samples."""
        labels, weights, labelled = _label_weights(batch)
        compared = out.tanh() if self.cosine_of == "tanh" else out
        cosine = F.normalize(compared) @ F.normalize(self.centers).T
        log_p = F.log_softmax(self._scale * (cosine - self.margin * labels), dim=1)
        count = labelled.sum().clamp(min=1)
        terms = {"center": -(weights * log_p).sum() / count}
        if self._lambda:
            off_corner = ((out.tanh().abs() - 1) ** 2).mean(dim=1)
            terms["quantization"] = self._lambda * (labelled * off_corner).sum() / count
        return terms

    def epoch_sums(self, out: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the class-weighted sums of the codes (C, K) and of the weights (C,), for eq. 5 and 7."""
        weights = _label_weights(batch)[1].double()
        codes = self.codes(out).double() * 2 - 1
        return {"codes": weights.T @ codes, "weight": weights.sum(dim=0)}

    def wants_fresh_pass(self, epoch: int) -> bool:
        """Ask for a pass of its own where the field says so and classes are about to be re-assigned."""
        return self.code_source == "fresh" and self._due(epoch)

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Re-assign the classes to words (eq. 6) where the schedule says so; returns the assignment's diagnostics."""
        weight = sums["weight"].cpu().numpy()
        present = weight > 0
        costs = self._costs(sums["codes"].cpu().numpy(), weight)
        before = self.assignment.clone()
        if self._due(epoch):
            random = np.random.default_rng(self.task.generator("reassign", epoch).initial_seed())
            for head, cost in enumerate(costs):
                held = self.assignment[head].cpu().numpy()
                chosen = reassign(cost, held, present, solver=self.solver, random=random)
                self.assignment[head] = torch.from_numpy(chosen)
            self.centers.copy_(self._centers())
        held = self.assignment.cpu().numpy()
        distance_min, distance_mean = spread(self.centers)
        return {
            "classes_moved": float((before != self.assignment).any(dim=0).sum()),
            "assignment_cost": float(sum(cost[present, held[head, present]].sum() for head, cost in enumerate(costs))),
            "center_distance_min": distance_min,
            "center_distance_mean": distance_mean,
        }

    def _costs(self, codes: np.ndarray, weight: np.ndarray) -> list[np.ndarray]:
        """Return each head's costs (C, M): eq. 7, the mean squared distance of a class's codes to every word."""
        words = self.words.double().cpu().numpy()
        parts = np.split(codes, len(words), axis=1)
        return [word_costs(part, weight, book) for part, book in zip(parts, words, strict=True)]

    def _centers(self) -> Tensor:
        """Return the classes' centers (C, K): the words they hold, head beside head (eq. 8)."""
        return torch.cat([book[held] for book, held in zip(self.words, self.assignment, strict=True)], dim=1)

    def _due(self, epoch: int) -> bool:
        due = reassignment_due(epoch, self.task.epochs, every_until=self.every_epoch_until, then_every=self.then_every)
        return self.reassign and due

    def _codebook_size(self, task: Task) -> int:
        if self.codebook_size is not None:
            return self.codebook_size
        return 2 * task.num_classes if task.bits >= 32 else min(2 * task.num_classes, 2**task.bits)

    def _head_width(self, task: Task) -> int:
        if self.head_width is not None:
            return self.head_width
        if self.heads is not None:
            return task.bits // self.heads
        needed = (self._codebook_size(task) - 1).bit_length()
        divisors = [d for d in range(max(needed, 1), task.bits + 1) if task.bits % d == 0]
        powers = [d for d in divisors if d & (d - 1) == 0]
        return (powers or divisors)[0] if self.head_rule == "power-of-two" else divisors[0]


def _label_weights(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return y (n, C), y / |y|_1 (n, C) with zero rows where there is no label, and which samples have one (n,)."""
    assert batch.labels is not None, "CRH is supervised"
    count = batch.labels.sum(dim=1, keepdim=True)
    return batch.labels, batch.labels / count.clamp(min=1), (count[:, 0] > 0).to(batch.labels.dtype)
