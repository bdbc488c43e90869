"""Strict JSON: only plain data is written, only plain data is read, and undefined is null."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np


def dumps(value: Any) -> str:
    """Return `value` as one line of JSON, non-finite floats as null; raises TypeError naming what is not plain data."""
    return json.dumps(_plain(value, ""), allow_nan=False)


def document(value: dict[str, Any]) -> str:
    """Return `value` as JSON that people read: two levels of keys one to a line, everything below them in one line."""
    return _indented(_plain(value, ""), 2, "\n") + "\n"


def canonical(value: Any) -> str:
    """Return the one JSON text of `value`, for hashing; raises TypeError as dumps does, ValueError where not finite."""
    # Null would do for a file, not here: infinity and None are two experiments and must not share a hash.
    return json.dumps(_plain(value, "", undefined=False), allow_nan=False, sort_keys=True, separators=(",", ":"))


def digest(value: Any) -> str:
    """Return the sha256 of the canonical JSON of `value`, 64 hex digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def loads(text: str | bytes) -> Any:
    """Return what strict JSON `text` stands for; raises ValueError where it is torn, not JSON, or holds NaN."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON; undefined is written null")


def _plain(value: Any, path: str, *, undefined: bool = True) -> Any:
    """Return `value` in Python's own types; `path` leads to it from the outermost value."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{path or 'The outermost value'} has the key {key!r}; JSON takes strings only.")
        return {
            str(key): _plain(item, f"{path}.{key}" if path else key, undefined=undefined) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}[{i}]", undefined=undefined) for i, item in enumerate(value)]
    if value is None or isinstance(value, bool | np.bool_):
        return None if value is None else bool(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        if math.isfinite(number):
            return number
        if undefined:
            return None
        raise ValueError(f"{path or 'The outermost value'} is {number}; only a finite number identifies something.")
    raise TypeError(
        f"{path or 'The outermost value'} is a {type(value).__name__}, which is not plain data: {value!r:.60}"
    )


def _indented(value: Any, levels: int, newline: str) -> str:
    if not (levels and isinstance(value, dict) and value):
        return json.dumps(value, allow_nan=False)
    inner = newline + "  "
    lines = (f"{json.dumps(key)}: {_indented(item, levels - 1, inner)}" for key, item in value.items())
    return "{" + inner + ("," + inner).join(lines) + newline + "}"
