"""What `hashbench search-cost` keeps in a run's folder."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from hashbench.errors import HashbenchError
from hashbench.results.runs import RunDirectory
from hashbench.storage import files
from hashbench.storage.strict_json import document, loads

FILE = "search-cost.json"


def write_search_cost(run: RunDirectory, found: dict[str, Any]) -> None:
    """Keep what was found beside a run's result, in the place of what was kept before."""
    files.write_text(run.path / FILE, document(found))


def read_search_cost(run: RunDirectory) -> dict[str, Any] | None:
    """Return what was kept of a run, None where nothing was, or where its codes were others.

    Raises HashbenchError where it cannot be read.
    """
    path = run.path / FILE
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = loads(files.read_note(path))
        return found if found["codes_sha256"] == fingerprint(run.read_codes()) else None
    except (ValueError, KeyError, TypeError) as error:
        raise HashbenchError(f"{path} cannot be read ({error}); delete it and measure again.") from error


def fingerprint(codes: dict[str, np.ndarray]) -> str:
    """Return the sha256 of a run's packed codes of queries and database."""
    hashed = hashlib.sha256()
    for part in ("query", "database"):
        hashed.update(str(codes[part].shape).encode() + np.ascontiguousarray(codes[part]).tobytes())
    return hashed.hexdigest()
