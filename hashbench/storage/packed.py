"""A folder packed into a zip file, read where it lies: a path may lead through the file, as in results.zip/run/a.json.

Nothing is unpacked to disk. What no folder of files can hold is refused when the file is opened.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal

from hashbench.errors import HashbenchError

ENDING = ".zip"
LARGEST = 1 << 30  # bytes of a member when it is unpacked, which happens in memory
DEEPEST = 64  # folders within each other
_SEAL = b"packed by hashbench: "
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)


class PackedFolder:
    """The files in a zip file by name, and the names in each folder; several threads may read them."""

    def __init__(self, path: str):
        """Open it; raises HashbenchError where it is damaged, or holds what no folder of files can."""
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            raise self._unusable(f"it is cut short, or no zip file ({error})") from error
        self._files: dict[str, zipfile.ZipInfo] = {}
        self.folders: dict[str, list[str]] = {"": []}
        for info in self._archive.infolist():
            name = info.filename.removesuffix("/")
            if wrong := self._problem(info, name):
                raise self._unusable(wrong)
            self._add_folder(name if info.is_dir() else os.path.dirname(name))
            if not info.is_dir():
                self._files[name] = info
                self.folders[os.path.dirname(name)].append(os.path.basename(name))
        if self._archive.comment.startswith(_SEAL) and self._archive.comment != seal(self._archive):
            raise self._unusable("it holds other files than were packed")
        if both := self._files.keys() & self.folders.keys():
            raise self._unusable(f"its {min(both)!r:.100} is both a file and a folder")

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def read(self, name: str) -> bytes:
        """Return a file's content; raises HashbenchError where it is damaged."""
        try:
            return self._archive.read(self._files[name])
        except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise self._unusable(f"its {name!r:.100} is damaged ({error})") from error

    def _problem(self, info: zipfile.ZipInfo, name: str) -> str | None:
        """Return why a member is none of a folder of files, as the end of a sentence."""
        shown, parts = f"its {info.orig_filename!r:.100}", name.split("/")
        if info.orig_filename != info.filename or "\\" in name or {"", ".", ".."} & {*parts} or len(parts) > DEEPEST:
            return f"{shown} is no name inside a folder"
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            return f"{shown} is a link or a device"
        if name in self._files:
            return f"it holds two files {name!r:.100}"
        if info.file_size > LARGEST:
            return f"{shown} has {info.file_size:,} bytes when it is unpacked"
        if info.flag_bits & 1 or info.compress_type not in _METHODS:
            return f"{shown} is encrypted, or compressed in an unknown way"
        return None

    def _add_folder(self, name: str) -> None:
        if name not in self.folders:
            self.folders[name] = []
            self._add_folder(os.path.dirname(name))
            self.folders[os.path.dirname(name)].append(os.path.basename(name))

    def _unusable(self, reason: str) -> HashbenchError:
        return HashbenchError(f"{self.path} cannot be used: {reason}; copy it anew, or pack the runs again.")


def seal(archive: zipfile.ZipFile) -> bytes:
    """Return a comment for a zip file by which it is noticed that a member was lost, renamed or replaced."""
    members = "".join(f"{info.CRC} {info.file_size} {info.filename}\n" for info in archive.infolist())
    return _SEAL + hashlib.sha256(members.encode()).hexdigest().encode()


def find_packed(path: Path | str) -> tuple[PackedFolder, str] | None:
    """Return the zip file that `path` is or leads through, and the name in it, "" for the file itself; None without.

    Raises HashbenchError where the file cannot be used.
    """
    given = os.fspath(path)
    zip_file = given
    while ENDING in zip_file:
        if zip_file.endswith(ENDING) and os.path.isfile(zip_file):
            status = os.stat(zip_file)
            name = given[len(zip_file) :].strip("/")
            return _opened(zip_file, (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)), name
        zip_file = os.path.dirname(zip_file)
    return None


def kind_in_package(path: Path | str) -> Literal["file", "folder"] | None:
    """Return what `path` leads to in a zip file, which is itself a folder; None where it leads to nothing in one."""
    packed, name = find_packed(path) or (None, "")
    if packed is None or (name not in packed and name not in packed.folders):
        return None
    return "file" if name in packed else "folder"


def walk_packed(path: Path | str, packed: PackedFolder, name: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield what os.walk does below `path`, which leads to the folder `name` of `packed`, and heed it alike."""
    inside = f"{name}/" if name else ""
    names = packed.folders.get(name, [])
    folders = [each for each in names if inside + each in packed.folders]
    yield os.fspath(path), folders, [each for each in names if inside + each in packed]
    for each in folders:
        yield from walk_packed(os.path.join(path, each), packed, inside + each)


@lru_cache(maxsize=16)
def _opened(path: str, version: tuple[int, ...]) -> PackedFolder:
    """Return the zip file at `path`, whose list of members is read once for each of its versions."""
    return PackedFolder(path)
