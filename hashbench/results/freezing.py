"""A manifest of finished runs: the sha256 of each file, as `sha256sum` writes it; its own goes into a paper."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hashbench.errors import HashbenchError
from hashbench.results.finding import find_runs
from hashbench.results.result import Result
from hashbench.results.runs import RESULT, SPEC, RunDirectory, refuse_file_of_a_run
from hashbench.storage.files import is_file, make_folder, read_note, sha256, write_text

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


@dataclass(frozen=True)
class Frozen:
    """A manifest that was written."""

    runs: int
    files: int
    sha256: str  # of the manifest


@dataclass(frozen=True)
class Compared:
    """A manifest beside the files that are there."""

    files: int
    sha256: str  # of the manifest
    differences: tuple[str, ...]  # sentences about files that are missing or others
    unlisted: tuple[Path, ...]  # runs that it does not name


def freeze(roots: Sequence[Path], manifest: Path) -> Frozen:
    """Write the sha256 of the files of all finished runs below `roots` to `manifest`, with paths from its folder.

    Raises HashbenchError where there is no run, one is damaged, or one lies outside of the manifest's folder.
    """
    refuse_file_of_a_run(manifest)
    results, problems = find_runs(roots)
    if problems or not results:
        raise HashbenchError(
            f"Nothing is frozen: {problems[0]}" if problems else f"There is no finished run below "
            f"{', '.join(map(str, roots))} to freeze; start one with `hashbench run`."
        )  # fmt: skip
    base, lines = os.path.realpath(manifest.parent), {}
    for result in results:
        for path in _files(result):
            name = os.path.relpath(os.path.realpath(path), base)
            if name.startswith("..") or "\n" in name or "\\" in name:
                raise HashbenchError(
                    f"{path} cannot be named in {manifest}: name a manifest in the folder that holds the runs, as in "
                    f"-o runs/frozen.sha256, and no folder with a line break or backslash in its name."
                )
            lines[name] = sha256(path)
    make_folder(manifest.parent)
    write_text(manifest, "".join(f"{lines[name]}  {name}\n" for name in sorted(lines)))
    return Frozen(len(results), len(lines), sha256(manifest))


def compare_manifest(manifest: Path, results: Iterable[Result]) -> Compared:
    """Return how a manifest compares with the files beside it, and which of `results` it lacks.

    Raises HashbenchError for a file that is no manifest.
    """
    try:
        text = read_note(manifest).decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HashbenchError(f"{manifest} cannot be read ({reason}); name a file of `hashbench freeze`.") from error
    lines = [_LINE.fullmatch(line) for line in text.splitlines()]
    if not lines or None in lines:
        raise HashbenchError(f"{manifest} holds other lines than those of `hashbench freeze`; copy it anew.")
    stated = {line[2]: line[1] for line in lines if line is not None}
    if len(stated) < len(lines):
        raise HashbenchError(f"{manifest} names a file twice; copy it anew, or freeze the runs again.")
    differences = []
    for name, expected in stated.items():
        path = manifest.parent / name
        try:
            if sha256(path) != expected:
                differences.append(f"{path}: is another file than {manifest} states")
        except OSError as error:
            differences.append(f"{path}: cannot be compared with {manifest}: {error.strerror or error}")
    base = os.path.realpath(manifest.parent)
    places = {os.path.join(base, name) for name in stated}
    unlisted = [result.path for result in results
                if result.path and os.path.realpath(result.path / RESULT) not in places]  # fmt: skip
    return Compared(len(stated), sha256(manifest), tuple(differences), tuple(unlisted))


def _files(result: Result) -> list[Path]:
    """Return the files of a run that are there; raises HashbenchError where one is another than the result states."""
    assert result.path is not None
    directory = RunDirectory(result.path)
    found = [path for name in directory.stated_files() if is_file(path := directory.path / name)]
    for path in found:
        directory.require_stated(path)
    return [directory.path / RESULT, directory.path / SPEC, *found]
