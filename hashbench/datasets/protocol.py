"""Protocols as data: what a data set's TOML file states, and the reading of it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from hashbench.errors import HashbenchError, unknown

RULES = (  # implemented in rules.py
    "even-v1",
    "given-query-v1",
    "given-v1",
    "overall-v1",
    "overall-v2",
    "per-class-v1",
    "per-label-v1",
    "proportional-v1",
    "shares-v1",
    "unseen-v1",
)
SELF_SIZED = ("given-v1", "shares-v1", "unseen-v1")  # rules that take no number of train and query images
DRAWN = tuple(rule for rule in RULES if rule != "given-v1")  # rules that pick images or classes by hashes
_DRAW = re.compile(r"(.+)-draw([2-9]|[1-9][0-9]{1,8})")  # of a protocol's name: another of its splits
BY_RULE = "rule"  # in place of a size: as many images as the rule yields
_FAMILY_KEYS = {
    "about": str,
    "num_classes": int,
    "multi_label": bool,
    "citation": str,
    "licence": str,
    "source": str,
    "num_images": int,
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
    "split_sha256": str,
}
_OPTIONAL_KEYS = {"multi_label", "aliases", "num_images", "image_size", "found_by", "split_sha256"}


class Sizes(NamedTuple):
    """How many images each part of a split holds."""

    train: int
    query: int
    database: int


class StatedSizes(NamedTuple):
    """How many images a protocol says that each part holds; None: as many as its rule yields."""

    train: int | None
    query: int | None
    database: int | None


@dataclass(frozen=True)
class Protocol:
    """One way to split a data set and to measure on it, as its TOML file states it."""

    dataset: str
    name: str
    sizes: StatedSizes | Sizes
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
    num_images: int | None = None  # how many the reader finds in a complete copy; None: not checked
    image_size: int | None = None  # side in pixels at which image files are prepared; None: the set comes as arrays
    split_sha256: str | None = None  # of the split that the rule gives on the official images; None: not stated
    found_by: tuple[str, ...] | None = None  # the files are there if one of these is, below the data folder; (): always
    draw: int = 1  # which of the splits that the rule can give; all but the first carry it in their name

    @property
    def full_name(self) -> str:
        """The name to type, `dataset@protocol`."""
        return f"{self.dataset}@{self.name}"

    @property
    def ranking(self) -> str:
        """What the hashes of images and classes start with: the rule, and the draw of all but the first split."""
        return self.rule if self.draw == 1 else f"{self.rule}, draw {self.draw}"

    def drawn(self, draw: int) -> Protocol:
        """Return the protocol with another split by its rule; raises HashbenchError where that draws nothing."""
        if self.rule not in DRAWN:
            raise HashbenchError(f"{self.full_name} takes its split as given, so there is no draw {draw} of it.")
        return replace(self, name=f"{self.name}-draw{draw}", draw=draw, split_sha256=None, aliases=())

    def require_count(self, found: int) -> None:
        """Raise HashbenchError where the reader `found` another number of images than a complete copy has."""
        if self.num_images not in (None, found):
            raise HashbenchError(
                f"{self.dataset} has {self.num_images:,} images, but {found:,} were found; is this copy complete?"
            )

    @property
    def stated(self) -> tuple[int, int]:
        """The numbers of train and query images, for rules that need both; raises HashbenchError without one."""
        if self.sizes.train is None or self.sizes.query is None:
            raise HashbenchError(f"{self.full_name} must state its train and query sizes for the rule '{self.rule}'.")
        return self.sizes.train, self.sizes.query


def name_and_draw(name: str) -> tuple[str, int]:
    """Return what a protocol's name says without its draw, and the draw: ("54k", 2) of "54k-draw2"; 1 where none is."""
    found = _DRAW.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, 1)


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
        entry["sizes"] = _sizes(entry["sizes"], entry["rule"], where)
        entry["measures"] = tuple(entry["measures"])
        entry["aliases"] = tuple(entry.get("aliases", ()))
        found.append(Protocol(dataset=name, **entry, **family))
    return tuple(found)


def _sizes(table: Mapping[str, Any], rule: str, where: str) -> StatedSizes:
    for part in ("train", "query"):
        if table.get(part) == BY_RULE and rule not in SELF_SIZED:
            raise HashbenchError(f"{where} has the rule '{rule}', which needs a number of {part} images.")
    stated = {part: size for part, size in table.items() if size != BY_RULE}
    open_parts = dict.fromkeys((part for part, size in table.items() if size == BY_RULE))
    keys = {part: int for part in Sizes._fields if part not in open_parts}
    return StatedSizes(**_checked(stated, keys, f"The sizes in {where}"), **open_parts)


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
