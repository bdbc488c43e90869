"""The losses of several seeds of a method as one function, mapped over their tensors by `torch.func.vmap`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from hashbench.datasets.loading.batch import Batch
from hashbench.methods.contract import DeepMethod


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
