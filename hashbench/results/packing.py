"""Finished runs in one zip file, laid out as a runs directory is, which every reader of results opens.

What tells of the machine is left out: command lines, and ways that lead out of the runs directory.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hashbench.errors import HashbenchError
from hashbench.results.finding import find_runs
from hashbench.results.result import Result
from hashbench.results.runs import RESULT, SPEC, TUNING, UNDER, RunDirectory, refuse_file_of_a_run
from hashbench.results.studies import STUDY, Study
from hashbench.results.sweeps.planned import SWEEPS, planned_runs
from hashbench.storage.archives import UNDATED
from hashbench.storage.files import is_file, is_folder, make_folder, read_note, regular, replacing
from hashbench.storage.packed import ENDING, seal
from hashbench.storage.strict_json import document, loads

Arrays = Literal["histograms", "codes"]
_Member = tuple[Path, bytes]  # its name in the zip file, and its content
_STUDY_PARTS, _RUN_PARTS = 3, 4  # of a path below .tuning, and below a runs directory
_ELSEWHERE = {"prefix_of": _RUN_PARTS, "start": _RUN_PARTS, "surrogate": _RUN_PARTS, "tuned": _STUDY_PARTS}


@dataclass(frozen=True)
class PackedRuns:
    """What was packed: how many runs, those under conditions among them, and which arrays how many of them lack."""

    runs: int
    bytes: int  # of the file
    lacking: Mapping[Arrays, int]


def pack(roots: Sequence[Path | str], file: Path, *, arrays: Collection[Arrays] = ()) -> PackedRuns:
    """Write the results and specs of all finished runs below `roots` into a zip file, with these of their `arrays`.

    What sweeps planned there, and the studies behind tuned settings, come along. The same files of runs give the same
    bytes.
    Raises HashbenchError where there is no run, one is damaged, or two are one run with different folders.
    """
    if file.suffix != ENDING:
        raise HashbenchError(f"'{file}' is no name of a zip file; give it the ending {ENDING}.")
    refuse_file_of_a_run(file)
    results = _finished(roots)
    if not results:
        where = ", ".join(map(str, roots))
        raise HashbenchError(f"There is no finished run below {where} to pack; start one with `hashbench run`.")
    make_folder(file.parent)
    lacking: Counter[Arrays] = Counter()
    with replacing(file) as opened, zipfile.ZipFile(opened, "w") as archive:
        for name, content in chain(_notes(roots), _studies(results), _runs(results, arrays, lacking)):
            by_bzip2 = name.suffix == ".npz" or name.name == RESULT  # notes, which repeat themselves, are larger by it
            method = zipfile.ZIP_BZIP2 if by_bzip2 else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name.as_posix(), UNDATED), content, method, 9)
        archive.comment = seal(archive)
    return PackedRuns(len(results), file.stat().st_size, lacking)


def _finished(roots: Iterable[Path | str]) -> list[Result]:
    results, problems = find_runs(roots)
    _require_none(problems)
    return results


def _require_none(problems: Sequence[str]) -> None:
    if problems:
        raise HashbenchError(f"Nothing is packed: {problems[0]}")


def _notes(roots: Iterable[Path | str]) -> Iterator[_Member]:
    """Yield the notes of what sweeps planned below `roots`, without the command lines and times of these sweeps."""
    problems, notes = list[str](), dict[str, dict[str, dict[str, Any]]]()
    read = cache(lambda path: loads(read_note(path)))
    for run in planned_runs(roots, problems):
        for path in run.sweeps:
            for part, kept in notes.setdefault(path.name, {"runs": {}, "cells": {}}).items():
                stored = read(path).get(part, {})
                if run.place in stored:
                    kept[run.place] = stored[run.place]
    _require_none(problems)
    for name in sorted(notes):
        yield Path(SWEEPS, name), document(notes[name]).encode()


def _studies(results: Iterable[Result]) -> Iterator[_Member]:
    """Yield the studies behind tuned settings that are there, with the results of their trials."""
    for folder in sorted({_elsewhere(result, "tuned") for result in results if "tuned" in result.provenance}):
        if is_file(folder / STUDY):
            study, place = Study.read(folder), Path(TUNING, *folder.parts[-_STUDY_PARTS:])
            yield place / STUDY, read_note(folder / STUDY)
            trials = _finished([study.runs_dir]) if is_folder(study.runs_dir) else []
            yield from _runs(trials, (), Counter(), below=place / study.runs_dir.name)


def _runs(
    results: Sequence[Result], arrays: Collection[Arrays], lacking: Counter[Arrays], *, below: Path = Path()
) -> Iterator[_Member]:
    """Yield the files of runs by their places `below` a folder, and count the runs that lack some of the `arrays`."""
    for place, result in sorted(_by_place(results).items()):
        assert result.path is not None
        directory, stated = RunDirectory(result.path), dict[str, str]()
        directory.read_spec()
        for name in sorted(arrays):
            if not is_file(directory.path / f"{name}.npz"):
                lacking[name] += 1
                continue
            content = _content(directory, name)
            stated[f"{name}.npz"] = hashlib.sha256(content).hexdigest()
            yield below / place / f"{name}.npz", content
        yield below / place / RESULT, _result(result, place, stated).encode()
        yield below / place / SPEC, read_note(directory.spec)


def _by_place(results: Iterable[Result]) -> dict[Path, Result]:
    """Return results by where they belong in a runs directory; raises HashbenchError where two belong to one place."""
    found: dict[Path, Result] = {}
    for result in results:
        assert result.path is not None
        directory = RunDirectory(result.path)
        run = result if directory.run is directory else directory.run.read_result()
        dataset = f"{run.coords['dataset']}@{run.coords['protocol']}"
        place = RunDirectory.at(
            "",
            dataset=dataset,
            method=run.coords["method"],
            bits=run.coords["bits"],
            seed=run.coords["seed"],
            id=run.id,
        ).path
        place = place if run is result else place / UNDER / result.path.name
        other = found.setdefault(place, result)
        if other.path and os.path.realpath(other.path) != os.path.realpath(result.path):
            raise HashbenchError(f"{other.path} and {result.path} are both the run {place}; name only one of them.")
    return found


def _content(directory: RunDirectory, name: Arrays) -> bytes:
    """Return a file of arrays; histograms, whose numbers compress better together, are no longer compressed in it."""
    path = directory.path / f"{name}.npz"
    if name == "histograms":
        content = io.BytesIO()
        np.savez(content, **directory.read_arrays(name))  # type: ignore[arg-type]  # its stub takes allow_pickle first
        return content.getvalue()
    directory.require_stated(path)
    with regular(path) as file:
        return file.read()


def _result(result: Result, place: Path, files: Mapping[str, str]) -> str:
    """Return the text of a result with the sha256 of its packed `files`, and without what tells of the machine."""
    provenance = {name: value for name, value in result.provenance.items() if name != "argv"}
    if files:
        provenance["files"] = {**provenance.get("files", {}), **files}
    for name in _ELSEWHERE.keys() & provenance.keys():
        parts = _elsewhere(result, name).parts[-_ELSEWHERE[name] :]
        inside = Path(TUNING, *parts) if name == "tuned" else Path(*parts)
        provenance[name] = {**provenance[name], "path": Path(os.path.relpath(inside, place)).as_posix()}
    return document(replace(result, provenance=provenance).to_dict())


def _elsewhere(result: Result, name: str) -> Path:
    """Return the folder of the run or study that a result was made from."""
    assert result.path is not None
    return Path(os.path.normpath(result.path.absolute() / result.provenance[name]["path"]))
