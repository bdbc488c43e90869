"""Numbers that papers printed, shown beside ours; docs/comparing.md says how to add some to published.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from hashbench.errors import HashbenchError
from hashbench.metrics.measures import parse
from hashbench.results.tables.table import Cell, Row, footnote_mark
from hashbench.storage.files import read_note

PUBLISHED = Path(__file__).with_name("published.csv")


@dataclass(frozen=True)
class PublishedNumber:
    """One number of a paper, with what it depends on; a line of published.csv."""

    source: str  # the paper or repository: arXiv:2507.08404
    where: str  # in it: table 6
    method: str  # as the paper writes it
    dataset: str  # name@protocol, as we name them
    backbone: str
    bits: int
    measure: str  # as we name it, with its denominator
    value: float  # in [0, 1]
    selection: str  # how the epoch was chosen

    @property
    def row(self) -> tuple[str, str, str, str, str]:
        """What the numbers of one table row share."""
        return self.method, self.source, self.where, self.backbone, self.selection


def read_published(path: Path = PUBLISHED) -> list[PublishedNumber]:
    """Return the numbers of a csv file in its order; raises HashbenchError naming the first line that is wrong."""
    columns = [field.name for field in fields(PublishedNumber)]
    try:
        reader = csv.DictReader(io.StringIO(read_note(path).decode("utf-8-sig"), newline=""), strict=True)
        if reader.fieldnames != columns:
            raise HashbenchError(f"{path} must begin with the line {','.join(columns)}.")
        numbers: dict[tuple[object, ...], PublishedNumber] = {}
        for line in reader:
            try:
                number = _number(line)
            except ValueError as error:
                raise HashbenchError(f"{path}, line {reader.line_num}: {error}") from None
            key = (*number.row, number.dataset, number.bits, number.measure)
            if key in numbers:
                raise HashbenchError(f"{path}, line {reader.line_num}: this number stands there already; remove one.")
            numbers[key] = number
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HashbenchError(f"{path} cannot be read: {error}; name a csv file in UTF-8.") from None
    return list(numbers.values())


def published_rows(
    numbers: Iterable[PublishedNumber], *, dataset: str, measure: str, bits: Sequence[int], first_mark: int
) -> tuple[list[Row], dict[str, PublishedNumber]]:
    """Return the rows of a table's data set, protocol, measure and code lengths, and for each of their marks a number.

    Rows that share source, backbone and selection share a mark; the first is footnote number `first_mark`.
    """
    found: dict[tuple[str, ...], dict[int, PublishedNumber]] = {}
    for number in numbers:
        if (number.dataset, number.measure) == (dataset, measure) and number.bits in bits:
            found.setdefault(number.row, {})[number.bits] = number
    rows: list[Row] = []
    marks: dict[tuple[str, ...], str] = {}
    meaning: dict[str, PublishedNumber] = {}
    for (method, *origin), by_bits in found.items():
        mark = marks.setdefault(tuple(origin), footnote_mark(first_mark + len(marks)))
        first = meaning.setdefault(mark, next(iter(by_bits.values())))
        cells = tuple(Cell((by_bits[length].value,)) if length in by_bits else Cell() for length in bits)
        rows.append(Row(f"{method}, published", mark, cells, method=method, source=f"{first.source}, {first.where}"))
    return rows, meaning


def known_for(numbers: Iterable[PublishedNumber], dataset: str) -> list[str]:
    """Return under which protocols, measures and code lengths there are numbers for the same images."""
    name = dataset.partition("@")[0]
    found: dict[str, set[int]] = {}
    for number in numbers:
        if number.dataset.partition("@")[0] == name:
            found.setdefault(f"{number.dataset} {number.measure}", set()).add(number.bits)
    return [f"{where} at {', '.join(map(str, sorted(bits)))} bits" for where, bits in found.items()]


def of_methods(numbers: Iterable[PublishedNumber], methods: Collection[str]) -> list[PublishedNumber]:
    """Return the numbers of `methods`, or of those whose rows they are; papers write capitals of their own (CSQ)."""
    wanted = {name.casefold() for method in methods for name in (method, method.partition(" (")[0])}
    return [number for number in numbers if number.method.casefold() in wanted]


def _number(line: dict[str, str]) -> PublishedNumber:
    """Return the number of one line; raises ValueError saying what is wrong, as a sentence."""
    for column, text in line.items():
        if not isinstance(column, str) or not isinstance(text, str):
            raise ValueError(
                "it has more or fewer values than the first line has names; put texts with commas in quotes."
            )
        if not text.strip():
            raise ValueError(f"{column} is empty; every number needs its source and conditions.")
    if not all(line["dataset"].partition("@")):
        raise ValueError(f"the data set '{line['dataset']}' has no protocol; write name@protocol.")
    if not line["bits"].isdecimal() or int(line["bits"]) == 0:
        raise ValueError(f"bits are '{line['bits']}'; write a number such as 64.")
    measure = parse(line["measure"])
    if str(measure) != line["measure"]:
        raise ValueError(f"the measure '{line['measure']}' is written {measure}.")
    try:
        value = float(line["value"])
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"the value '{line['value']}' lies outside [0, 1]; divide percentages by 100.")
    return PublishedNumber(**{**line, "bits": int(line["bits"]), "value": value})  # type: ignore[arg-type]
