"""Pairs of the user's own, `pairs:FILE`: a .csv or .tsv whose first line names its columns."""

from __future__ import annotations

import csv
import hashlib
import math
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from hashbench.datasets.files.releases import SourceFile, data_root
from hashbench.datasets.interactions.base import (
    RANKED_BY_GAIN,
    RANKED_BY_HITS,
    InteractionProtocol,
    Interactions,
    InteractionSource,
    numbered,
)
from hashbench.errors import HashbenchError
from hashbench.registry import DATASETS

KIND = "pairs:"
SEPARATORS = {".csv": ",", ".tsv": "\t"}
NEEDED, OPTIONAL = ("user", "item"), ("rating", "time", "part")
PARTS = ("train", "test")
SMALLEST = 1e-6  # rating; much smaller ones are 0 in float32, in which methods see them
FORM = "the first line names the columns: user,item and, where there are, rating, time and part"


def own_pairs(name: str, data_dir: Path | None) -> InteractionSource:
    """Return the source that `pairs:FILE` means; reads its first line alone; raises HashbenchError as `read`."""
    path = _path(name, data_dir)
    columns = _columns(path, next(iter(_lines(path)), []))
    title = _title(path)
    found = []
    if "part" in columns:
        found.append(InteractionProtocol(title, "given", "given-v1", RANKED_BY_GAIN, "The split of the column part."))
    if "time" in columns:
        summary = "Each user's last item is to be found."
        found.append(InteractionProtocol(title, "leave-one-out", "last-v1", RANKED_BY_HITS, summary))
    summary = "A fifth of each user's items are to be found."
    found.append(InteractionProtocol(title, "80-20", "shares-by-user-v1", RANKED_BY_GAIN, summary))
    return InteractionSource(title, lambda data_dir: read(path), tuple(found), lambda data_dir: "ready")


def read(path: Path) -> Interactions:
    """Return the pairs in a file.

    Raises HashbenchError that names the line, for columns that are unknown or missing, names that are empty, ratings
    that are no numbers above 0, times that are no numbers, parts other than train and test, and pairs that are there
    twice.
    """
    import numpy as np

    lines = _lines(path)
    columns = _columns(path, next(lines, []))
    cells: dict[str, list[str]] = {column: [] for column in columns}
    numbers: list[int] = []
    for number, line in enumerate(lines, start=2):
        if not line:
            continue
        if len(line) != len(columns):
            raise HashbenchError(
                f"{path}, line {number:,}: it has {len(line)} cells and there are {len(columns)} columns; write one "
                f"for each."
            )
        for column, cell in zip(columns, line, strict=True):
            cells[column].append(cell.strip())
            if not cells[column][-1]:
                raise HashbenchError(f"{path}, line {number:,}: its {column} is empty; fill it, or drop the line.")
        numbers.append(number)
    parsed = {
        column: np.array([_number(path, numbers[at], column, cell) for at, cell in enumerate(cells[column])])
        for column in ("rating", "time")
        if column in cells
    }
    part = np.array(cells["part"]) if "part" in cells else None
    for at, cell in enumerate(cells.get("part", ())):
        if cell not in PARTS:
            raise HashbenchError(f"{path}, line {numbers[at]:,}: its part is '{cell}'; write train or test.")
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    return numbered(
        _title(path),
        cells["user"],
        cells["item"],
        rating=parsed["rating"].astype(np.float32) if "rating" in parsed else None,
        time=parsed.get("time"),
        part=part,
        sources=(SourceFile(str(path), f"md5:{digest}"),),
        where=lambda at: f"line {numbers[at]:,}",
    )


def _path(name: str, data_dir: Path | None) -> Path:
    given = Path(name.removeprefix(KIND)).expanduser()
    for place in (Path(), data_root(data_dir)):
        if os.path.isfile(place / given):
            found = place / given
            if found.suffix.lower() not in SEPARATORS:
                raise HashbenchError(f"{found} is neither .csv nor .tsv; name it by how its cells are separated.")
            return found
    raise HashbenchError(f"There is no file {given}; pairs of your own are {KIND}FILE, a .csv or .tsv.")


def _title(path: Path) -> str:
    """Return the name of the data set in a file; raises HashbenchError where it would be another one's, or no name."""
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in path.name):  # Cs: of no UTF-8
        raise HashbenchError(f"{str(path)!a} holds characters that cannot be printed; rename it.")
    title = re.sub(r"[@,:\s]", "_", path.stem)
    if not title.strip("."):
        raise HashbenchError(f"{path} has no name before its ending; rename it.")
    for name in DATASETS:
        if name.casefold() == title.casefold() and isinstance(DATASETS.get(name), InteractionSource):
            raise HashbenchError(f"{path} has the name of the data set {name}, whose numbers are others; rename it.")
    return title


def _lines(path: Path) -> Iterator[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.reader(file, delimiter=SEPARATORS[path.suffix.lower()], strict=True)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HashbenchError(f"{path} cannot be read: {error}; it must be text in UTF-8, a pair a line.") from error


def _columns(path: Path, line: list[str]) -> list[str]:
    columns = [cell.strip().lower() for cell in line]
    wrong = [column for column in columns if column not in (*NEEDED, *OPTIONAL)]
    missing = [column for column in NEEDED if column not in columns]
    if wrong or missing or len({*columns}) < len(columns):
        reason = (
            f"has the column '{wrong[0]}'" if wrong else f"has no column {missing[0]}" if missing else "names one twice"
        )
        raise HashbenchError(f"{path}: the first line {reason}; {FORM}.")
    return columns


def _number(path: Path, line: int, column: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (column == "rating" and not SMALLEST <= value < 1e6):
        wanted = "a number above 0, with larger ones for what is liked more" if column == "rating" else "a number"
        raise HashbenchError(f"{path}, line {line:,}: its {column} is '{cell}'; write {wanted}.")
    return value
