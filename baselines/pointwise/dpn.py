"""DPN: Deep Polarized Network (Fan et al., IJCAI 2020).

Every class has a target word; a hinge pushes each output beyond a margin on its target's side, without any squashing.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import distinct_words, majority, max_distance_words, random_words, spread


@hashbench.method(
    "dpn", paper="doi:10.24963/ijcai.2020/115", version=1, fidelity="published", family="pointwise", year=2020
)
class DPN(hashbench.DeepMethod):
    """Deep Polarized Network: L = mean over samples of sum_k max(m - v_k t_k, 0).

    The sum runs over the bits, so the gradient grows with them; that matters under SGD. Loss, targets, head and the sum
    over several classes are as published; the majority is common use. By the official default two classes may draw the
    same word. DPN-A takes means of the training passes' codes, as an author's later code does, which leaves the number
    of epochs between two updates open (here 1), and counts a sample of several classes for the first alone (here for
    each). DPN-T would need a ternary evaluation and is left out.
    """

    margin: float = hashbench.option(1.0, "m, the margin of the hinge")
    targets: Literal["random", "distinct", "max-distance"] = hashbench.option(
        "random", "the classes' words: independent fair bits, the same without repeats, or as far apart as search gets"
    )
    adaptive: bool = hashbench.option(False, "DPN-A: after every epoch a class's target is the sign of its mean code")
    multi_label: Literal["sum", "majority"] = hashbench.option(
        "sum", "samples of several classes: the sum of the hinges to all their targets, or one to the targets' majority"
    )

    #: Published, but for the backbone's learning rate (here the head's), which is unverified.
    per_sample = True
    maps_over_seeds = True
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "alexnet",
        "optimizer": "sgd",
        "learning_rate": 1e-4,
        "momentum": 0.9,
        "schedule": "step",
        "step_epochs": 100,
        "step_factor": 0.1,
        "weight_decay": 5e-4,
        "batch_size": 256,
        "epochs": 200,
    }

    centers: Tensor  # (C, K) in {-1, +1}: the targets
    ties: Tensor  # (K,): the word that decides where a sample's targets are evenly split

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse different targets for more classes than there are words."""
        if self.targets != "random" and 2**task.bits < task.num_classes:
            return f"{task.bits} bits give {2**task.bits} words, too few for {task.num_classes} classes; use more bits."
        return None

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Draw the targets, and the word that decides ties."""
        generator = task.generator("centers")
        draw = {"random": random_words, "distinct": distinct_words, "max-distance": max_distance_words}[self.targets]
        self.register_buffer("centers", draw(task.num_classes, task.bits, generator))
        self.register_buffer("ties", random_words(1, task.bits, generator)[0])

    def head(self, width: int, task: hashbench.Task) -> nn.Module:
        """Return the paper's linear layer: no bias, weights from N(0, .01)."""
        linear = nn.Linear(width, task.bits, bias=False)
        nn.init.normal_(linear.weight, std=0.01)
        return linear

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the mean over labelled samples of the hinge, summed over the bits."""
        assert batch.labels is not None, "DPN is supervised"
        labelled = batch.labels.sum(dim=1) > 0
        if self.multi_label == "majority":
            target = majority(batch.labels, self.centers, self.ties)
            up, down = (1 + target) / 2, (1 - target) / 2
        else:  # how many of a sample's targets want each bit to be +1, and how many -1
            up, down = batch.labels @ ((1 + self.centers) / 2), batch.labels @ ((1 - self.centers) / 2)
        hinge = up * F.relu(self.margin - out) + down * F.relu(self.margin + out)
        return {"polarization": (labelled * hinge.sum(dim=1)).sum() / labelled.sum().clamp(min=1)}

    def epoch_sums(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the classes' sums of codes in {-1, +1}, (C, K), for DPN-A."""
        if not self.adaptive:
            return {}
        assert batch.labels is not None, "DPN is supervised"
        return {"codes": batch.labels.double().T @ (2 * self.codes(out).double() - 1)}

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Move the targets to the classes' mean codes under DPN-A; returns how far apart they are."""
        moved = {}
        if self.adaptive:
            before = self.centers.clone()
            towards = sums["codes"].to(before)
            self.centers.copy_(torch.where(towards == 0, before, towards.sign()))  # absent classes keep their target
            moved = {"target_bits_moved": float((self.centers != before).sum())}
        smallest, mean = spread(self.centers)
        return {**moved, "center_distance_min": smallest, "center_distance_mean": mean}
