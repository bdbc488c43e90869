"""Arrays from files: `.npy`, `.npz`, `.mat`, `.pt` and text, none of which may run code while being read."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hashbench.metrics.matlab_files import read_mat
from hashbench.metrics.text_files import TEXT, read_table

SUFFIXES = (".npy", ".npz", ".mat", ".pt", ".pth", *TEXT)
LONGEST = 500  # characters of a path and of a reason that are shown


def read_array(path: Path | str, key: str | None = None) -> Any:
    """Return the array in a file: memory-mapped from `.npy`, by `key` from `.npz`, `.mat`, `.pt` or a column of text.

    `key` may be left out where a file holds one array. An .npz file from scipy.sparse.save_npz is a sparse matrix.
    Raises ValueError for files that are missing, empty, damaged, of another kind, or that would need unpickling.
    """
    path = Path(path)
    loaded = _opened(path, key)
    if not isinstance(loaded, Mapping):
        if key is not None and path.suffix.lower() not in TEXT:
            raise ValueError(f"{path} holds one array without a name; leave out the key '{key}'.")
        return loaded
    names = list(loaded)
    if not names:
        raise ValueError(f"{path} holds no array.")
    chosen = names[0] if key is None and len(names) == 1 else key
    if chosen not in names:
        held = f"{len(names)} arrays" if key is None else f"no '{key}'"
        raise ValueError(f"{path} holds {held}; name one of its arrays as the key: {', '.join(map(str, names))}.")
    with reading(path):
        return loaded[chosen]


def read_arrays(path: Path | str, names: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the arrays of these names in a file, or in a folder with a file for each, and all names that are there.

    Raises ValueError as `read_array` does, for a file of one array, and for two files of one name.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        held = [file.stem for file in files]
        twice = next((name for name in names if held.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{path} holds {held.count(twice)} files called '{twice}'; keep one of them.")
        return {file.stem: read_array(file) for file in files if file.stem in names}, held
    loaded = _opened(path)
    if not isinstance(loaded, Mapping):
        raise ValueError(
            f"{path} holds one array; put a file for each array into a folder ({', '.join(names)}), or all of them "
            "into one .npz file."
        )
    with reading(path):
        return {name: loaded[name] for name in names if name in loaded}, [*map(str, loaded)]


def _opened(path: Path, key: str | None = None) -> Any:
    """Return what a file holds: an array, or arrays by name, those of .npz unread; `key` is a column of text."""
    suffix = path.suffix.lower()
    with reading(path):
        if suffix not in SUFFIXES:
            raise ValueError(f"{path} is not one of the kinds of file that are read: {', '.join(SUFFIXES)}.")
        if path.stat().st_size == 0:
            raise ValueError(f"{path} is empty (0 bytes).")
        if suffix in TEXT:
            return read_table(path, key)
        if suffix == ".mat":
            return read_mat(path)
        if suffix in (".npy", ".npz"):
            loaded = np.load(path, mmap_mode="r" if suffix == ".npy" else None, allow_pickle=False)
            if isinstance(loaded, Mapping) and {"format", "shape", "data"} <= {*loaded}:
                return read_sparse(path)
            if isinstance(loaded, np.memmap) and (more := path.stat().st_size - loaded.offset - loaded.nbytes):
                raise ValueError(f"it holds {more:,} bytes after its array; give each array a file, or all one .npz")
            return loaded
        import torch

        return torch.load(path, map_location="cpu", weights_only=True)


def read_sparse(path: Path) -> Any:
    """Return the matrix that scipy.sparse.save_npz wrote; raises ValueError where its parts do not fit together."""
    from scipy import sparse  # slow to import

    with reading(path):
        matrix = sparse.load_npz(path)
        check_sparse(matrix)
    return matrix


def check_sparse(matrix: Any) -> None:
    """Raise ValueError where the indices of a sparse matrix of scipy lead out of it, which scipy does not notice."""
    if hasattr(matrix, "check_format"):
        matrix.check_format(full_check=True)
    elif matrix.format == "coo" and any(
        len(places) and not 0 <= places.min() <= places.max() < size
        for places, size in zip((matrix.row, matrix.col), matrix.shape, strict=True)
    ):
        raise ValueError(f"its values lie outside of its shape {matrix.shape}")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever reading a file raises into one sentence (ValueError), which begins with its path."""
    whole = str(path)
    shown = whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}..."
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for without end
            raise OSError(f"it is {'a folder' if path.is_dir() else 'no regular file'}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong is an error, too
            yield
    except FileNotFoundError as error:
        raise ValueError(f"{shown} does not exist.") from error
    except pickle.UnpicklingError as error:
        raise ValueError(f"{shown} is damaged, or holds more than plain arrays, which is not unpickled.") from error
    except MemoryError as error:
        raise ValueError(f"{shown} is damaged, or holds more than fits into memory.") from error
    except Exception as error:  # numpy, scipy, torch and zipfile raise whatever a damaged file brings about
        said = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        reason = said.splitlines()[0] if said.strip() else type(error).__name__
        if "pickle" in reason or "Python objects" in reason:  # numpy advises to run what the file says
            reason = "it is damaged, or holds more than plain arrays, which is not unpickled"
        if reason.startswith(whole):
            raise ValueError(reason.replace(whole, shown, 1)) from error
        raise ValueError(f"{shown} cannot be read: {reason[:LONGEST]}") from error
