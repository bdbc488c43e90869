"""DCF: Discrete Collaborative Filtering (Zhang et al., SIGIR 2016), codes that are optimised as codes, bit by bit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

import hashbench
from hashbench.methods import coordinate_descent, gram_matrices

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SWEEPS = 5  # over the bits of a side, in each round
RELAXED_ROUNDS = 50  # of the real-valued start, at most
TOLERANCE = 1e-5  # of it: times the larger side, what the norms of U's, V's, X's and Y's moves are below at its end


@hashbench.method(
    "dcf", paper="doi:10.1145/2911451.2911502", version=2, fidelity="published", family="recommendation", year=2016
)
class DCF(hashbench.PairMethod):
    """Codes whose products are the values of the pairs: sum (s_ij - b_i'd_j)^2 - 2 alpha tr(B'X) - 2 beta tr(D'Y).

    s are the values, scaled to [-K, K]; the sum goes over the stored pairs. X and Y are the balanced and decorrelated
    matrices next to B and D (X'1 = 0, X'X = m I). Rows, columns, X and Y are optimal in turn while the others stay, bit
    by bit for B and D. Where all values are equal, all are K.

    The start is that of the official code: the signs of real U and V, from numbers in [0, 1]. There a row with n pairs
    is held small by n alpha |u|^2; and its steps pull at X and Y by 4 alpha and 4 beta, where the objective that the
    code prints has 2. Rows and columns without pairs stay where they start.
    """

    alpha: float = hashbench.option(1e-3, "weight of balanced and decorrelated codes of rows; the official code: 1e-3")
    beta: float = hashbench.option(1e-3, "the same for columns")
    rounds: int = hashbench.option(50, "rounds: rows, columns, X, Y; the official code: 50")

    rows: Tensor  # (num_rows, K) bool
    columns: Tensor  # (num_columns, K) bool

    def supports(self, task: hashbench.PairTask) -> str | None:
        """Refuse more bits than can be balanced and uncorrelated."""
        if self.alpha <= 0 or self.beta <= 0 or self.rounds < 0:
            return "alpha and beta must be above 0, and rounds at least 0."
        if task.bits >= min(task.num_rows, task.num_columns):
            return f"{task.bits} balanced and uncorrelated bits need more rows and columns than that; use fewer bits."
        return None

    def fit(self, task: hashbench.PairTask, pairs: csr_matrix) -> None:
        """Solve the relaxed problem, then the discrete one from its signs."""
        rows, columns, balanced_rows, balanced_columns = self.relaxed(task, pairs)
        by_row, by_column = sides(pairs, task.bits)
        rows, columns = signed(rows), signed(columns)
        for _ in range(self.rounds):
            rows = best_codes(rows, by_row, columns, self.alpha * balanced_rows)
            columns = best_codes(columns, by_column, rows, self.beta * balanced_columns)
            balanced_rows, balanced_columns = balanced(rows), balanced(columns)
        self.register_buffer("rows", rows > 0)
        self.register_buffer("columns", columns > 0)

    def relaxed(self, task: hashbench.PairTask, pairs: csr_matrix) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return real U, V, X and Y, float64, by the official code's rounds of `best_factors`, until they settle."""
        by_row, by_column = sides(pairs, task.bits)
        rows, columns = (
            torch.rand((count, task.bits), generator=task.generator(which), dtype=torch.float64)
            for which, count in (("rows", task.num_rows), ("columns", task.num_columns))
        )
        found = rows, columns, balanced(rows), balanced(columns)
        settled = TOLERANCE * max(task.num_rows, task.num_columns)
        for _ in range(RELAXED_ROUNDS):
            before, (rows, columns, balanced_rows, balanced_columns) = found, found
            rows = best_factors(rows, by_row, columns, balanced_rows, self.alpha)
            columns = best_factors(columns, by_column, rows, balanced_columns, self.beta)
            found = rows, columns, balanced(rows), balanced(columns)
            if max(float(torch.dist(now, then)) for now, then in zip(found, before, strict=True)) < settled:
                break
        return found

    def row_codes(self) -> Tensor:
        """Return the codes of the rows, bool (num_rows, bits)."""
        return self.rows

    def column_codes(self) -> Tensor:
        """Return the codes of the columns, bool (num_columns, bits)."""
        return self.columns


def sides(pairs: csr_matrix, bits: int) -> tuple[csr_matrix, csr_matrix]:
    """Return the matrix, its stored values scaled to [-bits, bits], and its transpose."""
    scaled = pairs.astype(np.float64)
    lowest, highest = (scaled.data.min(), scaled.data.max()) if scaled.nnz else (0.0, 0.0)
    middle, half = (lowest + highest) / 2, (highest - lowest) / 2
    scaled.data = bits * (scaled.data - middle) / half if half > 0 else np.full(scaled.nnz, float(bits))
    return scaled, scaled.T.tocsr()


def best_codes(codes: Tensor, values: csr_matrix, fixed: Tensor, pull: Tensor) -> Tensor:
    """Return codes (n, K) in {-1, +1} of one side, bit by bit the best while the other side's, `fixed` (m, K), stay.

    `values` (n, m) are scaled, `pull` (n, K) is alpha X. A bit stays where both signs are equally good.
    """
    linear = torch.from_numpy(values @ fixed.numpy()) + pull
    found = torch.empty_like(codes)
    for part, grams in gram_matrices(values, fixed.numpy()):
        found[part] = coordinate_descent(codes[part], torch.from_numpy(grams), linear[part], sweeps=SWEEPS)
    return found


def best_factors(factors: Tensor, values: csr_matrix, fixed: Tensor, balanced: Tensor, weight: float) -> Tensor:
    """Return the real U (n, K) that minimises sum (s_ij - u_i'v_j)^2 + weight sum_i (n_i |u_i|^2 - 4 x_i'u_i).

    n_i is the number of row i's pairs; where it has none, u_i is that of `factors`.
    """
    counts = torch.from_numpy(np.diff(values.indptr)).double()
    linear = torch.from_numpy(values @ fixed.numpy()) + 2 * weight * balanced
    ridge = weight * torch.eye(fixed.shape[1], dtype=torch.float64)
    found = torch.empty_like(linear)
    for part, grams in gram_matrices(values, fixed.numpy()):
        found[part] = torch.linalg.solve(
            torch.from_numpy(grams) + counts[part, None, None].clamp(min=1) * ridge, linear[part]
        )
    return torch.where(counts[:, None] > 0, found, factors)


def balanced(codes: Tensor) -> Tensor:
    """Return the X (n, K), float64, that maximises tr(B'X) of codes B (n, K), with X'1 = 0 and X'X = n I.

    X = sqrt(n) P Q' of the singular vectors of the centered B; where its rank is less than K, P is completed by vectors
    that are orthogonal to it and to 1.
    """
    count, bits = codes.shape
    centered = codes - codes.mean(dim=0)
    left, sizes, right = torch.linalg.svd(centered, full_matrices=False)
    rank = int((sizes > sizes[0] * count * torch.finfo(sizes.dtype).eps).sum())
    if rank < bits:
        ones = torch.full((count, 1), 1 / math.sqrt(count), dtype=codes.dtype)
        others = torch.eye(count, bits + 1, dtype=codes.dtype)
        whole = torch.linalg.qr(torch.cat([ones, left[:, :rank], others], dim=1)).Q
        left = torch.cat([left[:, :rank], whole[:, rank + 1 : bits + 1]], dim=1)
    return math.sqrt(count) * left @ right


def signed(factors: Tensor) -> Tensor:
    """Return the signs of real factors, +1 for 0."""
    return torch.where(factors >= 0, 1.0, -1.0).double()
