"""Tensors to disk, whole or not at all, whatever interrupts."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from hashbench.storage.files import replacing


def save(state: dict[str, Any], path: Path) -> None:
    """Put `state`, tensors and plain data by name, at `path` in one step; raises HashbenchError where it cannot be.

    The archive is made in memory: torch writes to a file of ours by calling back into Python, and a Ctrl-C that Python
    raises in there is lost in C++, which leaves half an archive and a process that neither goes on nor ends.
    """
    archive = io.BytesIO()
    torch.save(state, archive)
    with replacing(path) as file:
        file.write(archive.getbuffer())
