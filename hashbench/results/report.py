"""The report: results as one self-contained web page, with tables, figures, retrieved images and provenance.

The page needs no network and carries a content security policy that allows none. All text of plug-ins and data sets
is escaped by the template.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from hashbench.errors import HashbenchError
from hashbench.results.figures import KINDS
from hashbench.results.figures.drawing import Drawing, draw
from hashbench.results.figures.inline import svg_element
from hashbench.results.figures.measures import training_seconds
from hashbench.results.figures.style import colour_of, stack
from hashbench.results.gallery import Gallery
from hashbench.results.pages import page
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.results.tables.blocks import Block, blocks, differences
from hashbench.results.tables.comparison import Comparison
from hashbench.results.tables.conditions import condition_blocks
from hashbench.results.tables.escaping import plain
from hashbench.results.tables.rows import averaged_block, conditions_of
from hashbench.results.tables.table import AS_MEASURED, Table
from hashbench.storage.strict_json import dumps

Galleries = Callable[[Block], Gallery | None]


@dataclass(frozen=True)
class _Picture:
    """A figure of a block, inline, and with its panels below each other where it has several."""

    kind: str
    summary: str
    svg: Markup
    stacked: Markup | None

    @classmethod
    def of(cls, kind: str, drawing: Drawing, *, anchor: str) -> _Picture:
        """Draw both."""
        summary = KINDS[kind].summary
        label = f"{drawing.block.name}: {summary}"
        svg = Markup(svg_element(drawing.figure, name=f"{anchor}-{kind}", label=label))
        several = stack(drawing.figure)
        narrow = Markup(svg_element(drawing.figure, name=f"{anchor}-{kind}-narrow", label=label)) if several else None
        return cls(kind, summary, svg, narrow)


@dataclass(frozen=True)
class _Robustness:
    """Runs with what they gave under conditions: tables with a column for each, and the figure over severities."""

    anchor: str
    block: Block
    tables: tuple[Table, ...]
    pictures: tuple[_Picture, ...]
    not_drawn: tuple[str, ...]


@dataclass(frozen=True)
class _Section:
    """One block of results, as the template shows it."""

    anchor: str
    block: Block
    rows: Mapping[str, list[Result]]  # by label
    apart: str  # what distinguishes it from a block of the same description
    tables: tuple[Table, ...]
    pictures: tuple[_Picture, ...]
    not_drawn: tuple[str, ...]
    gallery: Gallery | None
    no_gallery: str  # why there is none

    def runs(self) -> Iterator[tuple[str, int, list[Result]]]:
        """Yield label, code length and runs of each cell of the table, in its order."""
        for label, row in self.rows.items():
            for bits in self.block.bits:
                if held := [result for result in row if result.coords["bits"] == bits]:
                    yield label, bits, held

    def cell(self, label: str, bits: int) -> str:
        """Return the anchor of a cell's provenance."""
        return f"{self.anchor}-{list(self.rows).index(label)}-{bits}"


def report(
    results: Sequence[Result],
    *,
    comparison: Comparison | None = None,
    title: str = "hashbench report",
    galleries: Galleries = lambda block: None,
) -> str:
    """Return the HTML page about `results`, each run once, with the tables of `comparison` (default: theirs).

    `galleries` gives the retrieved images of a block, None for no such part; where it raises HashbenchError, the page
    says why instead.
    """
    comparison = comparison or Comparison.of(results)
    found = [averaged_block(block)[0] for block in blocks(results)]  # the tables' problems say what is left out
    sections = [
        _section(number, block, apart, comparison, galleries)
        for number, (block, apart) in enumerate(zip(found, differences(found), strict=True), start=1)
    ]
    robustness = [
        _robustness(number, block, comparison) for number, block in enumerate(condition_blocks(results), start=1)
    ]
    choices = {
        "method": [*dict.fromkeys(result.coords["method"] for block in found for result in block.results)],
        "dataset": [*dict.fromkeys(block.name for block in found)],
        "bits": [str(bits) for bits in sorted({bits for block in found for bits in block.bits})],
    }
    named = {method.casefold(): method for method in choices["method"]}
    fields = [
        (name, label)
        for name, label in (("method", "method"), ("dataset", "data set"), ("bits", "bits"))
        if len(choices[name]) > 1
    ]
    return page(
        "report.html",
        styles=("page.css", "report.css"),
        scripts=("sortable.js", "report.js", *(["filters.js"] if fields else [])),
        fields=fields,
        choices=choices,
        filters={
            "facts": _facts,
            "definitions": _definitions,
            "colour": colour_of,
            "seconds": training_seconds,
            "signed": AS_MEASURED.signed,
            "choice": lambda method: named.get(method.casefold(), method),  # papers write capitals of their own
        },
        title=title,
        sections=sections,
        robustness=robustness,
        runs=len(results),
        newest=max((str(result.provenance.get("started") or "") for result in results), default=""),
        problems=comparison.problems,
    )


