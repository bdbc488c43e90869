"""Re-assigning classes to hash centers while a network trains (CRH, Yin et al., arXiv:2511.12162)."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment


def reassign(
    cost: np.ndarray, held: np.ndarray, present: np.ndarray, *, solver: str, random: np.random.Generator
) -> np.ndarray:
    """Return the words (C,) that minimise the cost (C, M), one word for at most one class (CRH, eq. 6).

    Classes that are not `present` (C, bool) keep the word they held, reserved before the others choose. `greedy`: in
    random order each class takes its cheapest free word, ties to the lower word; `hungarian`: the exact minimum.
    """
    chosen = held.copy()
    free = np.ones(cost.shape[1], dtype=bool)
    free[held[~present]] = False
    classes = np.flatnonzero(present)
    if solver == "hungarian":
        open_words = np.flatnonzero(free)
        row, column = linear_sum_assignment(cost[np.ix_(classes, open_words)])
        chosen[classes[row]] = open_words[column]
        return chosen
    for c in random.permutation(classes):
        chosen[c] = np.where(free, cost[c], np.inf).argmin()
        free[chosen[c]] = False
    return chosen


def word_costs(codes: np.ndarray, weight: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Return the mean squared distances (C, M) of each class's codes to every word (CRH, eq. 7).

    `codes` (C, K) are the classes' weighted sums of codes in {-1, +1}, `weight` (C,) those of the weights, `words` are
    (M, K).
    """
    # Divided last: with one class per sample the products are whole numbers, so that equal costs are exactly equal.
    return 2 * words.shape[1] - 2 * (codes @ words.T) / np.maximum(weight, 1e-300)[:, None]


def reassignment_due(epoch: int, epochs: int, *, every_until: int, then_every: int) -> bool:
    """Tell whether classes are re-assigned after an epoch (0-based): after each of the first `every_until`, then less.

    Later after every `then_every`-th; never after the last of the `epochs`, which would leave the network behind.
    """
    done = epoch + 1
    return (done <= every_until or done % then_every == 0) and done < epochs
