"""Names of classes as people give them: those that stand for no class, for several, or that look alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

NO_NAMES = ("", "nan", "NaN", "NaT", "None", "<NA>")  # what Python and pandas write where a name is missing


def are_several(word: str) -> bool:
    """Return whether a name looks like several, as 0,2 and Action|Drama do."""
    return "|" in word or re.fullmatch(r"\d+(\s*[;,\s]\s*\d+)+", word) is not None


def twins(classes_of: Mapping[str, Iterable[str]]) -> tuple[str, str] | None:
    """Return two class names, of two parts, that look alike but for case, blanks or Unicode's form; None without any.

    `classes_of` gives the classes of each part. Names that one part has both of are two classes, as a and A are.
    """
    seen: dict[str, dict[str, set[str]]] = {}
    for part, classes in classes_of.items():
        for name in sorted(classes):
            alike = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
            seen.setdefault(alike, {}).setdefault(part, set()).add(name)
    for parts in seen.values():
        names = sorted(set().union(*parts.values()))
        if len(names) > 1 and all(len(here) == 1 for here in parts.values()):
            return names[0], names[1]
    return None
