"""Lists of images with their labels, a file for each part of a split, as HashNet publishes or as people write them.

A line is a path and then zeros and ones, or -1 and 1, or one class number or name, with blanks, tabs, commas or
semicolons between. All lists of a data set are of one style.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hashbench.datasets.base import one_hot
from hashbench.datasets.files.annotations import bad_line, read_lines, source, unreadable
from hashbench.datasets.files.imagefiles import ImageFiles
from hashbench.datasets.files.parts import PART_NAMES, PART_OF
from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    import numpy as np

ENDINGS = (".txt", ".csv", ".tsv", ".lst")
ORDER = ("train", "test", "database")  # of the images, whatever their files are called
CLASSES = "classes.txt"  # a name a line, where there is one; published lists come without
HEADINGS = frozenset((
    "path", "paths", "image", "images", "img", "file", "files", "filename", "file_name", "filepath", "impath",
    "file_path",     "image_path", "image_name", "image_id", "name", "id", "relpath",
))  # of the first column  # fmt: skip
WHOLE = re.compile(r"[+-]?[0-9]{1,400}(\.0*)?")
WORDS = {"true": 1, "false": 0}
SHOWN = 60  # characters of a line that an error shows


@dataclass(frozen=True)
class _Table:
    """One list: its images, and the labels as numbers, or as names."""

    file: Path
    images: list[str]  # as written, with "/"
    lines: Sequence[int]  # the number of each image's line
    columns: tuple[str, ...] | None  # the headings of the labels
    labels: np.ndarray | None = None  # (N, width) int64: zeros and ones, -1 and 1, or one class number; None: names
    names: tuple[str, ...] = ()
    passed: int = 0  # header and comment lines

    @property
    def style(self) -> str:
        """What each line has, in words."""
        if self.labels is None:
            return "a class name"
        return "one class number" if self.labels.shape[1] == 1 else f"{self.labels.shape[1]} zeros and ones"


def read_lists(
    root: Path, *, name: str, image_root: Path | None = None, follow_links: bool = False
) -> tuple[ImageFiles, bool]:
    """Return the images that the lists in `root` name: training images, queries and database, in this order.

    Also returned is whether the train images are searched: all of them are in the database, which without a list of it
    they are, or none is. Relative paths start from `image_root`, by default `root`; where absolute ones lie elsewhere,
    names are relative to the folder that all images share. Raises HashbenchError for lists that are missing or not in
    order, naming the line, and for those that make no split.
    """
    import numpy as np

    found, notes = _part_files(root)
    tables = {part: _read(path) for part, path in found.items()}
    styles = {table.style for table in tables.values()}
    if len(styles) > 1:
        told = ", ".join(f"{table.file.name} {table.style}" for table in tables.values())
        raise HashbenchError(f"The lists in {root} have different labels a line: {told}.")
    labels, classes, how = _labels(tables, root)
    base, images = _located(tables, root, image_root)
    for part, table in tables.items():
        _once(images[part], table)
        if not labels[part].any():
            raise HashbenchError(f"No line of {table.file} has a label; list each image with its labels.")
    searched = _train_is_searched(images, tables, root)
    rows: dict[str, np.ndarray] = {}
    parts: dict[str, str] = {}
    for part, paths in images.items():
        for path, row in zip(paths, labels[part], strict=True):
            if path in rows and not np.array_equal(rows[path], row):
                first = tables[parts[path]].file.name
                raise HashbenchError(f"{first} and {tables[part].file.name} in {root} label {path} differently.")
            rows[path] = row
            parts.setdefault(path, part)
    roles = {"train": "training images", "test": "queries", "database": "database"}
    told = ", ".join(f"{roles[part]} from {table.file.name} ({len(table.images):,})" for part, table in tables.items())
    absent = "" if "database" in tables else "; the training images are the database"
    passed = sum(table.passed for table in tables.values())
    files = ImageFiles(
        name,
        base,
        tuple(rows),
        np.stack([*rows.values()]),
        classes,
        part=np.array([*parts.values()]),
        sources=tuple(source(table.file) for table in tables.values()),
        notes=(
            f"Lists: {told}{absent}.",
            f"Labels: {how}.",
            *notes,
            *([f"Header and comment lines passed over: {passed:,}."] if passed else []),
        ),
        follow_links=follow_links,
    )
    return files, searched


def _part_files(root: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the list of each part, in ORDER, and sentences on others; raises HashbenchError for no split."""
    try:
        names = sorted(os.listdir(root))
    except OSError as error:
        raise unreadable(root, error) from error
    by_part: dict[str, list[str]] = {}
    for file in names:
        stem, ending = os.path.splitext(file.lower())
        if ending in ENDINGS and stem in PART_OF:
            by_part.setdefault(PART_OF[stem], []).append(file)
    for twice in (files for files in by_part.values() if len(files) > 1):
        raise HashbenchError(f"{root} holds {' and '.join(twice)}, which list the same part; keep one.")
    notes = []
    if "validation" in by_part:
        (left_out,) = by_part.pop("validation")
        if "test" in by_part:
            notes.append(
                f"{left_out} is left out; for --evaluate-on validation, images are taken from the training images."
            )
        else:
            by_part["test"] = [left_out]
    absent = [f"{part}.txt" for part in ORDER[:2] if part not in by_part]
    if absent:
        known = ", ".join(PART_NAMES["test"] + PART_NAMES["validation"])
        raise HashbenchError(
            f"{root} lacks {' and '.join(absent)}; put lists of one image a line there, `path 0 1 0 ...`: train.txt, "
            f"test.txt (the queries, also called {known}) and database.txt."
        )
    return {part: root / by_part[part][0] for part in ORDER if part in by_part}, notes


