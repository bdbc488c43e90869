"""The cache folder: whatever can be computed or downloaded again."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_DIR = "HASHBENCH_CACHE"


def cache_root() -> Path:
    """Return the folder for what can be computed again: HASHBENCH_CACHE, else ~/.cache/hashbench."""
    return Path(os.environ.get(CACHE_DIR) or "~/.cache/hashbench").expanduser()
