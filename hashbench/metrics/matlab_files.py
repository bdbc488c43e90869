"""Arrays in `.mat` files, read by scipy in a process of its own: scipy.io ends its process where a file is damaged."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

HDF5 = b"\x89HDF"
#: What the process does: cells of text become names, sparse matrices their parts, and anything else its type.
SCRIPT = """
import sys, warnings
import numpy as np
from scipy.io import loadmat
from scipy.sparse import issparse

warnings.simplefilter("ignore")
arrays = {}
for name, array in loadmat(sys.argv[1]).items():
    if name.startswith("__"):
        continue
    if issparse(array):
        array = array.tocsr()
        array.check_format(full_check=True)
        for part in ("data", "indices", "indptr", "shape"):
            arrays[f"{part}:{name}"] = np.asarray(getattr(array, part))
        continue
    array = np.asarray(array)
    if array.dtype == object:
        words = [np.asarray(cell) for cell in array.ravel()]
        text = all(word.dtype.kind == "U" and word.size == 1 for word in words)
        array = np.array([str(word.item()) for word in words]) if text and words else array
    kind = array.dtype.kind
    arrays["array:" + name if kind in "biufU" else f"type:{name}"] = array if kind in "biufU" else str(array.dtype)
np.savez(sys.stdout.buffer, **arrays)
"""


def read_mat(path: Path) -> dict[str, Any]:
    """Return the arrays of a .mat file by name, (n,) of text for a cell of words, CSR for a sparse matrix.

    Raises ValueError for a file that is damaged, or that MATLAB wrote as HDF5 (v7.3).
    """
    with path.open("rb") as file:
        start = file.read(1024)
    if HDF5 in start or start.startswith(b"MATLAB 7.3"):
        raise ValueError("it is HDF5 (MATLAB v7.3); write it again with save(FILE, NAMES, '-v7')")
    ran = subprocess.run([sys.executable, "-P", "-c", SCRIPT, str(path.absolute())], capture_output=True, check=False)
    if ran.returncode != 0:
        last = ran.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(
            f"it is damaged or no .mat file ({last[-1] if ran.returncode > 0 and last else 'scipy ended'})"
        )
    from scipy import sparse  # slow to import

    found: dict[str, Any] = {}
    with np.load(io.BytesIO(ran.stdout), allow_pickle=False) as arrays:
        for entry in arrays.files:
            part, _, name = entry.partition(":")
            if part == "array":
                found[name] = arrays[entry]
            elif part == "data":
                parts = arrays[entry], arrays[f"indices:{name}"], arrays[f"indptr:{name}"]
                found[name] = sparse.csr_array(parts, shape=tuple(arrays[f"shape:{name}"]))
            elif part == "type":
                found[name] = np.zeros(1, [("MATLAB structure or cell", np.uint8)])  # refused where it is asked for
    return found
