"""What arrays mean: codes in any usual encoding, labels as integers, names or multi-hot; ambiguous ones are refused.

Every interpretation comes with a note, and every refusal names the setting that decides. Arrays in files are read a
slice of rows at a time, and converted when a slice is read.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from hashbench.metrics.class_names import NO_NAMES, are_several, twins
from hashbench.metrics.large.files import check_sparse
from hashbench.metrics.large.rows import ConvertedRows, FileRows, Rows, SparseRows, from_file, slices

Encoding = Literal["bits", "signs", "real", "packed"]
LabelKind = Literal["integers", "multi-hot", "packed"]
TYPES = "values must be numbers or bool, those of labels may be names"
EXPANDED = 1 << 30  # bytes that one value may stand for, in a tensor of stride 0
FEW = 16  # bytes that may be of two values by chance
FIRST = 1024  # rows that are compared first, to see that not all are one word
WAYS = ", or say which with label kind integers or multi-hot (`--labels`)"
INTEGERS = ", or say label kind integers where it is a class (`--labels integers`)"


@dataclass(frozen=True, eq=False)
class Codes:
    """Recognised codes: packed (n, ceil(bits / 8)) uint8, their length, a note on their interpretation, a warning."""

    packed: ConvertedRows
    bits: int
    encoding: Encoding
    note: str
    warning: str = ""


@dataclass(frozen=True, eq=False)
class Labels:
    """Recognised labels: (n,) int64 or (n, C) bool, if each has one class, and a note on their interpretation.

    Where names are given, `names` (C,) holds them in order, and the values are places in it. `below_zero` is the lowest
    class number below 0 that nobody said to be one, 0 without any.
    """

    values: ConvertedRows
    one_hot: bool
    note: str
    names: tuple[str, ...] | None = None
    below_zero: int = 0


@dataclass(frozen=True)
class _Content:
    """What kinds of values an array holds, and the smallest and the largest."""

    minus: bool
    zeros: int
    others: bool
    lowest: float
    highest: float


def read_codes(array: Any, name: str, *, encoding: Encoding | None = None, bits: int | None = None) -> Codes:
    """Recognise codes (n, bits), or (n, bytes) when packed, and pack them.

    `encoding` is "bits" {0, 1} or bool, "signs" {-1, +1}, "real" (a value >= 0 is a one), "packed"
    bytes (first bit highest); None recognises it. `bits` is needed for packed codes that do not fill their last byte.
    Raises ValueError, naming the codes by `name`, for anything that could mean two things, NaN and wrong shapes.
    """
    if encoding is not None and encoding not in get_args(Encoding):
        raise ValueError(f"Unknown encoding '{encoding}'; known are {', '.join(get_args(Encoding))}.")
    values = _numbers(array, name)
    if isinstance(values, SparseRows):
        raise ValueError(f"{name} are a sparse matrix; give them dense: codes.toarray().")
    if len(values.shape) != 2:
        words = "; of words, codes[:, None].view(numpy.uint8)" if values.dtype.kind in "iu" else ""
        raise ValueError(
            f"{name} have the shape {values.shape}; codes are two-dimensional, (n, bits) or packed bytes{words}."
        )
    if encoding == "packed" or (encoding is None and _must_be_bytes(values, bits, name)):
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
    return _codes(ConvertedRows.of(values, partial(_pack, zero_is_one=taken != "bits")), width, taken, name, note)


def read_labels(
    array: Any, name: str, *, kind: LabelKind | None = None, ways: tuple[str, str] = (WAYS, INTEGERS)
) -> Labels:
    """Recognise labels: class numbers or names (n,) or (n, 1), or multi-hot (n, C); `kind` says which where both fit.

    Multi-hot labels are of {0, 1}, also a sparse matrix of scipy. `ways` end the sentences about what `kind` would
    settle. Raises ValueError, naming the labels by `name`, for values and shapes that are none of these, and for class
    numbers that are not exact, or -1 without `kind`.
    """
    if kind is not None and kind not in get_args(LabelKind):
        raise ValueError(f"Unknown kind of labels '{kind}'; known are {', '.join(get_args(LabelKind))}.")
    values = from_file(plain_array(array, name))
    if kind == "packed":
        return _packed_labels(values, name)
    if values.dtype.kind in "SUO":
        return _named(values, name, kind)
    shape = values.shape
    if len(shape) == 1 or (len(shape) == 2 and kind == "integers"):
        if values.dtype.kind == "b" and kind is None:
            raise ValueError(
                f"{name} are one truth value each, either two classes or membership in one class; give class numbers, "
                f"labels.astype(int){ways[1]}."
            )
        return _integers(values, name, kind, _exact_below(array), ways[1])
    if len(shape) != 2:
        raise ValueError(f"{name} have the shape {shape}; labels are integers (n,) or multi-hot (n, classes).")
    content = _content(values, name)
    binary = not (content.minus or content.others)
    if 1 in shape and not binary and kind is None:  # (1, n) is how MATLAB writes a row of numbers
        return _integers(values, name, kind, _exact_below(array), ways[1])
    if shape[1] == 1 and kind is None:
        raise ValueError(
            f"{name} are one column of 0 and 1, either classes or membership in one class; give class numbers in one "
            f"dimension, labels.ravel(), a column for each class{ways[0]}."
        )
    if not binary:
        signs = content.minus and not content.zeros and not content.others
        way = "; for -1 and +1 give labels > 0" if signs else ""
        raise ValueError(
            f"{name} have the shape {shape} but hold other values than 0 and 1; labels are integers (n,) or multi-hot "
            f"(n, classes){way}."
        )
    return _multi_hot(ConvertedRows.of(values, _is_set), name, "multi-hot labels")


def one_class_each(query: Labels, database: Labels) -> tuple[ConvertedRows, ConvertedRows]:
    """Return both labels, as integers (n,) when all are names or multi-hot with exactly one class: counted much faster.

    Raises ValueError for names beside class numbers, for multi-hot labels of different numbers of classes, and for
    class numbers that overflowed their type on one side.
    """
    if query.names is not None and database.names is not None:
        if alike := twins({"query": query.names, "database": database.names}):
            raise ValueError(
                f"The query and database labels name classes that look alike, {alike[0]!a} and {alike[1]!a}; call a "
                "class the same in both."
            )
        names = sorted({*query.names, *database.names})
        return _renumbered(query, names), _renumbered(database, names)
    if query.names is not None or database.names is not None:
        raise ValueError(
            f"One side's labels are names and the other's are not; name all classes or number them ({query.note} "
            f"{database.note})"
        )
    if query.one_hot and database.one_hot:
        if query.values.shape[1:] != database.values.shape[1:]:
            raise ValueError(
                f"The query labels have {query.values.shape[1]} columns and the database labels "
                f"{database.values.shape[1]}; both must be multi-hot over the same classes."
            )
        return _as_integers(query.values), _as_integers(database.values)
    _refuse_overflow(query, database, "query", "database")
    _refuse_overflow(database, query, "database", "query")
    return query.values, database.values


def plain_array(array: Any, name: str, *, empty: bool = False) -> np.ndarray | SparseRows:
    """Return an array of numbers or names, also from a torch tensor on any device and a sparse matrix of scipy.

    Raises ValueError, naming the array by `name`, for all else, and for arrays without dimensions or, unless they may
    be `empty`, without values.
    """
    if isinstance(array, SparseRows):
        return array
    if hasattr(array, "detach"):
        array = _of_tensor(array, name)
    if type(array).__module__.startswith("scipy.sparse") and hasattr(array, "tocsr"):
        return _sparse_rows(array, name)
    if isinstance(array, np.ma.MaskedArray) and np.ma.getmaskarray(array).any():
        raise ValueError(f"{name} have masked values; leave these rows out.")
    try:
        values = np.asarray(array)
    except Exception as error:
        raise ValueError(f"{name} are not an array: their rows differ in length, or hold other things.") from error
    if values.ndim == 0:
        raise ValueError(f"{name} are a single {type(array).__name__}, no array of rows.")
    if values.size == 0 and not empty:
        raise ValueError(f"{name} are empty, shape {values.shape}; give at least one row and one column.")
    if values.dtype.kind == "O":
        values = _of_objects(values, name)
    if values.dtype.kind not in "biufSUO":
        raise ValueError(f"{name} are of type {values.dtype}; {TYPES}.")
    return values


def _refuse_overflow(one: Labels, other: Labels, side: str, facing: str) -> None:
    """Raise ValueError where one side alone has classes below 0, to which some of the other overflow."""
    if not one.below_zero < 0 <= other.below_zero or other.values.ndim != 1:
        return
    negative = np.unique(np.concatenate([np.unique(part[part < 0]) for part in slices(one.values)]))
    for part in slices(other.values):
        for narrow in (np.int8, np.int16, np.int32):
            high = part[part > np.iinfo(narrow).max]
            found = high[np.isin(high.astype(narrow), negative)]
            if len(found):
                raise ValueError(
                    f"The {side} labels hold the class number {found[0].astype(narrow)}, which {found[0]} of the "
                    f"{facing} labels overflows to as {narrow.__name__}; give both in a wider type (int64), or say "
                    "label kind integers where they are two classes (`--labels integers`)."
                )


def _as_integers(one_hot: ConvertedRows) -> ConvertedRows:
    if isinstance(one_hot.source, SparseRows):  # a row's only column is its class
        return ConvertedRows.of(one_hot.source.matrix.indices, _one_column)
    return ConvertedRows.of(one_hot.source, partial(_place_of_one, one_hot.convert))


def _renumbered(labels: Labels, names: list[str]) -> ConvertedRows:
    place = {name: number for number, name in enumerate(names)}
    assert labels.names is not None
    numbers = np.array([place[name] for name in labels.names], np.int64)
    return ConvertedRows.of(numbers[np.asarray(labels.values)], _as_given)


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


# Arrays of any library.


def _numbers(array: Any, name: str) -> Rows:
    values = plain_array(array, name)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} are of type {values.dtype}; {TYPES}.")
    return from_file(values)


def _of_tensor(tensor: Any, name: str) -> Any:
    """Return the values of a torch tensor; those of a type that numpy lacks, such as bfloat16, as float32."""
    try:
        plain = tensor.detach().cpu().resolve_conj().resolve_neg()
        held = plain.untyped_storage().nbytes()
        if plain.nbytes > max(held, EXPANDED):
            raise ValueError(f"{plain.nbytes} bytes are said to lie in {held}")
        kind = str(plain.dtype).removeprefix("torch.")
        lacking = plain.is_floating_point() and not hasattr(np, kind)
        return (plain.float() if lacking else plain).numpy()
    except Exception as error:
        form = " ".join(str(getattr(tensor, each, "")).removeprefix("torch.") for each in ("layout", "dtype", "device"))
        raise ValueError(
            f"{name} are a tensor whose values cannot be read ({form}); give a dense one of numbers: "
            "codes.to_dense(), codes.dequantize()."
        ) from error


def _sparse_rows(matrix: Any, name: str) -> SparseRows:
    try:
        check_sparse(matrix)
        rows = matrix.tocsr().copy()  # the caller's stays as it is
        rows.sum_duplicates()
        rows.eliminate_zeros()
    except Exception as error:
        raise ValueError(f"{name} are a damaged sparse matrix: {error}") from error
    if 0 in rows.shape or rows.dtype.kind not in "biuf":
        raise ValueError(f"{name} are a sparse matrix of {rows.dtype} of shape {rows.shape}; give numbers.")
    return SparseRows(rows)


def _of_objects(values: np.ndarray, name: str) -> np.ndarray:
    """Return an array of Python's objects as integers, or as it is where all are words."""
    kinds = {type(each) for each in values.ravel().tolist()}
    if all(issubclass(kind, str) for kind in kinds) or all(issubclass(kind, bytes) for kind in kinds):
        return values
    if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        try:
            return values.astype(np.int64)
        except OverflowError as error:
            raise ValueError(f"{name} hold integers beyond 64 bits; number the classes from 0.") from error
    shown = ", ".join(sorted(kind.__name__ for kind in kinds))[:200]
    raise ValueError(f"{name} are objects ({shown}); {TYPES}.")


