"""Tensors to disk, whole or not at all, whatever interrupts; read back only where they are whole and what was asked.

A file is torch's archive, a zip file, whose comment says what it belongs to and the sha256 of all that comes before:
the zip's own checksums leave out its directory, by which torch finds the tensors.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from hashbench.storage.files import regular, replacing

_MARK = re.compile(rb"hashbench of=(\w*) sha256=([0-9a-f]{64})\Z")
_SHA256_DIGITS = 64


class Unusable(Exception):
    """A file that is damaged, or of something else; says which as the end of a sentence that begins with the file."""


def save(state: dict[str, Any], path: Path, *, of: str | None = None) -> None:
    """Put `state`, tensors and plain data by name, at `path` in one step; raises HashbenchError where it cannot be.

    `of`, a word, names what it belongs to. The archive is made in memory: torch writes to a file of ours by calling
    back into Python, and a Ctrl-C that Python raises in there is lost in C++, which leaves half an archive and a
    process that neither goes on nor ends.
    """
    archive = io.BytesIO()
    torch.save(state, archive)
    mark = f"hashbench of={of or ''} sha256=".encode()
    archive.seek(-2, io.SEEK_END)  # the length of the comment, which has none yet
    archive.write((len(mark) + _SHA256_DIGITS).to_bytes(2, "little") + mark)
    archive.write(hashlib.sha256(archive.getbuffer()).hexdigest().encode())
    with replacing(path) as file:
        file.write(archive.getbuffer())


def load(
    path: Path, device: torch.device | str = "cpu", *, of: str | None = None, unmarked: bool = False
) -> dict[str, Any]:
    """Return what `save` put at `path`, its checksum compared, with tensors on `device`.

    Raises FileNotFoundError without the file, and Unusable where it is damaged or belongs to something else than `of`
    (None: it may belong to anything). A file from before files were marked is Unusable too, unless `unmarked` ones do.
    """
    try:
        with regular(path) as file:
            archive = file.read()
        mark = _MARK.search(archive, max(0, len(archive) - 2 * _SHA256_DIGITS - 32))
        if mark is not None and mark[2] != hashlib.sha256(memoryview(archive)[: mark.start(2)]).hexdigest().encode():
            raise Unusable("is damaged")
        if mark is None and zipfile.ZipFile(io.BytesIO(archive)).testzip() is not None:
            raise Unusable("is damaged")  # torch.load does not look at the checksums
        state = torch.load(io.BytesIO(archive), map_location=device, weights_only=True)
    except (Unusable, FileNotFoundError, MemoryError, torch.OutOfMemoryError):
        raise
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror or error})") from error
    except Exception as error:  # zipfile and torch raise a dozen kinds
        raise Unusable(f"is damaged ({type(error).__name__})") from error
    if mark is None and not unmarked:
        raise Unusable("does not say what it belongs to")
    if mark is not None and of not in (None, mark[1].decode()):
        raise Unusable("belongs to another run, or to other code or data")
    return dict(state)
