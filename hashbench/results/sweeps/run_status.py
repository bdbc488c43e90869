"""The status of a run, read from its directory: finished, stale, damaged, failed, running, interrupted, or to do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hashbench.errors import HashbenchError
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.storage.files import exists
from hashbench.storage.locks import LockWatch, owner_of

State = Literal["skipped", "finished", "stale", "damaged", "failed", "running", "interrupted", "to do"]
START = "start"  # of the sources of a run: the weights of the run that it was started from
RESTARTED = "the run that it was started from was trained again since; --rerun stale runs this one again, too"
STALE = "the {owner}'s source has changed since, but not its version; --rerun stale runs it again"
SOURCES = {  # of the provenance: whose source each is
    "source_sha256": "method",
    "backbone_sha256": "backbone",
    "condition_sha256": "condition",  # of a run measured again alone
}


@dataclass(frozen=True)
class RunStatus:
    """A state, and what a reader should know about it: the reason of a failure, the owner of a running one."""

    state: State
    note: str = ""
    since: str = ""  # when a running cell was begun, ISO 8601


@dataclass(frozen=True)
class RunSnapshot:
    """What a run directory holds by now, distinguished from what it held before; None where there is nothing."""

    result: tuple[int, int] | None = None
    failure: tuple[int, int] | None = None


EMPTY = RunSnapshot()


def snapshot(directory: RunDirectory) -> RunSnapshot:
    """Return which result and which failure lie in a run directory."""
    return RunSnapshot(_version(directory.result), _version(directory.failure))


def run_status(
    directory: RunDirectory,
    sources: Mapping[str, str | None] | None = None,
    *,
    watch: LockWatch | None = None,
    result: Result | HashbenchError | None = None,
) -> RunStatus:
    """Return the status of a run; it is stale when one of its `sources` (sha256 by SOURCES or START) was another.

    A finished run is running only where it is run again, whatever lock was left in it. `watch` sees the locks of other
    machines from one call to the next. `result` is that of the run, or why it cannot be read, where it was read before.
    """
    if directory.finished and not os.path.isdir(directory.again.path):
        return _finished(directory, sources or {}, result)
    try:
        owner = owner_of(directory.path, watch)
    except OSError as error:
        return RunStatus("failed", f"its lock cannot be read: {error.strerror}")
    except HashbenchError as error:
        return RunStatus("failed", str(error))
    if owner is not None:
        since = f" since {owner.started}" if owner.started else ""
        return RunStatus("running", f"by {owner}{since}", owner.started)
    if directory.finished:
        return _finished(directory, sources or {}, result)
    if os.path.lexists(directory.failure):
        return RunStatus("failed", _reason(directory))
    return RunStatus("interrupted" if exists(directory.spec) else "to do")


def is_stale(directory: RunDirectory, sources: Mapping[str, str | None]) -> bool:
    """Return whether one of a finished run's `sources` was another; False where either sha256 is unknown."""
    return _finished(directory, sources).state == "stale"


def stale_note(result: Result, sources: Mapping[str, str | None]) -> str | None:
    """Return which of a run's `sources` was another, as the end of a sentence; None where none was, as far as known."""
    then = {**result.provenance, START: result.provenance.get("start", {}).get("weights_sha256")}
    for key, sha256 in sources.items():
        if sha256 is not None and then.get(key) not in (None, sha256):
            return RESTARTED if key == START else STALE.format(owner=SOURCES[key])
    return None


def _finished(
    directory: RunDirectory, sources: Mapping[str, str | None], result: Result | HashbenchError | None = None
) -> RunStatus:
    """Return whether a finished run is stale, or damaged, which is that its result cannot be read."""
    try:
        result = result or directory.read_result()
    except HashbenchError as error:
        result = error
    if isinstance(result, HashbenchError):
        return RunStatus("damaged", str(result))
    note = stale_note(result, sources)
    return RunStatus("finished") if note is None else RunStatus("stale", note)


def _reason(directory: RunDirectory) -> str:
    try:
        return directory.read_failure() or "without a reason"
    except HashbenchError as error:
        return str(error)


def _version(path: Path) -> tuple[int, int] | None:
    """Return what distinguishes a file from the one that replaces it: every writing makes a new file."""
    try:
        status = path.lstat()
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_mtime_ns
