"""Files written complete or not at all, exclusive locks, and errors of the operating system as one sentence."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from hashbench.errors import HashbenchError
from hashbench.storage.packed import find_packed, kind_in_package, walk_packed

# Hidden, so that a reader's glob for *.json never meets half a file; machines that share a folder may share a pid too.
_TEMPORARY = ".{name}.{pid}-{token}.part"
RESUMED_WITHIN = 30 * 86400.0  # seconds after which what a killed process left in a cache, to be resumed, is removed


MAX_NOTE = 1 << 26  # bytes of a file of JSON; the largest of ours hold some kilobytes


@contextlib.contextmanager
def regular(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file to read it, be it in a packed folder; never waits.

    Raises OSError where that is impossible or it is no regular file, HashbenchError where it is damaged in its package.
    """
    try:
        opened = open(path, "rb", opener=_opened_at_once)  # noqa: SIM115  (closed below)
    except NotADirectoryError:
        found = find_packed(path)
        if found is None or found[1] not in found[0]:
            raise
        yield io.BytesIO(found[0].read(found[1]))
        return
    with opened as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(f"it is a {_KINDS.get(stat.S_IFMT(mode), 'special file')} instead of a file")
        yield file


def read_note(path: Path, limit: int = MAX_NOTE) -> bytes:
    """Return what a regular file of at most `limit` bytes holds; raises OSError for any other, and never waits."""
    with regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        if size > limit:
            raise OSError(f"it has more than {limit:,} bytes")
        file.seek(0)
        return file.read(size)


def exists(path: Path) -> bool:
    """Return whether something lies at `path`, be it a link to nowhere, or in a packed folder."""
    return os.path.lexists(path) or kind_in_package(path) is not None


def is_file(path: Path) -> bool:
    """Return whether `path` is a regular file, be it in a packed folder."""
    return os.path.isfile(path) or kind_in_package(path) == "file"


def is_folder(path: Path) -> bool:
    """Return whether `path` is a folder, be it packed; raises HashbenchError where its zip file cannot be used."""
    return os.path.isdir(path) or kind_in_package(path) == "folder"


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, be it packed, sorted; raises OSError where it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except NotADirectoryError:
        found = find_packed(folder)
        if found is None:
            raise
        if found[1] not in found[0].folders:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(folder)) from None
        return sorted(found[0].folders[found[1]])


