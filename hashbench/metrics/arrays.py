"""What given arrays mean: codes in any usual encoding, labels as integers or multi-hot; ambiguous ones are refused.

Every answer comes with a note that says what was taken, and every refusal with the setting that settles it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

Encoding = Literal["bits", "signs", "real", "packed"]
LabelKind = Literal["integers", "multi-hot"]
ROWS = 65_536  # rows looked at a time, so that a memory-mapped array stays on disk


@dataclass(frozen=True, eq=False)
class Codes:
    """Recognised codes: packed (n, ceil(bits / 8)) uint8, their length, and a sentence on what they were taken for."""

    packed: np.ndarray
    bits: int
    note: str


@dataclass(frozen=True, eq=False)
class Labels:
    """Recognised labels: (n,) int64 or (n, C) bool, and a sentence on what they were taken for."""

    values: np.ndarray
    note: str


@dataclass(frozen=True)
class _Content:
    """What kinds of values an array holds."""

    minus: bool
    zeros: int
    others: bool


def read_codes(array: Any, name: str, *, encoding: Encoding | None = None, bits: int | None = None) -> Codes:
    """Recognise codes (n, bits), or (n, bytes) when packed, and pack them.

    `encoding` says what they are: "bits" {0, 1} or bool, "signs" {-1, +1}, "real" (a value >= 0 is a one), "packed"
    bytes (first bit highest); None recognises it. `bits` is needed for packed codes that do not fill their last byte.
    Raises ValueError, naming the codes by `name`, for anything that could mean two things, NaN and wrong shapes.
    """
    if encoding is not None and encoding not in get_args(Encoding):
        raise ValueError(f"Unknown encoding '{encoding}'; known are {', '.join(get_args(Encoding))}.")
    values = _plain(array, name)
    if values.ndim != 2:
        raise ValueError(f"{name} have the shape {values.shape}; codes are two-dimensional, (n, bits) or packed bytes.")
    content = _content(values, name)
    taken = encoding or _recognise(values, content, name, bits)
    if taken == "packed":
        return _packed(values, name, bits)
    if bits is not None and bits != values.shape[1]:
        raise ValueError(f"{name} have {values.shape[1]} bits, not the {bits} asked for (`--bits`).")
    allowed = {"bits": not (content.minus or content.others), "signs": not (content.zeros or content.others)}
    if not allowed.get(taken, True):
        expected = {"bits": "0 and 1", "signs": "-1 and +1"}[taken]
        raise ValueError(f"{name} hold other values than {expected}; the encoding is not '{taken}'.")
    # One rule serves all: with {0, 1} a one is what lies above 0, elsewhere what does not lie below.
    parts = [np.packbits(part > 0 if taken == "bits" else part >= 0, axis=1) for part in _parts(values)]
    zeros = f", {content.zeros} zeros counted as one" if taken == "real" and content.zeros else ""
    meaning = {"bits": "{0, 1}", "signs": "{-1, +1}", "real": "the signs of real values"}[taken]
    note = f"{name}: {len(values)} codes of {values.shape[1]} bits, {values.dtype} taken as {meaning}{zeros}."
    return Codes(np.concatenate(parts), values.shape[1], note)


def read_labels(array: Any, name: str, *, kind: LabelKind | None = None) -> Labels:
    """Recognise labels: integers (n,) or (n, 1), or multi-hot (n, C) of {0, 1}; `kind` says which where both fit.

    Raises ValueError, naming the labels by `name`, for values and shapes that are neither.
    """
    if kind is not None and kind not in get_args(LabelKind):
        raise ValueError(f"Unknown kind of labels '{kind}'; known are {', '.join(get_args(LabelKind))}.")
    values = _plain(array, name)
    content = _content(values, name)
    binary = not (content.minus or content.others)
    if values.ndim == 2 and values.shape[1] == 1 and kind is None:
        if binary:
            raise ValueError(
                f"{name} are one column of 0 and 1, either classes or membership in one class; say which with "
                "label kind integers or multi-hot (`--labels`)."
            )
        kind = "integers"
    if values.ndim == 1 or (values.ndim == 2 and kind == "integers"):
        return _integers(values, name, kind)
    if values.ndim != 2:
        raise ValueError(f"{name} have the shape {values.shape}; labels are integers (n,) or multi-hot (n, classes).")
    if not binary:
        raise ValueError(
            f"{name} have the shape {values.shape} but hold other values than 0 and 1; labels are integers (n,) or "
            "multi-hot (n, classes)."
        )
    unlabelled = sum(int((~(part != 0).any(axis=1)).sum()) for part in _parts(values))
    without = f", {unlabelled} of them without any" if unlabelled else ""
    return Labels(values, f"{name}: multi-hot labels of {len(values)} items over {values.shape[1]} classes{without}.")


def one_class_each(query: Labels, database: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Return both label arrays, as integers (n,) when all are multi-hot with exactly one class: counted much faster."""
    both = query.values, database.values
    if all(labels.ndim == 2 and all(_one_hot(part) for part in _parts(labels)) for labels in both):
        first, second = (np.concatenate([part.argmax(axis=1) for part in _parts(labels)]) for labels in both)
        return first, second
    return both


