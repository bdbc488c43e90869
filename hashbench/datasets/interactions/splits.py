"""The rules that split pairs of users and items: versioned, and independent of the order of the files.

A rule is never edited: a better one gets the next version and a name of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import numpy as np

from hashbench.datasets.interactions.base import InteractionDataset, InteractionProtocol, Interactions
from hashbench.errors import HashbenchError

TEST_SHARE = 5  # of shares-by-user-v1: one pair in five
Rule = Callable[[Interactions, np.ndarray], np.ndarray]


def split_of(store: Interactions, protocol: InteractionProtocol, evaluate_on: str) -> InteractionDataset:
    """Return the data set as its protocol splits it.

    On "validation" the rule splits the training pairs once more (a source's own split: shares-by-user-v1), and test
    pairs are not used at all. Raises HashbenchError where the data lack what the rule needs, and where no user has a
    relevant pair.
    """
    everything = np.ones(len(store), bool)
    is_test = RULES[protocol.rule](store, everything)
    is_train = ~is_test
    if evaluate_on == "validation":
        rule = "shares-by-user-v1" if protocol.rule == "given-v1" else protocol.rule
        is_test = RULES[rule](store, is_train)
        is_train = is_train & ~is_test
    if protocol.liked is not None:
        if store.rating is None:
            raise HashbenchError(
                f"{protocol.full_name} counts ratings of {protocol.liked:g} or more, and there are none."
            )
        is_test = is_test & (store.rating >= protocol.liked)
    if not is_train.any():
        raise HashbenchError(
            f"{protocol.full_name} leaves no pair to learn from ({len(store):,} pairs, all to be found); mark some as "
            f"train, or take another protocol."
        )
    if not is_test.any():
        raise HashbenchError(
            f"{protocol.full_name} leaves no user a relevant item to find ({len(store):,} pairs of "
            f"{len(store.users):,} users); give users with more pairs, or another protocol."
        )
    return InteractionDataset(store, protocol, evaluate_on, is_train, is_test)


def _last(store: Interactions, among: np.ndarray) -> np.ndarray:
    """The last pair of each user with two or more, by time; of several at that time, the one whose hash is largest."""
    if store.time is None:
        raise HashbenchError(f"{store.name} has no times, so no pair is the last; add a column time, or take @80-20.")
    chosen = np.flatnonzero(among)
    order = sorted(chosen.tolist(), key=_ranks(store, "last-v1", chosen).__getitem__)
    by_user = sorted(order, key=lambda pair: (store.user[pair], store.time[pair]))  # type: ignore[index]
    user = store.user[by_user]
    ends = np.append(user[1:] != user[:-1], True) & (np.bincount(user, minlength=len(store.users))[user] > 1)
    return _mask(store, np.array(by_user)[ends])


def _shares_by_user(store: Interactions, among: np.ndarray) -> np.ndarray:
    """One in five of each user's pairs, rounded down: those whose hashes are smallest."""
    chosen = np.flatnonzero(among)
    order = sorted(chosen.tolist(), key=_ranks(store, "shares-by-user-v1", chosen).__getitem__)
    by_user = sorted(order, key=store.user.__getitem__)  # which keeps the order by hash inside
    user = store.user[by_user]
    counts = np.bincount(user, minlength=len(store.users))
    place = np.arange(len(user)) - (np.cumsum(counts) - counts)[user]
    return _mask(store, np.array(by_user)[place < counts[user] // TEST_SHARE])


def _given(store: Interactions, among: np.ndarray) -> np.ndarray:
    """What the source says."""
    if store.part is None:
        raise HashbenchError(f"{store.name} comes without a split; add a column part with train and test.")
    return among & (store.part == "test")


RULES: dict[str, Rule] = {"given-v1": _given, "last-v1": _last, "shares-by-user-v1": _shares_by_user}


def _ranks(store: Interactions, rule: str, pairs: np.ndarray) -> dict[int, bytes]:
    """Return what ranks each of the pairs: the sha256 of the rule and of the names of user and item."""
    start = rule.encode() + b"\0"
    return {pair: sha256(start + store.names[pair]).digest() for pair in pairs.tolist()}


def _mask(store: Interactions, pairs: np.ndarray) -> np.ndarray:
    found = np.zeros(len(store), bool)
    found[pairs] = True
    return found
