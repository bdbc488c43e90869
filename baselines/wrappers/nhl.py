"""NHL: Nested Hash Layer, code lengths that share one layer (He et al., arXiv:2412.08922)."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hashbench


@hashbench.method("nhl", paper="arXiv:2412.08922", version=1, fidelity="published", family="wrappers", year=2024)
class NHL(hashbench.DeepMethod):
    """Nested Hash Layer: one linear layer, of whose outputs the first 16, 32, ... are codes with a loss each.

    The loss is the sum over the L lengths of w_l (the base's loss on the first l outputs + lambda D_l). D_l distils the
    next longer length, without gradient, into l: the mean of (G_l - G_l')^2, G the batch's Gram matrices with rows of
    length 1. Where the gradients of lengths s < l at the layer's first s rows are against each other, g_s g_l < 0, the
    loss of l is scaled by at most beta |g|^2 / ((L - 1) (-g_s g_l)), g that of the shortest length, and by no more than
    the loss of the next length after s is; w_l is the product over all s, times L by the sum of all w. All that is the
    authors' code's, but that it leaves the longest length out where both distillation and weights are on, save for the
    layer's own gradient, where that length counts once more. The layer takes the place of the base's head. Bases with a
    training step of their own are refused; the authors give MDS a nested twin. Unverified: the paper's own equations.
    """

    base: hashbench.DeepMethod = hashbench.base_method("csq", "the method whose loss each length has")
    distillation: float = hashbench.option(
        1.0, "lambda, weight of the distillation, as in the authors' commands; by their default 0.1"
    )
    adaptive: bool = hashbench.option(True, "weigh the lengths by how their gradients agree; false: all alike")
    dominance: float = hashbench.option(1.0, "beta, which longer lengths may outweigh shorter ones by")

    prefixes = True
    #: The authors' code, but for its epochs: it stops where mAP on the queries no longer grows.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "resnet50",
        "optimizer": "adam",
        "learning_rate": 1e-5,
        "weight_decay": 1e-5,
        "schedule": "constant",
        "batch_size": 64,
    }

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse bases that need more than their loss, or a length that the base cannot do."""
        name = self.base.info.name
        for hook in ("training_step", "attach", "codes"):
            if getattr(type(self.base), hook) is not getattr(hashbench.DeepMethod, hook):
                return f"its base {name} has a {hook} of its own, and the lengths share one network; use another base."
        for bits in task.lengths:
            reason = self.base.supports(dataclasses.replace(task, bits=bits, lengths=()))
            if reason is not None:
                return f"its base {name} at {bits} bits: {reason}"
        return None if self.dominance >= 0 else "dominance must be 0 or more."

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Make the base as often as there are lengths: `base` is of the longest one."""
        shorter = [copy.deepcopy(self.base) for _ in task.lengths[:-1]]
        self.shorter = nn.ModuleList(shorter)
        self._lengths = dict(zip(task.lengths, (*shorter, self.base), strict=True))
        for bits, method in self._lengths.items():
            method.setup(dataclasses.replace(task, bits=bits, lengths=()), prepared)
        places = {**{f"shorter.{i}": method for i, method in enumerate(shorter)}, "base": self.base}
        kept = (f"{place}.{name}" for place, method in places.items() for name in method.keeps_samples)
        vars(self)["keeps_samples"] = tuple(kept)

    def head(self, width: int, task: hashbench.Task) -> nn.Module:
        """Return the linear layer, with weights from N(0, .01)."""
        linear = nn.Linear(width, task.bits)
        nn.init.normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)
        return linear

    def parameter_groups(self, network: nn.Module, recipe: Any) -> list[dict[str, Any]]:
        """Return the groups of the bases of all lengths, in which the network is once."""
        groups, seen = [], set()
        for method in self._lengths.values():
            for group in method.parameter_groups(network, recipe):
                group["params"] = [parameter for parameter in group["params"] if parameter not in seen]
                seen.update(group["params"])
                groups.append(group)
        return [group for group in groups if group["params"]]

    def training_step(self, network: Any, batch: hashbench.Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the weighted terms of all lengths, and the outputs of the longest."""
        features = network.features(batch.inputs)
        out = network.outputs(features)
        return self.loss(out, batch, features), out

    def loss(self, out: Tensor, batch: hashbench.Batch, features: Tensor | None = None) -> dict[str, Tensor]:
        """Return the terms of all lengths; without the features, from which weights follow, all lengths weigh alike."""
        assert batch.labels is not None, "NHL is for supervised bases"
        parts = [out[:, :bits] for bits in self._lengths]
        terms = [method.loss(part, batch) for method, part in zip(self._lengths.values(), parts, strict=True)]
        for found, (short, long) in zip(terms, itertools.pairwise(parts), strict=False):
            found["distillation"] = self.distillation * gram_gap(short, long.detach(), batch.labels)
        weights: list[Any] = [1.0] * len(terms)
        if self.adaptive and features is not None and len(terms) > 1 and out.requires_grad:
            weights = self._weights(terms, out, features.detach())
        return {
            f"{bits} bits, {name}": weight * term
            for bits, weight, found in zip(self._lengths, weights, terms, strict=True)
            for name, term in found.items()
        }

    def _weights(self, terms: list[dict[str, Tensor]], out: Tensor, features: Tensor) -> list[Tensor]:
        """Return each length's weight, from the gradients of the lengths' losses by the layer's weights."""
        slopes = []
        for found in terms:
            total = torch.stack(list(found.values())).sum() + 0 * out.sum()  # a loss may depend on no output
            slopes.append(torch.autograd.grad(total, out, retain_graph=True)[0].T @ features)
        limit = self.dominance * (slopes[0] ** 2).sum() / (len(terms) - 1)
        weights = [torch.ones_like(limit) for _ in terms]
        for i in range(len(terms) - 1):
            most = torch.ones_like(limit)
            for j in range(i + 1, len(terms)):
                against = -(slopes[i] * slopes[j]).sum()  # the shorter length's is 0 beyond its rows
                scale = torch.where(against > limit, limit / against, 1.0).to(limit.dtype).minimum(most)
                weights[j] = weights[j] * scale
                most = scale if j == i + 1 else most
        whole = torch.stack(weights).sum()
        return [len(terms) * weight / whole for weight in weights]

    def after_step(self, network: nn.Module, batch: hashbench.Batch) -> None:
        """Update all bases."""
        for method in self._lengths.values():
            method.after_step(network, batch)

    def epoch_sums(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the sums of all bases."""
        return {
            f"{bits} bits, {name}": value
            for bits, method in self._lengths.items()
            for name, value in method.epoch_sums(out[:, :bits], batch).items()
        }

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Update all bases; returns their diagnostics."""
        found: dict[str, float] = {}
        for bits, method in self._lengths.items():
            prefix = f"{bits} bits, "
            own = {name.removeprefix(prefix): value for name, value in sums.items() if name.startswith(prefix)}
            found |= {prefix + name: value for name, value in method.end_epoch(epoch, own).items()}
        return found


def gram_gap(outputs: Tensor, others: Tensor, labels: Tensor) -> Tensor:
    """Return the mean squared difference of the Gram matrices, with rows of length 1, of the samples with a label."""
    labelled = labels.any(dim=1, keepdim=True)
    first, second = (F.normalize(found @ found.T, dim=1) for found in (outputs * labelled, others * labelled))
    return ((second - first) ** 2).sum() / labelled.sum().clamp(min=1) ** 2
