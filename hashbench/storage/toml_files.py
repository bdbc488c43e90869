"""TOML files that users write, read as any editor saves them."""

from __future__ import annotations

import codecs
import tomllib
from pathlib import Path
from typing import Any

from hashbench.errors import HashbenchError
from hashbench.storage.files import read_note

_MAX_DEPTH = 64  # of tables within each other


def read_toml(path: Path) -> dict[str, Any]:
    """Return the table that a TOML file holds; raises HashbenchError where it cannot be read, or is none."""
    try:
        content = read_note(path)
        encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        table = tomllib.loads(content.decode(encoding).replace("\r\n", "\n"))
        if _is_deep(table):
            raise RecursionError
    except OSError as error:
        reason = error.strerror or str(error)
        raise HashbenchError(f"{path} cannot be read ({reason}); is the path right?") from error
    except RecursionError:
        raise HashbenchError(f"{path} is not TOML that can be read: its tables nest too deeply.") from None
    except ValueError as error:  # which TOML's and Unicode's errors are
        raise HashbenchError(f"{path} is not TOML: {error}.") from error
    return table


def _is_deep(table: dict[str, Any]) -> bool:
    """Return whether tables lie deeper in each other than readers may follow, who call themselves for each."""
    level = [table]
    for _ in range(_MAX_DEPTH):
        level = [value for table in level for value in table.values() if isinstance(value, dict)]
    return bool(level)
