"""HashCF: the coarse model of CIGAR (Kang & McAuley, CIKM 2019), pairwise ranking by codes that tanh approaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import hashbench

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SCALE = 10.0  # of a score: (10 / K) times the product of two codes


@hashbench.method("hashcf", paper="arXiv:1909.05475", version=1, fidelity="account", family="recommendation", year=2019)
class HashCF(hashbench.PairMethod):
    """A row's own column goes before one that is not: -sum log sigmoid(s_ui - s_uj), s = (10 / K) b_u'd_i.

    Codes are tanh(beta p) of factors p while these are learned, and beta grows from 1, geometrically over the epochs.
    After an account of the paper; how beta grows, the size of a batch and the start, N(0, 0.01 I), are ours.
    """

    epochs: int = hashbench.option(100, "passes over the pairs; the paper's account: 100")
    learning_rate: float = hashbench.option(1e-3, "of Adam; the paper's account: 1e-3")
    regularisation: float = hashbench.option(1e-3, "weight of the squares of the factors in a batch")
    batch_size: int = hashbench.option(1024, "pairs in a step, each with a column that is drawn")
    sharpness: float = hashbench.option(10.0, "beta in the last epoch")

    rows: Tensor  # (num_rows, K) bool
    columns: Tensor  # (num_columns, K) bool

    def supports(self, task: hashbench.PairTask) -> str | None:
        """Refuse a training without epochs, and a beta that shrinks."""
        if self.epochs < 1 or self.batch_size < 1 or self.learning_rate <= 0 or self.regularisation < 0:
            return "epochs and batch_size must be at least 1, learning_rate above 0 and regularisation at least 0."
        return None if self.sharpness >= 1 else "sharpness must be at least 1, with which beta begins."

    def fit(self, task: hashbench.PairTask, pairs: csr_matrix) -> None:
        """Train the factors by Adam, on pairs in a drawn order and other columns that are drawn."""
        chance, device = task.generator("training"), task.device
        rows, columns = (
            (0.1 * torch.randn((count, task.bits), generator=task.generator(which))).to(device).requires_grad_()
            for which, count in (("rows", task.num_rows), ("columns", task.num_columns))
        )
        learned = Unpaired(pairs)
        optimiser = torch.optim.Adam([rows, columns], lr=self.learning_rate)
        for epoch in range(self.epochs):
            beta = self.sharpness ** (epoch / max(self.epochs - 1, 1))
            order = torch.randperm(len(learned.row), generator=chance)
            others = learned.draw(chance)
            triples = torch.stack([learned.row, learned.column, others])[:, order].to(device)
            for row, column, other in (batch.unbind() for batch in triples.split(self.batch_size, dim=1)):
                mine, its, theirs = (
                    F.embedding(at, factors) for at, factors in ((row, rows), (column, columns), (other, columns))
                )
                optimiser.zero_grad()
                ranking_loss(mine, its, theirs, beta=beta, regularisation=self.regularisation).backward()
                optimiser.step()
        self.register_buffer("rows", rows.detach() >= 0)
        self.register_buffer("columns", columns.detach() >= 0)

    def row_codes(self) -> Tensor:
        """Return the codes of the rows, bool (num_rows, bits)."""
        return self.rows

    def column_codes(self) -> Tensor:
        """Return the codes of the columns, bool (num_columns, bits)."""
        return self.columns


def ranking_loss(row: Tensor, column: Tensor, other: Tensor, *, beta: float, regularisation: float) -> Tensor:
    """Return the loss of factors (n, K) of rows, of their columns, and of others that are not theirs, a sum over n."""
    code, gap = torch.tanh(beta * row), torch.tanh(beta * column) - torch.tanh(beta * other)
    margin = SCALE / row.shape[1] * (code * gap).sum(dim=1)
    squares = sum(factors.square().sum() for factors in (row, column, other))
    return -F.logsigmoid(margin).sum() + regularisation * squares


class Unpaired:
    """The pairs of rows that lack a column, and columns that are drawn for them, uniformly among those not theirs."""

    row: Tensor  # (pairs,) int64
    column: Tensor  # (pairs,) int64

    def __init__(self, pairs: csr_matrix):
        count, self._width = pairs.shape
        degrees = np.diff(pairs.indptr)
        row, column = np.repeat(np.arange(count), degrees), pairs.indices.astype(np.int64)
        self._pairs = np.append(np.sort(row * self._width + column), -1)  # -1: what a key beyond the last compares to
        kept = (degrees < self._width)[row]
        self.row, self.column = torch.from_numpy(row[kept]), torch.from_numpy(column[kept])

    def draw(self, chance: torch.Generator) -> Tensor:
        """Return a column (pairs,) int64 for each pair, with which its row has no pair."""
        drawn = torch.randint(self._width, self.row.shape, generator=chance)
        again = self._paired(drawn, slice(None))
        while len(again):
            drawn[again] = torch.randint(self._width, again.shape, generator=chance)
            again = again[self._paired(drawn[again], again)]
        return drawn

    def _paired(self, columns: Tensor, of: slice | Tensor) -> Tensor:
        """Return which of the columns, of the pairs `of`, are their rows' own: positions, int64."""
        keys = (self.row[of] * self._width + columns).numpy()
        found = self._pairs[np.searchsorted(self._pairs[:-1], keys)] == keys
        return torch.from_numpy(np.flatnonzero(found))
