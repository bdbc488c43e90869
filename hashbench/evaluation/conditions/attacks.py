"""The built-in attacks: the smallest changes of query images that lead their codes away from what they should find.

All see the queries' labels and the database's codes and labels; none changes the database. Their gradients go through
the run's own preprocessing and, where it learned from fixed features, its backbone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hashbench.errors import HashbenchError
from hashbench.evaluation.conditions.contract import Condition, Queries, condition
from hashbench.methods.adversarial import Weights, center_codes, projected_gradient
from hashbench.methods.contract import DeepMethod, defines


@dataclass(frozen=True, kw_only=True)
class ProjectedGradient(Condition):
    """What the attacks share: the distance, the steps, and the objective, which a code for each query decides."""

    attack = True
    eps: float = 8 / 255
    step: float = 2 / 255
    steps: int = 7
    restarts: int = 1
    random_start: bool = True
    squash: bool = True  # objective on tanh of the outputs, whose gradients vanish for large ones, or on the outputs

    def __post_init__(self) -> None:
        if min(self.eps, self.step) < 0 or self.steps < 0 or self.restarts < 1:
            raise HashbenchError(
                f"{self.info.name}: eps, step and steps must be 0 or more, and restarts 1 or more; got "
                f"eps={self.eps:g}, step={self.step:g}, steps={self.steps}, restarts={self.restarts}."
            )
        if self.restarts > 1 and not self.random_start:
            raise HashbenchError(f"{self.info.name}: every restart is the same without random_start; set restarts=1.")

    def toward(self, queries: Queries) -> Tensor:
        """Return the code (n, K) in {-1, +1} that each query's outputs are moved to."""
        raise TypeError(f"{type(self).__name__} must define toward(queries).")

    def apply(self, queries: Queries) -> Tensor:
        """Return the images of the restart with the largest mean product of outputs and that code."""
        model = queries.model
        if isinstance(model.method, DeepMethod) and defines(type(model.method), "codes"):
            raise HashbenchError(
                f"The codes of '{model.method.info.name}' are no signs of its network's outputs, so that "
                f"{self.info.name} does not know what to attack; leave it out."
            )
        code = self.toward(queries)

        def objective(images: Tensor) -> Tensor:
            out = model.outputs(images)[:, : model.bits]
            return ((out.tanh() if self.squash else out) * code).mean(dim=1)

        found = [
            projected_gradient(queries.images, objective, eps=self.eps, step=self.step, steps=self.steps, start=start)
            for start in self._starts(queries)
        ]
        if len(found) == 1:
            return found[0]
        with torch.no_grad():
            best = torch.stack([objective(images) for images in found]).argmax(dim=0)
        return torch.stack(found)[best, torch.arange(len(code), device=code.device)]

    def _starts(self, queries: Queries) -> list[Tensor | None]:
        """Return for each restart a point (n, ...) drawn within `eps` of zero, or None."""
        if not self.random_start:
            return [None]
        shape = queries.images.shape[1:]
        return [
            self.eps * queries.draw(lambda stream: 2 * torch.rand(shape, generator=stream) - 1, "start", restart)
            for restart in range(self.restarts)
        ]


@condition("pgd")
class CenterCodePGD(ProjectedGradient):
    """PGD away from the center code of the query's labels in the database: the attack of CgAT (arXiv:2204.10779)."""

    weights: Weights = "equal"  # of database items that share a label: equal, jaccard (the paper) or cosine

    def toward(self, queries: Queries) -> Tensor:
        """Return minus the center codes."""
        return -_centers(queries, queries.labels, self.weights)


@condition("hag")
class HammingAttack(ProjectedGradient):
    """PGD away from the query's own code, without labels: the aim of HAG (Yang et al., IEEE Trans. Cybernetics 2018).

    The schedules of HAG's own optimisation are not here: steps and distance are those of the other attacks.
    """

    def toward(self, queries: Queries) -> Tensor:
        """Return the codes of the unchanged images, all bits turned."""
        return 1 - 2 * _own_codes(queries)


@condition("targeted")
class Targeted(ProjectedGradient):
    """PGD towards the center code of other labels, drawn for each query among those of the database; see t-mAP.

    The labels share no class with the query's. Measures whose names begin with `t-` count items of those labels as
    relevant: the attack succeeds where they are high.
    """

    targets = True
    weights: Weights = "equal"

    def target_labels(self, queries: Queries) -> Tensor:
        """Return the labels (n, C) uint8 that each query is led to; raises HashbenchError where all share a class."""
        assert queries.labels is not None
        assert queries.database_labels is not None
        every = torch.unique(queries.database_labels, dim=0).to(queries.labels.device)  # in the order of their bits
        every = every[(every > 0).any(dim=1)]
        possible = (queries.labels.float() @ every.float().T) == 0  # (n, m)
        if not bool(possible.any(dim=1).all()):
            raise HashbenchError("targeted: a query shares a class with every item of the database; leave it out.")
        drawn = queries.draw(lambda stream: torch.rand(1, generator=stream, dtype=torch.float64), "target")
        place = (drawn[:, 0] * possible.sum(dim=1)).long()  # among those possible
        return every[((possible.cumsum(dim=1) == place[:, None] + 1) & possible).int().argmax(dim=1)]

    def toward(self, queries: Queries) -> Tensor:
        """Return the center codes of the target labels."""
        return _centers(queries, self.target_labels(queries), self.weights)


def _centers(queries: Queries, wanted: Tensor | None, weights: Weights) -> Tensor:
    assert wanted is not None
    assert queries.database_codes is not None
    assert queries.database_labels is not None
    codes = 2 * queries.database_codes.to(wanted.device).float() - 1
    return center_codes(codes, queries.database_labels.to(wanted.device), wanted, weights=weights)


def _own_codes(queries: Queries) -> Tensor:
    codes = queries.model.encode(queries.images, batch_size=len(queries.images))
    return torch.from_numpy(codes).to(queries.images.device).float()
