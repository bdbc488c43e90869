"""How the tables of a comparison are laid out: which columns, how numbers are written, what stands in rows and columns.

A grid holds the texts of one table as they are read, before a format escapes and draws them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hashbench.results.tables.best import with_best
from hashbench.results.tables.joining import joined
from hashbench.results.tables.table import AS_MEASURED, COUNTED, IN_UNITS, ONE_POINT, Cell, Cost, Notation, Row, Table

_MISSING = "—"
_ARROWS = {"above": "↑", "below": "↓", "": ""}
_COSTS: dict[str, tuple[str, int]] = {  # of Cost: the column's head, decimals
    "train_s": ("train s", 1),
    "prepare_s": ("prepare s", 1),
    "images_per_s": ("images/s", 0),
    "peak_memory_mb": ("peak MB", 0),
    "tuning_trials": ("trials", 0),
    "tuning_s": ("tuning s", 1),
}


@dataclass(frozen=True)
class Layout:
    """What of a comparison is shown, and how."""

    bounds: bool = False  # the worst and the best order of ties
    cost: bool = False  # columns of time and memory
    notation: Notation = AS_MEASURED
    counts: bool = True  # the number of seeds in each cell
    wide: bool = False  # all tables as one, their columns side by side
    transpose: bool = False  # methods as columns


@dataclass(frozen=True)
class Entry:
    """One cell as it is read; `behind` follows what is marked as best."""

    text: str
    best: bool = False
    second: bool = False
    behind: str = ""


@dataclass(frozen=True)
class Grid:
    """One table as it is read: what stands left of each line, and above each column."""

    title: str
    caption: str
    corner: str  # above the labels
    heads: tuple[str, ...]
    groups: tuple[tuple[str, int], ...]  # above the heads: lines, and how many heads they span; empty for none
    lines: tuple[tuple[str, tuple[Entry, ...]], ...]  # label and cells
    published: int  # of the lines, the last so many are papers' numbers
    notes: tuple[str, ...]
    ranks: str  # what the best is the best of: "column" or "row"

    @property
    def full_heads(self) -> tuple[str, ...]:
        """The heads, each behind the text of its group."""
        above = [text for text, span in self.groups for _ in range(span)] or [""] * len(self.heads)
        return tuple(f"{group}\n{head}" if group else head for group, head in zip(above, self.heads, strict=True))


def grids(tables: Sequence[Table], layout: Layout) -> Iterator[Grid]:
    """Yield the grid of each table, or of all of them as one; raises HashbenchError where they do not fit into one."""
    if layout.wide and len(tables) > 1:
        table, groups = joined(tables, cost=layout.cost)
        yield _grid(table, groups, layout)
    else:
        for table in tables:
            yield _grid(table, (), layout)


def _grid(table: Table, groups: tuple[tuple[str, int], ...], layout: Layout) -> Grid:
    rows = with_best(table.rows, layout.notation) if layout.notation != AS_MEASURED else table.rows
    costs = _costs(table, layout)
    counted = layout.counts and any(len(cell.values) > 1 for row in rows for cell in row.cells)
    lines = tuple(
        (
            f"{row.label} {row.mark}".strip(),
            (
                *(_entry(cell, layout, counted=counted and not row.published) for cell in row.cells),
                *(Entry(_cost_text(row.cost, key)) for key in costs),
            ),
        )
        for row in rows
    )
    grid = Grid(
        title=table.title,
        caption=_worded(table.caption, layout),
        corner="method",
        heads=(*table.column_heads, *(_COSTS[key][0] for key in costs)),
        groups=groups,
        lines=lines,
        published=sum(row.published for row in rows),
        notes=(),
        ranks="column",
    )
    notes = tuple(_notes(table, rows, grid, layout))
    return replace(_transposed(grid) if layout.transpose else grid, notes=notes)


def _transposed(grid: Grid) -> Grid:
    cells = zip(*(entries for _, entries in grid.lines), strict=True)
    return replace(
        grid,
        corner="",
        heads=tuple(label for label, _ in grid.lines),
        groups=(),
        lines=tuple((in_one_line(head), column) for head, column in zip(grid.full_heads, cells, strict=True)),
        published=0,
        ranks="row",
    )


def in_one_line(head: str) -> str:
    """Return the lines of a head as one."""
    return head.replace("\n", ", ")


def _entry(cell: Cell, layout: Layout, *, counted: bool) -> Entry:
    if not cell.values:
        return Entry(_MISSING)
    number = layout.notation.number
    text = number(cell.mean) + ("" if cell.std is None else f" ± {number(cell.std)}")
    text += f" ({len(cell.values)})" if counted else ""
    if layout.bounds and cell.bounds is not None:
        text += f" [{number(cell.bounds[0])}, {number(cell.bounds[1])}]"
    behind = "" if cell.difference is None else _ARROWS[cell.significance] + layout.notation.signed(cell.difference)
    return Entry(text, cell.best, cell.second, behind)


def _costs(table: Table, layout: Layout) -> list[str]:
    """Return the cost columns of a table; those of preparation and tuning only where a row has them."""
    if not layout.cost:
        return []
    of_some = ("prepare_s", "tuning_trials", "tuning_s")
    return [key for key in _COSTS if key not in of_some or any(getattr(row.cost, key) for row in table.rows)]


def _cost_text(cost: Cost, key: str) -> str:
    value: float | None = getattr(cost, key)
    return _MISSING if value is None else f"{value:,.{_COSTS[key][1]}f}"


def _worded(sentence: str, layout: Layout) -> str:
    """Return a sentence of a table in the words of its layout."""
    if not layout.counts:
        sentence = sentence.replace(COUNTED, COUNTED.removesuffix(" (n)"))
    if layout.notation.percent:
        sentence = sentence.replace(IN_UNITS + ONE_POINT, IN_UNITS).replace(IN_UNITS, "in percentage points")
    return sentence


def _notes(table: Table, rows: Sequence[Row], grid: Grid, layout: Layout) -> Iterator[str]:
    for mark, sentence in table.notes:
        yield f"{mark} {_worded(sentence, layout)}".strip()
    if layout.notation.percent:
        yield "Cells are in percent: 81.2 is a value of 0.812."
    if not layout.counts and (fewer := _fewer(rows, grid)):
        yield fewer
    if layout.bounds:
        yield "[worst, best]: the means if all items at one distance came in the worst or the best order."
    if layout.cost:
        prepared = (
            "prepare s its own stages before that, in full also where the cache had them"
            if "prepare_s" in _costs(table, layout)
            else "no method here has stages before that"
        )
        tuned = ", tuning s all trials of a row together" if "tuning_s" in _costs(table, layout) else ""
        where = "; ".join(table.devices) or "an unknown device"
        yield (
            f"Cost: means over all runs of a row; train s is the training alone, {prepared}{tuned}. On {where}"
            f"{', so not to be compared' if len(table.devices) > 1 else ''}."
        )


def _fewer(rows: Sequence[Row], grid: Grid) -> str:
    """Return the sentence that names the cells of fewer seeds than the others; "" where all have as many."""
    found = [
        (f"{row.label} at {in_one_line(head)}", len(cell.values))
        for row in rows
        if not row.published
        for head, cell in zip(grid.full_heads, row.cells, strict=False)  # costs have heads as well
        if cell.values
    ]
    most = max((count for _, count in found), default=0)
    named = [f"{where} ({count})" for where, count in found if count < most]
    return f"Fewer than {most} seeds: {', '.join(named)}." if named else ""