def _content(values: Rows, name: str) -> _Content:
    minus, zeros, others, undefined, infinite = False, 0, False, 0, 0
    lowest, highest = np.inf, -np.inf
    for part in slices(values):
        if part.dtype.kind == "f":
            undefined += int(np.isnan(part).sum())
            infinite += int(np.isinf(part).sum())
        is_minus = part == -1 if part.dtype.kind in "if" else np.zeros(1, bool)
        is_zero, is_one = part == 0, part == 1
        minus |= bool(is_minus.any())
        zeros += int(is_zero.sum())
        others |= not (is_minus | is_zero | is_one).all()
        lowest, highest = min(lowest, float(part.min())), max(highest, float(part.max()))
    if undefined or infinite:
        what = f"{undefined} NaN" if undefined else f"{infinite} infinite"
        raise ValueError(f"{name} hold {what} values; correct what produced them.")
    return _Content(minus, zeros, others, lowest, highest)


# Codes.


def _codes(packed: ConvertedRows, bits: int, encoding: Encoding, name: str, note: str) -> Codes:
    first = packed[:1]
    one_word = (packed[:FIRST] == first).all() and all((part == first).all() for part in slices(packed))
    warning = ""
    if one_word and len(packed) > 1:
        warning = (
            f"All {len(packed):,} {name[0].lower()}{name[1:]} are one and the same word, so that every item is tied."
        )
    return Codes(packed, bits, encoding, note, warning)