def _read(path: Path) -> _Table:
    lines = read_lines(path)
    if not any(lines):
        raise HashbenchError(f"{path} is empty; list one image a line there.")
    return _read_published(path, lines) or _read_written(path, lines)


def _read_published(path: Path, lines: list[str]) -> _Table | None:
    """Return a list all of whose lines are a path and zeros and ones, one blank between; None for any other.

    Published lists are that, with a hundred thousand lines of eighty labels.
    """
    import numpy as np

    words = lines[0].split()
    width = 0
    while width + 1 < len(words) and words[-1 - width] in ("0", "1"):
        width += 1
    if width < 2:
        return None
    images, digits = [], []
    for line in lines:
        labels, image = line[1 - 2 * width :][::2], line[: -2 * width]
        blanks = line[-2 * width :][::2]
        if blanks.strip(" ") or len(labels) != width or labels.strip("01") or image[-2:] in (" 0", " 1", ""):
            return None
        if image[0] in "#\"' " or image[-1] in " ,;\t" or "\0" in image:
            return None
        images.append(image.replace("\\", "/"))
        digits.append(labels)
    table = np.frombuffer("".join(digits).encode(), np.uint8).reshape(-1, width) - np.int64(ord("0"))
    return _Table(path, images, range(1, len(lines) + 1), None, table)


def _read_written(path: Path, lines: list[str]) -> _Table:
    """Return a list as people write them; raises HashbenchError for the line that does not fit."""
    rows = [(number, line) for number, line in enumerate(lines, start=1) if line.strip() and line.lstrip()[0] != "#"]
    passed = sum(line.lstrip()[:1] == "#" for line in lines)
    if not rows:
        raise HashbenchError(f"{path} is empty but for comments; list one image a line there.")
    for number, line in rows:
        if "\0" in line:
            _refuse(path, number, line, "it holds a NUL byte; is it a text file?")
    mark = next((mark for mark in "\t;," if 2 * sum(mark in line for _, line in rows) > len(rows)), None)
    fields = [_fields(line, mark) for _, line in rows]
    columns = None
    if len(rows) > 1 and _is_header(fields[0], fields[1]):
        columns = tuple(fields[0][1:])
        rows, fields, passed = rows[1:], fields[1:], passed + 1
    split = [_image_and_labels(field, mark) for field in fields]
    width = len(split[0][1])
    first = rows[0][0]
    for (number, line), (image, labels) in zip(rows, split, strict=True):
        if not image or not labels:
            _refuse(path, number, line, "it needs a path and then zeros and ones, or one class number or name")
        if len(labels) != width:
            kinds = f"{width} zeros and ones" if width > 1 else "one label"
            _refuse(
                path, number, line, f"it has {len(labels)} labels; it needs a path and then {kinds}, as line {first}"
            )
    images = [image.replace("\\", "/") for image, _ in split]
    numbers = [number for number, _ in rows]
    if columns is not None and len(columns) != width:
        if width > 1 and len(columns) > 1:
            raise HashbenchError(f"{path} names {len(columns)} classes in its header, but has labels for {width}.")
        columns = None
    tokens = [labels for _, labels in split]
    table = _numbers(path, rows, tokens)
    if table is None:
        return _Table(path, images, numbers, columns, None, tuple(labels[0] for labels in tokens), passed)
    return _Table(path, images, numbers, columns, table, (), passed)