def _one_hot(labels: np.ndarray) -> bool:
    return bool(((labels != 0).sum(axis=1) == 1).all())


def _plain(array: Any, name: str) -> np.ndarray:
    """Return a numeric numpy array, also from a torch tensor on any device; raises ValueError for all else."""
    if hasattr(array, "detach"):
        tensor = array.detach().cpu()
        array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    try:
        values = array if isinstance(array, np.ndarray) else np.asarray(array)
    except ValueError as error:
        raise ValueError(f"{name} are not an array: their rows differ in length.") from error
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} are of type {values.dtype}; codes and labels must be numbers or bool.")
    if values.size == 0:
        raise ValueError(f"{name} are empty, shape {values.shape}; there is nothing to evaluate.")
    return values


def _content(values: np.ndarray, name: str) -> _Content:
    minus, zeros, others, undefined = False, 0, False, 0
    for part in _parts(values):
        if part.dtype.kind == "f":
            undefined += int(np.isnan(part).sum())
        is_minus = part == -1 if part.dtype.kind in "if" else np.zeros(1, bool)
        is_zero, is_one = part == 0, part == 1
        minus |= bool(is_minus.any())
        zeros += int(is_zero.sum())
        others |= not (is_minus | is_zero | is_one).all()
    if undefined:
        raise ValueError(f"{name} hold {undefined} NaN values; what produced them has to be mended first.")
    return _Content(minus, zeros, others)


def _recognise(values: np.ndarray, content: _Content, name: str, bits: int | None) -> Encoding:
    if values.dtype == np.uint8 and (content.others or (bits is not None and bits != values.shape[1])):
        return "packed"
    if content.others:
        if values.dtype.kind == "f":
            return "real"
        raise ValueError(
            f"{name} are {values.dtype} with other values than 0, 1 and -1; say encoding real to take their signs, or "
            "give packed bytes as uint8 (`--encoding`)."
        )
    if content.minus and content.zeros:
        raise ValueError(
            f"{name} hold -1 and {content.zeros} zeros, each of which could be a zero or a one; say encoding real to "
            "count zeros as one (`--encoding real`)."
        )
    return "signs" if content.minus else "bits"


def _packed(values: np.ndarray, name: str, bits: int | None) -> Codes:
    if values.dtype != np.uint8:
        raise ValueError(f"{name} are {values.dtype}, but packed codes are bytes: uint8 (n, ceil(bits / 8)).")
    length = 8 * values.shape[1] if bits is None else bits
    if -(-length // 8) != values.shape[1]:
        raise ValueError(
            f"{name} have {values.shape[1]} bytes each, not the size of {length}-bit codes; check bits (`--bits`)."
        )
    note = f"{name}: {len(values)} codes of {length} bits, uint8 taken as packed bytes, first bit highest."
    return Codes(values, length, note)


def _integers(values: np.ndarray, name: str, kind: LabelKind | None) -> Labels:
    if kind == "multi-hot" or (values.ndim == 2 and values.shape[1] != 1):
        raise ValueError(f"{name} have the shape {values.shape}, which is not that of {kind} labels.")
    flat = values.reshape(-1)
    if flat.dtype.kind == "f" and not (flat == np.floor(flat)).all():
        raise ValueError(f"{name} hold fractions; labels are integers (n,) or multi-hot (n, classes).")
    return Labels(flat.astype(np.int64), f"{name}: {len(flat)} integers, one class each.")


def _parts(values: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(values), ROWS):
        yield np.asarray(values[start : start + ROWS])
