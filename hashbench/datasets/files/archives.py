"""Releases of image files: found unpacked, or unpacked from their archives, or fetched; always complete.

An archive is unpacked into a hidden folder and takes its place in one step when all of it is there.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import http.client
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hashbench.datasets.files.downloading import CHUNK_BYTES, download
from hashbench.datasets.files.releases import data_root
from hashbench.errors import HashbenchError
from hashbench.storage.files import exclusive, make_folder, reported

LONGEST_NAME = 255  # bytes of a name in a file system
TAR_END = 1024  # a whole .tar ends with two blocks of 512 zeros
# drops owners and special modes; Python before 3.11.4 has none, and what it refuses is refused here as well
TAR_FILTER: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
#: What writing a member raises when its name is to blame, as one that is a file and a folder at once.
NAME_ERRORS = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
MAX_RATIO = 100  # bytes that an archive may give for each of its own; images and texts give fewer
MAX_UNPACKED = "HASHBENCH_MAX_UNPACKED"  # the bytes that any archive may give, in place of this ratio
SMALL_ARCHIVE = 1 << 26  # bytes that every archive may give


@dataclass(frozen=True)
class Packed:
    """One archive of a release, and where its content lies once unpacked."""

    name: str  # of the archive: .zip, .tar, .tar.gz or .tgz
    holds: str  # the folder, below the release's own
    marker: str = ""  # a file in `holds`, by which a whole copy is known; "": that the folder is there must do
    url: str | None = None  # None: it cannot be downloaded without asking its owners
    md5: str | None = None  # of the archive; None: not known for certain


@dataclass(frozen=True)
class ImageRelease:
    """The official archives of a data set of image files."""

    title: str
    folder: str  # below the data root; "": the data root itself
    archives: tuple[Packed, ...]
    page: str  # where people get them
    how: str = ""  # what they need to do there, where a download is not enough

    def locate(self, data_dir: Path | None = None) -> Path:
        """Return the release's folder with everything unpacked, which this unpacks and downloads where it must.

        Raises HashbenchError that says which files to put where, for what is missing and cannot be downloaded, and for
        damaged or unsafe archives.
        """
        root = self.root(data_dir)
        needed = [archive for archive in self.archives if not _unpacked(root, archive)]
        for archive in needed:
            if archive.url is None and _packed(root, archive) is None:
                raise self._absent(root)
        for archive in needed:
            path = _packed(root, archive)
            if path is None:
                path = self._fetch(root / archive.name, archive)
            elif archive.md5 is not None and (found := _md5(path)) != archive.md5:
                raise HashbenchError(
                    f"{path} is not the official archive of {self.title}: its md5 is {found} instead of {archive.md5}; "
                    f"fetch it again, or unpack it into {root} yourself to use it all the same."
                )
            unpack(path, root / archive.holds, marker=archive.marker)
        return root

    def root(self, data_dir: Path | None) -> Path:
        """Return where the release lies: its folder in the data root, or the data root where that is this folder."""
        root = data_root(data_dir)
        is_root = not os.path.isdir(root / self.folder) and any(_unpacked(root, archive) for archive in self.archives)
        return root if is_root else root / self.folder

    def _fetch(self, target: Path, archive: Packed) -> Path:
        def check(path: Path) -> None:
            if archive.md5 is not None and (found := _md5(path)) != archive.md5:
                raise HashbenchError(
                    f"The download of {archive.name} is damaged or not the official file: its md5 is {found} instead "
                    f"of {archive.md5}; nothing was kept, try again."
                )

        assert archive.url is not None
        try:
            download(archive.url, target, check=check)
        except (OSError, http.client.HTTPException) as error:
            raise self._absent(target.parent, because=str(error).strip("<>")) from error
        return target

    def _absent(self, root: Path, *, because: str = "") -> HashbenchError:
        names = ", ".join(f"{archive.name} (or unpacked, {archive.holds}/)" for archive in self.archives)
        reason = because and f" and cannot be downloaded ({because})"
        return HashbenchError(
            f"{self.title} is not complete in {root}{reason}: get {names} from {self.page}"
            f"{self.how and f' ({self.how})'} and put it there, or say with --data-dir where it is."
        )


def unpack(archive: Path, target: Path, *, marker: str) -> None:
    """Unpack a .zip or .tar archive so that `target` is the folder in it that holds `marker`, or that has its name.

    `target` appears in one step when everything is unpacked; what a killed process left is removed first. Raises
    HashbenchError for damaged archives, for members that would leave the folder, for links, and where the disk is full.
    """
    make_folder(target.parent)
    temporary = target.with_name(f".{target.name}.part")
    with exclusive(target.with_name(f".{target.name}.lock")):
        if os.path.exists(target / marker):
            return  # by the process that had the lock before
        if os.path.lexists(target):
            raise HashbenchError(f"{target} is there without {marker}; move it away to have {archive.name} unpacked.")
        try:
            with reported(temporary):
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir()
                _extract(archive, temporary)
                wanted = marker or target.name
                found = min(temporary.rglob(wanted), key=lambda path: (len(path.parts), path), default=None)
                if found is None:
                    raise HashbenchError(f"{archive} holds no {wanted}; is it another archive? Fetch it again.")
                os.sync()  # before the rename: a power cut must not leave a name without its content
                os.replace(found.parent if marker else found, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _extract(archive: Path, folder: Path) -> None:
    from tqdm.auto import tqdm

    try:
        members = _zip_members(archive, folder) if archive.suffix == ".zip" else _tar_members(archive, folder)
        for _ in tqdm(members, desc=f"unpacking {archive.name}", unit="file", leave=False, disable=None):
            pass
    except HashbenchError:
        raise
    except Exception as error:  # zipfile, tarfile and the decompressors raise whatever a damaged archive brings about
        if isinstance(error, OSError) and error.errno is not None and error.errno not in NAME_ERRORS:
            raise  # of the disk
        raise HashbenchError(
            f"{archive} is damaged, truncated or no archive ({error or type(error).__name__}); delete it and fetch it "
            f"again."
        ) from error


def _zip_members(archive: Path, folder: Path) -> Iterator[str]:
    """Extract member by member; each one's checksum is verified on the way."""
    left = _Left(archive)
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            _require_safe(member.filename, archive, is_folder=member.is_dir())
            left.take(member.file_size)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise _unsafe(member.filename, archive, "is a link")
            file.extract(member, folder)
            yield member.filename


