"""Tables side by side as one wide table: data sets, measures and code lengths as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hashbench.errors import HashbenchError
from hashbench.results.tables.table import Cell, Row, Table, footnote_mark


def joined(tables: Sequence[Table], *, cost: bool = False) -> tuple[Table, tuple[tuple[str, int], ...]]:
    """Return one table with the columns of all `tables`, and for each of them what stands above its columns.

    A row holds what has one label. A footnote that is not one of every table says of which it is. Raises HashbenchError
    for two tables of the same data set and measure, and for columns that tell of their own table alone: those of
    conditions, of `cost`, and tests against a baseline.
    """
    _check(tables, cost=cost)
    of_captions: dict[str, list[int]] = {}  # caption -> tables
    for place, table in enumerate(tables):
        of_captions.setdefault(table.caption, []).append(place)
    captions = [("", f"{_named(where, tables)}: {caption}") for caption, where in of_captions.items()]
    places = _places(tables)
    notes, marks = _notes(tables)
    rows = [
        _row([row.get(key) for row in places], tables, marks) for key in dict.fromkeys(k for p in places for k in p)
    ]
    rows.sort(key=lambda row: row.published)
    datasets, measures = {table.dataset for table in tables}, {table.measure for table in tables}
    groups = [
        ("\n".join([t.dataset] * (len(datasets) > 1) + [t.measure] * (len(measures) > 1)), len(t.bits)) for t in tables
    ]
    table = Table(
        dataset=tables[0].dataset if len(datasets) == 1 else f"{len(datasets)} data sets",
        measure=tables[0].measure if len(measures) == 1 else f"{len(measures)} measures",
        caption=tables[0].caption if len(captions) == 1 else "conditions of the columns below.",
        bits=tuple(bits for table in tables for bits in table.bits),
        rows=tuple(rows),
        notes=(*(captions if len(captions) > 1 else ()), *notes),
        conditions={},
    )
    return table, tuple(groups)


def _named(places: Sequence[int], tables: Sequence[Table]) -> str:
    """Return which tables these are: a data set where they are all of its tables, else data set and measure."""
    chosen = {tables[place].title for place in places}
    names = dict[str, None]()
    for title, dataset in ((table.title, table.dataset) for table in tables):
        if title in chosen:
            whole = {table.title for table in tables if table.dataset == dataset} <= chosen
            names[dataset if whole else title] = None
    return "; ".join(names)


def _check(tables: Sequence[Table], *, cost: bool) -> None:
    if any(table.columns for table in tables):
        raise HashbenchError("A table of conditions is of one code length, so there is no wide one; leave one out.")
    if any(table.baseline is not None for table in tables):
        raise HashbenchError(
            "A wide table shows no differences, for each data set and measure has tests of its own; leave the baseline "
            "or the wide table out."
        )
    if cost:
        raise HashbenchError("Costs are those of one data set; leave them or the wide table out.")
    seen: dict[str, Table] = {}
    for table in tables:
        first = seen.setdefault(table.title, table)
        if first is not table:
            raise HashbenchError(
                f'A wide table has columns for one table of {table.title}, and there are two: "{first.caption}" and '
                f'"{table.caption}" Name the runs of one of them.'
            )


_Key = tuple[str, bool, int]  # label, published, and which of the rows of one table that share them


def _places(tables: Sequence[Table]) -> list[dict[_Key, Row]]:
    """Return each table's rows by what makes them one row of the wide table."""
    found = []
    for table in tables:
        rows: dict[_Key, Row] = {}
        for row in table.rows:
            earlier = sum(key[:2] == (row.label, row.published) for key in rows)
            rows[row.label, row.published, earlier] = row
        found.append(rows)
    return found


def _notes(tables: Sequence[Table]) -> tuple[list[tuple[str, str]], list[dict[str, str]]]:
    """Return the footnotes of all tables with marks of their own, and each table's marks as they are called now."""
    told: dict[tuple[bool, str], list[int]] = {}  # (whether it has a mark, sentence) -> tables
    for place, table in enumerate(tables):
        for mark, sentence in table.notes:
            told.setdefault((bool(mark), sentence), []).append(place)
    notes, marks = list[tuple[str, str]](), [dict[str, str]() for _ in tables]
    used = 0
    for (marked, sentence), where in told.items():
        mark = footnote_mark(used) if marked else ""
        used += marked
        for place in where:
            old = next(old for old, other in tables[place].notes if other == sentence and bool(old) == marked)
            marks[place][old] = mark
        of = "" if len(where) == len(tables) else f"{_named(where, tables)}: "
        notes.append((mark, of + sentence))
    return notes, marks


def _row(rows: Sequence[Row | None], tables: Sequence[Table], marks: Sequence[dict[str, str]]) -> Row:
    first = next(row for row in rows if row is not None)
    cells = [row.cells if row is not None else (Cell(),) * len(t.bits) for row, t in zip(rows, tables, strict=True)]
    own = [
        names.get(mark, mark)
        for row, names in zip(rows, marks, strict=True)
        if row is not None
        for mark in row.mark.split()
    ]
    return replace(first, mark=" ".join(sorted(dict.fromkeys(own), key=_order)), cells=sum(cells, ()))


def _order(mark: str) -> tuple[bool, int]:
    return mark == "°", len(mark)
