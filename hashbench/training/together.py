"""Trainings of several seeds side by side: the same numbers, to the bit, as one after another, in less time.

A step on fixed features is many small operations. Here those of the loss are done once for all seeds, by
`torch.func.vmap`, and so is the optimiser's step; each network takes its own batch, in its own seed's order.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from hashbench.datasets.loading.batch import Batch
from hashbench.methods.contract import DeepMethod, defines
from hashbench.system import seeds
from hashbench.training.loop import Losses, Sums, Training, make_optimizer, progress_bar


def why_not_together(cls: type[DeepMethod]) -> str | None:
    """Return why trainings of several seeds of a method cannot go on side by side, as a sentence, or None."""
    if not cls.maps_over_seeds:
        return "it does not declare `maps_over_seeds`."
    for hook in ("training_step", "after_step"):
        if defines(cls, hook):
            return f"it has a {hook} of its own."
    return None


def train_together(trainings: Sequence[Training], *, bar: str | None) -> bool:
    """Train what differs in nothing but the seed to the end, from the same epoch; returns False where that cannot be.

    It can where the loss of several seeds, and its gradient, have the bits of each seed's own, which is tried on the
    first batch: how a product is rounded may depend on the machine, and on its size. Raises HashbenchError as `train`
    does, for the first seed whose loss is not finite.
    """
    optimizer = _JointOptimizer.of(trainings)
    if optimizer is None or not _same_bits(trainings):
        return False
    first = trainings[0]
    with progress_bar(trainings, bar) as shown:
        for epoch in range(first.progress.epochs_done, first.recipe.epochs):
            started = time.perf_counter()
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


class MappedLoss:
    """The losses of several methods of one class, which differ in their tensors alone, as one function.

    Buffers are read when it is made: between epochs they may change.
    """

    def __init__(self, methods: Sequence[DeepMethod]):
        self._loss = _Loss(methods[0])
        self._parameters = [dict(method.named_parameters()) for method in methods]
        buffers = [dict(method.named_buffers()) for method in methods]
        self._buffers = {f"method.{name}": torch.stack([its[name] for its in buffers]) for name in buffers[0]}

    def __call__(self, outs: Tensor, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Return the loss terms (S,) of outputs (S, n, width), a batch for each; the batches' inputs are not read."""
        first = batches[0]
        parameters = {
            f"method.{name}": torch.stack([its[name] for its in self._parameters]) for name in self._parameters[0]
        }
        index = torch.stack([batch.index for batch in batches])
        labels = None if first.labels is None else torch.stack([batch.labels for batch in batches])  # type: ignore[misc]

        def loss(tensors: dict[str, Tensor], out: Tensor, labels: Tensor | None, index: Tensor) -> dict[str, Tensor]:
            batch = Batch((), labels, index, first.epoch, first.step, first.whole)
            return functional_call(self._loss, tensors, (out, batch), tie_weights=False)

        in_dims = (0, 0, None if labels is None else 0, 0)
        return vmap(loss, in_dims=in_dims)(parameters | self._buffers, outs, labels, index)


class _Loss(nn.Module):
    """A method's loss as a module's forward pass, for functional calls."""

    def __init__(self, method: DeepMethod):
        super().__init__()
        self.method = method

    def forward(self, out: Tensor, batch: Batch) -> dict[str, Tensor]:
        return self.method.loss(out, batch)


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


def _same_bits(trainings: Sequence[Training]) -> bool:
    """Return whether the mapped loss of a batch, and its gradient, have the bits of each seed's own; copies are tried.

    Both sizes that batches of an epoch have are tried, the last of which may have one sample more than the others. A
    network that draws from a global generator counts as unequal.
    """
    batches = [next(iter(training.data.batches(training.progress.epochs_done))) for training in trainings]
    task, size = trainings[0].task, len(batches[0].index)
    last = task.num_train - (task.steps_per_epoch - 1) * size
    drawn = torch.get_rng_state()
    networks = [copy.deepcopy(training.network).train() for training in trainings]
    methods = [copy.deepcopy(training.method).train() for training in trainings]
    for count in {size, last}:
        some = [_resized(batch, count) for batch in batches]
        outs = [network(batch.inputs).detach() for network, batch in zip(networks, some, strict=True)]
        try:
            found = _step(methods, torch.stack(outs), some)
        except (RuntimeError, TypeError, IndexError):  # what vmap cannot map; a loss that reads the inputs
            return False
        for at, method in enumerate(methods):
            alone = _step([method], outs[at][None], some[at : at + 1])
            if not all(torch.equal(mine[at], its[0]) for mine, its in zip(found, alone, strict=True)):
                return False
    return torch.equal(drawn, torch.get_rng_state())


def _resized(batch: Batch, count: int) -> Batch:
    """Return a batch of the first samples; where it needs one more than there are, the first is there twice."""
    rows = torch.arange(count) % len(batch.index)
    labels = None if batch.labels is None else batch.labels[rows]
    return Batch((batch.inputs[rows],), labels, batch.index[rows], batch.epoch, batch.step, count)


def _step(methods: Sequence[DeepMethod], outs: Tensor, batches: Sequence[Batch]) -> list[Tensor]:
    """Return a loss's terms (S, T), and gradients: of the outputs (S, n, width), and of each parameter (S, ...).

    Of a single method they are computed as a training of it alone does.
    """
    outs = outs.clone().requires_grad_()
    if len(methods) == 1:
        terms = {name: term[None] for name, term in methods[0].loss(outs[0], batches[0]).items()}
    else:
        terms = MappedLoss(methods)(outs, batches)
    stacked = torch.stack(list(terms.values()), dim=1)
    parameters = [[*method.parameters()] for method in methods]
    flat = [tensor for its in parameters for tensor in its]
    of_outs, *of_flat = torch.autograd.grad(stacked.sum(), [outs, *flat], materialize_grads=True)
    rows = [of_flat[at * len(its) : (at + 1) * len(its)] for at, its in enumerate(parameters)]
    return [stacked.detach(), of_outs, *(torch.stack(tensors) for tensors in zip(*rows, strict=True))]