def _fields(line: str, mark: str | None) -> list[str]:
    """Return the fields of a line; of blanks between, a path in quotes is one field."""
    if mark is None:
        quoted = re.fullmatch(r"\s*([\"'])(.+)\1\s+(.*)", line)
        return [quoted[2], *quoted[3].split()] if quoted else line.split()
    try:
        fields = [field.strip() for field in next(csv.reader([line], delimiter=mark, skipinitialspace=True))]
    except csv.Error:
        fields = [field.strip() for field in line.split(mark)]
    return fields[:-1] if len(fields) > 1 and not fields[-1] else fields  # a mark at the end of the line


def _is_header(first: list[str], second: list[str]) -> bool:
    heading = first[0].lower().strip("\"'") in HEADINGS
    return heading or (
        len(first) == len(second)
        and not any(_number(field) is not None for field in first[1:])
        and all(_number(field) is not None for field in second[1:])
        and len(second) > 1
        and "." not in first[0]
    )


def _image_and_labels(fields: list[str], mark: str | None) -> tuple[str, list[str]]:
    """Return the path and the labels of a line; between blanks, the labels are what numbers end it, else one word."""
    if mark is not None:
        if len(fields) == 2 and len(inner := fields[1].split()) > 1 and all(_number(one) is not None for one in inner):
            return fields[0], inner
        return fields[0], fields[1:]
    width = 0
    while width + 1 < len(fields) and _number(fields[-1 - width]) in (-1, 0, 1):
        width += 1
    width = max(width, 1)
    return " ".join(fields[:-width]), fields[-width:]


def _number(text: str) -> int | None:
    """Return the whole number that a label is, also as 1.0, +1 or True; None for any other text."""
    if WHOLE.fullmatch(text):
        return int(text.partition(".")[0])
    return WORDS.get(text.lower())


def _numbers(path: Path, rows: list[tuple[int, str]], tokens: list[list[str]]) -> np.ndarray | None:
    """Return labels (N, width) int64, None where each line has one name; raises HashbenchError for a mixture."""
    import numpy as np

    from hashbench.metrics.class_names import NO_NAMES, are_several

    width = len(tokens[0])
    values = [[_number(token) for token in labels] for labels in tokens]
    if width == 1:
        plain = [bool(WHOLE.fullmatch(token)) for (token,) in tokens]
        if not any(plain):
            for (number, line), (token,) in zip(rows, tokens, strict=True):
                if _is_decimal(token) or token in NO_NAMES:
                    _refuse(path, number, line, f"'{token[:SHOWN]}' is no class number and no name")
                if are_several(token):
                    _refuse(path, number, line, f"'{token[:SHOWN]}' looks like several classes; give zeros and ones")
            return None
        for (number, line), (token,), fits in zip(rows, tokens, plain, strict=True):
            if not fits:
                _refuse(path, number, line, f"'{token[:SHOWN]}' is no class number, as other lines have")
            if not 0 <= int(token.partition(".")[0]) < 2**63:
                _refuse(
                    path, number, line, f"{token[:SHOWN]} is no class number; give whole numbers from 0, below 2^63"
                )
        return np.array([[int(token.partition(".")[0])] for (token,) in tokens], np.int64)
    for (number, line), labels, row in zip(rows, tokens, values, strict=True):
        odd = next((token for token, value in zip(labels, row, strict=True) if value not in (-1, 0, 1)), None)
        if odd is not None:
            _refuse(path, number, line, f"'{odd[:SHOWN]}' is no label; it needs a path and then {width} zeros and ones")
    return np.array(values, np.int64)


