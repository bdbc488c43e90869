"""Annotation files of official releases: their lines, the image paths in them, and the errors about them."""

from __future__ import annotations

import codecs
import hashlib
import os
import posixpath
from pathlib import Path

from hashbench.datasets.files.releases import SourceFile
from hashbench.errors import HashbenchError


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file without their ends, of whatever system, and without empty last lines.

    Raises HashbenchError where the file is missing, or is no text in UTF-8, nor in UTF-16 that begins with its mark.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait
            raise ValueError("it is no file")
        content = path.read_bytes()
        encoding = "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
        lines = [line.rstrip() for line in content.decode(encoding).splitlines()]
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    while lines and not lines[-1]:
        lines.pop()
    return lines


def read_pairs(path: Path) -> dict[str, str]:
    """Return the second column of a text file by the first, which is one word and occurs once.

    Raises HashbenchError naming the line that is not so.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), start=1):
        key, *rest = line.split(maxsplit=1) or [""]
        if not rest or key in found:
            raise bad_line(path, number, "it is the second one of that name" if rest else "it needs two columns")
        found[key] = rest[0]
    return found


def relative_path(text: str, path: Path, number: int) -> str:
    """Return the image path in line `number` of the file `path` with "/"; raises HashbenchError where it leaves it."""
    posix = text.replace("\\", "/")
    if not posix or posix[0] == "/" or posix[1:2] == ":" or ".." in posix.split("/"):
        raise bad_line(path, number, f"'{text}' does not lie below the folder of the data")
    return posixpath.normpath(posix)


def source(path: Path, official_md5: str | None = None) -> SourceFile:
    """Return the record of an annotation file and of its official checksum, where known; raises HashbenchError."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error
    return SourceFile(str(path), f"md5:{digest}", official_md5 and f"md5:{official_md5}")


def bad_line(path: Path, number: int, reason: str) -> HashbenchError:
    """Return the error for line `number`, from 1, of an annotation file."""
    return HashbenchError(f"Line {number} of {path} cannot be used: {reason}; put it right, or fetch the file again.")


def unreadable(path: Path, error: Exception) -> HashbenchError:
    """Return the error for an annotation file that is missing, damaged or another file."""
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return HashbenchError(f"{path} cannot be read ({reason}); fetch it again.")
