"""The parts of a split by the names that people give their folders, lists and rows."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

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


def twins(classes_of: Mapping[str, Iterable[str]]) -> tuple[str, str] | None:
    """Return two class names, of two parts, that look alike but for case, blanks or Unicode's form; None without any.

    `classes_of` gives the classes of each part. Names that one part has both of are two classes, as a and A are.
    """
    seen: dict[str, dict[str, set[str]]] = {}
    for part, classes in classes_of.items():
        for name in classes:
            alike = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
            seen.setdefault(alike, {}).setdefault(part, set()).add(name)
    for parts in seen.values():
        names = sorted(set().union(*parts.values()))
        if len(names) > 1 and all(len(here) == 1 for here in parts.values()):
            return names[0], names[1]
    return None
