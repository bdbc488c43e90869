"""Values of measures by the histograms of runs, computed once for each version of a file and kept in the cache folder.

What is kept is no verdict: a table compares it anew with the result that it has read. A file that was written since, by
whatever program, has another version; so has one whose result states another sha256. `hashbench verify` reads every
file itself.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, cast

from hashbench import __version__
from hashbench.errors import HashbenchError
from hashbench.metrics import histograms as histograms_module
from hashbench.metrics import measures, ranking, table, tie_groups
from hashbench.metrics.histograms import Histograms
from hashbench.metrics.measures import parse
from hashbench.metrics.ranking import Ties
from hashbench.metrics.table import is_built_in
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.storage.cache import cache_root
from hashbench.storage.files import exists, make_folder, version_of
from hashbench.storage.notes import read_note, write_note
from hashbench.storage.strict_json import digest

RESTED = 2.0  # seconds since a file's last change, before which another change might leave it the same times

_CODE = (histograms_module, measures, ranking, table, tie_groups)  # by which values are computed
Values = tuple[float, float | None, float | None]  # of a measure: its mean, and the bounds of ties where it has them


class Recomputed:
    """The values by histograms that are known, in a note for each folder of runs of one method."""

    def __init__(self) -> None:
        self._notes: dict[Path, dict[str, Any]] = {}
        self._changed: set[Path] = set()

    def values(self, result: Result, measure: str, histograms: Callable[[], Histograms]) -> Values:
        """Return the values of a measure by a run's `histograms`, which are called for only where they are unknown.

        Raises what they raise, and ValueError for a measure that they cannot give.
        """
        assert result.path is not None
        file = RunDirectory(result.path).histograms
        version = version_of(file)
        key = f"{measure}, ties {result.ties}"
        of_file = self._of_file(file, [*(version or ()), result.coords["bits"], result.provenance.get("files")])
        if key not in of_file["values"]:
            found = computed(histograms(), measure, result.ties)
            if not (is_built_in(parse(measure).kind) and version is not None and _rests(file) == version):
                return found
            of_file["values"][key] = found
            self._changed.add(_note_of(file))
        return cast(Values, tuple(of_file["values"][key]))

    def keep(self) -> None:
        """Store what has become known; a cache folder that cannot be written keeps nothing."""
        for path in self._changed:
            there = {place: known for place, known in self._notes[path].items() if exists(Path(place))}
            with suppress(HashbenchError):
                make_folder(path.parent)
                write_note(path, {"by": _version(), "files": there})
        self._changed.clear()

    def _of_file(self, file: Path, version: list[Any]) -> dict[str, Any]:
        """Return what is known of a file's `version`, which is forgotten where the file has another now."""
        path, place = _note_of(file), os.path.abspath(file)
        if path not in self._notes:
            note = read_note(path) or {}
            self._notes[path] = note.get("files", {}) if note.get("by") == _version() else {}
        stated = digest(version)
        known: dict[str, Any] = self._notes[path].get(place, {})
        if known.get("version") != stated:
            known = self._notes[path][place] = {"version": stated, "values": {}}
        return known


def computed(histograms: Histograms, name: str, ties: str) -> Values:
    """Return the mean of a measure and the bounds of ties, None where they change nothing."""
    measure = parse(name)
    lower, upper = measure.bounds(histograms) if measure.depends_on_ties else (None, None)
    return measure.value(histograms, ties=cast(Ties, ties)), lower, upper


def _rests(file: Path) -> tuple[int, ...] | None:
    """Return the version of a file that nobody has changed for a while; None of any other."""
    version = version_of(file)
    return version if version is not None and max(version[1:]) < (time.time() - RESTED) * 1e9 else None


def _note_of(file: Path) -> Path:
    """Return where the note about a run's file lies: one for the runs of a method on a data set."""
    folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(file))))
    return cache_root() / "recomputed" / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}.json"


@cache
def _version() -> str:
    """Return what the values are computed by: the version, and the code as it is."""
    sources = "".join(inspect.getsource(module) for module in _CODE)
    return f"{__version__} {hashlib.sha256(sources.encode()).hexdigest()[:16]}"
