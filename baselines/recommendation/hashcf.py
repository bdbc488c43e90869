"""HashCF: the coarse model of CIGAR (Kang & McAuley, CIKM 2019), pairwise ranking by codes that tanh approaches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import hashbench

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SCALE = 10.0  # of a score: (10 / K) times the product of two codes
MOST_PAIRS = 10_000_000  # that the steps of an epoch are counted by


@hashbench.method(
    "hashcf", paper="arXiv:1909.05475", version=2, fidelity="published", family="recommendation", year=2019
)
class HashCF(hashbench.PairMethod):
    """A row's own column goes before one that is not: -sum log sigmoid(s_ui - s_uj), s = (10 / K) b_u'd_i.

    Codes are tanh(beta p) of factors p while these are learned; beta = sqrt(1 + growth e) in epoch e, counted from 0.
    As the authors' code: the start is Glorot's uniform one; an epoch has as many batches as the pairs fill (10,000,000
    at most); of each triple of a batch the row is drawn first, then one of its columns and one that is not; Adam moves
    what is in a batch, and leaves the factors and moments of all else.

    Ours: the last epoch counts, where the code looks ten times at held-out pairs, keeps the best and may end early;
    pairs that do not fill a batch make a step all the same; a row that has all columns is never drawn.
    """

    epochs: int = hashbench.option(100, "of as many batches as the pairs fill; the authors' code: 100")
    learning_rate: float = hashbench.option(1e-3, "of Adam; the authors' code: 1e-3")
    regularisation: float = hashbench.option(
        1e-3, "weight of half the squares of a batch's factors; the authors' code: 1e-3, and 0.1 in its example, Yelp"
    )
    batch_size: int = hashbench.option(10_000, "triples that are drawn for a step; the authors' code: 10,000")
    growth: float = hashbench.option(10.0, "how much the square of beta grows in an epoch; the authors' code: 10")

    rows: Tensor  # (num_rows, K) bool
    columns: Tensor  # (num_columns, K) bool

    def supports(self, task: hashbench.PairTask) -> str | None:
        """Refuse a training without epochs, and a beta that shrinks."""
        if self.epochs < 1 or self.batch_size < 1 or self.learning_rate <= 0 or self.regularisation < 0:
            return "epochs and batch_size must be at least 1, learning_rate above 0 and regularisation at least 0."
        return None if self.growth >= 0 else "growth must be at least 0, with which beta stays 1."

    def fit(self, task: hashbench.PairTask, pairs: csr_matrix) -> None:
        """Train the factors, and take their signs."""
        rows, columns = self.factors(task, pairs)
        self.register_buffer("rows", rows >= 0)
        self.register_buffer("columns", columns >= 0)

    def factors(self, task: hashbench.PairTask, pairs: csr_matrix) -> tuple[Tensor, Tensor]:
        """Return factors of rows and columns, trained by lazy Adam on triples that are drawn."""
        chance, device = task.generator("training"), task.device
        rows, columns = (
            glorot((count, task.bits), task.generator(which)).to(device).requires_grad_()
            for which, count in (("rows", task.num_rows), ("columns", task.num_columns))
        )
        triples = Triples(pairs)
        steps = max(min(pairs.nnz, MOST_PAIRS) // self.batch_size, 1) if len(triples.rows) else 0
        optimiser = torch.optim.SparseAdam([rows, columns], lr=self.learning_rate)
        for epoch in range(self.epochs):
            beta = math.sqrt(1 + self.growth * epoch)
            for _ in range(steps):
                batch = triples.draw(self.batch_size, chance).to(device)
                row_at, row = torch.unique(batch[:1], return_inverse=True)
                column_at, both = torch.unique(batch[1:], return_inverse=True)
                loss = ranking_loss(
                    F.embedding(row_at, rows, sparse=True),
                    F.embedding(column_at, columns, sparse=True),
                    torch.cat([row, both]),
                    beta=beta,
                    regularisation=self.regularisation,
                )
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return rows.detach(), columns.detach()

    def row_codes(self) -> Tensor:
        """Return the codes of the rows, bool (num_rows, bits)."""
        return self.rows

    def column_codes(self) -> Tensor:
        """Return the codes of the columns, bool (num_columns, bits)."""
        return self.columns


def glorot(shape: tuple[int, int], chance: torch.Generator) -> Tensor:
    """Return factors of this shape, uniform between -a and a, a = sqrt(6 / (rows + columns of the shape))."""
    return (2 * torch.rand(shape, generator=chance) - 1) * math.sqrt(6 / sum(shape))


def ranking_loss(rows: Tensor, columns: Tensor, triples: Tensor, *, beta: float, regularisation: float) -> Tensor:
    """Return the loss of triples (3, n), a sum over n: of a row, a column of its and one that is not, by their numbers.

    `rows` and `columns` (.., K) are the factors of what the triples number.
    """
    codes, column_codes = torch.tanh(beta * rows), torch.tanh(beta * columns)
    row, column, other = triples
    gap = F.embedding(column, column_codes) - F.embedding(other, column_codes)
    margin = SCALE / rows.shape[1] * (F.embedding(row, codes) * gap).sum(dim=1)
    squares = sum(
        torch.bincount(at.flatten(), minlength=len(factors)).to(factors.dtype) @ factors.square().sum(dim=1)
        for at, factors in ((row, rows), (triples[1:], columns))
    )
    return -F.logsigmoid(margin).sum() + regularisation / 2 * squares


class Triples:
    """Rows with a column of theirs and one that is not: each drawn uniformly, given those before it."""

    rows: Tensor  # int64: those that can be drawn, which have a column and lack one

    def __init__(self, pairs: csr_matrix):
        count, self._width = pairs.shape
        degrees = np.diff(pairs.indptr).astype(np.int64)
        self.rows = torch.from_numpy(np.flatnonzero((degrees > 0) & (degrees < self._width)))
        self._first, self._degrees = torch.from_numpy(pairs.indptr[:-1].astype(np.int64)), torch.from_numpy(degrees)
        self._columns = torch.from_numpy(pairs.indices.astype(np.int64))
        keys = np.repeat(np.arange(count) * self._width, degrees) + self._columns.numpy()
        self._pairs = np.append(np.sort(keys), -1)  # -1: what a key beyond the last compares to

    def draw(self, count: int, chance: torch.Generator) -> Tensor:
        """Return rows, columns of theirs and others, int64 (3, count)."""
        row = self.rows[torch.randint(len(self.rows), (count,), generator=chance)]
        share = torch.rand(count, generator=chance, dtype=torch.float64)  # in [0, 1), so its floor is below the degree
        column = self._columns[self._first[row] + (share * self._degrees[row]).long()]
        other = torch.randint(self._width, (count,), generator=chance)
        again = self._paired(row, other)
        while len(again):
            other[again] = torch.randint(self._width, again.shape, generator=chance)
            again = again[self._paired(row[again], other[again])]
        return torch.stack([row, column, other])

    def _paired(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return which of the columns are their rows' own: positions, int64."""
        keys = (rows * self._width + columns).numpy()
        found = self._pairs[np.searchsorted(self._pairs[:-1], keys)] == keys
        return torch.from_numpy(np.flatnonzero(found))