def walk(folder: Path, onerror: Callable[[OSError], None] | None = None) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield what os.walk does, also of a packed folder."""
    found = None if os.path.isdir(folder) else find_packed(folder)
    return os.walk(folder, onerror=onerror) if found is None else walk_packed(folder, *found)


_KINDS = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


def _opened_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)  # else a pipe is waited for


@contextlib.contextmanager
def replacing(path: Path, *, allowed: Callable[[], None] = lambda: None) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends, and vanishes when it fails (HashbenchError).

    Where `path` is a link, the file that it leads to is replaced. `allowed` is called at the last moment, and raises
    where `path` must not be touched any more.
    """
    check_replaceable(path)
    target = Path(os.path.realpath(path))
    temporary = target.with_name(_TEMPORARY.format(name=target.name, pid=os.getpid(), token=secrets.token_hex(4)))
    try:
        with reported(path), _raise_disk_errors(_File(temporary, "w")) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # before the rename: a power cut must not leave a name without its content
        allowed()
        with reported(path):
            os.replace(temporary, target)
            _sync_folder(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def check_replaceable(path: Path) -> None:
    """Raise HashbenchError where `path` names no file, or something stands there that is none: a folder, a device."""
    with reported(path):
        leads_nowhere = os.path.islink(os.path.realpath(path))  # a circle of links
        if not path.name or leads_nowhere or (path.exists() and not path.is_file()):
            kind = "a folder" if path.is_dir() else "no regular file"
            raise HashbenchError(f"Cannot write {path}: it is {kind}; name a file.")


class _File(io.FileIO):
    """A file that keeps the error of a failed write."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


@contextlib.contextmanager
def _raise_disk_errors(raw: _File) -> Iterator[BinaryIO]:
    """Open a writer to `raw` and raise its error, whatever a library raises instead: torch, an assertion of its own."""
    try:
        with io.BufferedWriter(raw) as file:
            yield cast(BinaryIO, file)
    except Exception as error:
        if raw.error is None or raw.error is error:
            raise
        raise raw.error from error


def write_text(path: Path, text: str, *, allowed: Callable[[], None] = lambda: None) -> None:
    """Put `text` at `path` in one step, as `replacing` does; raises HashbenchError where it cannot be written."""
    with replacing(path, allowed=allowed) as file:
        file.write(text.encode(errors="backslashreplace"))  # the name of a file may be no text


def share(source: Path, path: Path, *, allowed: Callable[[], None] = lambda: None) -> bool:
    """Make `path` a second name of the file `source` in one step; returns False where that cannot be.

    Files of ours are replaced and never changed, so neither name notices what becomes of the other.
    """
    temporary = path.with_name(_TEMPORARY.format(name=path.name, pid=os.getpid(), token=secrets.token_hex(4)))
    try:
        os.link(source, temporary)
        allowed()
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):  # still there, too, where `path` was a name of the file before
            temporary.unlink()
    return True


def make_folder(path: Path) -> None:
    """Make the folder `path` and those above it; raises HashbenchError where that is impossible."""
    with reported(path):
        path.mkdir(parents=True, exist_ok=True)


def remove_temporary_files(folder: Path) -> None:
    """Remove what killed processes left half-written in `folder`; only for the holder of its lock."""
    with reported(folder):
        for temporary in folder.glob(_TEMPORARY.format(name="*", pid="*", token="*")):
            temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left half-written in a cache folder, where a file is written under its lock alone.

    The lock of `name.npy` is `name.lock`; what a process is writing that runs, here or on another machine, stays.
    """
    for temporary in folder.glob(_TEMPORARY.format(name="*", pid="*", token="*")):
        name = temporary.name[1:].rsplit(".", 2)[0]
        with contextlib.suppress(Busy, HashbenchError, OSError), exclusive(lock_of(folder / name), wait=False):
            temporary.unlink()


def lock_of(path: Path) -> Path:
    """Return the lock of a file in a cache folder."""
    return path.with_suffix(".lock")


def version_of(path: Path) -> tuple[int, ...] | None:
    """Return what changes whenever a file's content is changed or replaced, by whatever program; None without one."""
    try:
        status = path.stat()
    except NotADirectoryError:
        found = find_packed(path)
        return None if found is None or found[1] not in found[0] else version_of(Path(found[0].path))
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def sha256(path: Path) -> str:
    """Return the sha256 of a file, hex."""
    with regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Busy(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def exclusive(lock: Path, *, on_wait: Callable[[], None] = lambda: None, wait: bool = True) -> Iterator[None]:
    """Hold `lock`, after waiting until no other process does; the kernel releases it when this process ends.

    `on_wait` is called once where another process holds it; without `wait`, Busy is raised then. Raises HashbenchError
    where it cannot be written or the file system has no locks.
    """
    with reported(lock):
        file = open(lock, "w", opener=_opened_at_once)  # noqa: SIM115  (closed below)
    with file:
        with reported(lock):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise Busy from None
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a HashbenchError that names `path`, the reason and the way out."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        packed = error.errno == errno.ENOTDIR and find_packed(path) is not None
        way_out = "unzip that file first, and name the folder" if packed else _way_out(error)
        raise HashbenchError(f"Cannot write {path}: {reason}; {way_out}.") from error


def _way_out(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "make room there or name another folder"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return "a file stands where a folder is needed, so move it away or name another folder"
    if error.errno == errno.EISDIR:
        return "a folder stands where a file is needed, so move it away"
    if error.errno == errno.ENAMETOOLONG:
        return "name a shorter one"
    if error.errno == errno.ENOENT:
        return "make that folder or name another"
    return "name a folder you may write to"


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut; some file systems cannot, and their renames stay as they are."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
