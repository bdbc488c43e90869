"""The result of one run: typed, versioned, and the same on disk, in tables and in users' scripts.

Its keys are described in docs/results-on-disk.md; a change that a reader of the old form would misread raises SCHEMA.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from hashbench.errors import HashbenchError
from hashbench.metrics.ranking import Ties
from hashbench.storage.strict_json import as_text, digest, is_ascii, loads, texts

SCHEMA = 1
LARGEST = 1e20  # the size of numbers above which sums and means leave the range of floats; seeds have 64 bits

_NUMBER = (int, float, type(None))
_TEXT = (str, type(None))
_TYPES: dict[str, Any] = {
    "id": str,
    "status": str,
    "coords": dict,
    "metrics": dict,
    "bounds": dict,
    "ties": str,
    "curves": dict,
    "counts": dict,
    "code_stats": dict,
    "diagnostics": dict,
    "epoch": dict,
    "time": dict,
    "images_per_s": _NUMBER,
    "peak_memory_mb": _NUMBER,
    "provenance": dict,
}
_COORDS: dict[str, Any] = {
    "method": str,
    "method_version": int,
    "fields": dict,
    "dataset": str,
    "protocol": str,
    "backbone": _TEXT,
    "recipe": str,
    "bits": int,
    "seed": int,
    "inputs": str,
    "evaluated": str,
    "measure": str,
    "cell": str,
}
TOLERANCE = 1e-9  # the same sums in another order differ by less
_NUMBERS = ("coords", "ties", "counts", "metrics", "bounds", "curves", "code_stats", "diagnostics")
_EPOCH: dict[str, Any] = {"kept": (str, int, type(None)), "of": (int, type(None))}
_OPTIONAL: dict[str, dict[str, Any]] = {  # what is read of those that a result may have
    "coords": {"lengths": list, "start": str, "tuned": dict, "fixed_views": int},
    "provenance": {
        **dict.fromkeys(("source_sha256", "backbone_sha256", "condition_sha256"), _TEXT),
        **dict.fromkeys(("split_sha256", "data_integrity", "weights_sha256", "started"), _TEXT),
        **dict.fromkeys(("fidelity", "family", "labels", "codes"), _TEXT),
        **dict.fromkeys(("device", "device_name"), _TEXT),
        "threads": _NUMBER,
        "argv": (list, type(None)),
        "prefix_of": dict,
        "start": dict,
        "surrogate": dict,
        "measured_with": dict,
        "tuned": dict,
    },
}
_TUNED: dict[str, dict[str, Any]] = {  # what is read of the study behind a run's settings
    "coords": {"trials": int, "settings": dict, "recipe": dict},
    "provenance": {"trials": int, "failed": int, "seconds": _NUMBER, "bits": list, "space_sha256": str},
}


def same_values(one: Any, other: Any) -> bool:
    """Return whether two values of a document are the same, numbers within TOLERANCE, and None as not a number."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_values(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same_values, one, other))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or (one != one and other != other)
    return bool(one == other) or (one is None and isinstance(other, float) and math.isnan(other))


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one finished run found: its coordinates, its numbers and where they come from."""

    id: str  # sha256 of the experiment's identity, 64 hex digits
    coords: Mapping[str, Any]  # what was run; what is not among the axes of a table keeps runs apart in it
    metrics: Mapping[str, float | None]  # measure name -> mean over the queries, in [0, 1]
    bounds: Mapping[str, Sequence[float | None]]  # measure name -> [pessimistic, optimistic] order of ties
    ties: str  # the tie rule of `metrics` and `curves`
    curves: Mapping[str, Mapping[str, Sequence[float | None]]]  # curve name -> {"x", "y", and more of its points}
    counts: Mapping[str, Any]
    code_stats: Mapping[str, Any]
    diagnostics: Mapping[str, Any]
    epoch: Mapping[str, Any]  # {"kept": "last", "of": 30}; of is null or 0 where nothing is trained in epochs
    time: Mapping[str, float | None]  # phase -> seconds
    images_per_s: float | None
    peak_memory_mb: float | None
    provenance: Mapping[str, Any]
    status: str = "done"
    path: Path | None = field(default=None, compare=False)  # the run directory it was read from; not stored

    @classmethod
    def from_json(cls, source: str | bytes | dict[str, Any], *, path: Path | None = None) -> Result:
        """Return the result in `source`, the run directory `path`'s; raises HashbenchError saying what is wrong."""
        try:
            data = source if isinstance(source, dict) else loads(source)
            plain = not isinstance(source, dict) and is_ascii(source)
            half = None if plain else next((text for text in texts(data) if as_text(text) != text), None)
            if half is not None:
                raise ValueError(f"{as_text(half)!r:.60} holds half a character")
            wrong = _problem(data)
        except ValueError as error:
            wrong = f"it is torn or no JSON ({error})"
        if wrong:
            where = path / "result.json" if path else "This result"
            raise HashbenchError(f"{where} cannot be read: {wrong}; delete the file and run again to have it anew.")
        return cls(**{key: value for key, value in data.items() if key != "schema"}, path=path)

    @property
    def part(self) -> str:
        """The queries' part of the data set: "test" or "validation"."""
        return str(self.coords["evaluated"]).partition(", ")[0]

    @property
    def condition(self) -> str:
        """The condition under which a finished run was measured again, `noise(sigma=0.1)`; "" of the run itself."""
        return str(self.coords["evaluated"]).partition(", ")[2]

    def agrees_with(self, copy: Result) -> bool:
        """Whether two copies of a run have the same numbers, but for rounding; seconds and provenance may differ."""
        return all(same_values(getattr(self, name), getattr(copy, name)) for name in _NUMBERS)

    @property
    def has_codes(self) -> bool:
        """Whether the method has codes; a reference that ranks by real scores has none."""
        return self.provenance.get("codes") != "none"

    @property
    def files(self) -> dict[str, str]:
        """The sha256 of the run's files by name, {} where the result does not state them."""
        try:
            return dict(self.provenance["files"])
        except (KeyError, TypeError, ValueError):
            return {}

    def to_dict(self) -> dict[str, Any]:
        """Return the plain data that is stored, in the order of docs/results-on-disk.md."""
        return {"schema": SCHEMA, **{key: getattr(self, key) for key in _TYPES}}

    def __str__(self) -> str:
        """Return what `hashbench show` prints."""
        from hashbench.results.tables.description import describe

        return describe(self)

    def _repr_html_(self) -> str:
        """Return the same for notebooks."""
        from hashbench.results.tables.description import describe_html

        return describe_html(self)


