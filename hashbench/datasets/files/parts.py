"""The parts of a split by the names that people give their folders, lists and rows."""

from __future__ import annotations

import re

#: The names of each part, in lower case; "validation" gives the queries where nothing else does.
PART_NAMES = {
    "train": ("train", "training", "trn"),
    "test": ("test", "testing", "tst", "query", "queries"),
    "database": ("database", "db", "gallery", "retrieval"),
    "validation": ("val", "valid", "validation", "dev"),
}
PART_OF = {name: part for part, names in PART_NAMES.items() for name in names}


def resembles_part(name: str) -> bool:
    """Return whether one word of a name is that of a part, as in train_set, 01-Test or val2017."""
    return any(word in PART_OF for word in re.split(r"[^a-z]+", name.lower()))