def _must_be_bytes(values: np.ndarray | FileRows, bits: int | None, name: str) -> bool:
    """Whether these can only be packed codes; reads no further than the first bytes that show it.

    Raises ValueError for bytes that may be bits in disguise: two values alone, such as 0 and 255, or -1 as a byte.
    """
    if values.dtype != np.uint8:
        return False
    if bits is not None and bits != values.shape[1]:
        return True
    seen: set[int] = set()
    for part in slices(values):
        seen |= {*np.unique(part).tolist()}
        if len(seen) > 2 and seen - {0, 1, 255}:
            return True
    if seen <= {0, 1}:
        return False
    few = math.prod(values.shape) < FEW and not seen <= {0, 1, 255}
    if len(seen) == 1 or few:
        return True
    way = "codes.view(numpy.int8)" if {1, 255} <= seen else f"codes > {min(seen)}"
    raise ValueError(
        f"{name} are bytes of {', '.join(map(str, sorted(seen)))} alone, either bits or packed codes; give {way} for "
        "bits, or say encoding packed (`--encoding packed`)."
    )


def _recognise(values: np.ndarray | FileRows, content: _Content, name: str) -> Encoding:
    if content.others and values.dtype.kind == "f":
        if content.lowest >= 0:
            raise ValueError(
                f"{name} lie between {content.lowest:.3g} and {content.highest:.3g}, so that all their signs are one; "
                "give codes > 0.5 where a sigmoid made them, or say encoding real (`--encoding real`)."
            )
        return "real"
    if content.others:
        words = f", {8 * values.dtype.itemsize} bits a word" if values.dtype.itemsize > 1 else ""
        packed = f"packed bytes as uint8, codes.view(numpy.uint8){words}"
        way = f"bits, codes > {content.lowest:.0f}" if content.highest - content.lowest <= 2 else packed
        raise ValueError(
            f"{name} are {values.dtype} with other values than 0, 1 and -1; say encoding real to take their signs, or "
            f"give {way} (`--encoding`)."
        )
    if content.minus and content.zeros:
        raise ValueError(
            f"{name} hold -1 and {content.zeros} zeros, each of which could be a zero or a one; say encoding real to "
            "count zeros as one (`--encoding real`)."
        )
    return "signs" if content.minus else "bits"


