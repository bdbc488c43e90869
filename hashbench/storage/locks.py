"""Locks of folders: a run has one writer at a time, also among machines that share the folder.

The owner of a run holds the file `lock` in its directory and touches it every few seconds. Whether an owner still runs
is decided by the kernel on one machine (flock ends with its process), and by the heartbeat between machines; no clock
is compared with another. An owner whose lock expired and was taken over detects it before it writes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from hashbench.errors import HashbenchError
from hashbench.storage import files
from hashbench.storage.strict_json import dumps, loads

HEARTBEAT = 5.0  # seconds between two touches of a lock
EXPIRY = 60.0  # seconds without a touch after which the lock of an owner on another machine is expired
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock; `started` is for people to read."""

    host: str = "an unknown machine"
    boot: str = ""  # names the running kernel: within it, flock tells whether the owner still runs
    pid: int = 0
    started: str = ""

    @classmethod
    def this_process(cls) -> Owner:
        """Return the owner that this process would be."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(platform.node(), _boot(), os.getpid(), now)

    @property
    def is_local(self) -> bool:
        """Whether the owner runs on this machine."""
        return (self.host, self.boot) == (platform.node(), _boot())

    def __str__(self) -> str:
        return f"process {self.pid}" if self.is_local else f"process {self.pid} on {self.host}"


class RunLocked(HashbenchError):
    """A run that another process is writing, as far as can be known now."""

    def __init__(self, folder: Path, owner: Owner, what: str = "is being written by"):
        super().__init__(f"{folder} {what} {owner}; wait for it to end, or end it and run again.")
        self.owner = owner


class LockLost(RunLocked):
    """A run whose lock expired and was taken over by another process."""


class LockWatch:
    """What one process has seen of the locks of other machines, by its own monotonic clock."""

    def __init__(self, expiry: float = EXPIRY):
        """`expiry`: seconds without a change after which a lock is expired."""
        self._expiry = expiry
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}

    def expired(self, lock: Path, handle: int) -> bool:
        """Return whether the open `lock` has not been touched within the expiry time."""
        status = os.fstat(handle)
        state, now = (status.st_ino, status.st_mtime_ns), time.monotonic()
        known, since = self._seen.get(lock, (None, now))
        if known != state:
            self._seen[lock] = (state, now)
            return False
        return now - since >= self._expiry


class FolderLock:
    """A run's lock while this process holds it."""

    def __init__(self, lock: Path, handle: int, beat: float):
        self._lock, self._handle = lock, handle
        self._ended = threading.Event()
        self._heartbeat = threading.Thread(target=self._touch, args=(beat,), name=f"heartbeat {lock}", daemon=True)
        self._heartbeat.start()

    def check(self) -> None:
        """Raise LockLost where the lock was taken over, and HashbenchError where its folder is gone."""
        if not _lies_at(self._lock, self._handle):
            folder = self._lock.parent
            if not folder.is_dir():
                raise HashbenchError(f"{folder} was moved or deleted while it was written; run again where it is now.")
            raise LockLost(folder, _holder(self._lock), "was taken over, after its lock expired, by")

    def release(self) -> None:
        """Release the lock; where it was taken over, leave it to its owner."""
        self._ended.set()
        self._heartbeat.join()
        with contextlib.suppress(OSError):  # a folder that was moved away meanwhile has its lock with it
            if _lies_at(self._lock, self._handle):
                self._lock.unlink()
        os.close(self._handle)

    def _touch(self, beat: float) -> None:
        while not self._ended.wait(beat):
            with contextlib.suppress(OSError):  # a file system that fails for a moment ends no run
                os.utime(self._handle)


