"""A comparison as text, Markdown, LaTeX (booktabs) or CSV."""

from __future__ import annotations

import csv
import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from hashbench.errors import unknown
from hashbench.results.plain import dumps

if TYPE_CHECKING:
    from hashbench.results.table import Cell, Comparison, Table

DIGITS = 4  # of a mean and its std
_MISSING = "—"
_LATEX = {
    **{character: "\\" + character for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "|": r"\textbar{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    "—": "---",
    "†": r"\textsuperscript{\dag}",
    "‡": r"\textsuperscript{\ddag}",
    "§": r"\textsuperscript{\S}",
    "¶": r"\textsuperscript{\P}",
}


def render(comparison: Comparison, format: str) -> str:
    """Return the comparison in one of FORMATS; raises HashbenchError for another format."""
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    return FORMATS[format](comparison)


def rounded(mean: float) -> float:
    """Return a mean at the precision at which it is printed."""
    return round(mean, DIGITS)


def plain_table(rows: Sequence[Sequence[Any]], *, header: Sequence[str] = ()) -> str:
    """Return names and values as aligned text, numbers at the usual precision; a name repeated below is left out."""
    shown: list[list[str]] = []
    for above, row in zip([None, *rows], rows, strict=False):
        texts = [_plain_text(value) for value in row]
        shown.append(["" if above and above[0] == row[0] else texts[0], *texts[1:]])
    return tabulate(shown, headers=header, tablefmt="simple" if header else "plain", disable_numparse=True)


def _plain_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.{DIGITS}f}"
    if isinstance(value, dict | list):
        return dumps(value)
    return _MISSING if value is None else str(value)


def _text(comparison: Comparison) -> str:
    return "\n\n".join(map(_text_table, comparison.tables))


def _text_table(table: Table) -> str:
    grid = _grid(table, strong=lambda text: "*" + text, escape=str)
    body = tabulate(grid[1:], headers=grid[0], disable_numparse=True, colalign=_alignment(table))
    notes = [f"{mark} {sentence}" for mark, sentence in table.notes]
    if any(cell.best for row in table.rows for cell in row.cells):
        notes.append("* best of its column.")
    return "\n".join([table.title, *textwrap.wrap(table.caption, 100), "", body, *notes])


def _markdown(comparison: Comparison) -> str:
    return "\n\n".join(map(_markdown_table, comparison.tables))


def _markdown_table(table: Table) -> str:
    grid = _grid(table, strong="**{}**".format, escape=_escape_markdown)
    body = tabulate(grid[1:], headers=grid[0], tablefmt="pipe", disable_numparse=True, colalign=_alignment(table))
    caption = f"**{_escape_markdown(table.title)}**, {_escape_markdown(table.caption)}"
    return "\n\n".join([caption, body, *(_escape_markdown(f"{mark} {sentence}") for mark, sentence in table.notes)])


def _latex(comparison: Comparison) -> str:
    return "% Needs \\usepackage{booktabs}.\n" + "\n\n".join(map(_latex_table, comparison.tables))


def _latex_table(table: Table) -> str:
    header, *rows = (
        " & ".join(row) + r" \\" for row in _grid(table, strong=r"\textbf{{{}}}".format, escape=_escape_latex)
    )
    notes = [
        rf"\par\smallskip{{\footnotesize {_escape_latex(f'{mark} {sentence}')}}}" for mark, sentence in table.notes
    ]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escape_latex(f'{table.title}, {table.caption}')}}}",
            rf"\begin{{tabular}}{{l{'r' * len(table.bits)}}}",
            r"\toprule",
            header,
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
        ]
    )


def _csv(comparison: Comparison) -> str:
    columns = dict.fromkeys(key for record in comparison.records for key in record)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(comparison.records)
    return text.getvalue().rstrip("\n")


def _grid(table: Table, *, strong: Callable[[str], str], escape: Callable[[str], str]) -> list[list[str]]:
    """Return header and rows as strings, escaped, the best cells made `strong`."""
    counted = any(len(cell.values) > 1 for row in table.rows for cell in row.cells)
    header = ["method", *(f"{bits} bits" for bits in table.bits)]
    rows = []
    for row in table.rows:
        cells = [escape(_cell_text(cell, counted=counted)) for cell in row.cells]
        shown = [strong(text) if cell.best else text for cell, text in zip(row.cells, cells, strict=True)]
        rows.append([escape(f"{row.label} {row.mark}".strip()), *shown])
    return [header, *rows]


def _cell_text(cell: Cell, *, counted: bool) -> str:
    if math.isnan(cell.mean):
        return _MISSING
    std = "" if cell.std is None else f" ± {cell.std:.{DIGITS}f}"
    return f"{cell.mean:.{DIGITS}f}{std}" + (f" ({len(cell.values)})" if counted else "")


def _alignment(table: Table) -> list[str]:
    return ["left", *("right" for _ in table.bits)]


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\|`*<])", r"\\\1", text)


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "text": _text,
    "markdown": _markdown,
    "latex": _latex,
    "csv": _csv,
}
