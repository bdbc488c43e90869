"""A small file of users and items with ratings and times: two communities, each with items of its own."""

from pathlib import Path

import numpy as np

USERS, ITEMS = 40, 30


def some_pairs(seed=0):
    """Return rows (user, item, rating, time) as texts; times are whole days, so that some are equal."""
    drawn = np.random.default_rng(seed)
    user, item = np.arange(USERS)[:, None], np.arange(ITEMS)[None]
    there = drawn.random((USERS, ITEMS)) < np.where(user % 2 == item % 2, 0.5, 0.1)
    rows = []
    for u, i in zip(*there.nonzero(), strict=True):
        rating = drawn.integers(3, 6) if u % 2 == i % 2 else drawn.integers(1, 4)
        rows.append((f"u{u}", f"i{i}", str(rating), str(drawn.integers(1, 9))))
    return rows


def write_pairs(path, rows=None, header="user,item,rating,time"):
    """Write rows to a .csv at `path`, and return it."""
    lines = [header, *(",".join(row) for row in (some_pairs() if rows is None else rows))]
    Path(path).write_text("\n".join(lines) + "\n")
    return path