@contextlib.contextmanager
def hold_lock(folder: Path, watch: LockWatch | None = None, *, beat: float = HEARTBEAT) -> Iterator[FolderLock]:
    """Make `folder` and lock it; raises RunLocked where another process holds the lock, as far as `watch` knows.

    Without a `watch`, the lock of an owner on another machine never expires.
    """
    files.make_folder(folder)
    lock = folder / "lock"
    with files.reported(lock):
        lock_held = FolderLock(lock, _acquire(lock, watch or LockWatch(float("inf"))), beat)
    try:
        yield lock_held
    finally:
        lock_held.release()


def owner_of(folder: Path) -> Owner | None:
    """Return the owner of the lock of a run, None without one, or where it ended on this machine."""
    try:
        handle = os.open(folder / "lock", os.O_RDONLY)
    except OSError:
        return None
    try:
        owner = _owner(handle)
        return None if owner.is_local and _flock(handle) else owner
    finally:
        os.close(handle)


def _acquire(lock: Path, watch: LockWatch) -> int:
    """Return a handle on the lock file that this process now holds."""
    while True:
        handle = _created(lock)
        if handle is not None:
            return handle
        try:
            found = os.open(lock, os.O_RDWR)  # a lock over NFS takes the right to write
        except FileNotFoundError:
            continue
        try:
            owner = _owner(found)
            alone = owner.is_local and _flock(found)  # None where this file system has no flock
            expired = watch.expired(lock, found) if alone is None or not owner.is_local else alone
            if not expired:
                raise RunLocked(lock.parent, owner)
            _remove_expired(lock, found)
        finally:
            os.close(found)


def _created(lock: Path) -> int | None:
    """Return a handle on a new lock file, complete from its first moment; None where there is one already."""
    temporary = lock.with_name(f".lock.{os.getpid()}-{secrets.token_hex(4)}.part")
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        os.write(handle, dumps(asdict(Owner.this_process())).encode())
        _flock(handle)
        try:
            os.link(temporary, lock)
        except OSError as error:
            if error.errno in _NO_HARD_LINKS:
                return _created_by_name(lock, temporary)
            if error.errno not in (errno.EEXIST, errno.ENOENT):  # ENOENT: an owner removed the temporary file
                raise
            if not _lies_at(lock, handle):  # a link over NFS may succeed and yet report that the name was there
                return None
        kept, handle = handle, -1
        return kept
    finally:
        if handle >= 0:
            os.close(handle)
        with contextlib.suppress(OSError):
            temporary.unlink()


def _created_by_name(lock: Path, temporary: Path) -> int | None:
    """Do the same where the file system knows no hard links; here others may see a lock without its owner."""
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return None
    os.write(handle, temporary.read_bytes())
    _flock(handle)
    return handle


def _remove_expired(lock: Path, handle: int) -> None:
    """Remove an expired lock, and no newer one that may have come in its place."""
    aside = lock.with_name(f".lock.{os.getpid()}-{secrets.token_hex(4)}.part")
    with contextlib.suppress(FileNotFoundError):  # another process was quicker
        if not _lies_at(lock, handle):
            return
        os.rename(lock, aside)
        if not _lies_at(aside, handle):
            with contextlib.suppress(FileExistsError):
                os.link(aside, lock)
        aside.unlink()


def _holder(lock: Path) -> Owner:
    """Return the owner that a lock names, running or not."""
    try:
        handle = os.open(lock, os.O_RDONLY)
    except OSError:
        return Owner()
    try:
        return _owner(handle)
    finally:
        os.close(handle)


def _owner(handle: int) -> Owner:
    try:
        return Owner(**loads(os.pread(handle, 4096, 0)))
    except (ValueError, TypeError):
        return Owner()  # written by something else, or not yet


def _flock(handle: int) -> bool | None:
    """Return whether no other process of this machine holds the file; None where the file system cannot say."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _lies_at(path: Path, handle: int) -> bool:
    """Return whether `path` is the open file; opens it, because over NFS only that queries the server."""
    try:
        other = os.open(path, os.O_RDONLY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
            return False
        raise
    try:
        return os.path.samestat(os.fstat(other), os.fstat(handle))
    finally:
        os.close(other)


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