def _is_decimal(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _labels(tables: Mapping[str, _Table], root: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...], str]:
    """Return the labels (N, C) uint8 of all lists, the names of the classes, and how they were read, in words."""
    import numpy as np

    from hashbench.metrics.class_names import twins

    stated = _stated_classes(root)
    some = next(iter(tables.values()))
    if some.labels is None:
        occurring = sorted({name for table in tables.values() for name in table.names})
        known = stated or tuple(occurring)
        if alike := twins({part: table.names for part, table in tables.items()}):
            raise HashbenchError(
                f"The lists in {root} name classes that look alike, {alike[0]!a} and {alike[1]!a}; call a class the "
                "same in all of them."
            )
        place = {name: number for number, name in enumerate(known)}
        for table in tables.values():
            for number, name in zip(table.lines, table.names, strict=True):
                if name not in place:
                    raise bad_line(table.file, number, f"its class '{name[:SHOWN]}' is not in {CLASSES}")
        found = {
            part: one_hot(np.array([place[name] for name in table.names]), known, name=str(table.file))
            for part, table in tables.items()
        }
        return found, known, f"{len(known):,} class names"
    values = {part: table.labels for part, table in tables.items() if table.labels is not None}
    if some.labels.shape[1] > 1:
        return _multi_hot(tables, values, stated, root)
    numbers = np.unique(np.concatenate([labels[:, 0] for labels in values.values()]))
    span = f"class numbers {numbers[0]} to {numbers[-1]}"
    if stated is None:
        classes = tuple(map(str, numbers.tolist()))
        found = {
            part: one_hot(np.searchsorted(numbers, labels[:, 0]), classes, name=str(root))
            for part, labels in values.items()
        }
        return found, classes, f"{span} as {len(classes):,} {'class' if len(classes) == 1 else 'classes'}"
    first = int(numbers[0] > 0 and numbers[-1] == len(stated))
    if numbers[-1] - first >= len(stated):
        raise HashbenchError(f"{root / CLASSES} names {len(stated)} classes, but the lists have {span}.")
    found = {part: one_hot(labels[:, 0] - first, stated, name=str(root)) for part, labels in values.items()}
    return found, stated, f"{span}, {first} for the first class of {CLASSES}"


def _multi_hot(
    tables: Mapping[str, _Table], values: Mapping[str, np.ndarray], stated: tuple[str, ...] | None, root: Path
) -> tuple[dict[str, np.ndarray], tuple[str, ...], str]:
    import numpy as np

    width = next(iter(values.values())).shape[1]
    signed = any((labels < 0).any() for labels in values.values())
    for part, labels in values.items():
        zeros = np.flatnonzero((labels == 0).any(axis=1))
        if signed and len(zeros):
            raise bad_line(
                tables[part].file,
                tables[part].lines[int(zeros[0])],
                "it has a 0 where other labels are -1 and 1; what 0 means there cannot be known",
            )
    headings = {table.columns for table in tables.values() if table.columns is not None}
    if stated is None and len(headings) > 1:
        raise HashbenchError(f"The lists in {root} have different headings; give them the same, or {CLASSES}.")
    if stated is not None and len(stated) != width:
        raise HashbenchError(f"{root / CLASSES} names {len(stated)} classes, but the lists have labels for {width}.")
    classes = stated or next(iter(headings), None) or tuple(map(str, range(width)))
    if len({*classes}) < len(classes):
        raise HashbenchError(f"Of the {len(classes)} classes in {root} several have one name; give each its own.")
    how = f"{'-1 and 1' if signed else 'zeros and ones'} for {width:,} classes"
    return {part: (labels > 0).astype(np.uint8) for part, labels in values.items()}, classes, how


