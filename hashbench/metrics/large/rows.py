"""Large arrays a slice of rows at a time: read from their file and converted, never held whole."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

AT_A_TIME = 65_536  # rows read together
BYTES_AT_A_TIME = 1 << 26  # and no more than these, however wide a row is


@dataclass(frozen=True)
class FileRows:
    """The rows of an array in a file, in C order from byte `offset` on; `file` are the device and inode of that file.

    They are read, not mapped: a mapped file that was read counts as the process's memory, a
    file cut short under a map kills the process, and this value reaches another process without its content.
    """

    path: Path
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    file: tuple[int, int]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        items = int(np.prod(self.shape[1:]))
        wanted = max(0, stop - start) * items
        place = self.offset + start * items * self.dtype.itemsize
        with self.path.open("rb") as file:
            if _identity(file) != self.file:
                raise ValueError(f"{self.path} was replaced by another file while being read; give its array again.")
            found = np.fromfile(file, self.dtype, count=wanted, offset=place)
        if len(found) != wanted:
            raise ValueError(f"{self.path} ends before row {stop:,}; it was cut short while being read.")
        return found.reshape(-1, *self.shape[1:])


@dataclass(frozen=True, eq=False)
class SparseRows:
    """The rows of a sparse matrix of scipy (CSR), dense when they are read."""

    matrix: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the matrix."""
        return tuple(self.matrix.shape)

    @property
    def dtype(self) -> np.dtype:
        """The type of its values."""
        return np.dtype(self.matrix.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.asarray(self.matrix[rows].toarray())


Rows = np.ndarray | FileRows | SparseRows


@dataclass(frozen=True, eq=False)
class ConvertedRows:
    """The rows of `source` from `start` to `stop`, converted slice by slice; used where an array is only sliced.

    `row` is the shape of one converted row, and `dtype` its type.
    """

    source: Rows
    convert: Callable[[np.ndarray], np.ndarray]
    row: tuple[int, ...]
    dtype: np.dtype
    start: int
    stop: int

    @classmethod
    def of(cls, source: Rows, convert: Callable[[np.ndarray], np.ndarray]) -> ConvertedRows:
        """Return all rows of `source`; shape and type are found by converting the first one."""
        first = convert(np.asarray(source[:1]))
        return cls(source, convert, first.shape[1:], first.dtype, 0, len(source))

    def between(self, start: int, stop: int) -> ConvertedRows:
        """Return the rows from `start` to `stop` of these, holding no more of an array in memory than they need."""
        first, last = self.start + start, self.start + stop
        if not isinstance(self.source, np.ndarray):
            return ConvertedRows(self.source, self.convert, self.row, self.dtype, first, last)
        return ConvertedRows(self.source[first:last], self.convert, self.row, self.dtype, 0, stop - start)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole converted array."""
        return (len(self), *self.row)

    @property
    def ndim(self) -> int:
        """The number of its dimensions."""
        return 1 + len(self.row)

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        return self.convert(np.asarray(self.source[self.start + start : self.start + max(start, stop)]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = np.concatenate([*slices(self)])
        return whole if dtype is None else whole.astype(dtype)


def slices(values: Rows | ConvertedRows) -> Iterator[np.ndarray]:
    """Yield all rows, some at a time."""
    stored = values.source if isinstance(values, ConvertedRows) else values
    widest = max(_bytes_of_row(values), _bytes_of_row(stored), 1)
    rows = min(AT_A_TIME, max(1, BYTES_AT_A_TIME // widest))
    for start in range(0, len(values), rows):
        yield np.asarray(values[start : start + rows])


def _bytes_of_row(values: Rows | ConvertedRows) -> int:
    return math.prod(values.shape[1:]) * values.dtype.itemsize


def from_file(array: np.ndarray | SparseRows) -> Rows:
    """Return the rows in the file behind a memory map, or behind some rows of one; any other array as it is.

    A map stays as it is, too, where its file may hold other values: it is a private copy (mode "c"), or its path may
    lead to another file by now. Raises ValueError where the file was cut short, since reading such a map kills.
    """
    if isinstance(array, SparseRows):
        return array
    root: Any = array  # Any: numpy's stub of a memory map lacks where it lies
    while isinstance(root.base, np.memmap):
        root = root.base
    mapped = isinstance(root, np.memmap) and isinstance(root.base, mmap.mmap) and array.flags.c_contiguous
    if not mapped or root.mode == "c" or root.filename is None or not os.path.isfile(root.filename):
        return array
    offset = root.offset + array.ctypes.data - root.ctypes.data
    if root.base.size() < offset + array.nbytes:  # of the file that is mapped, as it is now
        raise ValueError(f"{root.filename} ends before row {len(array):,} of its array; it was cut short since.")
    file = _file_of(root)
    return array if file is None else FileRows(Path(root.filename), array.dtype, offset, array.shape, file)


def _file_of(mapped: Any) -> tuple[int, int] | None:
    """Return the device and inode of a mapped file, None where its path leads to another one, or may do.

    Linux alone tells which file lies behind a map: the one of that path is mapped, too, and the two are compared.
    """
    try:
        with open(mapped.filename, "rb") as file, open("/proc/self/maps", "rb") as table:
            beside = np.memmap(file, mode="r", shape=1)
            maps = [line.split(None, 5) for line in table]  # addresses, rights, offset, then device, inode and name
            one, other = (_behind(place.ctypes.data, maps) for place in (mapped, beside))
            return _identity(file) if one and one == other else None
    except (OSError, ValueError):  # an empty file cannot be mapped
        return None


def _behind(address: int, maps: list[list[bytes]]) -> list[bytes]:
    for addresses, _, _, *file in maps:
        first, end = (int(bound, 16) for bound in addresses.split(b"-"))
        if first <= address < end:
            return file
    return []


def _identity(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino
