"""Methods that learn from pairs of two kinds of things, such as users and items: codes of rows and of columns.

A sparse matrix holds the pairs; there are no inputs to encode, so a thing that was not in the matrix has no code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from hashbench.methods.contract import MethodInfo
from hashbench.system import seeds

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class PairTask:
    """All that a method of pairs may know of the job: code length, shape of the matrix, device, its seed's streams."""

    bits: int
    num_rows: int
    num_columns: int
    seed: int
    device: torch.device

    def generator(self, *purpose: str | int) -> torch.Generator:
        """Return a fresh CPU generator for the stream (seed, purpose), for example `generator("rotation")`."""
        return seeds.generator(self.seed, *purpose)


class PairMethod(nn.Module):
    """A method that learns codes of rows and of columns from the pairs in a sparse matrix, in one `fit`.

    Registered by `@hashbench.method` like the others. Its state lies in buffers; the codes follow from it.
    """

    info: ClassVar[MethodInfo]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make the module ready to hold buffers before the generated `__init__` sets the fields."""
        self = super().__new__(cls)
        nn.Module.__init__(self)
        return self

    def supports(self, task: PairTask) -> str | None:
        """Return why this method cannot do `task`, as a sentence, or None when it can."""
        return None

    def fit(self, task: PairTask, pairs: csr_matrix) -> None:
        """Learn from `pairs` (num_rows, num_columns), in which a stored value is a pair; a row may have none."""
        raise TypeError(f"{type(self).__name__} must define fit(task, pairs).")

    def row_codes(self) -> Tensor:
        """Return the codes of the rows, bool (num_rows, bits)."""
        raise TypeError(f"{type(self).__name__} must define row_codes().")

    def column_codes(self) -> Tensor:
        """Return the codes of the columns, bool (num_columns, bits)."""
        raise TypeError(f"{type(self).__name__} must define column_codes().")


class PairScorer(PairMethod):
    """A reference that ranks columns by real scores and has no codes: a row of a table to read the others by.

    `task.bits` is how many real numbers it may keep for a row and for a column.
    """

    def scores(self, rows: slice) -> Tensor:
        """Return the scores of all columns for some rows, real (n, num_columns): the larger, the earlier."""
        raise TypeError(f"{type(self).__name__} must define scores(rows).")

    def row_codes(self) -> Tensor:
        """Refuse: there are scores alone."""
        raise TypeError(f"{type(self).__name__} ranks by scores and has no codes.")

    def column_codes(self) -> Tensor:
        """Refuse: there are scores alone."""
        raise TypeError(f"{type(self).__name__} ranks by scores and has no codes.")
