"""Is a difference real: Welch's t-test over seeds, a sign-flip test over queries, Holm's correction for many tests."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

FEWEST = 4  # seeds on each side: with fewer a t-test finds next to nothing, and its assumptions cannot be seen
PERMUTATIONS = 10_000
_CHUNK = 1 << 20  # random signs in memory at a time


def welch(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the two-sided p-value of Welch's t-test for equal means, variances unequal (Welch, Biometrika 1947).

    None where it has nothing to go by: fewer than two values on a side, or no variation on either.
    """
    from scipy.special import stdtr  # Student's t alone: importing scipy.stats takes a second and a half

    if min(len(first), len(second)) < 2:
        return None
    # Compared as they are: the computed variance of equal values need not be exactly zero.
    if len(set(first)) == len(set(second)) == 1:
        return None
    a, b = (statistics.variance(side) / len(side) for side in (first, second))
    t = (statistics.fmean(first) - statistics.fmean(second)) / (a + b) ** 0.5
    freedom = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    return float(2 * stdtr(freedom, -abs(t)))


def paired(differences: Sequence[float]) -> float | None:
    """Return the two-sided p-value of the paired t-test for a mean difference of zero (Student, Biometrika 1908).

    None for fewer than two differences, and where all are the same.
    """
    from scipy.special import stdtr

    if len(set(differences)) < 2:
        return None
    t = statistics.fmean(differences) / (statistics.variance(differences) / len(differences)) ** 0.5
    return float(2 * stdtr(len(differences) - 1, -abs(t)))


def holm(p: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number, in the same order (Holm, Scand. J. Statist. 1979)."""
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected.tolist()


def permutations_for(tests: int) -> int:
    """Return how many sign flips a family of tests needs, so that Holm's correction can leave a p-value of 0.01."""
    return max(PERMUTATIONS, 100 * tests)


def sign_flip(differences: np.ndarray, *, permutations: int = PERMUTATIONS, seed: int = 0) -> np.ndarray:
    """Return the two-sided p-values of the paired randomisation test for each row of differences (tests, Q).

    Under the null hypothesis the two methods are interchangeable at each query, so its difference has either sign: p
    is the share of random signs whose mean difference is at least as large as the one seen, itself counted (Phipson &
    Smyth, 2010). All tests share the signs. Smucker et al. (CIKM 2007) recommend it for retrieval.
    """
    differences = np.asarray(differences, dtype=float)
    tests, queries = differences.shape
    # The sum over all queries less twice the sum over those flipped is the sum with signs.
    seen = differences.sum(axis=1)
    limit = np.abs(seen) - 1e-12 * np.abs(differences).sum(axis=1)  # equal sums may differ in their last digits
    rng = np.random.default_rng(seed)
    extreme = np.zeros(tests, dtype=np.int64)
    rows = max(1, _CHUNK // queries)
    for start in range(0, permutations, rows):
        flipped = _random_bits(rng, min(rows, permutations - start), queries)
        extreme += (np.abs(seen - 2 * (flipped @ differences.T)) >= limit).sum(axis=0)
    return (extreme + 1) / (permutations + 1)


def _random_bits(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Return (rows, columns) float64 of zeros and ones."""
    drawn = np.frombuffer(rng.bytes(rows * -(-columns // 8)), dtype=np.uint8).reshape(rows, -1)
    return np.unpackbits(drawn, axis=1, count=columns).astype(float)
