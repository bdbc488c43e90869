"""Factorisations of a sparse matrix of pairs: factors of rows and of columns whose products tell pairs from others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Numbers in the Gram matrices that are held at once: half a gigabyte of float64.
GRAM_BLOCK = 2**26


def factorise_pairs(
    pairs: csr_matrix, width: int, chance: torch.Generator, *, weight: float, regularisation: float, rounds: int
) -> tuple[Tensor, Tensor]:
    """Return factors (rows, width) and (columns, width), float64, of `pairs`, in which any stored value is a pair.

    They minimise sum (1 + weight p_ij) (p_ij - u_i'v_j)^2 + regularisation (|U|^2 + |V|^2) over all i and j, where
    p_ij is 1 for a pair and else 0, by alternating least squares (Hu, Koren & Volinsky, ICDM 2008, with weights that
    do not depend on the values). The columns' factors start from N(0, 0.01 I); a row without a pair has zeros.
    """
    ones = pairs.copy()
    ones.data = np.ones(ones.nnz)
    by_row, by_column = ones.tocsr(), ones.T.tocsr()
    rows = np.zeros((pairs.shape[0], width))
    columns = 0.1 * torch.randn((pairs.shape[1], width), generator=chance, dtype=torch.float64).numpy()
    ridge = regularisation * np.eye(width)
    for _ in range(rounds):
        for given, solved, fixed in ((by_row, rows, columns), (by_column, columns, rows)):
            everywhere = fixed.T @ fixed + ridge
            wanted = (1 + weight) * (given @ fixed)
            for part, grams in gram_matrices(given, fixed):
                solved[part] = np.linalg.solve(everywhere + weight * grams, wanted[part, :, None])[..., 0]
    return torch.from_numpy(rows), torch.from_numpy(columns)


def gram_matrices(pairs: csr_matrix, factors: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield, for some rows of `pairs` (rows, columns) at a time, sum_j d_j d_j' over the pairs (i, j) of each row i.

    `factors` (columns, K) hold the d_j; what is yielded is which rows, and their matrices (n, K, K) float64.
    """
    count, width = pairs.shape[0], factors.shape[1]
    block = max(GRAM_BLOCK // width**2, 1)
    for start in range(0, count, block):
        part = slice(start, min(start + block, count))
        grams = np.empty((part.stop - start, width, width))
        for row in range(start, part.stop):
            mine = factors[pairs.indices[pairs.indptr[row] : pairs.indptr[row + 1]]]
            np.dot(mine.T, mine, out=grams[row - start])
        yield part, grams
