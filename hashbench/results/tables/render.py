"""A comparison as text, Markdown, LaTeX (booktabs), HTML or CSV."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tabulate import tabulate

from hashbench.errors import unknown
from hashbench.results.tables import escaping
from hashbench.results.tables.table import DIGITS, Cell, Cost, Row, Table, signed
from hashbench.storage.strict_json import dumps

if TYPE_CHECKING:
    from hashbench.results.tables.comparison import Comparison

_MISSING = "—"
_WIDTH = 100  # of the text around a table
_ARROWS = {"above": "↑", "below": "↓", "": ""}
_COSTS: dict[str, tuple[str, int]] = {  # of Cost: the column's head, decimals
    "train_s": ("train s", 1),
    "prepare_s": ("prepare s", 1),
    "images_per_s": ("images/s", 0),
    "peak_memory_mb": ("peak MB", 0),
}


@dataclass(frozen=True)
class _Columns:
    """The optional columns beside means and differences."""

    bounds: bool = False
    cost: bool = False


@dataclass(frozen=True)
class _Style:
    """How a format writes text, the best of a column and the second best."""

    escape: Callable[[str], str]
    best: str = "{}"
    second: str = "{}"


def render(comparison: Comparison, format: str, *, bounds: bool = False, cost: bool = False) -> str:
    """Return the comparison in one of FORMATS; raises HashbenchError for another format."""
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    return FORMATS[format](comparison, _Columns(bounds, cost))


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
    return _MISSING if value is None else escaping.plain(str(value))


# Formats


def _text(comparison: Comparison, columns: _Columns) -> str:
    style = _Style(escaping.plain, best="*{}")

    def one(table: Table) -> str:
        body = tabulate(_body(table, style, columns), headers=_heads(table, style, columns),
                        disable_numparse=True, colalign=_alignment(table, columns))  # fmt: skip
        notes = _notes(table, columns)
        if any(cell.best for row in table.rows for cell in row.cells):
            notes.append("* best of its column.")
        prose = [_wrapped(style.escape(note)) for note in notes]
        return "\n".join([style.escape(table.title), _wrapped(style.escape(table.caption)), "", body, *prose])

    return "\n\n".join(map(one, comparison.tables))


def _markdown(comparison: Comparison, columns: _Columns) -> str:
    style = _Style(escaping.markdown, best="**{}**")

    def one(table: Table) -> str:
        body = tabulate(_body(table, style, columns), headers=_heads(table, style, columns), tablefmt="pipe",
                        disable_numparse=True, colalign=_alignment(table, columns))  # fmt: skip
        caption = f"**{style.escape(table.title)}**, {style.escape(table.caption)}"
        return "\n\n".join([caption, body, *map(style.escape, _notes(table, columns))])

    return "\n\n".join(map(one, comparison.tables))


def _latex(comparison: Comparison, columns: _Columns) -> str:
    style = _Style(escaping.latex, best=r"\textbf{{{}}}", second=r"\underline{{{}}}")

    def one(table: Table) -> str:
        lines = [" & ".join(cells) + r" \\" for cells in _body(table, style, columns)]
        own_rows = sum(not row.published for row in table.rows)
        notes = [rf"\par\smallskip{{\footnotesize {style.escape(note)}}}" for note in _notes(table, columns)]
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{style.escape(f'{table.title}, {table.caption}')}}}\smallskip",
                rf"\begin{{tabular}}{{l{'r' * (len(_heads(table, style, columns)) - 1)}}}",
                r"\toprule",
                " & ".join(_heads(table, style, columns)) + r" \\",
                r"\midrule",
                *lines[:own_rows],
                *([r"\midrule", *lines[own_rows:]] if lines[own_rows:] else []),
                r"\bottomrule",
                r"\end{tabular}",
                *notes,
                r"\end{table}",
            ]
        )

    return "% Needs \\usepackage{booktabs}.\n" + "\n\n".join(map(one, comparison.tables))


def _html(comparison: Comparison, columns: _Columns) -> str:
    """Return a fragment: one <figure class="comparison"> for each table; the page around it brings the style."""
    style = _Style(escaping.html, best="<strong>{}</strong>", second="<u>{}</u>")

    def lines(table: Table, *, published: bool) -> list[str]:
        body = zip(table.rows, _body(table, style, columns), strict=True)
        cells = [cells for row, cells in body if row.published == published]
        return [
            f'<tr><th scope="row">{label}</th>{"".join(f"<td>{text}</td>" for text in texts)}</tr>'
            for label, *texts in cells
        ]

    def one(table: Table) -> str:
        heads = "".join(f'<th scope="col">{head}</th>' for head in _heads(table, style, columns))
        published = lines(table, published=True)
        notes = [f"<p>{style.escape(note)}</p>" for note in _notes(table, columns)]
        return "\n".join(
            [
                '<figure class="comparison">',
                "<table>",
                f"<caption><strong>{style.escape(table.title)}</strong>, {style.escape(table.caption)}</caption>",
                f"<thead><tr>{heads}</tr></thead>",
                "<tbody>",
                *lines(table, published=False),
                "</tbody>",
                *(['<tbody class="published">', *published, "</tbody>"] if published else []),
                "</table>",
                *(["<figcaption>", *notes, "</figcaption>"] if notes else []),
                "</figure>",
            ]
        )

    return "\n\n".join(map(one, comparison.tables))


def _csv(comparison: Comparison, columns: _Columns) -> str:
    """Return a line for each cell, with everything that is known of it, whichever columns are chosen."""
    lines = [_line(table, row, i) for table in comparison.tables for row in table.rows for i in range(len(table.bits))]
    if not any(line["fidelity"] for line in lines):  # results from before it was stated
        lines = [{key: value for key, value in line.items() if key != "fidelity"} for line in lines]
    lines = [escaping.csv_line(line) for line in lines]
    text = io.StringIO()
    writer = csv.DictWriter(text, dict.fromkeys(key for line in lines for key in line), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[Comparison, _Columns], str]] = {
    "text": _text,
    "markdown": _markdown,
    "latex": _latex,
    "html": _html,
    "csv": _csv,
}


# What the formats share


def _heads(table: Table, style: _Style, columns: _Columns) -> list[str]:
    heads = ["method", *table.column_heads, *(_COSTS[key][0] for key in _costs(table, columns))]
    return [style.escape(head) for head in heads]


def _body(table: Table, style: _Style, columns: _Columns) -> list[list[str]]:
    """Return the rows as strings, escaped and styled."""
    counted = any(len(cell.values) > 1 for row in table.rows for cell in row.cells)
    return [
        [
            style.escape(f"{row.label} {row.mark}".strip()),
            *(_cell(cell, style, columns, counted=counted and not row.published) for cell in row.cells),
            *(style.escape(_cost_text(row.cost, key)) for key in _costs(table, columns)),
        ]
        for row in table.rows
    ]


def _cell(cell: Cell, style: _Style, columns: _Columns, *, counted: bool) -> str:
    if not cell.values:
        return style.escape(_MISSING)
    text = f"{cell.mean:.{DIGITS}f}" + ("" if cell.std is None else f" ± {cell.std:.{DIGITS}f}")
    text += f" ({len(cell.values)})" if counted else ""
    if columns.bounds and cell.bounds is not None:
        text += f" [{cell.bounds[0]:.{DIGITS}f}, {cell.bounds[1]:.{DIGITS}f}]"
    shown = (style.best if cell.best else style.second if cell.second else "{}").format(style.escape(text))
    return shown if cell.difference is None else f"{shown} {style.escape(_difference(cell))}"


def _difference(cell: Cell) -> str:
    """Return a signed difference behind the arrow of a significant one: ↑+0.0120."""
    assert cell.difference is not None
    return _ARROWS[cell.significance] + signed(cell.difference)


def _costs(table: Table, columns: _Columns) -> list[str]:
    """Return the cost columns of a table; that of the preparation only where a method has one."""
    if not columns.cost:
        return []
    return [key for key in _COSTS if key != "prepare_s" or any(row.cost.prepare_s for row in table.rows)]


def _cost_text(cost: Cost, key: str) -> str:
    value: float | None = getattr(cost, key)
    return _MISSING if value is None else f"{value:,.{_COSTS[key][1]}f}"


def _notes(table: Table, columns: _Columns) -> list[str]:
    notes = [f"{mark} {sentence}".strip() for mark, sentence in table.notes]
    if columns.bounds:
        notes.append("[worst, best]: the means if all items at one distance came in the worst or the best order.")
    if columns.cost:
        prepared = (
            "prepare s its own stages before that, in full also where the cache had them"
            if "prepare_s" in _costs(table, columns)
            else "no method here has stages before that"
        )
        where = "; ".join(table.devices) or "an unknown device"
        notes.append(
            f"Cost: means over all runs of a row; train s is the training alone, {prepared}. On {where}"
            f"{', so not to be compared' if len(table.devices) > 1 else ''}."
        )
    return notes


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False)  # a name stays whole, to be searched for


def _alignment(table: Table, columns: _Columns) -> list[str]:
    return ["left", *["right"] * (len(table.bits) + len(_costs(table, columns)))]


def _line(table: Table, row: Row, place: int) -> dict[str, Any]:
    cell = row.cells[place]
    lower, upper = cell.bounds or (None, None)
    conditions = {
        key: dumps(value) if isinstance(value, dict | list) else value for key, value in table.conditions.items()
    }
    if row.published:  # the others are ours
        conditions = {key: conditions.get(key) for key in ("dataset", "protocol", "evaluated")}
    return {
        "row": row.label,
        "method": row.method,
        "bits": table.bits[place],
        **({"condition": table.columns[place]} if table.columns else {}),
        "measure": table.measure,
        "n": len(cell.values),
        "mean": None if math.isnan(cell.mean) else cell.mean,
        "std": cell.std,
        "values": " ".join(map(repr, cell.values)),
        "lower": lower,
        "upper": upper,
        "best": cell.best,
        "baseline": table.baseline,
        "difference": cell.difference,
        "test": table.test if cell.p is not None else None,
        "p_holm": cell.p,
        "source": row.source,
        "fidelity": row.fidelity,
        "note": " ".join(sentence for mark, sentence in table.notes if mark and mark in row.mark.split()),
        "train_s": row.cost.train_s,
        "prepare_s": row.cost.prepare_s,
        "images_per_s": row.cost.images_per_s,
        "peak_memory_mb": row.cost.peak_memory_mb,
        **conditions,
    }
