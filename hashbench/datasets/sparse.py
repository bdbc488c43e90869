"""Sparse rows: inputs as a CSR matrix of scipy, such as the term vectors of documents, and their dense form by batches.

Nothing here densifies more than the rows that it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np
    from scipy.sparse import csr_array, csr_matrix
    from typing_extensions import TypeIs

    SparseRows: TypeAlias = csr_array[Any, Any] | csr_matrix[Any]
    Inputs: TypeAlias = np.ndarray | SparseRows


def is_sparse(inputs: Any) -> TypeIs[SparseRows]:
    """Tell whether `inputs` are rows of a CSR matrix; imports no scipy."""
    return type(inputs).__module__.startswith("scipy.sparse") and inputs.format == "csr"


def canonical_rows(inputs: SparseRows) -> SparseRows:
    """Return `inputs` with each row's nonzeros sorted by column, each column once, and no stored zeros."""
    if not (inputs.has_canonical_format and inputs.data.all()):
        inputs = inputs.copy()  # the caller's stay as they are
        inputs.sum_duplicates()
        inputs.eliminate_zeros()
    return inputs


def bytes_of_rows(inputs: Inputs) -> Iterator[bytes]:
    """Yield what names each row: its bytes; of a sparse one the columns (int64) and values of its sorted nonzeros."""
    if not is_sparse(inputs):
        yield from (row.tobytes() for row in inputs)
        return
    columns, values, bounds = inputs.indices.astype("<i8"), inputs.data.astype("<f4"), inputs.indptr.tolist()
    for start, stop in pairwise(bounds):
        yield columns[start:stop].tobytes() + values[start:stop].tobytes()


def dense(rows: Inputs) -> np.ndarray:
    """Return `rows` (n, width) as a dense array."""
    return rows.toarray() if is_sparse(rows) else rows
