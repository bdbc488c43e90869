"""Notes of our own beside large files: JSON with its own sha256, whole and as it was written, or absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hashbench.storage import files
from hashbench.storage.strict_json import digest, dumps, loads


def write_note(path: Path, note: dict[str, Any]) -> None:
    """Put a note, plain data, at `path` in one step; raises HashbenchError where it cannot be written."""
    files.write_text(path, dumps({**note, "sha256": digest(note)}))


def read_note(path: Path) -> dict[str, Any] | None:
    """Return the note at `path`; None where there is none, or it is damaged."""
    try:
        note = loads(files.read_note(path))
        return note if note.pop("sha256") == digest(note) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # whatever lies there instead
        return None
