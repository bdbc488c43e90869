"""Rows to read the others by: real factors and popularity, which have no codes, and random planes through factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

import hashbench
from hashbench.methods import factorise_pairs

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

NO_WEIGHT = "weight and regularisation must be above 0, and rounds at least 1."


@hashbench.method(
    "mf", paper="doi:10.1109/ICDM.2008.22", version=1, fidelity="reference", family="recommendation", year=2008
)
class MF(hashbench.PairScorer):
    """Real factors (Hu, Koren & Volinsky, ICDM 2008): an upper row without codes, K real numbers for each thing.

    What a pair's value is plays no part: a stored value is a pair. Weight and regularisation were chosen on validation
    queries of MovieLens 100k.
    """

    weight: float = hashbench.option(1.0, "how much more a pair weighs than none")
    regularisation: float = hashbench.option(10.0, "weight of the factors' squares")
    rounds: int = hashbench.option(15, "rounds of alternating least squares")

    rows: Tensor  # (num_rows, K)
    columns: Tensor  # (num_columns, K)

    def supports(self, task: hashbench.PairTask) -> str | None:
        """Refuse a factorisation without weight or rounds."""
        return NO_WEIGHT if self.weight <= 0 or self.regularisation <= 0 or self.rounds < 1 else None

    def fit(self, task: hashbench.PairTask, pairs: csr_matrix) -> None:
        """Factorise the matrix of pairs."""
        rows, columns = factorise_pairs(
            pairs,
            task.bits,
            task.generator("factors"),
            weight=self.weight,
            regularisation=self.regularisation,
            rounds=self.rounds,
        )
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)

    def scores(self, rows: slice) -> Tensor:
        """Return the products of factors, (n, num_columns)."""
        return self.rows[rows] @ self.columns.T


@hashbench.method("popularity", version=1, fidelity="reference", family="recommendation")
class Popularity(hashbench.PairScorer):
    """The number of pairs of each column, the same for all rows: what a method must beat to have learned of anyone."""

    counts: Tensor  # (num_columns,) int64
    num_rows: Tensor  # ()

    def fit(self, task: hashbench.PairTask, pairs: csr_matrix) -> None:
        """Count the pairs."""
        counts = torch.bincount(torch.from_numpy(pairs.indices.astype("int64")), minlength=task.num_columns)
        self.register_buffer("counts", counts)
        self.register_buffer("num_rows", torch.tensor(task.num_rows))

    def scores(self, rows: slice) -> Tensor:
        """Return the counts for each of the rows, (n, num_columns)."""
        count = len(range(*rows.indices(int(self.num_rows))))
        return self.counts.double().expand(count, -1)


@hashbench.method(
    "lsh-mf", paper="doi:10.1145/509907.509965", version=1, fidelity="reference", family="recommendation", year=2002
)
class LSHOfFactors(hashbench.PairMethod):
    """Random hyperplanes through the origin of real factors: a row of codes that are not learned.

    The planes tell angles, so how popular a column is, which is in the length of its factors, is lost.
    """

    factors: int = hashbench.option(32, "real factors for each thing, whatever the number of bits")
    weight: float = hashbench.option(1.0, "how much more a pair weighs than none")
    regularisation: float = hashbench.option(10.0, "weight of the factors' squares")
    rounds: int = hashbench.option(15, "rounds of alternating least squares")

    rows: Tensor  # (num_rows, K) bool
    columns: Tensor  # (num_columns, K) bool

    def supports(self, task: hashbench.PairTask) -> str | None:
        """Refuse a factorisation without factors, weight or rounds."""
        if self.factors < 1:
            return "factors must be at least 1."
        return NO_WEIGHT if self.weight <= 0 or self.regularisation <= 0 or self.rounds < 1 else None

    def fit(self, task: hashbench.PairTask, pairs: csr_matrix) -> None:
        """Factorise the matrix of pairs, and draw the planes."""
        rows, columns = factorise_pairs(
            pairs,
            self.factors,
            task.generator("factors"),
            weight=self.weight,
            regularisation=self.regularisation,
            rounds=self.rounds,
        )
        planes = torch.randn((self.factors, task.bits), generator=task.generator("planes"), dtype=torch.float64)
        self.register_buffer("rows", rows @ planes >= 0)
        self.register_buffer("columns", columns @ planes >= 0)

    def row_codes(self) -> Tensor:
        """Return the codes of the rows, bool (num_rows, bits)."""
        return self.rows

    def column_codes(self) -> Tensor:
        """Return the codes of the columns, bool (num_columns, bits)."""
        return self.columns
