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
import stat
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
_SILENT = (
    10 * EXPIRY
)  # seconds by this machine's clock after which `owner_of` takes an owner for ended: only to show it
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

    @property
    def is_of_former_start(self) -> bool:
        """Whether the owner ran on this machine before it was last started."""
        return self.host == platform.node() and "" not in (self.boot, _boot()) and self.boot != _boot()

    def __str__(self) -> str:
        process = f"process {self.pid}" if self.pid else "an unknown process"
        return process if self.is_local else f"{process} on {self.host}"


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


def owner_of(folder: Path, watch: LockWatch | None = None) -> Owner | None:
    """Return the owner of the lock of a run, None without one, or where it seems to have ended.

    That is known of this machine; the lock of another one is old by the clock, or did not change while `watch` saw it.
    Raises HashbenchError where something else than a lock lies in its place.
    """
    lock = folder / "lock"
    with _opened(lock, os.O_RDONLY) as handle:
        if handle is None:
            return None
        owner = _owner(handle)
        ended = _flock(handle) if owner.is_local else owner.is_of_former_start
        silent = time.time() - os.fstat(handle).st_mtime > _SILENT or (
            watch is not None and watch.expired(lock, handle)
        )
        return None if ended or (silent and not owner.is_local) else owner


def remove_leftover(folder: Path) -> None:
    """Remove the lock of a finished run whose owner has ended: nothing is left for it to write.

    That is known of this machine; the lock of another one is older than the expiry time, by the clock of the file
    system that dates both it and a file of now. Raises OSError in a read-only folder.
    """
    lock = folder / "lock"
    with _opened(lock, os.O_RDWR) as handle:
        if handle is None:
            return
        owner = _owner(handle)
        if owner.is_local:
            ended = bool(_flock(handle))
        else:
            ended = owner.is_of_former_start or _now(folder) - os.fstat(handle).st_mtime > EXPIRY
        if ended:
            _remove_expired(lock, handle)


def _now(folder: Path) -> float:
    """Return the time by the clock of a folder's file system, as the modification time of a new file."""
    temporary = folder / f".lock.{os.getpid()}-{secrets.token_hex(4)}.part"
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        return os.fstat(handle).st_mtime
    finally:
        os.close(handle)
        temporary.unlink()


@contextlib.contextmanager
def _opened(lock: Path, flags: int) -> Iterator[int | None]:
    """Open a lock without waiting, None where there is none; raises HashbenchError where it is something else."""
    try:
        handle = os.open(lock, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise _no_lock(lock) from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _no_lock(lock)
        yield handle
    finally:
        os.close(handle)


def _no_lock(lock: Path) -> HashbenchError:
    return HashbenchError(f"{lock} is no lock but a link, folder, pipe or device; remove it and run again.")


def _acquire(lock: Path, watch: LockWatch) -> int:
    """Return a handle on the lock file that this process now holds."""
    while True:
        handle = _created(lock)
        if handle is not None:
            return handle
        with _opened(lock, os.O_RDWR) as found:  # a lock over NFS takes the right to write
            if found is None:
                continue
            owner = _owner(found)
            alone = owner.is_local and _flock(found)  # None where this file system has no flock
            expired = watch.expired(lock, found) if alone is None or not owner.is_local else alone
            if not expired:
                raise RunLocked(lock.parent, owner)
            _remove_expired(lock, found)


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
        with _opened(lock, os.O_RDONLY) as handle:
            return Owner() if handle is None else _owner(handle)
    except (OSError, HashbenchError):
        return Owner()


def _owner(handle: int) -> Owner:
    try:
        owner = Owner(**loads(os.pread(handle, 4096, 0)))
    except (ValueError, TypeError):
        return Owner()  # written by something else, or not yet
    texts = (owner.host, owner.boot, owner.started)
    return owner if all(isinstance(text, str) for text in texts) and isinstance(owner.pid, int) else Owner()


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
        other = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ELOOP):
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
