"""A `.npy` file that grows row by row and survives a kill at any moment with whole rows."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from hashbench.storage.files import reported


class AppendableNpy:
    """An array of known shape and type, written to disk row by row: its header is final, its rows are appended.

    Written as a file and not through a memory map, so that a full disk is an error and not a killed process. Raises
    HashbenchError where it cannot be written.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic]):
        """Continue after the rows in `path`, or start anew where another array, or none, lies there."""
        header = io.BytesIO()
        description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, description)
        self._path, self._dtype, self._row_shape = path, dtype, shape[1:]
        self._start, self._row_bytes = len(header.getvalue()), int(np.prod(shape[1:])) * dtype.itemsize
        with reported(path):
            self._file: BinaryIO = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115  (closed in __exit__)
            if self._file.read(self._start) != header.getvalue():
                self._file.seek(0)
                self._file.truncate()
                self._file.write(header.getvalue())
                self._file.flush()

    def __enter__(self) -> AppendableNpy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with reported(self._path):
            self._file.close()

    @property
    def rows(self) -> int:
        """The number of whole rows."""
        return max(0, os.fstat(self._file.fileno()).st_size - self._start) // self._row_bytes

    def read(self, rows: int) -> np.ndarray:
        """Return the first `rows` rows."""
        self._file.seek(self._start)
        content = self._file.read(rows * self._row_bytes)
        return np.frombuffer(content, self._dtype).reshape(rows, *self._row_shape)

    def mapped(self, rows: int) -> np.ndarray:
        """Return the first `rows` rows, one at least, as a memory map."""
        return np.memmap(self._path, self._dtype, "r", self._start, (rows, *self._row_shape))

    def cut(self, rows: int) -> None:
        """Keep the first `rows` rows; the next one is appended after them."""
        with reported(self._path):
            self._file.seek(self._start + rows * self._row_bytes)
            self._file.truncate()

    def append(self, rows: np.ndarray) -> None:
        """Write rows (n, ...) so that they last through a power cut."""
        with reported(self._path):
            self._file.write(np.ascontiguousarray(rows, self._dtype).data)
            self._file.flush()
            os.fsync(self._file.fileno())
