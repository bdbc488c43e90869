"""The space of a study: which fields of a method and of the recipe are searched, and between which values."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from hashbench.errors import HashbenchError, unknown
from hashbench.experiments.settings import parse_value, setting_text
from hashbench.methods.contract import Method
from hashbench.methods.wrapping import owner_of, resolve
from hashbench.recipes import Recipe
from hashbench.registry import METHODS
from hashbench.storage.toml_files import read_toml

RECIPE = "recipe"
_KEYS = ("low", "high", "log", "choices")
_FORMS = "write {low = 0.01, high = 1.0}, with log = true where it spans magnitudes, or {choices = [1, 2, 4]}"
#: Of the recipe: what tables keep apart, so that rows which differ in it could not be compared.
_SHARED = ("backbone", "epochs", "pretrained", "train_backbone")
_DIGITS = 4  # of a number that is tried: labels of rows are read by people


@dataclass(frozen=True)
class Dimension:
    """One field and the values that are tried of it: numbers from `low` to `high`, or `choices`."""

    name: str  # csq.quantization, recipe.learning_rate
    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[str, ...] = ()  # as they are typed in --set
    values: tuple[Any, ...] = dataclasses.field(default=(), compare=False)  # what the choices are

    @property
    def plain(self) -> dict[str, Any]:
        """What of it is part of a study's identity."""
        if self.choices:
            return {"choices": list(self.choices)}
        return {"low": self.low, "high": self.high, "log": self.log, "whole": self.whole}

    @property
    def ends(self) -> tuple[str, ...]:
        """The values, as texts, among which all that are tried lie."""
        return self.choices or (self.text(self.low), self.text(self.high))

    @property
    def size(self) -> float:
        """How many values there are; infinite for numbers that are not whole."""
        if self.choices:
            return len(self.choices)
        assert self.low is not None
        assert self.high is not None
        return self.high - self.low + 1 if self.whole else math.inf

    def text(self, value: Any) -> str:
        """Return the number nearest to `value` that is tried, as a text."""
        assert self.low is not None
        assert self.high is not None
        rounded = round(value) if self.whole else float(f"{value:.{_DIGITS}g}")
        return setting_text(type(rounded)(min(max(rounded, self.low), self.high)))

    def text_of(self, value: Any) -> str | None:
        """Return the text of a field's `value` where it lies in the space, else None."""
        if self.choices:
            return next((text for text, known in zip(self.choices, self.values, strict=True) if known == value), None)
        assert self.low is not None
        assert self.high is not None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return setting_text(value) if is_number and self.low <= value <= self.high else None

    def all_texts(self) -> tuple[str, ...]:
        """Return all values of a dimension of finite size."""
        assert self.size < math.inf
        if self.choices:
            return self.choices
        assert self.low is not None
        assert self.high is not None
        return tuple(map(str, range(int(self.low), int(self.high) + 1)))


Space = Mapping[str, Dimension]  # by name, in the order of the names


def read_space(path: Path) -> dict[str, Mapping[str, Any]]:
    """Return the entries of a space file by `owner.field`; raises HashbenchError for other forms, and without any."""
    entries: dict[str, Mapping[str, Any]] = {}
    for name, entry in _flat(read_toml(path)):
        if name in entries:
            raise HashbenchError(f"{path} gives {name} twice; give it once.")
        if "." not in name:
            raise HashbenchError(
                f"{path}: '{name}' has no owner; write recipe.{name}, or the method's name in its place."
            )
        if not isinstance(entry, Mapping) or not entry:
            raise HashbenchError(f"{path}: {name} = {setting_text(entry):.60} is no entry of a space; {_FORMS}.")
        entries[name] = entry
    if not entries:
        raise HashbenchError(f"{path} has no entry, so there is nothing to tune; {_FORMS}, as csq.quantization = ...")
    for owner in dict.fromkeys(name.partition(".")[0] for name in entries):
        if owner != RECIPE and owner not in METHODS:
            raise unknown("owner of an entry", owner, [*METHODS, RECIPE], hint=f"It stands in {path}.")
    return entries


def space_of(entries: Mapping[str, Mapping[str, Any]], cls: type[Method], path: Path) -> Space:
    """Return the part of a space that is of one method and of the recipe; `path` is named in errors.

    Raises HashbenchError for unknown fields, for values that a field does not take, and where nothing is left.
    """
    method = cls.info.name
    own = {name: entry for name, entry in entries.items() if name.partition(".")[0] in (method, RECIPE)}
    if not own:
        raise HashbenchError(f"{path} has no entry for {method}; {_FORMS}, as {method}.field or recipe.field.")
    return {name: _dimension(name, own[name], cls, path) for name in sorted(own)}


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield names and entries: the tables without tables in them, and what stands in the place of one."""
    for key, value in table.items():
        is_owner = not before and isinstance(value, Mapping) and value.keys().isdisjoint(_KEYS)
        if is_owner or (isinstance(value, Mapping) and any(isinstance(inner, Mapping) for inner in value.values())):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _dimension(name: str, entry: Mapping[str, Any], cls: type[Method], path: Path) -> Dimension:
    where = f"{path}: {name}"
    for key in entry:
        if key not in _KEYS:
            raise unknown(f"key of {name}", key, _KEYS, hint=f"It stands in {path}; {_FORMS}.")
    owner, field = _owner(name, cls)
    if "choices" in entry:
        if {*entry} != {"choices"}:
            raise HashbenchError(f"{where} has choices and bounds; give it one of the two.")
        return _choices(name, entry["choices"], owner, field, where)
    bounds = [entry.get("low"), entry.get("high")]
    if not all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in bounds):
        raise HashbenchError(f"{where} lacks low or high, or they are no numbers; {_FORMS}.")
    if not isinstance(entry.get("log", False), bool):
        raise HashbenchError(f"{where}: log is true or false.")
    kind = _number(typing.get_type_hints(owner)[field])
    if kind is None:
        raise HashbenchError(f"{where} takes no numbers, so it has no bounds; give it choices.")
    low, high = (_value(owner, field, bound, where) for bound in bounds)
    if not low < high:
        raise HashbenchError(f"{where}: low = {low} is not below high = {high}; leave out what is not searched.")
    if not math.isfinite(high - low):
        raise HashbenchError(
            f"{where}: from {low} to {high} is too far to draw from; give bounds nearer to each other."
        )
    if entry.get("log") and low <= 0:
        raise HashbenchError(f"{where}: low = {low} has no logarithm; give low above 0, or leave log out.")
    found = Dimension(name, low, high, entry.get("log", False), kind is int)
    if len({*found.ends}) < 2:
        raise HashbenchError(
            f"{where}: low and high are one number to {_DIGITS} digits; leave out what is not searched."
        )
    return found


def _choices(name: str, given: Any, owner: type, field: str, where: str) -> Dimension:
    if not isinstance(given, list) or len(given) < 2:
        raise HashbenchError(f"{where}: choices is a list of two or more values.")
    values = [_value(owner, field, value, where) for value in given]
    if any(value in values[:place] for place, value in enumerate(values)):
        raise HashbenchError(f"{where}: choices has a value twice; give it once.")
    return Dimension(name, choices=tuple(map(_typed, values)), values=tuple(values))


def _value(owner: type, field: str, given: Any, where: str) -> Any:
    """Return what stands in a space file as a value of the field; raises HashbenchError that says where it stands."""
    try:
        return parse_value(owner, field, setting_text(given))
    except HashbenchError as error:
        raise HashbenchError(f"{where}: {error}") from error


def _typed(value: Any) -> str:
    """Return a choice as it is typed, the same text for the same value."""
    return setting_text(value).lower() if isinstance(value, bool) else setting_text(value)


def _owner(name: str, cls: type[Method]) -> tuple[type, str]:
    """Return the class that a name's field belongs to, and the field; raises HashbenchError where there is none."""
    owner, _, field = name.partition(".")
    if owner != RECIPE:
        resolve(cls, {field: None})
        if field == "base":
            raise HashbenchError(f"{name} is not searched: another base is another row; tune each by itself.")
        return owner_of(cls, field, {})
    known = {each.name for each in dataclasses.fields(Recipe)} - {"name", "summary", "views", *_SHARED}
    if field in _SHARED:
        raise HashbenchError(f"{name} is not searched: rows that differ in it have tables of their own.")
    if field not in known:
        raise unknown("recipe field", field, known, hint="`hashbench list recipes` shows the recipes.")
    return Recipe, field


def _number(annotation: Any) -> type | None:
    """Return int or float where a field of this annotation takes such numbers, else None."""
    kinds = get_args(annotation) or (annotation,)
    return next((kind for kind in (float, int) if kind in kinds), None)