def _stated_classes(root: Path) -> tuple[str, ...] | None:
    file = next((name for name in sorted(os.listdir(root)) if name.lower() == CLASSES), None)
    if file is None:
        return None
    classes = tuple(line.strip() for line in read_lines(root / file))
    if "" in classes:
        raise bad_line(root / file, classes.index("") + 1, "it is blank, where the name of a class should stand")
    counted = [re.match(r"[0-9]{1,9}\b", name) or re.search(r"\b[0-9]{1,9}$", name) for name in classes]
    numbers = [int(number[0]) for number in counted if number]
    if len(numbers) == len(classes) == len({*numbers}) > max(numbers) - min(numbers) and numbers != sorted(numbers):
        raise HashbenchError(f"{root / file} numbers its classes in another order than that of its lines; sort them.")
    if len({*classes}) < len(classes):
        raise HashbenchError(f"{root / CLASSES} names a class twice; give each its own name.")
    return classes


def _located(tables: Mapping[str, _Table], root: Path, image_root: Path | None) -> tuple[Path, dict[str, list[str]]]:
    """Return the folder that images are named from, and the images of each part by their names."""
    base = os.path.abspath(image_root or root)
    if not os.path.isdir(base):
        raise HashbenchError(f"The folder of the images, {base}, is not there; name another with --image-root.")
    found = {part: [_name(image, base, table, row, image_root) for row, image in enumerate(table.images)]
             for part, table in tables.items()}  # fmt: skip
    if not any(image[0] == "/" for images in found.values() for image in images):
        return Path(base), found
    full = {part: [os.path.join(base, image) for image in images] for part, images in found.items()}
    shared = os.path.commonpath([os.path.dirname(image) for images in full.values() for image in images])
    return Path(shared), {part: [os.path.relpath(image, shared) for image in images] for part, images in full.items()}


def _name(image: str, base: str, table: _Table, row: int, image_root: Path | None) -> str:
    """Return an image's path below `base`, or an absolute one that lies elsewhere, which `image_root` forbids."""
    name = image
    if image[:1] == "/" or "//" in image or "./" in image:
        name = os.path.normpath(image)
        if name[0] == "/":
            below = os.path.relpath(name, base)
            name = name if below.startswith("..") else below
    elsewhere = name[0] == "/" and image_root is not None
    if elsewhere or name[1:2] == ":" or name.startswith("../") or name in (".", "..", "/"):
        hint = f" {base}" if image_root is not None else "; name the folder of the images with --image-root"
        reason = f"'{image[:SHOWN]}' does not lie below the folder of the {'images' if image_root else 'data'}{hint}"
        raise bad_line(table.file, table.lines[row], reason)
    return name


def _once(images: Sequence[str], table: _Table) -> None:
    seen: set[str] = set()
    for number, image in zip(table.lines, images, strict=True):
        if image in seen:
            raise bad_line(table.file, number, f"{image} is listed twice")
        seen.add(image)


def _train_is_searched(images: Mapping[str, list[str]], tables: Mapping[str, _Table], root: Path) -> bool:
    """Return whether all train images are in the database; raises HashbenchError where some are, or queries are."""
    train, queries = images["train"], {*images["test"]}
    database = {*images.get("database", train)}
    file = {part: table.file.name for part, table in tables.items()}
    for part, some in (("train", train), ("database", database)):
        seen = queries.intersection(some)
        if seen:
            raise HashbenchError(
                f"{len(seen):,} images of {file['test']} in {root} are in {file[part]}, too, {min(seen)} for one; "
                f"queries must be images of their own."
            )
    inside = sum(image in database for image in train)
    if 0 < inside < len(train):
        raise HashbenchError(
            f"{inside:,} of the {len(train):,} images of {file['train']} in {root} are in {file['database']}; list all "
            f"of them there, or none."
        )
    return inside > 0


def _refuse(path: Path, number: int, line: str, reason: str) -> NoReturn:
    shown = line if len(line) <= SHOWN else f"{line[: SHOWN // 2]} ... {line[-SHOWN // 2 :]}"
    raise bad_line(path, number, f"{shown!r}: {reason}")