def cell_of(identity: Mapping[str, Any]) -> str:
    """Return the sha256 of an experiment's identity without the seed, and without what follows from it: which run of a
    cell the training starts from.
    """
    alike = {name: value for name, value in identity.items() if name != "seed"}
    if "start" in alike:
        alike["start"] = {name: value for name, value in alike["start"].items() if name != "id"}
    return digest(alike)


def _problem(data: Any) -> str | None:
    """Return the first reason why `data` is no result, as the end of a sentence."""
    if not isinstance(data, dict):
        return f"it holds a {type(data).__name__} instead of an object"
    if data.get("schema") != SCHEMA:
        return f"its schema is {data.get('schema')!r} and this hashbench reads schema {SCHEMA}"
    unexpected = sorted(set(data) - set(_TYPES) - {"schema"})
    if unexpected:
        return f"it has the unknown key '{unexpected[0]}'"
    return (
        _mistyped(data, _TYPES, "")
        or _mistyped(data["coords"], _COORDS, "coords.")
        or _mistyped(data["epoch"], _EPOCH, "epoch.")
        or _mistyped_numbers(data)
        or _mistyped_options(data)
        or _impossible(data)
        or _bad_bounds(data["bounds"])
        or _bad_curves(data["curves"])
    )


def _mistyped(data: dict[str, Any], types: dict[str, Any], prefix: str) -> str | None:
    for key, wanted in types.items():
        if key not in data:
            return f"the key '{prefix}{key}' is missing"
        value = data[key]
        if not isinstance(value, wanted) or isinstance(value, bool):  # bool is an int to Python, not here
            return f"the key '{prefix}{key}' holds {value!r:.60}"
        if isinstance(value, int | float) and not _possible(value):
            return f"the key '{prefix}{key}' holds {value!r:.60}, which is no number of a run"
    return None


def _mistyped_numbers(data: dict[str, Any]) -> str | None:
    for section in ("metrics", "counts", "code_stats", "time"):
        if wrong := _mistyped(data[section], dict.fromkeys(data[section], _NUMBER), f"{section}."):
            return wrong
    return None


def _mistyped_options(data: dict[str, Any]) -> str | None:
    for section, types in _OPTIONAL.items():
        there = {key: wanted for key, wanted in types.items() if key in data[section]}
        if wrong := _mistyped(data[section], there, f"{section}."):
            return wrong
    for section, types in _TUNED.items():
        if "tuned" in data[section] and (wrong := _mistyped(data[section]["tuned"], types, f"{section}.tuned.")):
            return wrong
    for name in {"prefix_of", "start", "surrogate", "tuned"} & data["provenance"].keys():
        if wrong := _mistyped(data["provenance"][name], {"id": str, "path": str}, f"provenance.{name}."):
            return wrong
    for name, key, of in (("surrogate", "measured_with", dict), ("start", "weights_sha256", str)):
        found = {key: of(), **data["provenance"].get(name, {})}
        if wrong := _mistyped(found, {key: of}, f"provenance.{name}."):
            return wrong
    return None


def _impossible(data: dict[str, Any]) -> str | None:
    if data["ties"] not in get_args(Ties):
        return f"the key 'ties' holds {data['ties']!r:.60} instead of one of {', '.join(get_args(Ties))}"
    for key, least in (("bits", 1), ("seed", 0)):
        if data["coords"][key] < least:
            return f"the key 'coords.{key}' holds {data['coords'][key]}, which is less than {least}"
    return None


def _bad_bounds(bounds: dict[str, Any]) -> str | None:
    for name, pair in bounds.items():
        if not (_numbers(pair) and len(pair) == 2):
            return f"the key 'bounds.{name}' holds {pair!r:.60} instead of [lower, upper]"
    return None


def _bad_curves(curves: dict[str, Any]) -> str | None:
    for name, curve in curves.items():
        axes = [*curve.values()] if isinstance(curve, dict) and {"x", "y"} <= {*curve} else []
        if not axes or not all(map(_numbers, axes)) or len({len(axis) for axis in axes}) > 1:
            return f"the key 'curves.{name}' is not a pair of lists of one length"
    return None


def _numbers(values: Any) -> bool:
    """Return whether `values` is a list of numbers, some of which may be undefined."""
    if not isinstance(values, list | tuple):
        return False
    kinds = {*map(type, values)}  # looked at once, as a curve has many points
    plain = all(issubclass(kind, int | float | type(None)) and kind is not bool for kind in kinds)
    return plain and all(abs(value) <= LARGEST for value in values if value is not None)


def _possible(value: float) -> bool:
    return abs(value) <= LARGEST  # False for nan, too
