"""Do mean ranks differ: Friedman's test over settings, then Nemenyi's critical difference (Demšar, JMLR 2006)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

ALPHA = 0.05
FEWEST_ROWS, FEWEST_SETTINGS = 3, 2  # with fewer Friedman's statistic is not defined, or follows no distribution


@dataclass(frozen=True)
class RankTest:
    """Friedman's test of one table of values, and the difference of mean ranks that is significant."""

    rows: int
    settings: int
    statistic: float | None  # chi square with rows - 1 degrees of freedom, corrected for ties; None: not defined
    p: float | None
    difference: float | None  # Nemenyi's, at ALPHA; None where Friedman's test finds no difference, or is not defined

    def __str__(self) -> str:
        return f"{self._friedman()} {self._nemenyi()}".rstrip()

    def _friedman(self) -> str:
        if self.p is None:
            if self.rows >= FEWEST_ROWS and self.settings >= FEWEST_SETTINGS:
                return "Friedman's test is not defined where all rows are equal in each setting."
            return (
                f"Friedman's test is not defined for {self.rows} {'row' if self.rows == 1 else 'rows'} in "
                f"{self.settings} {'setting' if self.settings == 1 else 'settings'}: it needs {FEWEST_ROWS} rows and "
                f"{FEWEST_SETTINGS} settings, so nothing is said about significance."
            )
        p = f"p = {self.p:.3f}" if self.p >= 0.001 else "p < 0.001"
        return (
            f"Friedman's test over {self.settings} settings: chi² = {self.statistic:.2f} with {self.rows - 1} degrees "
            f"of freedom, {p}."
        )

    def _nemenyi(self) -> str:
        if self.p is None:
            return ""
        if self.difference is None:
            return f"No difference at α = {ALPHA}, so no critical difference is drawn."
        return f"Nemenyi's test at α = {ALPHA}: mean ranks differ where they are more than {self.difference:.2f} apart."


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """Return (rows,) mean ranks of `values` (settings, rows): 1 is the highest value, equal values share their mean."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-np.asarray(values, dtype=float), axis=1).mean(axis=0))


def rank_test(values: np.ndarray) -> RankTest:
    """Return Friedman's and Nemenyi's test of `values` (settings, rows), the higher the better."""
    settings, rows = values.shape
    if rows < FEWEST_ROWS or settings < FEWEST_SETTINGS or bool((values == values[:, :1]).all()):
        return RankTest(rows, settings, None, None, None)
    from scipy.stats import friedmanchisquare

    statistic, p = map(float, friedmanchisquare(*values.T))
    return RankTest(rows, settings, statistic, p, critical_difference(rows, settings) if p < ALPHA else None)


def critical_difference(rows: int, settings: int, alpha: float = ALPHA) -> float:
    """Return Nemenyi's critical difference of mean ranks, q sqrt(k(k + 1) / 6N), of k rows in N settings.

    q is the Studentized range's quantile for k groups and infinite degrees of freedom, over the root of two.
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - alpha, rows, math.inf)) / math.sqrt(2)
    return q * math.sqrt(rows * (rows + 1) / (6 * settings))
