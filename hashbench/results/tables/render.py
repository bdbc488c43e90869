"""A comparison as text, Markdown, LaTeX (booktabs), HTML or CSV."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tabulate import tabulate

from hashbench.errors import unknown
from hashbench.results.tables import escaping
from hashbench.results.tables.cell_lines import csv_lines
from hashbench.results.tables.layout import Entry, Grid, Layout, grids, in_one_line
from hashbench.results.tables.table import DIGITS
from hashbench.storage.strict_json import dumps

if TYPE_CHECKING:
    from hashbench.results.tables.comparison import Comparison

_WIDTH = 100  # of the text around a table


@dataclass(frozen=True)
class _Style:
    """How a format writes text, the best of a column and the second best."""

    escape: Callable[[str], str]
    best: str = "{}"
    second: str = "{}"


def render(comparison: Comparison, format: str, layout: Layout, *, width: int | None = None, bold: bool = False) -> str:
    """Return the comparison in one of FORMATS.

    Text is broken into groups of columns that fit into `width` characters, and `bold` adds a terminal's bold to the
    best of a column. csv has every cell in full, whatever the layout. Raises HashbenchError for another
    format, and where the tables do not fit into a wide one.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if format == "csv":
        return csv_lines(comparison.tables)
    found = grids(comparison.tables, layout)
    return _text(found, width=width, bold=bold) if format == "text" else _DRAWN[format](found)


def plain_table(
    rows: Sequence[Sequence[Any]], *, header: Sequence[str] = (), form: Literal["text", "html"] = "text"
) -> str:
    """Return names and values as aligned text or HTML, numbers at the usual precision; repeated names are left out."""
    shown: list[list[str]] = []
    for above, row in zip([None, *rows], rows, strict=False):
        texts = [_plain_text(value) for value in row]
        shown.append(["" if above and above[0] == row[0] else texts[0], *texts[1:]])
    style = "html" if form == "html" else "simple" if header else "plain"
    return tabulate(shown, headers=header, tablefmt=style, disable_numparse=True)


def _plain_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.{DIGITS}f}"
    if isinstance(value, dict | list):
        return dumps(value)
    return "—" if value is None else escaping.plain(str(value))


# Formats


def _text(found: Iterable[Grid], *, width: int | None, bold: bool) -> str:
    style = _Style(escaping.plain, best="\x1b[1m*{}\x1b[0m" if bold else "*{}")
    around = _WIDTH if width is None else min(width, _WIDTH)

    def wrapped(text: str) -> str:
        return textwrap.fill(
            style.escape(text), around, break_on_hyphens=False
        )  # a name stays whole, to be searched for

    def one(grid: Grid) -> str:
        notes = [*grid.notes]
        if any(entry.best for _, entries in grid.lines for entry in entries):
            notes.append(f"* best of its {grid.ranks}.")
        body = "\n\n".join(_column_groups(grid, style, width))
        return "\n".join([style.escape(grid.title), wrapped(grid.caption), "", body, *map(wrapped, notes)])

    return "\n\n".join(map(one, found))


def _column_groups(grid: Grid, style: _Style, width: int | None) -> Iterator[str]:
    """Yield the table, or its labels with as many columns at a time as fit into `width`, at least one."""
    labels, *columns = zip(*[_heads(grid, style), *_body(grid, style)], strict=True)

    def drawn(chosen: Sequence[Sequence[str]]) -> str:
        header, *rows = zip(labels, *chosen, strict=True)
        return tabulate(rows, headers=header, disable_numparse=True, colalign=["left", *["right"] * len(chosen)])

    start, end = 0, len(columns)
    while start < len(columns):
        end = len(columns)
        while width is not None and end > start + 1 and _width_of(drawn(columns[start:end])) > width:
            end -= 1
        yield drawn(columns[start:end])
        start = end


def _width_of(text: str) -> int:
    return max(len(re.sub(r"\x1b\[\d*m", "", line).rstrip()) for line in text.splitlines())


def _markdown(found: Iterable[Grid]) -> str:
    style = _Style(escaping.markdown, best="**{}**")

    def one(grid: Grid) -> str:
        heads = [head.replace("\n", " ") for head in _heads(grid, style)]
        body = tabulate(_body(grid, style), headers=heads, tablefmt="pipe", disable_numparse=True,
                        colalign=["left", *["right"] * len(grid.heads)])  # fmt: skip
        caption = f"**{style.escape(grid.title)}**, {style.escape(grid.caption)}"
        return "\n\n".join([caption, body, *map(style.escape, grid.notes)])

    return "\n\n".join(map(one, found))


