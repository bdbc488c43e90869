"""Reassigned: CRH's re-assignment of classes to centers, around methods whose centers are fixed."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

import hashbench
from hashbench.methods import reassign, reassignment_due, word_costs


@hashbench.method("reassigned", version=1, fidelity="reference", family="wrappers", year=2026)
class Reassigned(hashbench.DeepMethod):
    """Re-assign the classes of a center-based method to its centers while it trains, as CRH does with its words.

    No paper's method: it asks whether what CRH gains is its own or re-assignment's. The cost of a class and a center is
    the mean squared distance of the class's codes in the epoch; each center goes to one class. CRH chooses among twice
    as many words as classes and head by head, this among the base's own centers alone.
    """

    base: hashbench.DeepMethod = hashbench.base_method("csq", "the method whose centers change their classes")
    solver: Literal["greedy", "hungarian"] = hashbench.option("greedy", "how the assignment is found, as CRH's")
    every_epoch_until: int = hashbench.option(20, "epochs after each of which classes are re-assigned")
    then_every: int = hashbench.option(5, "epochs between re-assignments afterwards")

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse bases without fixed centers, and a schedule without a meaning."""
        if self.every_epoch_until < 0 or self.then_every < 1:
            return "then_every must be at least 1, every_epoch_until at least 0."
        if "centers" not in type(self.base).__annotations__:
            return f"its base {self.base.info.name} has no centers that could change their classes."
        if type(self.base).epoch_sums is not hashbench.DeepMethod.epoch_sums:
            return f"its base {self.base.info.name} moves its centers itself."
        return self.base.supports(task)

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Begin with the base's own assignment."""
        self.base.setup(task, prepared)
        self._task = task

    def epoch_sums(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the classes' sums of codes (C, K), each sample shared by its classes, and of the shares (C,)."""
        assert batch.labels is not None, "centers belong to classes"
        shares = (batch.labels / batch.labels.sum(dim=1, keepdim=True).clamp(min=1)).double()
        return {"codes": shares.T @ (2 * self.codes(out).double() - 1), "shares": shares.sum(dim=0)}

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Re-assign the classes where the schedule says so; returns how many moved, and the base's diagnostics."""
        moved = 0.0
        if reassignment_due(epoch, self._task.epochs, every_until=self.every_epoch_until, then_every=self.then_every):
            centers = self._centers()
            shares = sums["shares"].cpu().numpy()
            words = centers.double().cpu().numpy()
            cost = word_costs(sums["codes"].cpu().numpy(), shares, words)
            random = np.random.default_rng(self._task.generator("reassign", epoch).initial_seed())
            held = np.arange(len(words))
            chosen = reassign(cost, held, shares > 0, solver=self.solver, random=random)
            centers.copy_(centers[torch.from_numpy(chosen).to(centers.device)])
            moved = float((chosen != held).sum())
        return {"classes_moved": moved, **self.base.end_epoch(epoch, {})}

    def _centers(self) -> Tensor:
        centers = self.base.centers
        assert isinstance(centers, Tensor)
        return centers
