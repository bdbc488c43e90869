"""Protocols as data: what a data set's TOML file states, and the reading of it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hashbench.errors import HashbenchError, unknown

RULES = ("given-v1", "overall-v1", "per-class-v1")  # implemented in splits.py
_FAMILY_KEYS = {
    "about": str,
    "num_classes": int,
    "multi_label": bool,
    "citation": str,
    "licence": str,
    "source": str,
    "image_size": int,
    "found_by": list,
}
_PROTOCOL_KEYS = {
    "name": str,
    "summary": str,
    "sizes": dict,
    "train_in_database": bool,
    "rule": str,
    "measures": list,
    "aliases": list,
}
_OPTIONAL_KEYS = {"multi_label", "aliases", "image_size", "found_by"}


class Sizes(NamedTuple):
    """How many images each part of a split holds."""

    train: int
    query: int
    database: int


@dataclass(frozen=True)
class Protocol:
    """One way to split a data set and to measure on it, as its TOML file states it."""

    dataset: str
    name: str
    sizes: Sizes
    train_in_database: bool
    rule: str  # one of RULES
    measures: tuple[str, ...]  # names of measures, the default one first
    summary: str
    num_classes: int
    about: str  # what the data set is, in one line
    citation: str
    licence: str
    source: str
    aliases: tuple[str, ...] = ()  # other full names, as the field's code uses them
    multi_label: bool = False
    image_size: int | None = None  # side in pixels at which image files are prepared; None: the set comes as arrays
    found_by: tuple[str, ...] | None = None  # the files are there if one of these is, below the data folder; (): always

    @property
    def full_name(self) -> str:
        """The name to ask for, `dataset@protocol`."""
        return f"{self.dataset}@{self.name}"


def read_protocols(name: str, path: Path) -> tuple[Protocol, ...]:
    """Return the protocols of data set `name` that the TOML file at `path` states; raises HashbenchError naming it."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HashbenchError(f"The protocols of data set '{name}' cannot be read from {path}: {error}.") from error
    entries = table.pop("protocol", None)
    if not (isinstance(entries, list) and entries and all(isinstance(entry, dict) for entry in entries)):
        raise HashbenchError(f"{path} states no protocol; add a [[protocol]] table.")
    family = _checked(table, _FAMILY_KEYS, str(path))
    if "found_by" in family:
        family["found_by"] = tuple(family["found_by"])
    found = []
    for number, entry in enumerate(entries, start=1):
        where = f"[[protocol]] {number} of {path}"
        entry = _checked(entry, _PROTOCOL_KEYS, where)
        if entry["rule"] not in RULES:
            raise HashbenchError(f"{where} has the unknown rule '{entry['rule']}'; known: {', '.join(RULES)}.")
        if not entry["measures"]:
            raise HashbenchError(f"{where} names no measure; give at least its default one.")
        entry["sizes"] = Sizes(**_checked(entry["sizes"], dict.fromkeys(Sizes._fields, int), f"The sizes in {where}"))
        entry["measures"] = tuple(entry["measures"])
        entry["aliases"] = tuple(entry.get("aliases", ()))
        found.append(Protocol(dataset=name, **entry, **family))
    return tuple(found)


def _checked(table: Mapping[str, Any], keys: Mapping[str, type], where: str) -> dict[str, Any]:
    """Return a copy of `table` after checking that it has these keys, of these types, and no other."""
    for key in table:
        if key not in keys:
            raise unknown("key", key, keys, hint=f"It stands in {where}.")
    for key, kind in keys.items():
        if key not in table and key not in _OPTIONAL_KEYS:
            raise HashbenchError(f"{where} lacks the key '{key}'.")
        if key in table and type(table[key]) is not kind:
            raise HashbenchError(f"{where} has {key} = {table[key]!r}, which is not of type {kind.__name__}.")
    return dict(table)