def _latex(found: Iterable[Grid]) -> str:
    style = _Style(escaping.latex, best=r"\textbf{{{}}}", second=r"\underline{{{}}}")

    def groups(grid: Grid) -> Iterator[str]:
        if grid.groups:
            heads = [rf"\multicolumn{{{span}}}{{c}}{{{style.escape(in_one_line(text))}}}" for text, span in grid.groups]
            ends = [1 + sum(span for _, span in grid.groups[: i + 1]) for i in range(len(grid.groups))]
            rules = [rf"\cmidrule(lr){{{end - span + 1}-{end}}}"
                     for end, (_, span) in zip(ends, grid.groups, strict=True)]  # fmt: skip
            yield " & ".join(["", *heads]) + r" \\"
            yield " ".join(rules)

    def one(grid: Grid) -> str:
        lines = [" & ".join(cells) + r" \\" for cells in _body(grid, style)]
        own = len(lines) - grid.published
        heads = [style.escape(text) for text in (grid.corner, *grid.heads)]
        notes = [rf"\par\smallskip{{\footnotesize {style.escape(note)}}}" for note in grid.notes]
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{style.escape(f'{grid.title}, {grid.caption}')}}}\smallskip",
                rf"\begin{{tabular}}{{l{'r' * len(grid.heads)}}}",
                r"\toprule",
                *groups(grid),
                " & ".join(heads) + r" \\",
                r"\midrule",
                *lines[:own],
                *([r"\midrule", *lines[own:]] if lines[own:] else []),
                r"\bottomrule",
                r"\end{tabular}",
                *notes,
                r"\end{table}",
            ]
        )

    return "% Needs \\usepackage{booktabs}.\n" + "\n\n".join(map(one, found))


def _html(found: Iterable[Grid]) -> str:
    """Return a fragment: one <figure class="comparison"> for each table; the page around it brings the style."""
    style = _Style(escaping.html, best="<strong>{}</strong>", second="<u>{}</u>")

    def lines(rows: Sequence[Sequence[str]]) -> list[str]:
        return [
            f'<tr><th scope="row">{label}</th>{"".join(f"<td>{text}</td>" for text in texts)}</tr>'
            for label, *texts in rows
        ]

    def one(grid: Grid) -> str:
        heads = "".join(f'<th scope="col">{style.escape(head)}</th>' for head in (grid.corner, *grid.heads))
        groups = "".join(
            f'<th scope="colgroup" colspan="{span}">{style.escape(in_one_line(text))}</th>'
            for text, span in grid.groups
        )
        rows = _body(grid, style)
        own = len(rows) - grid.published
        published = lines(rows[own:])
        notes = [f"<p>{style.escape(note)}</p>" for note in grid.notes]
        return "\n".join(
            [
                '<figure class="comparison">',
                "<table>",
                f"<caption><strong>{style.escape(grid.title)}</strong>, {style.escape(grid.caption)}</caption>",
                f"<thead>{f'<tr><td></td>{groups}</tr>' if groups else ''}<tr>{heads}</tr></thead>",
                "<tbody>",
                *lines(rows[:own]),
                "</tbody>",
                *(['<tbody class="published">', *published, "</tbody>"] if published else []),
                "</table>",
                *(["<figcaption>", *notes, "</figcaption>"] if notes else []),
                "</figure>",
            ]
        )

    return "\n\n".join(map(one, found))


_DRAWN: dict[str, Callable[[Iterable[Grid]], str]] = {"markdown": _markdown, "latex": _latex, "html": _html}
FORMATS = ("text", *_DRAWN, "csv")


# What the formats share


def _heads(grid: Grid, style: _Style) -> list[str]:
    """Return what stands above the labels and the columns; a line of its own for the group of a column."""
    return ["\n".join(map(style.escape, head.split("\n"))) for head in (grid.corner, *grid.full_heads)]


def _body(grid: Grid, style: _Style) -> list[list[str]]:
    """Return the lines as strings, escaped and styled."""
    return [[style.escape(label), *(_styled(entry, style) for entry in entries)] for label, entries in grid.lines]


def _styled(entry: Entry, style: _Style) -> str:
    mark = style.best if entry.best else style.second if entry.second else "{}"
    return f"{mark.format(style.escape(entry.text))} {style.escape(entry.behind)}".rstrip()
