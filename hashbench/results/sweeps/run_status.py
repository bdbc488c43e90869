"""The status of a run, read from its directory: finished, stale, failed, running, interrupted, or to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hashbench.errors import HashbenchError
from hashbench.results.runs import RunDirectory
from hashbench.storage.locks import owner_of

State = Literal["skipped", "finished", "stale", "failed", "running", "interrupted", "to do"]
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


def run_status(directory: RunDirectory, sources: Mapping[str, str | None] | None = None) -> RunStatus:
    """Return the status of a run; it is stale when one of its `sources` (keys of SOURCES to sha256) was another."""
    owner = owner_of(directory.path)
    if owner is not None:
        return RunStatus("running", f"by {owner} since {owner.started}", owner.started)
    if directory.finished:
        return _finished(directory, sources or {})
    if directory.failure.is_file():
        return RunStatus("failed", _reason(directory))
    return RunStatus("interrupted" if directory.spec.is_file() else "to do")


def is_stale(directory: RunDirectory, sources: Mapping[str, str | None]) -> bool:
    """Return whether one of a finished run's `sources` was another; False where either sha256 is unknown."""
    return _finished(directory, sources).state == "stale"


def _finished(directory: RunDirectory, sources: Mapping[str, str | None]) -> RunStatus:
    """Return whether a finished run is stale; one whose result cannot be read is not, with the reason as its note."""
    known = {key: sha256 for key, sha256 in sources.items() if sha256 is not None}
    if not known:
        return RunStatus("finished")
    try:
        then = directory.read_result().provenance
    except HashbenchError as error:
        return RunStatus("finished", str(error))
    for key, sha256 in known.items():
        if then.get(key) not in (None, sha256):
            return RunStatus("stale", STALE.format(owner=SOURCES[key]))
    return RunStatus("finished")


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