def _tar_members(archive: Path, folder: Path) -> Iterator[str]:
    with archive.open("rb") as raw:
        raw.seek(-min(TAR_END, os.path.getsize(archive)), os.SEEK_END)
        ended = not any(raw.read())
    if archive.suffix == ".tar" and not ended:  # tarfile accepts one that was cut between two members
        raise EOFError("it has no end")
    left = _Left(archive)
    with open(archive, "rb") if archive.suffix == ".tar" else gzip.open(archive) as stream:
        with tarfile.open(fileobj=stream, mode="r|") as file:
            for member in file:
                _require_safe(member.name, archive, is_folder=member.isdir())
                left.take(member.size)
                if not (member.isfile() or member.isdir()):
                    raise _unsafe(member.name, archive, "is a link or a device")
                file.extract(member, folder, **TAR_FILTER)
                yield member.name
        while stream.read(CHUNK_BYTES):
            pass  # to the end, where the checksum stands


class _Left:
    """The bytes that an archive may still give, so that a small one does not fill the disk."""

    def __init__(self, archive: Path) -> None:
        """Begin with what `MAX_UNPACKED` says, else with MAX_RATIO times the size of the archive."""
        setting = os.environ.get(MAX_UNPACKED, "")
        if setting and not setting.isdecimal():
            raise HashbenchError(f"{MAX_UNPACKED} is '{setting}'; give a number of bytes.")
        self._archive = archive
        self._most = int(setting) if setting else max(MAX_RATIO * os.path.getsize(archive), SMALL_ARCHIVE)
        self._taken = 0

    def take(self, count: int) -> None:
        """Count the bytes of a member; raises HashbenchError where they are too many."""
        self._taken += count
        if count < 0 or self._taken > self._most:
            raise HashbenchError(
                f"{self._archive} unpacks to more than {self._most:,} bytes, {MAX_RATIO} times its size; if it is the "
                f"right archive, raise {MAX_UNPACKED} (bytes)."
            )


def _require_safe(member: str, archive: Path, *, is_folder: bool) -> None:
    posix = member.replace("\\", "/")
    names = [name for name in posix.split("/") if name not in ("", ".")]
    if not names and is_folder:
        return  # the archive's own top, as `tar -c .` writes it
    if not names or max(len(os.fsencode(name)) for name in names) > LONGEST_NAME:
        shown = member if len(member) <= 50 else f"{member[:50]}..."
        raise _unsafe(f"A member called '{shown}'", archive, "has no name that a file can have")
    if PurePosixPath(posix).is_absolute() or ".." in posix.split("/") or posix[1:2] == ":":
        raise _unsafe(member, archive, "would leave the folder it is unpacked into")


def _unsafe(member: str, archive: Path, reason: str) -> HashbenchError:
    return HashbenchError(f"{member} in {archive} {reason}; nothing was unpacked, fetch the official archive.")


def _unpacked(root: Path, archive: Packed) -> bool:
    return os.path.exists(root / archive.holds / archive.marker)


def _packed(root: Path, archive: Packed) -> Path | None:
    """Return the archive where it lies in the release's folder."""
    return root / archive.name if os.path.isfile(root / archive.name) else None


def _md5(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
        raise HashbenchError(f"{path} cannot be read ({error.strerror}).") from error
