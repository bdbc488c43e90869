"""Trainings of several seeds side by side: the same numbers, to the bit, as one after another, in less time.

A step on fixed features is many small operations. Here those of the loss are done once for all seeds, by
`torch.func.vmap`, and so is the optimiser's step; each network takes its own batch, in its own seed's order.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hashbench.methods.contract import DeepMethod, defines
from hashbench.system import seeds
from hashbench.training.loop import Losses, Sums, Training, make_optimizer, progress_bar
from hashbench.training.mapped_loss import MappedLoss
from hashbench.training.same_bits import same_bits


def why_not_together(cls: type[DeepMethod]) -> str | None:
    """Return why trainings of several seeds of a method cannot go on side by side, as a sentence, or None."""
    if not cls.maps_over_seeds:
        return "it does not declare `maps_over_seeds`."
    for hook in ("training_step", "after_step"):
        if defines(cls, hook):
            return f"it has a {hook} of its own."
    return None


def train_together(trainings: Sequence[Training], *, bar: str | None) -> bool:
    """Train what differs in nothing but the seed, from the same epoch; returns False where it cannot go on to the end.

    It can where the loss of several seeds, and its gradient, have the bits of each seed's own, which is tried before
    each epoch: then each training has come as far as the epoch before. Raises HashbenchError as `train` does, for the
    first seed whose loss is not finite.
    """
    optimizer = _JointOptimizer.of(trainings)
    if optimizer is None:
        return False
    first = trainings[0]
    begin = first.progress.epochs_done
    with progress_bar(trainings, bar) as shown:
        for epoch in range(begin, first.recipe.epochs):
            started = time.perf_counter()
            if not same_bits(trainings, epoch, begun=epoch > begin):
                return False
            losses = [Losses(epoch, shown, training.world) for training in trainings]
            sums = _train_epoch(trainings, optimizer, epoch, losses)
            optimizer.share_state(trainings)
            means = [one.means() for one in losses]
            diagnostics = []
            for training, its in zip(trainings, sums, strict=True):
                seeds.seed_globals(training.task.seed, "epoch", epoch)  # no step has drawn from them
                diagnostics.append(training.end_epoch(epoch, its))
            seconds = (time.perf_counter() - started) / len(trainings)
            for training, mean, found in zip(trainings, means, diagnostics, strict=True):
                training.report(epoch, mean, found, seconds=seconds, beside=len(trainings) - 1)
    return True


def _train_epoch(
    trainings: Sequence[Training], optimizer: _JointOptimizer, epoch: int, losses: Sequence[Losses]
) -> list[Sums]:
    """Take one step for each batch, as `train` does for one seed."""
    first = trainings[0]
    for training in trainings:
        training.network.train()
        training.method.train()
    sums = [Sums(training.world) for training in trainings]
    mapped = MappedLoss([training.method for training in trainings])
    for batches in zip(*(training.data.batches(epoch) for training in trainings), strict=True):
        outs = [one.network(batch.inputs) for one, batch in zip(trainings, batches, strict=True)]
        terms = mapped(torch.stack(outs), batches)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step(first.recipe.learning_rate_factor(batches[0].step, first.task.steps_per_epoch))
        values = torch.stack([term.detach() for term in terms.values()], dim=1)
        with torch.no_grad():
            for at, (training, batch) in enumerate(zip(trainings, batches, strict=True)):
                sums[at].add(training.method.epoch_sums(outs[at].detach(), batch), batch)
                losses[at].add(batch, [*terms], values[at])
    return sums


class _JointOptimizer:
    """One optimiser of the parameters of all seeds, and the clipping of each seed's gradient."""

    def __init__(self, joint: torch.optim.Optimizer, trainings: Sequence[Training]):
        self._joint = joint
        self._clip = trainings[0].recipe.gradient_clip
        self._of_seed = [_parameters(training.optimizer) for training in trainings]
        for training in trainings:
            joint.state.update(training.optimizer.state)  # of trainings that were resumed

    @classmethod
    def of(cls, trainings: Sequence[Training]) -> _JointOptimizer | None:
        """Return the optimiser of all, None where their parameter groups differ in more than the tensors."""
        recipe = trainings[0].recipe
        groups = [training.method.parameter_groups(training.network, recipe) for training in trainings]
        merged = []
        for of_seeds in zip(*groups, strict=False):
            plain = [{name: value for name, value in group.items() if name != "params"} for group in of_seeds]
            if any(other != plain[0] for other in plain):
                return None
            merged.append(plain[0] | {"params": [tensor for group in of_seeds for tensor in group["params"]]})
        if any(len(group) != len(merged) for group in groups):
            return None
        return cls(make_optimizer(merged, recipe), trainings)

    def step(self, factor: float) -> None:
        """Clip each seed's gradient, and take the step at learning rates times `factor`."""
        for group in self._joint.param_groups:
            group["lr"] = group["initial_lr"] * factor
        if self._clip:
            self._clip_gradients()
        self._joint.step()
        self._joint.zero_grad(set_to_none=True)

    def share_state(self, trainings: Sequence[Training]) -> None:
        """Give each seed's own optimiser the state and rates of now, as its checkpoint and its log hold them."""
        for training in trainings:
            own = training.optimizer
            own.state.update({tensor: self._joint.state[tensor] for tensor in _parameters(own)})
            for group, joint in zip(own.param_groups, self._joint.param_groups, strict=True):
                group["lr"] = joint["lr"]

    def _clip_gradients(self) -> None:
        """Do what `nn.utils.clip_grad_norm_` does for each seed, in fewer calls."""
        gradients = [[tensor.grad for tensor in its if tensor.grad is not None] for its in self._of_seed]
        flat: list[Any] = [gradient for its in gradients for gradient in its]
        norms = torch.stack(torch._foreach_norm(flat)).view(len(gradients), -1)
        totals = torch.linalg.vector_norm(norms, dim=1)
        factors = (self._clip / (totals + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(flat, [factor for factor, its in zip(factors, gradients, strict=True) for _ in its])


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [tensor for group in optimizer.param_groups for tensor in group["params"]]
