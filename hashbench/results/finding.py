"""What is below a folder of results: its run directories, the finished runs, and what cannot be read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from hashbench.errors import HashbenchError
from hashbench.results.result import Result
from hashbench.results.runs import RESULT, SPEC, TUNING, UNDER, RunDirectory
from hashbench.storage import files


def find_runs(roots: Iterable[Path | str]) -> tuple[list[Result], list[str]]:
    """Return the finished runs below `roots`, in the order of their paths, and a sentence for each that is corrupt.

    What a run gave under conditions follows it. A folder that cannot be read has a sentence, too. A root may be a runs
    directory, any folder inside one, or one run; raises HashbenchError where it does not exist.
    """
    results, problems = [], list[str]()
    for folder in dict.fromkeys(folder for root in roots for folder in _finished_folders(Path(root), problems)):
        try:
            results.append(RunDirectory(folder).read_result())
        except HashbenchError as error:
            problems.append(str(error))
    return results, problems


def finished_runs(*roots: Path | str) -> tuple[list[Result], list[str]]:
    """Return what `find_runs` does below `roots` (default: runs); raises HashbenchError where no run is readable."""
    places = roots or ("runs",)
    results, problems = find_runs(places)
    if not results:
        where = ", ".join(map(str, places))
        raise HashbenchError(
            f"There is no readable finished run below {where}; start one with `hashbench run`."
            + "".join(f" {problem}" for problem in problems[:1])
        )
    return results, problems


def run_folders(root: Path, problems: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """Yield the run directories below `root`, with the names in each, but for the trials of studies; sentences about
    what cannot be read join `problems`. Raises HashbenchError where `root` is no folder, be it packed, and for a packed
    run without its spec.
    """
    if not files.is_folder(root):
        raise HashbenchError(f"There is no folder {root}; name a runs directory, or start a run with `hashbench run`.")
    for folder, subfolders, names in files.walk(root, lambda error: problems.append(_not_listed(error))):
        subfolders[:] = sorted((name for name in subfolders if name != TUNING), key=_natural)
        found = [*subfolders, *names]
        if RESULT in found and SPEC not in found and not os.path.isdir(root):
            raise HashbenchError(
                f"{folder} lacks its {SPEC}, as no file of `hashbench pack` does; pack the runs again."
            )
        if RESULT in found:
            subfolders.clear()  # runs do not nest
        elif SPEC in found and UNDER in subfolders:
            subfolders.remove(UNDER)  # a run that lost its result has none under conditions
        if RESULT in found or SPEC in found:
            yield Path(folder), found


def _finished_folders(root: Path, problems: list[str]) -> Iterator[Path]:
    """Yield the finished runs below `root`, each before what it gave under conditions."""
    for folder, names in run_folders(root, problems):
        if RESULT in names:
            yield folder
            if UNDER in names:
                try:
                    inner = files.names_in(folder / UNDER)
                except OSError as error:
                    problems.append(_not_listed(error))
                    continue
                yield from (folder / UNDER / name for name in inner if files.exists(folder / UNDER / name / RESULT))


def _not_listed(error: OSError) -> str:
    return f"The folder {error.filename} cannot be read: {error.strerror or error}; what is in it is left out."


def _natural(name: str) -> list[tuple[str, int]]:
    """Return the key that sorts 8b before 16b."""
    return [(text, int(number or -1)) for text, number in re.findall(r"(\D*)(\d*)", name)]
