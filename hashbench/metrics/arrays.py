"""What arrays mean: codes in any usual encoding, labels as integers or multi-hot; ambiguous ones are refused.

Every interpretation comes with a note, and every refusal names the setting that decides. Arrays in files are read a
slice of rows at a time, and converted when a slice is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from hashbench.metrics.large.rows import ConvertedRows, FileRows, from_file, slices

Encoding = Literal["bits", "signs", "real", "packed"]
LabelKind = Literal["integers", "multi-hot", "packed"]
Array = np.ndarray | FileRows


@dataclass(frozen=True, eq=False)
class Codes:
    """Recognised codes: packed (n, ceil(bits / 8)) uint8, their length, and a note on their interpretation."""

    packed: ConvertedRows
    bits: int
    encoding: Encoding
    note: str


@dataclass(frozen=True, eq=False)
class Labels:
    """Recognised labels: (n,) int64 or (n, C) bool, if each has one class, and a note on their interpretation."""

    values: ConvertedRows
    one_hot: bool
    note: str


@dataclass(frozen=True)
class _Content:
    """What kinds of values an array holds."""

    minus: bool
    zeros: int
    others: bool


def read_codes(array: Any, name: str, *, encoding: Encoding | None = None, bits: int | None = None) -> Codes:
    """Recognise codes (n, bits), or (n, bytes) when packed, and pack them.

    `encoding` is "bits" {0, 1} or bool, "signs" {-1, +1}, "real" (a value >= 0 is a one), "packed"
    bytes (first bit highest); None recognises it. `bits` is needed for packed codes that do not fill their last byte.
    Raises ValueError, naming the codes by `name`, for anything that could mean two things, NaN and wrong shapes.
    """
    if encoding is not None and encoding not in get_args(Encoding):
        raise ValueError(f"Unknown encoding '{encoding}'; known are {', '.join(get_args(Encoding))}.")
    values = _plain(array, name)
    if len(values.shape) != 2:
        raise ValueError(f"{name} have the shape {values.shape}; codes are two-dimensional, (n, bits) or packed bytes.")
    if encoding == "packed" or (encoding is None and _must_be_bytes(values, bits)):
        return _packed(values, name, bits)
    content = _content(values, name)
    taken = encoding or _recognise(values, content, name)
    width = values.shape[1]
    if bits is not None and bits != width:
        raise ValueError(f"{name} have {width} bits, not the {bits} asked for (`--bits`).")
    allowed = {"bits": not (content.minus or content.others), "signs": not (content.zeros or content.others)}
    if not allowed.get(taken, True):
        expected = {"bits": "0 and 1", "signs": "-1 and +1"}[taken]
        raise ValueError(f"{name} hold other values than {expected}; the encoding is not '{taken}'.")
    zeros = f", {content.zeros} zeros counted as one" if taken == "real" and content.zeros else ""
    meaning = {"bits": "{0, 1}", "signs": "{-1, +1}", "real": "the signs of real values"}[taken]
    note = f"{name}: {len(values)} codes of {width} bits, {values.dtype} taken as {meaning}{zeros}."
    return Codes(ConvertedRows.of(values, partial(_pack, zero_is_one=taken != "bits")), width, taken, note)


def read_labels(array: Any, name: str, *, kind: LabelKind | None = None) -> Labels:
    """Recognise labels: integers (n,) or (n, 1), or multi-hot (n, C) of {0, 1}; `kind` says which where both fit.

    Raises ValueError, naming the labels by `name`, for values and shapes that are neither.
    """
    if kind is not None and kind not in get_args(LabelKind):
        raise ValueError(f"Unknown kind of labels '{kind}'; known are {', '.join(get_args(LabelKind))}.")
    values = _plain(array, name)
    if kind == "packed":
        return _packed_labels(values, name)
    if len(values.shape) == 1 or (len(values.shape) == 2 and kind == "integers"):
        return _integers(values, name, kind)
    if len(values.shape) != 2:
        raise ValueError(f"{name} have the shape {values.shape}; labels are integers (n,) or multi-hot (n, classes).")
    content = _content(values, name)
    binary = not (content.minus or content.others)
    if values.shape[1] == 1 and kind is None:
        if binary:
            raise ValueError(
                f"{name} are one column of 0 and 1, either classes or membership in one class; say which with "
                "label kind integers or multi-hot (`--labels`)."
            )
        return _integers(values, name, kind)
    if not binary:
        raise ValueError(
            f"{name} have the shape {values.shape} but hold other values than 0 and 1; labels are integers (n,) or "
            "multi-hot (n, classes)."
        )
    return _multi_hot(ConvertedRows.of(values, _is_set), name, "multi-hot labels")


def one_class_each(query: Labels, database: Labels) -> tuple[ConvertedRows, ConvertedRows]:
    """Return both labels, as integers (n,) when all are multi-hot with exactly one class: counted much faster."""
    if query.one_hot and database.one_hot:
        return _as_integers(query.values), _as_integers(database.values)
    return query.values, database.values


def _as_integers(one_hot: ConvertedRows) -> ConvertedRows:
    return ConvertedRows.of(one_hot.source, partial(_place_of_one, one_hot.convert))


# Conversions of a slice of rows: plain functions, so that they can be pickled for other processes.


def _as_given(values: np.ndarray) -> np.ndarray:
    return values


def _pack(values: np.ndarray, zero_is_one: bool) -> np.ndarray:
    return np.packbits(values >= 0 if zero_is_one else values > 0, axis=1)


def _is_set(values: np.ndarray) -> np.ndarray:
    return values != 0


def _unpack(values: np.ndarray) -> np.ndarray:
    return np.unpackbits(values, axis=1).view(bool)


def _one_column(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1).astype(np.int64)


def _place_of_one(convert: Any, values: np.ndarray) -> np.ndarray:
    return np.asarray(convert(values).argmax(axis=1))


def _plain(array: Any, name: str) -> Array:
    """Return a numeric array, also from a torch tensor on any device; raises ValueError for all else."""
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
    return from_file(values)


def _content(values: Array, name: str) -> _Content:
    minus, zeros, others, undefined = False, 0, False, 0
    for part in slices(values):
        if part.dtype.kind == "f":
            undefined += int(np.isnan(part).sum())
        is_minus = part == -1 if part.dtype.kind in "if" else np.zeros(1, bool)
        is_zero, is_one = part == 0, part == 1
        minus |= bool(is_minus.any())
        zeros += int(is_zero.sum())
        others |= not (is_minus | is_zero | is_one).all()
    if undefined:
        raise ValueError(f"{name} hold {undefined} NaN values; correct what produced them.")
    return _Content(minus, zeros, others)


def _must_be_bytes(values: Array, bits: int | None) -> bool:
    """Whether these can only be packed codes; reads no further than the first byte that shows it."""
    if values.dtype != np.uint8:
        return False
    return (bits is not None and bits != values.shape[1]) or any((part > 1).any() for part in slices(values))


def _recognise(values: Array, content: _Content, name: str) -> Encoding:
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


def _packed(values: Array, name: str, bits: int | None) -> Codes:
    if values.dtype != np.uint8:
        raise ValueError(f"{name} are {values.dtype}, but packed codes are bytes: uint8 (n, ceil(bits / 8)).")
    length = 8 * values.shape[1] if bits is None else bits
    if -(-length // 8) != values.shape[1]:
        raise ValueError(
            f"{name} have {values.shape[1]} bytes each, not the size of {length}-bit codes; check bits (`--bits`)."
        )
    note = f"{name}: {len(values)} codes of {length} bits, uint8 taken as packed bytes, first bit highest."
    return Codes(ConvertedRows.of(values, _as_given), length, "packed", note)


def _integers(values: Array, name: str, kind: LabelKind | None) -> Labels:
    if kind == "multi-hot" or (len(values.shape) == 2 and values.shape[1] != 1):
        raise ValueError(f"{name} have the shape {values.shape}, which is not that of {kind} labels.")
    if values.dtype.kind == "f":
        _content(values, name)  # refuses NaN
        if not all((part == np.floor(part)).all() for part in slices(values)):
            raise ValueError(f"{name} hold fractions; labels are integers (n,) or multi-hot (n, classes).")
    return Labels(ConvertedRows.of(values, _one_column), False, f"{name}: {len(values)} integers, one class each.")


def _packed_labels(values: Array, name: str) -> Labels:
    if values.dtype != np.uint8 or len(values.shape) != 2:
        raise ValueError(
            f"{name} are {values.dtype} {values.shape}, but packed labels are bytes, uint8 (n, ceil(classes / 8)), as "
            "numpy.packbits(multi_hot, axis=1) gives them."
        )
    return _multi_hot(ConvertedRows.of(values, _unpack), name, "packed multi-hot labels")


def _multi_hot(values: ConvertedRows, name: str, meaning: str) -> Labels:
    unlabelled, one_hot = 0, True
    for part in slices(values):
        classes = part.sum(axis=1)
        unlabelled += int((classes == 0).sum())
        one_hot = one_hot and bool((classes == 1).all())
    without = f", {unlabelled} of them without any" if unlabelled else ""
    note = f"{name}: {meaning} of {len(values)} items over {values.shape[1]} classes{without}."
    return Labels(values, one_hot, note)
