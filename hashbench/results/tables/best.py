"""The best and the second best of a table's columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hashbench.results.tables.table import AS_MEASURED, Cell, Notation, Row


def with_best(rows: Sequence[Row], notation: Notation = AS_MEASURED) -> list[Row]:
    """Mark the best cells of each column in which more than one row has a value, and the second of more than two.

    Means that `notation` writes alike share a place. Published rows and those that are not ranked do not take part.
    """
    ranked = [row for row in rows if _takes_part(row)]
    tops: list[list[float]] = []
    for column in zip(*(row.cells for row in ranked), strict=True):
        means = [_printed(cell, notation) for cell in column if cell.values]
        places = sorted(set(means), reverse=True)[: min(2, len(means) - 1)] if means else []
        tops.append(places)

    def placed(cell: Cell, places: list[float]) -> Cell:
        place = places.index(_printed(cell, notation)) if cell.values and _printed(cell, notation) in places else None
        return replace(cell, best=place == 0, second=place == 1)

    return [
        replace(row, cells=tuple(placed(cell, places) for cell, places in zip(row.cells, tops, strict=True)))
        if _takes_part(row)
        else row
        for row in rows
    ]


def _takes_part(row: Row) -> bool:
    return row.ranked and not row.published


def _printed(cell: Cell, notation: Notation) -> float:
    return float(notation.number(cell.mean))
