"""Downloads: checked before they get their name, and resumed where they were interrupted."""

from __future__ import annotations

import fcntl
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from hashbench.errors import HashbenchError
from hashbench.storage.files import reported

TIMEOUT_S = 30
CHUNK_BYTES = 1 << 20
_offline: ContextVar[bool] = ContextVar("offline", default=False)


@contextmanager
def offline() -> Iterator[None]:
    """Refuse downloads inside the block, before the network is asked for anything."""
    token = _offline.set(True)
    try:
        yield
    finally:
        _offline.reset(token)


def require_network() -> None:
    """Raise OSError in an `offline` block."""
    if _offline.get():
        raise OSError("a dry run downloads nothing; `hashbench prepare` and the run itself do")


def download(url: str, target: Path, *, check: Callable[[Path], None]) -> None:
    """Fetch `url` into the file `target` with a progress bar; nothing appears there unless `check` accepts the file.

    What an interrupted transfer left, in a hidden file beside it, is not fetched again where the server sends ranges.
    Raises OSError or http.client.HTTPException when the transfer fails, HashbenchError when the disk does, and what
    `check` raises.
    """
    require_network()
    partial = target.with_name(f".{target.name}.part")
    is_new = not target.parent.exists()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(partial) as file:
            if target.exists():  # by the process that had the partial file before
                return
            _fetch(url, file, partial, title=target.name)
            try:
                check(partial)
            except HashbenchError:
                file.truncate(0)
                raise
            os.replace(partial, target)
    finally:
        if is_new:
            with suppress(OSError):
                target.parent.rmdir()  # which succeeds where nothing came of it


@contextmanager
def _locked(partial: Path) -> Iterator[BinaryIO]:
    """Open `partial` for appending, for this process alone, after waiting for any other that fetches into it."""
    while True:
        with partial.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(file, partial):
                continue  # it was finished meanwhile, or given up
            try:
                yield file
            finally:
                if not os.fstat(file.fileno()).st_size and _is_at(file, partial):
                    partial.unlink()
            return


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether `path` still names the open `file`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _fetch(url: str, file: BinaryIO, path: Path, *, title: str) -> None:
    """Append to `file`, which is at `path`, what it lacks of `url`."""
    from tqdm.auto import tqdm

    done = os.fstat(file.fileno()).st_size
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if done and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is lacking
        raise
    with response:
        if response.status != HTTPStatus.PARTIAL_CONTENT:  # the server begins anew
            file.truncate(0)
            done = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        with tqdm(total=total, initial=done, desc=title, unit="B", unit_scale=True, leave=False, disable=None) as bar:
            while chunk := response.read1(CHUNK_BYTES):
                with reported(path):
                    file.write(chunk)
                    file.flush()
                bar.update(len(chunk))
                done += len(chunk)
    if total is not None and done < total:  # which urllib reports as the end
        raise OSError(f"the connection broke after {done:,} of {total:,} bytes; the same command goes on from there")
