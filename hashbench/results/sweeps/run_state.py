"""Where a run stands, read from its directory: finished, stale, failed, running, interrupted, or not begun."""

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
class Standing:
    """A state, and what a reader should know about it: the reason of a failure, the owner of a running cell."""

    state: State
    note: str = ""


@dataclass(frozen=True)
class Trace:
    """What a run directory holds by now, told apart from what it held before; None where there is nothing."""

    result: tuple[int, int] | None = None
    failure: tuple[int, int] | None = None


NOTHING = Trace()


def trace(directory: RunDirectory) -> Trace:
    """Return which result and which failure lie in a run directory."""
    return Trace(_version(directory.result), _version(directory.failure))


def standing(directory: RunDirectory, *, source_sha256: str | None = None) -> Standing:
    """Return where a run stands; it is stale when its method's source was another than `source_sha256`."""
    owner = owner_of(directory.path)
    if owner is not None:
        return Standing("running", f"by {owner} since {owner.started}")
    if directory.finished:
        return Standing("finished") if source_sha256 is None else _finished(directory, source_sha256)
    if directory.failure.is_file():
        return Standing("failed", _reason(directory))
    return Standing("interrupted" if directory.spec.is_file() else "to do")


def is_stale(directory: RunDirectory, source_sha256: str | None) -> bool:
    """Return whether a finished run's method had another source than `source_sha256`; False where either is unknown."""
    return source_sha256 is not None and _finished(directory, source_sha256).state == "stale"


def _finished(directory: RunDirectory, source_sha256: str) -> Standing:
    """Return whether a finished run is stale; one whose result cannot be read is not, but a reader hears why."""
    try:
        then = directory.read_result().provenance.get("source_sha256")
    except HashbenchError as error:
        return Standing("finished", str(error))
    return Standing("stale", STALE) if then not in (None, source_sha256) else Standing("finished")


def _reason(directory: RunDirectory) -> str:
    try:
        return directory.read_failure()
    except HashbenchError as error:
        return str(error)


def _version(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from the one that replaces it: every writing makes a new file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
