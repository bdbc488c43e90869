"""Strict JSON: only plain data is written, only plain data is read, and undefined is null."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

_PLAIN = {str, int, bool, type(None)}  # what stays as it is
MAX_DEPTH = 64  # of lists and objects within each other; no file of ours has ten, and walking deep ones ends Python


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


def as_text(argument: str) -> str:
    """Return a part of a command line as text that `loads` takes: bytes of a path that are none are escaped."""
    return argument.encode(errors="backslashreplace").decode()


def is_ascii(text: str | bytes) -> bool:
    """Return whether JSON `text` is seen at once to hold only ASCII, with nothing else behind an escape."""
    if isinstance(text, bytes):
        return text.isascii() and b"\\u" not in text and b"\0" not in text  # as UTF-16 has
    return text.isascii() and "\\u" not in text


def loads(text: str | bytes) -> Any:
    """Return what strict JSON `text` stands for: plain data, all of whose numbers are finite.

    Raises ValueError where it is torn or not JSON, holds NaN, a number beyond floats, a key twice, or more than
    MAX_DEPTH lists within each other. Text may hold lone surrogates, as names of files do that are no text.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_int=_integer, object_pairs_hook=_object)
        if not all(map(math.isfinite, _leaves(value, MAX_DEPTH, float))):
            json.loads(text, parse_float=_float)  # slower than float, and names the number
    except RecursionError:
        raise ValueError("its lists nest too deeply") from None
    return value


def texts(value: Any, depth: int = MAX_DEPTH) -> Iterator[str]:
    """Yield the texts in plain data, keys among them; raises ValueError for more than `depth` lists in each other."""
    return _leaves(value, depth, str)


def _leaves(value: Any, depth: int, kind: type) -> Iterator[Any]:
    """Yield what in plain data is of a `kind` that is neither list nor object, keys among it, level by level.

    A list of one kind, as curves are, is looked through without a step of Python's for each of its items.
    """
    level: list[Any] = [[value]]
    for _ in range(depth + 1):
        inner: list[Any] = []
        for item in level:
            sides: tuple[Iterable[Any], ...] = (item,)
            if isinstance(item, dict):
                sides = (item.keys(), item.values()) if kind is str else (item.values(),)  # keys are texts
            for values in sides:
                kinds = {*map(type, values)}
                if kinds == {kind}:
                    yield from values
                    continue
                if any(issubclass(found, kind) for found in kinds):
                    yield from (leaf for leaf in values if isinstance(leaf, kind))
                if any(issubclass(found, dict | list | tuple) for found in kinds):
                    inner += [nested for nested in values if isinstance(nested, dict | list | tuple)]
        level = inner
        if not level:
            return
    raise ValueError(f"its lists nest more than {MAX_DEPTH} deep")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON; undefined is written null")


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits:.20} is beyond the largest number")
    return number


def _integer(digits: str) -> int:
    if len(digits) > sys.float_info.max_10_exp:
        _float(digits)
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r:.60} stands there twice")
    return found


def _plain(value: Any, path: str, *, undefined: bool = True) -> Any:
    """Return `value` in Python's own types; `path` leads to it from the outermost value."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{path or 'The outermost value'} has the key {key!r}; JSON takes strings only.")
        return {
            str(key): item
            if type(item) in _PLAIN
            else _plain(item, f"{path}.{key}" if path else key, undefined=undefined)
            for key, item in value.items()
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
