"""The contract of methods that learn from pairs, as checks on a toy matrix of two communities."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from hashbench.checks.method_checks import Check
from hashbench.methods.contract import options, resolve_fields
from hashbench.methods.pairs import PairMethod, PairScorer, PairTask

NUM_ROWS, NUM_COLUMNS = 90, 70  # more than the longest code has bits, which a factorisation needs
EMPTY = 4  # the row, and the column, without a pair where there is one


@dataclass(eq=False)
class PairCase:
    """A method of pairs at one code length on the toy matrix."""

    cls: type[PairMethod]
    bits: int
    data_kind: str = "pairs"

    def __str__(self) -> str:
        return f"{self.data_kind} at {self.bits} bits"

    @property
    def task(self) -> PairTask:
        """The task, seed 0, on the CPU."""
        return PairTask(self.bits, NUM_ROWS, NUM_COLUMNS, 0, torch.device("cpu"))

    @cached_property
    def fitted(self) -> PairMethod:
        """The method after a fit."""
        return self.fit(pairs())

    def new(self) -> PairMethod:
        """Return the method before a fit, with its default fields."""
        made: PairMethod = self.cls(**resolve_fields(self.cls.info.name, options(self.cls), {}))
        return made

    def supports(self) -> str | None:
        """Return why the method does not do the task, or None."""
        return self.new().supports(self.task)

    def fit(self, given: scipy.sparse.csr_matrix) -> PairMethod:
        """Return a new method fitted to a matrix."""
        method = self.new()
        method.fit(self.task, given)
        return method


def pairs(*, empty: bool = False) -> scipy.sparse.csr_matrix:
    """Return the toy (90, 70) float32: rows and columns of one community are often paired; with `empty`, some never."""
    drawn = np.random.default_rng(7)
    row, column = np.arange(NUM_ROWS)[:, None] % 2, np.arange(NUM_COLUMNS)[None] % 2
    dense = drawn.random((NUM_ROWS, NUM_COLUMNS)) < np.where(row == column, 0.4, 0.05)
    if empty:
        dense[EMPTY], dense[:, EMPTY] = False, False
    return scipy.sparse.csr_matrix(dense.astype(np.float32))


def fits(case: PairCase) -> str | None:
    """Fit, and look at what is kept, and at the matrix afterwards."""
    given = pairs()
    method = case.fit(given)
    if not method.state_dict():
        return "fit left no buffer, so nothing could be saved."
    wanted = pairs()
    same = given.shape == wanted.shape and all(
        np.array_equal(getattr(given, part), getattr(wanted, part)) for part in ("data", "indices", "indptr")
    )
    return None if same else "fit changed the matrix of pairs, which others use too; let it work on a copy."


def codes_are_bool(case: PairCase) -> str | None:
    """Look at the codes of rows and of columns."""
    return _wrong_codes(case.fitted, case)


def seed_decides(case: PairCase) -> str | None:
    """Fit again with the same seed, the global generators elsewhere."""
    torch.manual_seed(12345)
    np.random.seed(12345)
    random.seed(12345)
    other = case.fit(pairs())
    same = all(torch.equal(one, two) for one, two in zip(_found(case.fitted), _found(other), strict=True))
    return None if same else "two fits with one seed give different codes; draw chance from task.generator(purpose)."


def state_survives(case: PairCase) -> str | None:
    """Give the saved state to a new method."""
    loaded = case.new()
    for name, value in case.fitted.state_dict().items():
        loaded.register_buffer(name, value.clone())
    same = all(torch.equal(one, two) for one, two in zip(_found(case.fitted), _found(loaded), strict=True))
    return None if same else "the loaded state gives other codes; keep what the codes need in buffers."


def survives_an_empty_row(case: PairCase) -> str | None:
    """Fit to a matrix with a row and a column that have no pair."""
    method = case.fit(pairs(empty=True))
    for name, value in method.named_buffers():
        if not value.isfinite().all():
            return f"'{name}' is not finite after a fit to a row and a column without a pair."
    return _wrong_codes(method, case)


def _found(method: PairMethod) -> tuple[Tensor, ...]:
    """Return all that a fitted method tells of the pairs: codes of rows and columns, or scores."""
    if isinstance(method, PairScorer):
        return (method.scores(slice(None)),)
    return method.row_codes(), method.column_codes()


def _wrong_codes(method: PairMethod, case: PairCase) -> str | None:
    if isinstance(method, PairScorer):
        return _wrong_scores(method)
    for what, codes, count in zip(("row", "column"), _found(method), (NUM_ROWS, NUM_COLUMNS), strict=True):
        wanted = (count, case.bits)
        if codes.dtype != torch.bool or tuple(codes.shape) != wanted:
            return f"{what}_codes are {codes.dtype} of shape {tuple(codes.shape)}, not torch.bool of shape {wanted}."
    return None


def _wrong_scores(method: PairScorer) -> str | None:
    scores, wanted = method.scores(slice(1, 5)), (4, NUM_COLUMNS)
    if not scores.is_floating_point() or tuple(scores.shape) != wanted:
        return f"scores of four rows are {scores.dtype} of shape {tuple(scores.shape)}, not real of shape {wanted}."
    if not scores.isfinite().all():
        return "scores are not finite, so they rank nothing."
    return None if torch.equal(scores, method.scores(slice(None))[1:5]) else "scores of some rows are not those of all."


PAIR_CHECKS = (
    Check("it fits pairs, and keeps its state in buffers", fits, decides=True),
    Check(
        "codes of rows and columns are bool (n, bits), or scores real (n, num_columns)", codes_are_bool, decides=True
    ),
    Check("one seed gives one result, wherever the global generators stand", seed_decides),
    Check("an empty row and column do no harm", survives_an_empty_row),
    Check("the saved state gives the same codes", state_survives),
)
