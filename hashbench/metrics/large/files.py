"""Arrays from files: `.npy`, `.npz` and `.pt`, none of which may run code while being read."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

SUFFIXES = (".npy", ".npz", ".pt", ".pth")


def read_array(path: Path | str, key: str | None = None) -> Any:
    """Return the array in a file: memory-mapped from `.npy`, by `key` from `.npz`, array or tensor from `.pt`.

    `key` may be left out where a file holds one array. Raises ValueError for files that are missing, empty, damaged,
    of another kind, or that would need unpickling.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} is not one of the kinds of file that are read: {', '.join(SUFFIXES)}.")
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes).")
    with reading(path):
        loaded = _load(path)
    if not isinstance(loaded, Mapping):
        if key is not None:
            raise ValueError(f"{path} holds one array without a name; leave out the key '{key}'.")
        return loaded
    names = list(loaded)
    chosen = names[0] if key is None and len(names) == 1 else key
    if chosen not in names:
        held = f"{len(names)} arrays" if key is None else f"no '{key}'"
        raise ValueError(f"{path} holds {held}; name one of its arrays as the key: {', '.join(map(str, names))}.")
    with reading(path):
        return loaded[chosen]


def _load(path: Path) -> Any:
    if path.suffix == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False)
    if path.suffix == ".npz":
        return np.load(path, allow_pickle=False)
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what reading a file raises into one sentence (ValueError)."""
    try:
        yield
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist.") from error
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} is damaged, or holds more than plain arrays, which is not unpickled.") from error
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read: {reason}") from error
