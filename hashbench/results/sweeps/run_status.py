"""The status of a run, read from its directory: finished, stale, failed, running, interrupted, or to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hashbench.errors import HashbenchError
from hashbench.results.runs import RunDirectory
from hashbench.storage.locks import owner_of

State = Literal["skipped", "finished", "stale", "failed", "running", "interrupted", "to do"]
STALE = "the method's source has changed since, but not its version; --rerun stale runs it again"


@dataclass(frozen=True)
class RunStatus:
    """A state, and what a reader should know about it: the reason of a failure, the owner of a running one."""

    state: State
    note: str = ""


@dataclass(frozen=True)
class RunSnapshot:
    """What a run directory holds by now, distinguished from what it held before; None where there is nothing."""

    result: tuple[int, int] | None = None
    failure: tuple[int, int] | None = None


EMPTY = RunSnapshot()


def snapshot(directory: RunDirectory) -> RunSnapshot:
    """Return which result and which failure lie in a run directory."""
    return RunSnapshot(_version(directory.result), _version(directory.failure))


def run_status(directory: RunDirectory, *, source_sha256: str | None = None) -> RunStatus:
    """Return the status of a run; it is stale when its method's source was another than `source_sha256`."""
    owner = owner_of(directory.path)
    if owner is not None:
        return RunStatus("running", f"by {owner} since {owner.started}")
    if directory.finished:
        return RunStatus("finished") if source_sha256 is None else _finished(directory, source_sha256)
    if directory.failure.is_file():
        return RunStatus("failed", _reason(directory))
    return RunStatus("interrupted" if directory.spec.is_file() else "to do")


def is_stale(directory: RunDirectory, source_sha256: str | None) -> bool:
    """Return whether a finished run's method had another source than `source_sha256`; False where either is unknown."""
    return source_sha256 is not None and _finished(directory, source_sha256).state == "stale"


def _finished(directory: RunDirectory, source_sha256: str) -> RunStatus:
    """Return whether a finished run is stale; one whose result cannot be read is not, with the reason as its note."""
    try:
        then = directory.read_result().provenance.get("source_sha256")
    except HashbenchError as error:
        return RunStatus("finished", str(error))
    return RunStatus("stale", STALE) if then not in (None, source_sha256) else RunStatus("finished")


def _reason(directory: RunDirectory) -> str:
    try:
        return directory.read_failure()
    except HashbenchError as error:
        return str(error)


def _version(path: Path) -> tuple[int, int] | None:
    """Return what distinguishes a file from the one that replaces it: every writing makes a new file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
