"""Lists in HashNet's format, `path 0 1 0 ...` a line: the splits that deep hashing's code bases publish."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hashbench.datasets.files.annotations import bad_line, read_lines, relative_path, source
from hashbench.datasets.files.imagefiles import ImageFiles
from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    import numpy as np

FILES = {"train": "train.txt", "test": "test.txt", "database": "database.txt"}
CLASSES = "classes.txt"  # a name a line, where there is one; published lists come without


def read_lists(
    root: Path, *, name: str, image_root: Path | None = None, follow_links: bool = False
) -> tuple[ImageFiles, bool]:
    """Return the images that train.txt, test.txt (the queries) and database.txt in `root` list, in this order.

    Also returned is whether the train images are searched: all of them are in the database, which without database.txt
    they are, or none is. Paths are relative to `root`, or absolute below it; labels are zeros and ones, or one class
    number. Raises HashbenchError for lists that are missing or not in order, and for those that make no split.
    """
    import numpy as np

    absent = [file for part, file in FILES.items() if part != "database" and not (root / file).is_file()]
    if absent:
        raise HashbenchError(
            f"{root} lacks {' and '.join(absent)}; put lists of one image a line there, `path 0 1 0 ...`: train.txt, "
            f"test.txt (the queries) and database.txt."
        )
    read = {part: root / file for part, file in FILES.items() if (root / file).is_file()}
    tables = {part: _read(path, root) for part, path in read.items()}
    labels = _same_width(tables, root)
    searched = _train_is_searched(tables, root)
    rows: dict[str, np.ndarray] = {}
    parts: dict[str, str] = {}
    for part, (paths, _) in tables.items():
        for path, row in zip(paths, labels[part], strict=True):
            if path in rows and not np.array_equal(rows[path], row):
                raise HashbenchError(f"{FILES[parts[path]]} and {FILES[part]} in {root} label {path} differently.")
            rows[path] = row
            parts.setdefault(path, part)
    files = ImageFiles(
        name,
        root,
        tuple(rows),
        np.stack([*rows.values()]),
        _classes(root, next(iter(labels.values())).shape[1]),
        part=np.array([*parts.values()]),
        sources=tuple(map(source, read.values())),
    )
    return files, searched


def _read(path: Path, root: Path) -> tuple[list[str], np.ndarray]:
    """Return the paths in a list and their labels (N, C) uint8; class numbers become one column of int64."""
    import numpy as np

    lines = read_lines(path)
    if not lines:
        raise HashbenchError(f"{path} is empty; list one image a line there.")
    words = lines[0].split()
    width = 0
    while width + 1 < len(words) and words[-1 - width] in ("0", "1"):
        width += 1
    if width < 2:
        return _read_numbers(lines, path, root)
    paths, digits = [], []
    for number, line in enumerate(lines, start=1):
        if line[-2 * width : -2 * width + 1] != " " or line[1 - 2 * width :][1::2].strip(" "):
            line = " ".join(line.split())  # other blanks than one space each
        labels = line[1 - 2 * width :][::2]
        if len(labels) != width or labels.strip("01") or len(line) <= 2 * width or line[-2 * width] != " ":
            raise bad_line(path, number, f"it needs a path and then {width} zeros and ones, as line 1")
        paths.append(_relative(line[: -2 * width], path, number, root))
        digits.append(labels)
    return _once(paths, path), np.frombuffer("".join(digits).encode(), np.uint8).reshape(-1, width) - ord("0")


def _read_numbers(lines: list[str], path: Path, root: Path) -> tuple[list[str], np.ndarray]:
    import numpy as np

    paths, numbers = [], []
    for number, line in enumerate(lines, start=1):
        image, _, label = line.rpartition(" ")
        if not image or not label.isdecimal():
            raise bad_line(path, number, "it needs a path and then zeros and ones, or one class number")
        paths.append(_relative(image.strip(), path, number, root))
        numbers.append(int(label))
    return _once(paths, path), np.array(numbers)[:, None]


def _relative(text: str, path: Path, number: int, root: Path) -> str:
    """Return an image path below `root`; an absolute one loses what the two have in common."""
    if text.startswith("/"):
        below = os.path.relpath(text, root)
        text = below if not below.startswith("..") else text
    return relative_path(text, path, number)


def _once(paths: list[str], path: Path) -> list[str]:
    seen: set[str] = set()
    for number, image in enumerate(paths, start=1):
        if image in seen:
            raise bad_line(path, number, f"{image} is listed twice")
        seen.add(image)
    return paths


def _same_width(tables: Mapping[str, tuple[list[str], np.ndarray]], root: Path) -> dict[str, np.ndarray]:
    """Return the labels of all lists with one column for each class."""
    import numpy as np

    widths = {labels.shape[1] for _, labels in tables.values()}
    if len(widths) > 1:
        found = ", ".join(f"{FILES[part]} {labels.shape[1]}" for part, (_, labels) in tables.items())
        raise HashbenchError(f"The lists in {root} have different numbers of labels a line: {found}.")
    if widths != {1}:
        return {part: labels for part, (_, labels) in tables.items()}
    num_classes = 1 + max(int(labels.max()) for _, labels in tables.values())
    return {part: np.eye(num_classes, dtype=np.uint8)[labels[:, 0]] for part, (_, labels) in tables.items()}


def _train_is_searched(tables: Mapping[str, tuple[list[str], np.ndarray]], root: Path) -> bool:
    """Return whether all train images are in the database; raises HashbenchError where some are, or queries are."""
    train, queries = tables["train"][0], set(tables["test"][0])
    database = set(tables["database"][0]) if "database" in tables else set(train)
    for part, images in (("train", train), ("database", database)):
        seen = queries.intersection(images)
        if seen:
            raise HashbenchError(
                f"{len(seen):,} images of test.txt in {root} are in {FILES[part]}, too, {min(seen)} for one; queries "
                f"must be images of their own."
            )
    inside = sum(image in database for image in train)
    if 0 < inside < len(train):
        raise HashbenchError(
            f"{inside:,} of the {len(train):,} images of train.txt in {root} are in database.txt; list all of them "
            f"there, or none."
        )
    return inside > 0


def _classes(root: Path, width: int) -> tuple[str, ...]:
    if not (root / CLASSES).is_file():
        return tuple(map(str, range(width)))
    classes = tuple(line.strip() for line in read_lines(root / CLASSES))
    if len(classes) != width:
        raise HashbenchError(f"{root / CLASSES} names {len(classes)} classes, but the lists have labels for {width}.")
    return classes
