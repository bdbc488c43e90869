"""Where data lie on disk, and the official files of a release: found or downloaded, checked, read.

A file is read whole, checked against the size and checksum of the official release, and never unpacked to disk; what
was downloaded appears under its name only after its checksum matched.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from hashbench.datasets.files.downloading import download
from hashbench.errors import HashbenchError
from hashbench.storage.cache import cache_root

DATA_DIR = "HASHBENCH_DATA"
DAMAGE = (OSError, EOFError, zlib.error, tarfile.TarError)  # what reading a damaged or unreadable file raises


def data_root(data_dir: str | Path | None = None) -> Path:
    """Return the folder of the data sets: `data_dir`, else HASHBENCH_DATA, else ~/.cache/hashbench/data.

    Raises HashbenchError for a `data_dir` that is not a folder, so that a mistyped one is never filled by a download.
    """
    if data_dir is None:
        return Path(os.environ.get(DATA_DIR) or cache_root() / "data").expanduser()
    root = Path(data_dir).expanduser()
    if not os.path.isdir(root):
        raise HashbenchError(f"The data folder {root} does not exist; create it, or name another with --data-dir.")
    return root


@dataclass(frozen=True)
class SourceFile:
    """A file that data were read from, with its checksum and the official one (`md5:...`) where that is known."""

    path: str
    digest: str
    expected: str | None = None

    @property
    def official(self) -> bool | None:
        """Whether the checksum is the official one; None where the official one is not known."""
        return None if self.expected is None else self.digest == self.expected


class FromFiles(Protocol):
    """Data with a name that were read from files."""

    @property
    def name(self) -> str:
        """The data set's name."""

    @property
    def sources(self) -> tuple[SourceFile, ...]:
        """The files."""


@dataclass(frozen=True)
class OfficialFile:
    """One file of a release: its name, its size in bytes and its md5, both of the uncompressed content."""

    name: str
    size: int
    md5: str


@dataclass(frozen=True)
class Archive:
    """The .tar.gz of a release: its name and the md5 of the file itself."""

    name: str
    md5: str


