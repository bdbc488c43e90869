"""Tensors to disk, whole or not at all, whatever interrupts; read back only where they are whole and what was asked."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from hashbench.storage.files import replacing

OF = "of"  # the entry that says what a file belongs to


class Unusable(Exception):
    """A file that is damaged, or of something else; says which as the end of a sentence that begins with the file."""


def save(state: dict[str, Any], path: Path, *, of: str | None = None) -> None:
    """Put `state`, tensors and plain data by name, at `path` in one step; raises HashbenchError where it cannot be.

    `of` names what it belongs to. The archive is made in memory: torch writes to a file of ours by calling back into
    Python, and a Ctrl-C that Python raises in there is lost in C++, which leaves half an archive and a process that
    neither goes on nor ends.
    """
    archive = io.BytesIO()
    torch.save(state if of is None else {**state, OF: of}, archive)
    with replacing(path) as file:
        file.write(archive.getbuffer())


def load(
    path: Path, device: torch.device | str = "cpu", *, of: str | None = None, unmarked: bool = False
) -> dict[str, Any]:
    """Return what `save` put at `path`, its checksums compared, with tensors on `device`.

    Raises FileNotFoundError without the file, and Unusable where it is damaged or belongs to something else than `of`
    (None: it may belong to anything); a file from before files said so is Unusable too, unless `unmarked` ones do.
    """
    try:
        with path.open("rb") as file:
            with zipfile.ZipFile(file) as parts:
                if parts.testzip() is not None:  # torch.load does not look at the checksums
                    raise Unusable("is damaged")
            file.seek(0)
            state = torch.load(file, map_location=device, weights_only=True)
        belongs = state.pop(OF, None)
    except (Unusable, FileNotFoundError, MemoryError, torch.OutOfMemoryError):
        raise
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror or error})") from error
    except Exception as error:  # zipfile and torch raise a dozen kinds
        raise Unusable(f"is damaged ({type(error).__name__})") from error
    if of is not None and belongs != of and not (unmarked and belongs is None):
        raise Unusable("does not say what it belongs to" if belongs is None else "belongs to something else")
    return dict(state)
