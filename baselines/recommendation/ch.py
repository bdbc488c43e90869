"""CH: Collaborative Hashing (Liu et al., CVPR 2014), orthogonal codes of rows and columns that fit the matrix."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import hashbench

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@hashbench.method("ch", version=1, fidelity="account", family="recommendation", year=2014)
class CH(hashbench.PairMethod):
    """Signs of the B and D that maximise tr(B'R D), where B'B = m I and D'D = n I, R (m, n) the matrix of pairs.

    After accounts of the paper: from a random D, each side in turn is the orthogonal one that fits best (Procrustes).
    """

    rounds: int = hashbench.option(50, "rounds: the rows, then the columns")

    rows: Tensor  # (num_rows, K) bool
    columns: Tensor  # (num_columns, K) bool

    def supports(self, task: hashbench.PairTask) -> str | None:
        """Refuse more bits than rows or columns, of which no K are orthogonal then."""
        if self.rounds < 1:
            return "rounds must be at least 1."
        if task.bits > min(task.num_rows, task.num_columns):
            return f"{task.bits} orthogonal bits need as many rows and columns; use fewer bits."
        return None

    def fit(self, task: hashbench.PairTask, pairs: csr_matrix) -> None:
        """Alternate the two Procrustes problems, and keep the signs."""
        start = torch.randn((task.num_columns, task.bits), generator=task.generator("start"), dtype=torch.float64)
        columns = orthogonal(start)
        for _ in range(self.rounds):
            rows = orthogonal(torch.from_numpy(pairs @ columns.numpy()))
            columns = orthogonal(torch.from_numpy(pairs.T @ rows.numpy()))
        self.register_buffer("rows", rows >= 0)
        self.register_buffer("columns", columns >= 0)

    def row_codes(self) -> Tensor:
        """Return the codes of the rows, bool (num_rows, bits)."""
        return self.rows

    def column_codes(self) -> Tensor:
        """Return the codes of the columns, bool (num_columns, bits)."""
        return self.columns


def orthogonal(target: Tensor) -> Tensor:
    """Return the B (n, K), float64, with B'B = n I that maximises tr(B'T), of a target T (n, K)."""
    left, _, right = torch.linalg.svd(target.double(), full_matrices=False)
    return math.sqrt(len(target)) * left @ right
