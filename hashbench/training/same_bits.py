"""Whether the loss of several seeds, computed at once, has the bits of each seed's own: what no declaration promises.

How a product is rounded depends on the machine and on its size, and shows in some values alone. So many are tried.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from hashbench.datasets.loading.batch import Batch
from hashbench.methods.contract import DeepMethod
from hashbench.training.loop import Training
from hashbench.training.mapped_loss import MappedLoss

_COMPARED = 1 << 14  # outputs that are tried before the first step, of all seeds and each size of a batch
_MOST_TRIES = 64  # with each size of a batch


def same_bits(trainings: Sequence[Training], epoch: int, *, begun: bool) -> bool:
    """Return whether the mapped loss of batches, and its gradient, have the bits of each seed's own; copies are tried.

    The networks' outputs for the first batch of the epoch are tried, and normal ones: one after the training has
    `begun`, many before. Both sizes that batches of an epoch have are tried, the last of which may have one sample more
    than the others. A loss that changes its method, a parameter without a gradient, and a network that draws from a
    global generator count as unequal.
    """
    batches = [next(iter(training.data.batches(epoch))) for training in trainings]
    task, size = trainings[0].task, len(batches[0].index)
    last = task.num_train - (task.steps_per_epoch - 1) * size
    drawn = torch.get_rng_state()
    networks = [copy.deepcopy(training.network).train() for training in trainings]
    methods = [copy.deepcopy(training.method).train() for training in trainings]
    before = [_state(method) for method in methods]
    for count in {size, last}:
        some = [_resized(batch, count) for batch in batches]
        own = [network(batch.inputs).detach() for network, batch in zip(networks, some, strict=True)]
        for outs in _tried(torch.stack(own), begun=begun):
            if not _same_step(methods, outs, some):
                return False
    unchanged = all(_equal(_state(method), its) for method, its in zip(methods, before, strict=True))
    return unchanged and torch.equal(drawn, torch.get_rng_state())


def _tried(outs: Tensor, *, begun: bool) -> Iterator[Tensor]:
    """Yield the outputs that are tried, (S, n, width): those of the networks, then normal ones, the same each time."""
    yield outs
    generator = torch.Generator().manual_seed(0)
    for _ in range(1 if begun else min(-(-_COMPARED // outs.numel()), _MOST_TRIES)):
        yield torch.randn(outs.shape, generator=generator).to(outs)


def _same_step(methods: Sequence[DeepMethod], outs: Tensor, batches: Sequence[Batch]) -> bool:
    try:
        found = _step(methods, outs, batches)
        for at, method in enumerate(methods):
            alone = _step([method], outs[at][None], batches[at : at + 1])
            if not all(torch.equal(mine[at], its[0]) for mine, its in zip(found, alone, strict=True)):
                return False
    except (RuntimeError, TypeError, IndexError):  # what vmap cannot map; a loss that reads the inputs
        return False
    return True


def _resized(batch: Batch, count: int) -> Batch:
    """Return a batch of the first samples; where it needs one more than there are, the first is there twice."""
    rows = torch.arange(count) % len(batch.index)
    labels = None if batch.labels is None else batch.labels[rows]
    return Batch((batch.inputs[rows],), labels, batch.index[rows], batch.epoch, batch.step, count)


def _step(methods: Sequence[DeepMethod], outs: Tensor, batches: Sequence[Batch]) -> list[Tensor]:
    """Return a loss's terms (S, T), and gradients: of the outputs (S, n, width), and of each parameter (S, ...).

    Of a single method they are computed as a training of it alone does. Raises RuntimeError for a parameter that has no
    gradient: an optimiser leaves that as it is, and a gradient of 0 it does not.
    """
    outs = outs.clone().requires_grad_()
    if len(methods) == 1:
        terms = {name: term[None] for name, term in methods[0].loss(outs[0], batches[0]).items()}
    else:
        terms = MappedLoss(methods)(outs, batches)
    stacked = torch.stack(list(terms.values()), dim=1)
    parameters = [[*method.parameters()] for method in methods]
    flat = [tensor for its in parameters for tensor in its]
    of_outs, *of_flat = torch.autograd.grad(stacked.sum(), [outs, *flat])
    rows = [of_flat[at * len(its) : (at + 1) * len(its)] for at, its in enumerate(parameters)]
    return [stacked.detach(), of_outs, *(torch.stack(tensors) for tensors in zip(*rows, strict=True))]


def _state(method: DeepMethod) -> dict[str, Any]:
    """Return copies of a method's tensors, and its numbers and texts, which a loss must leave as they are."""
    plain = {name: value for name, value in vars(method).items() if isinstance(value, bool | int | float | str)}
    return {**plain, **{name: buffer.clone() for name, buffer in method.named_buffers()}}


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) if isinstance(value, Tensor) else value == other[name]
        for name, value in one.items()
    )