def _robustness(number: int, block: Block, comparison: Comparison) -> _Robustness:
    """Return the part about the block's runs under all their conditions, by the measures of the other tables."""
    measures = dict.fromkeys(table.measure for table in comparison.tables if table.dataset == block.name)
    tables = Comparison.of(block.results, measures=[*measures] or None, conditions=True).tables
    pictures, not_drawn = list[_Picture](), list[str]()
    for kind, about in KINDS.items():
        if about.across:
            drawings, refusals = draw(kind, block.results, measure=tables[0].measure)
            not_drawn += map(str, refusals)
            pictures += [_Picture.of(kind, drawing, anchor=f"c{number}") for drawing in drawings]
    return _Robustness(f"c{number}", block, tables, tuple(pictures), tuple(not_drawn))


def _section(number: int, block: Block, apart: str, comparison: Comparison, galleries: Galleries) -> _Section:
    tables = tuple(table for table in comparison.tables if table.conditions == conditions_of(block))
    pictures, not_drawn = list[_Picture](), list[str]()
    for kind, about in KINDS.items():
        if about.across:
            continue
        drawings, refusals = draw(kind, block, measure=tables[0].measure if about.measured else None)
        not_drawn += [f"{kind}: {refusal}" for refusal in refusals]
        pictures += [_Picture.of(kind, drawing, anchor=f"s{number}") for drawing in drawings]
    shown, reason = None, ""
    try:
        shown = galleries(block)
    except HashbenchError as error:
        reason = str(error)
    return _Section(f"s{number}", block, block.rows(), apart, tables, tuple(pictures), tuple(not_drawn), shown, reason)


def _facts(result: Result) -> dict[str, dict[str, str]]:
    """Return the measures, cost and provenance of a run, by group and name, as text."""
    provenance = dict(result.provenance)
    argv = provenance.pop("argv", None)
    identity: dict[str, Any] = {"id": result.id}
    if result.path is not None:
        identity["run"] = str(result.path)
        try:
            identity |= RunDirectory(result.path).read_spec()["identity"]
        except (HashbenchError, KeyError, TypeError):
            identity["spec.json"] = "was not copied along"
    groups: dict[str, dict[str, Any]] = {
        "measures": {
            name: value if name not in result.bounds else f"{_text(value)} (ties: {_range(result.bounds[name])})"
            for name, value in result.metrics.items()
        },
        "seconds": dict(result.time),
        "cost": {"images per second": result.images_per_s, "peak memory, MB": result.peak_memory_mb},
        "codes": dict(result.code_stats),
        "provenance": {
            "command line": shlex.join(map(str, argv)) if isinstance(argv, list) else None,
            **provenance,
        },
        "identity": identity,
    }
    return {group: {name: _text(value) for name, value in facts.items()} for group, facts in groups.items() if facts}


def _definitions(facts: Mapping[str, str]) -> Markup:
    """Return names and texts as the items of a <dl>; the template's own loop takes four times as long."""
    pairs = (f"<dt>{escape(plain(name))}</dt><dd>{escape(plain(text))}</dd>\n" for name, text in facts.items())
    return Markup("".join(pairs))


def _range(bounds: Sequence[float | None]) -> str:
    return " to ".join(map(_text, bounds))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"
    if value is None:
        return "—"
    return str(value) if type(value) in (str, int) else dumps(value)
