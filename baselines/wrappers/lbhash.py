"""LBHash: a surrogate of how the bits of a code depend on each other (Zhu et al., NeurIPS 2022, arXiv:2210.05899)."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import labelled_mean

#: What the entropy at the complement of a block counts at most.
CAP = 16.0


@hashbench.method("lbhash", paper="arXiv:2210.05899", version=1, fidelity="published", family="wrappers", year=2022)
class LBHash(hashbench.DeepMethod):
    """LBHash: outputs whose blocks of 8 bits a trained surrogate takes for those of the class's hash center.

    Bits are permuted at random, anew every 4 epochs, and parted into blocks. A network for each block, 8 -> 256 -> 256
    with SiLU and dropout, turns outputs v into log-probabilities of the 256 values that a block can have. It learns,
    from v with floor(K / 32)^2 bits flipped and without gradient to v, the value [v >= 0] and not its complement: the
    loss is the sum over blocks of CE(value) - min(CE(complement), 16). The hashing network learns v of which it takes
    each block for the center's: the sum over blocks of CE(center's value), the mean over a sample's classes. The base
    gives head, centers and their updates; its own loss counts where `base_weight` says so. All that is the authors'
    code's, but for two of its steps, which are fields: `shared_gradient` and `flipped`. The paper could not be read:
    its settings are unverified, and the code's recipe, by LAMB at 1e-3, is left out, as no recipe has that optimiser.
    """

    base: hashbench.DeepMethod = hashbench.base_method("csq", "the method that gives head and hash centers")
    surrogate_trained: bool = hashbench.option(
        True, "train the surrogate by its own loss; false: it keeps its random weights, where no gradient is shared"
    )
    base_weight: float = hashbench.option(0.0, "weight of the base's own loss")
    shared_gradient: bool = hashbench.option(
        False, "the surrogate learns from the hashing network's loss, too, as in the authors' code"
    )
    flips: int | None = hashbench.option(None, "bits flipped in each sample; none: floor(K / 32)^2")
    flipped: Literal["input", "all"] = hashbench.option(
        "input",
        "where: in the surrogate's input; all: as in the authors' code, in the hashing network's loss as well, and, "
        "drawn anew, in the values that the surrogate learns",
    )
    block: int = hashbench.option(8, "bits of a block")
    hidden: int = hashbench.option(256, "width of the surrogate's hidden layer")
    dropout: float = hashbench.option(0.5, "share of the hidden layer that is dropped, in both losses")
    permute_every: int = hashbench.option(4, "epochs between two permutations of the bits")
    learning_rate_scale: float = hashbench.option(1.0, "the surrogate's learning rate over the head's")

    order: Tensor  # (K,): the permutation of the bits

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse bases without hash centers, blocks that do not fill the bits, and settings without a meaning."""
        name, fields = self.base.info.name, dataclasses.fields(self.base)  # type: ignore[arg-type]
        if "centers" not in {field.name for field in fields if not field.init}:
            return f"its base {name} declares no buffer `centers`, a word for each class; use csq, crh, shc, dpn, mds."
        if type(self.base).codes is not hashbench.DeepMethod.codes:
            return f"its base {name} makes codes in its own way, and blocks are of the outputs' signs."
        if not 1 <= self.block <= 12:
            return "block must be from 1 to 12; the surrogate has an output for each of its 2^block values."
        if task.bits % self.block:
            return f"{task.bits} bits are no multiple of the block's {self.block}; use other bits, or another block."
        if min(self.hidden, self.permute_every) < 1 or not 0 <= self.dropout < 1:
            return "hidden and permute_every must be at least 1, and dropout from 0 to less than 1."
        if self.flips is not None and not 0 <= self.flips <= task.bits:
            return f"flips must be from 0 to the {task.bits} bits."
        return None

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Set up the base, draw the first permutation, and make the surrogate."""
        self.base.setup(task, prepared)
        self.task = task
        self.register_buffer("order", self._permutation(0))
        self._flips = min((task.bits // 32) ** 2, task.bits) if self.flips is None else self.flips
        self.surrogate = Surrogate(
            task.bits // self.block, self.block, self.hidden, self.dropout, task.generator("surrogate")
        ).requires_grad_(self.surrogate_trained or self.shared_gradient)

    def parameter_groups(self, network: nn.Module, recipe: Any) -> list[dict[str, Any]]:
        """Return the base's groups and, where it learns, the surrogate."""
        groups = self.base.parameter_groups(network, recipe)
        if not (self.surrogate_trained or self.shared_gradient):
            return groups
        rate = recipe.learning_rate * self.learning_rate_scale
        return [{"params": [*self.surrogate.parameters()], "lr": rate}, *groups]

    def training_step(self, network: nn.Module, batch: hashbench.Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the terms, the base's from its own step, and the outputs."""
        if not self.base_weight:
            out = network(batch.inputs)
            return self._blocks(out, batch), out
        terms, out = self.base.training_step(network, batch)
        return {**self._weighted(terms), **self._blocks(out, batch)}, out

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the terms of the blocks and, where they count, the base's."""
        terms = self._weighted(self.base.loss(out, batch)) if self.base_weight else {}
        return {**terms, **self._blocks(out, batch)}

    def after_step(self, network: nn.Module, batch: hashbench.Batch) -> None:
        """Update what follows the base's own loss, where that counts."""
        if self.base_weight:
            self.base.after_step(network, batch)

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Update the base, and permute the bits where they are due; returns the base's diagnostics."""
        if (epoch + 1) % self.permute_every == 0:
            self.order.copy_(self._permutation(epoch + 1))
        return self.base.end_epoch(epoch, sums)

    def _permutation(self, epoch: int) -> Tensor:
        return torch.randperm(self.task.bits, generator=self.task.generator("permutation", epoch))

    def _weighted(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.base_weight * term for name, term in terms.items()}

    def _blocks(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the surrogate's loss, which has no gradient to the outputs, and that of the hashing network."""
        assert batch.labels is not None, "LBHash is for supervised bases"
        labels, v = batch.labels, out[:, self.order]
        fixed = v.detach()
        seen, terms = flip(fixed, self._flips), {}
        if self.surrogate_trained:
            values = self._values(flip(fixed, self._flips) if self.flipped == "all" else fixed)
            log_p = self.surrogate(seen)
            right, wrong = (-log_p.gather(2, one[..., None])[..., 0] for one in (values, 2**self.block - 1 - values))
            terms["surrogate"] = labelled_mean((right - wrong.clamp(max=CAP)).sum(dim=1), labels)
        entered = v + (seen - fixed) if self.flipped == "all" else v
        log_p = self.surrogate(entered, frozen=not self.shared_gradient)
        wanted = self._values(self.base.get_buffer("centers")[:, self.order]).T  # (blocks, C)
        entropy = -log_p.gather(2, wanted.expand(len(out), *wanted.shape)).sum(dim=1)  # (n, C)
        shares = labels / labels.sum(dim=1, keepdim=True).clamp(min=1)
        return {**terms, "blocks": labelled_mean((shares * entropy).sum(dim=1), labels)}

    def _values(self, words: Tensor) -> Tensor:
        """Return the blocks' bits as whole numbers (n, blocks), the first bit counting 1."""
        bits = (words >= 0).view(len(words), -1, self.block)
        return (bits * (2 ** torch.arange(self.block, device=words.device))).sum(dim=2)


class Surrogate(nn.Module):
    """A network with one hidden layer for each block of outputs, which the weights hold along their first axis."""

    def __init__(self, blocks: int, block: int, hidden: int, dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        self.dropout = dropout
        shapes = {"first": (block, hidden), "second": (hidden, 2**block)}
        for name, (width, outputs) in shapes.items():  # as nn.Linear draws them
            for suffix, rows in (("bias", 1), ("weight", width)):
                drawn = 2 * torch.rand(blocks, rows, outputs, generator=generator) - 1
                self.register_parameter(f"{name}_{suffix}", nn.Parameter(drawn / width**0.5))

    def forward(self, v: Tensor, *, frozen: bool = False) -> Tensor:
        """Return the log-probabilities (n, blocks, 2^block) of the values of outputs v (n, bits).

        Where `frozen`, the weights have no gradient.
        """
        first_bias, first, second_bias, second = (one.detach() if frozen else one for one in self.parameters())
        blocks = v.view(len(v), len(first), -1).transpose(0, 1)
        hidden = F.dropout(F.silu(torch.baddbmm(first_bias, blocks, first)), self.dropout, self.training)
        return torch.baddbmm(second_bias, hidden, second).log_softmax(dim=2).transpose(0, 1)


def flip(outputs: Tensor, count: int) -> Tensor:
    """Return the outputs (n, bits) with the signs of `count` random bits of each sample turned round."""
    ranks = torch.rand_like(outputs).argsort(dim=1)
    return torch.where(ranks < count, -outputs, outputs)
