"""Arrays in text files: numbers or names in rows and columns, with or without a header."""

from __future__ import annotations

import codecs
import csv
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

TEXT = (".csv", ".tsv", ".txt")
BLANKS = "; names with blanks belong into a .csv file"
#: What stands above a column of names; a first line that says something else is a name itself.
HEADERS = ("label", "labels", "class", "classes", "name", "names", "target", "targets", "category", "part", "y")


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a text file that are not blank, with their numbers from 1; raises ValueError for no text."""
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if wide else "utf-8-sig")
    if "\0" in text:
        raise ValueError("it holds NUL bytes, so that it is no text")
    return [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def read_table(path: Path, key: str | None = None) -> np.ndarray:
    """Return the rows of a text file: numbers (n, columns), or (n,) numbers or names where there is one column.

    Columns are parted by commas, semicolons, tabs or blanks. A first line that names them is left out, and so is a
    first column of row numbers without a name, as pandas writes both; `key` is the name of the one column that is
    returned. Raises ValueError, naming file and line, for rows of different widths and for names beside other columns.
    """
    lines = [(number, line) for number, line in read_lines(path) if not line.startswith("# ")]  # numpy.savetxt's header
    if not lines:
        raise ValueError(f"{path} holds no rows.")
    rows = _Rows(path, lines, _separator(path, [line for _, line in lines]))
    whole = None if key is not None else rows.numbers(0)
    if whole is not None:
        numbered = len(whole) > 1 and whole.shape[1] > 2 and np.array_equal(whole[0], np.arange(whole.shape[1]))
        return _narrowed(whole[1:] if numbered else whole)  # pandas numbers columns that have no names
    names = rows.cells(0)
    values = None if len(lines) == 1 else rows.numbers(1)
    if values is None or all(map(_is_number, names)):  # numbers alone are no title: the rows differ
        return _column(rows, names, key)
    if "" in names[1:]:
        raise ValueError(f"{path}, line {lines[0][0]}: a cell is empty.")
    if values.shape[1] != len(names):
        raise ValueError(f"{path} has {len(names)} names in its first line, but {values.shape[1]} columns of numbers.")
    if key is not None:
        return values[:, _place(path, names, key)]
    counted = values.shape[1] > 1 and names[0] in ("", "Unnamed: 0")
    if counted and np.array_equal(values[:, 0], np.arange(len(values))):
        values = values[:, 1:]
    return _narrowed(values)


class _Rows:
    """The lines of a file and what parts their cells: None for any blanks."""

    def __init__(self, path: Path, lines: Sequence[tuple[int, str]], separator: str | None):
        self.path, self._lines, self._separator = path, lines, separator
        self.in_blanks = separator is None

    def __len__(self) -> int:
        return len(self._lines)

    def numbers(self, first: int) -> np.ndarray | None:
        """Return the rows from `first` on as int64, or else float64, (n, columns); None where not all are numbers."""
        lines = [line for _, line in self._lines[first:]]
        for dtype in (np.int64, np.float64):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # a fraction read as an integer is one
                    return np.loadtxt(lines, dtype, delimiter=self._separator, comments=None, ndmin=2, quotechar='"')
            except (ValueError, OverflowError, Warning):
                continue
        return None

    def cells(self, row: int) -> list[str]:
        """Return the words of a row."""
        _, line = self._lines[row]
        if self._separator is None:
            return line.split()
        (cells,) = csv.reader([line], delimiter=self._separator, skipinitialspace=True)
        return [cell.strip() for cell in cells]

    def words(self, first: int) -> list[list[str]]:
        """Return the cells of the rows from `first` on; raises ValueError where they differ in number."""
        found = [self.cells(row) for row in range(first, len(self))]
        for row, cells in enumerate(found, start=first):
            if len(cells) != len(found[0]):
                raise ValueError(
                    f"{self.path}, line {self._lines[row][0]}: it has {len(cells)} columns, those before "
                    f"{len(found[0])}{BLANKS if self.in_blanks else ''}."
                )
        return found


def _column(rows: _Rows, names: list[str], key: str | None) -> np.ndarray:
    """Return one column (n,) of a table that holds words: that of the name `key`, or the only one."""
    table = rows.words(0)
    place = 0 if key is None else _place(rows.path, names, key)
    counted = names[0] in ("", "Unnamed: 0") and [row[0] for row in table[1:]] == [*map(str, range(len(table) - 1))]
    if key is None and len(names) - counted > 1:
        if all(_is_truth(cell) for row in table[1:] for cell in row[counted:]):
            first = 0 if all(map(_is_truth, names)) else 1
            return np.array([[cell.casefold() == "true" for cell in row[counted:]] for row in table[first:]])
        word = next(cell for row in table[1:] or table for cell in row if not _is_number(cell))
        raise ValueError(
            f"{rows.path} holds {len(names)} columns, '{word:.40}' among them; keep one column, or name it "
            f"as FILE:NAME ({', '.join(names)[:200]}){BLANKS if rows.in_blanks else ''}."
        )
    place += counted if key is None else 0
    column = [row[place] for row in table]
    head = column[0].casefold()
    titled = key is not None or counted or (head in HEADERS and head not in map(str.casefold, column[1:]))
    column = column[1:] if titled else column
    if column and all(map(_is_truth, column)):
        return np.array([cell.casefold() == "true" for cell in column])
    numbers = [*map(_is_number, column)]
    if key is not None and all(numbers):
        found = _Rows(rows.path, [*enumerate(column)], ",").numbers(0)
        assert found is not None
        return found[:, 0]
    if any(numbers) and not all(numbers):
        word = column[numbers.index(False)]
        raise ValueError(f"{rows.path} holds numbers and words in one column, '{word:.40}' among them.")
    return np.array(column, object)


def _is_truth(cell: str) -> bool:
    return cell.casefold() in ("true", "false")


def _place(path: Path, names: list[str], key: str) -> int:
    if names.count(key) != 1:
        found = "no column" if key not in names else f"{names.count(key)} columns"
        raise ValueError(f"{path} has {found} '{key}'; its first line names {', '.join(names)[:200]}.")
    return names.index(key)


def _separator(path: Path, lines: list[str]) -> str | None:
    """Return what parts the columns, None for any blanks."""
    for separator in "\t,;":
        if separator in lines[0] or separator in lines[-1]:
            return separator
    in_blanks = path.suffix.lower() == ".txt" or all(map(_is_number, lines[-1].split()))
    return None if in_blanks else ","


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _narrowed(values: np.ndarray) -> np.ndarray:
    """Return one column as (n,), which is how a text file writes it."""
    return values[:, 0] if values.shape[1] == 1 else values