@dataclass(frozen=True)
class Release:
    """The official files of a data set: one .tar.gz archive of a folder, or single .gz files."""

    title: str
    folder: str  # holds the files: inside the archive, and where people unpack it
    files: tuple[OfficialFile, ...]
    url: str  # the folder on the web that offers the archive or the single files
    archive: Archive | None = None  # None: the files come singly, each as NAME.gz
    hint: str = ""  # another way to the files, for the error message

    def read(self, data_dir: Path | None = None) -> tuple[dict[str, bytes], tuple[SourceFile, ...]]:
        """Return the files' contents by name, and their checksums; downloads what is missing.

        Unpacked files are looked for in `folder` of the data root and in the data root itself, the archive in the data
        root. Raises HashbenchError for files that are missing and cannot be downloaded, and for damaged ones.
        """
        root = data_root(data_dir)
        for folder in (root / self.folder, root):
            if any(_existing(folder, file.name) for file in self.files):
                return self._read_folder(folder)
        if self.archive is None:
            return self._read_folder(root / self.folder)
        path = root / self.archive.name
        if not os.path.exists(path):
            self._download(path, _check_archive(self.archive))
        return self._read_archive(path, self.archive)

    def _read_folder(self, folder: Path) -> tuple[dict[str, bytes], tuple[SourceFile, ...]]:
        contents, sources = {}, []
        for file in self.files:
            path = _existing(folder, file.name)
            if path is None:
                if self.archive is not None:
                    raise HashbenchError(
                        f"{folder} holds {self.title} without {file.name}; unpack {self.archive.name} from {self.url} "
                        f"there again, or remove what is there of it to have it downloaded."
                    )
                path = folder / f"{file.name}.gz"
                self._download(path, _check_file(file))
            contents[file.name] = _read_file(path, file)
            sources.append(_source(path, _md5(contents[file.name]), file.md5))
        return contents, tuple(sources)

    def _read_archive(self, path: Path, archive: Archive) -> tuple[dict[str, bytes], tuple[SourceFile, ...]]:
        wanted = {PurePosixPath(self.folder, file.name): file for file in self.files}
        contents: dict[str, bytes] = {}
        try:
            with tarfile.open(path, "r|gz") as tar:
                for member in tar:
                    file = wanted.get(PurePosixPath(member.name))
                    stream = tar.extractfile(member) if file and member.isfile() else None
                    if file is None or stream is None:
                        continue
                    if member.size != file.size:
                        raise HashbenchError(
                            f"{file.name} in {path} is {member.size:,} bytes long instead of {file.size:,}; delete "
                            f"{path} to have it downloaded again."
                        )
                    contents[file.name] = stream.read()
            with path.open("rb") as packed:
                packed_md5 = hashlib.file_digest(packed, "md5").hexdigest()
        except DAMAGE as error:
            raise _damaged(path, error) from error
        missing = [file.name for file in self.files if file.name not in contents]
        if missing:
            raise HashbenchError(f"{path} lacks {', '.join(missing)}; delete it to have it downloaded again.")
        in_order = {file.name: contents[file.name] for file in self.files}
        if packed_md5 == archive.md5:
            return in_order, (_source(path, packed_md5, archive.md5),)
        # packed anew: the files themselves decide
        return in_order, tuple(_source(path / file.name, _md5(in_order[file.name]), file.md5) for file in self.files)

    def _download(self, path: Path, check: Callable[[Path], None]) -> None:
        try:
            download(self.url + path.name, path, check=check)
        except (OSError, http.client.HTTPException) as error:
            names = ", ".join(file.name for file in self.files)
            reason = str(error).strip("<>")
            whole = f"{self.archive.name} or its folder {self.folder} ({names})" if self.archive else names
            raise HashbenchError(
                f"{self.title} is not in {path.parent} and cannot be downloaded ({reason}): get {whole} from "
                f"{self.url} and put it there, or say with --data-dir where it is{self.hint and f' ({self.hint})'}."
            ) from error


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _source(path: Path, md5: str, official_md5: str) -> SourceFile:
    return SourceFile(str(path), f"md5:{md5}", f"md5:{official_md5}")


def _existing(folder: Path, name: str) -> Path | None:
    for path in (folder / name, folder / f"{name}.gz"):
        if os.path.isfile(path):  # unlike Path.is_file, says no where it may not look
            return path
    return None


def _read_file(path: Path, official: OfficialFile) -> bytes:
    """Return the uncompressed content of `path`; never more than one byte over the official size."""
    try:
        with path.open("rb") as raw, gzip.open(raw) if path.suffix == ".gz" else raw as file:
            content = file.read(official.size + 1)
    except DAMAGE as error:
        raise _damaged(path, error) from error
    if len(content) != official.size:
        length = f"{len(content):,}" if len(content) < official.size else "more"
        raise HashbenchError(
            f"{path} is truncated or another file: it holds {length} bytes instead of {official.size:,}; delete it and "
            f"fetch it again."
        )
    return content


def _check_archive(archive: Archive) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        with path.open("rb") as file:
            _require_md5(archive.name, hashlib.file_digest(file, "md5").hexdigest(), archive.md5)

    return check


def _check_file(official: OfficialFile) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        try:
            with gzip.open(path) as file:
                found = _md5(file.read(official.size + 1))
        except DAMAGE as error:
            raise _damaged(path, error) from error
        _require_md5(official.name, found, official.md5)

    return check


def _require_md5(name: str, found: str, expected: str) -> None:
    if found != expected:
        raise HashbenchError(
            f"The download of {name} is damaged or not the official file: its md5 is {found} instead of {expected}; "
            f"nothing was kept, try again."
        )


def _damaged(path: Path, error: BaseException) -> HashbenchError:
    return HashbenchError(f"{path} is damaged or cannot be read ({error}); delete it and fetch it again.")
