"""BCCF: Binary Codes for Collaborative Filtering (Zhou & Zha, KDD 2012), a factorisation and then a rotation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

import hashbench
from hashbench.methods import factorise_pairs, quantizing_rotation

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@hashbench.method(
    "bccf", paper="doi:10.1145/2339530.2339611", version=1, fidelity="account", family="recommendation", year=2012
)
class BCCF(hashbench.PairMethod):
    """The signs of real factors, rotated so that they lose least: min ||B - U R||^2 + ||D - V R||^2, R'R = I.

    After accounts of the paper: a factorisation with K factors, then the rotation of ITQ on rows and columns together.
    The factorisation's loss and regulariser are ours: weighted squares over all cells, in which a rating's value plays
    no part, where the paper's is said to fit the values. They are those of the row `mf`, with its weights, so that the
    two differ in the binarization alone.
    """

    iterations: int = hashbench.option(50, "rounds of the rotation: signs, then R")
    weight: float = hashbench.option(1.0, "how much more a pair weighs than none, in the factorisation")
    regularisation: float = hashbench.option(10.0, "weight of the factors' squares")
    rounds: int = hashbench.option(15, "rounds of alternating least squares")

    rows: Tensor  # (num_rows, K) bool
    columns: Tensor  # (num_columns, K) bool

    def supports(self, task: hashbench.PairTask) -> str | None:
        """Refuse a factorisation without weight or rounds."""
        if self.weight <= 0 or self.regularisation <= 0 or self.rounds < 1 or self.iterations < 0:
            return "weight and regularisation must be above 0, rounds at least 1 and iterations at least 0."
        return None

    def fit(self, task: hashbench.PairTask, pairs: csr_matrix) -> None:
        """Factorise, and rotate the factors of rows and columns together."""
        rows, columns = factorise_pairs(
            pairs,
            task.bits,
            task.generator("factors"),
            weight=self.weight,
            regularisation=self.regularisation,
            rounds=self.rounds,
        )
        rotation = quantizing_rotation(
            torch.cat([rows, columns]), task.generator("rotation"), iterations=self.iterations
        )
        self.register_buffer("rows", rows @ rotation >= 0)
        self.register_buffer("columns", columns @ rotation >= 0)

    def row_codes(self) -> Tensor:
        """Return the codes of the rows, bool (num_rows, bits)."""
        return self.rows

    def column_codes(self) -> Tensor:
        """Return the codes of the columns, bool (num_columns, bits)."""
        return self.columns