def _packed(values: Rows, name: str, bits: int | None) -> Codes:
    if values.dtype != np.uint8:
        raise ValueError(f"{name} are {values.dtype}, but packed codes are bytes: uint8 (n, ceil(bits / 8)).")
    length = 8 * values.shape[1] if bits is None else bits
    if -(-length // 8) != values.shape[1]:
        raise ValueError(
            f"{name} have {values.shape[1]} bytes each, not the size of {length}-bit codes; check bits (`--bits`)."
        )
    note = f"{name}: {len(values)} codes of {length} bits, uint8 taken as packed bytes, first bit highest."
    return _codes(ConvertedRows.of(values, _as_given), length, "packed", name, note)


# Labels.


def _exact_below(array: Any) -> float:
    """Return below which number all integers are exact in the type of an array: of floats, those of the significand."""
    kind = str(getattr(array, "dtype", ""))
    if kind.startswith("torch."):
        import torch

        return 2 / torch.finfo(array.dtype).eps if array.is_floating_point() else np.inf
    values = np.asarray(array)
    return 2 / float(np.finfo(values.dtype).eps) if values.dtype.kind == "f" else np.inf


def _integers(values: Rows, name: str, kind: LabelKind | None, exact_below: float, way: str) -> Labels:
    if kind == "multi-hot" or (len(values.shape) == 2 and 1 not in values.shape):
        raise ValueError(f"{name} have the shape {values.shape}, which is not that of {kind} labels.")
    if len(values.shape) == 2 and values.shape[0] == 1:
        values = np.asarray(values[:1]).reshape(-1)
    lowest = 0
    if values.dtype.kind == "f" or values.dtype == np.uint64 or (values.dtype.kind == "i" and kind is None):
        lowest = _check_class_numbers(values, name, kind, exact_below, way)
    note = f"{name}: {len(values)} integers, one class each."
    return Labels(ConvertedRows.of(values, _one_column), False, note, below_zero=0 if kind is not None else lowest)


def _check_class_numbers(values: Rows, name: str, kind: LabelKind | None, exact_below: float, way: str) -> int:
    """Return the lowest class number, at most 0.

    Raises ValueError for numbers that are no integers or not exact, and for -1, which often means no label.
    """
    if values.dtype.kind == "f":
        _content(values, name)  # refuses NaN and infinite values
    smallest = 0
    for part in slices(values):
        lowest, highest = part.min(), part.max()
        if part.dtype.kind == "f" and not (part == np.floor(part)).all():
            raise ValueError(f"{name} hold fractions; labels are integers (n,) or multi-hot (n, classes).")
        largest = max(int(highest), -int(lowest))
        if part.dtype.kind != "i" and largest >= min(exact_below, 2**63):
            raise ValueError(
                f"{name} hold the class number {largest:.4g} as {part.dtype}, which is not exact; give integers of at "
                "most 64 bits (int64)."
            )
        smallest = min(smallest, int(lowest))
    if smallest == -1 and kind is None:
        raise ValueError(
            f"{name} hold the class number -1, either a class or no label; leave such rows out, or number the classes "
            f"from 0{way}."
        )
    return smallest


def _named(values: Rows, name: str, kind: LabelKind | None) -> Labels:
    """Return labels of names: places in the sorted names that occur."""
    words, numbers = np.unique(np.asarray(values[:]), return_inverse=True)
    if kind is not None or sorted(values.shape)[:-1] not in ([], [1]):
        raise ValueError(f"{name} are names of shape {values.shape}; names are one a row, (n,), and no {kind} labels.")
    given = [word.decode(errors="backslashreplace") if isinstance(word, bytes) else word for word in words.tolist()]
    stripped = [unicodedata.normalize("NFC", word.strip()) for word in given]
    missing = next((word for word in stripped if word in NO_NAMES), None)
    if missing is not None:
        raise ValueError(f"{name} hold the name '{missing}', which stands for no label; leave these rows out.")
    several = next(filter(are_several, stripped), None)
    if several is not None:
        raise ValueError(f"{name} hold '{several:.60}', which looks like several classes; give them multi-hot.")
    names = sorted({*stripped})
    place = {word: number for number, word in enumerate(names)}
    places = np.array([place[word] for word in stripped], np.int64)[numbers.reshape(-1)]
    note = f"{name}: {len(places)} names of {len(names)} classes, one each."
    return Labels(ConvertedRows.of(places, _as_given), False, note, tuple(names))


def _packed_labels(values: Rows, name: str) -> Labels:
    if values.dtype != np.uint8 or len(values.shape) != 2 or isinstance(values, SparseRows):
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
