"""compare: a table for each block of results, methods by code lengths, mean ± std over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hashbench.errors import HashbenchError
from hashbench.results import render
from hashbench.results.blocks import Block, blocks, differences
from hashbench.results.plain import canonical
from hashbench.results.result import Result
from hashbench.results.scores import Score, Scores, all_scores, measure_name
from hashbench.results.store import find_runs

_MARKS = "†‡§¶"
_INPUTS = {"images": "images", "features": "fixed features", "pixels": "raw pixels", "vectors": "vectors"}


@dataclass(frozen=True)
class Cell:
    """What the seeds of one method and code length gave; no values where nothing is known."""

    values: tuple[float, ...] = ()
    best: bool = False  # of its column, at the printed precision

    @property
    def mean(self) -> float:
        """The mean over seeds; nan without values."""
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def std(self) -> float | None:
        """The sample standard deviation over seeds (n - 1); None for fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Row:
    """One method, with the fields that differ from its defaults; `mark` points to a footnote."""

    label: str
    mark: str
    cells: tuple[Cell, ...]  # one for each of the table's code lengths


@dataclass(frozen=True)
class Table:
    """One block of results under one measure."""

    title: str
    caption: str
    bits: tuple[int, ...]
    rows: tuple[Row, ...]
    notes: tuple[tuple[str, str], ...]  # footnotes: (mark, sentence)


@dataclass(frozen=True)
class Comparison:
    """The tables of some results, the same as records (one a run and measure), and what could not be shown."""

    tables: tuple[Table, ...]
    records: tuple[dict[str, Any], ...]
    problems: tuple[str, ...]

    @classmethod
    def of(
        cls, results: Iterable[Result], *, measures: Sequence[str] | None = None, problems: Iterable[str] = ()
    ) -> Comparison:
        """Compare `results` by `measures` (default: the data set's); raises HashbenchError for names that are none."""
        told = list(problems)
        distinct = _distinct(results, told)
        chosen = None if measures is None else [measure_name(measure) for measure in measures]
        scores = all_scores(distinct, chosen, told)
        found = blocks(distinct)
        tables = [
            _table(replace(block, results=members), measure, apart, scores, told)
            for block, apart in zip(found, differences(found), strict=True)
            for measure, members in _by_measure(block, scores).items()
        ]
        records = [
            _record(result, measure, score) for result in distinct for measure, score in scores[result.id].items()
        ]
        return cls(tuple(tables), tuple(records), tuple(dict.fromkeys(told)))

    def render(self, format: str = "text") -> str:
        """Return "text", "markdown" or "latex" tables, or the records as "csv"; raises HashbenchError for others."""
        return render.render(self, format)

    def __str__(self) -> str:
        return self.render()


def compare(*roots: Path | str, measures: Sequence[str] | None = None) -> Comparison:
    """Compare the finished runs below `roots` (default: runs); raises HashbenchError where there are none."""
    places = roots or ("runs",)
    results, problems = find_runs(places)
    if not results:
        where = ", ".join(map(str, places))
        raise HashbenchError(
            f"There is no readable finished run below {where}; start one with `hashbench run`."
            + "".join(f" {problem}" for problem in problems[:1])
        )
    return Comparison.of(results, measures=measures, problems=problems)


def describe(result: Result) -> str:
    """Return one result as text: its measures with their bounds, what it cost, and where it comes from."""
    (block,) = blocks([result])
    (label,) = block.rows()
    measures = [[name, value, *result.bounds.get(name, (None, None))] for name, value in result.metrics.items()]
    sections = {
        "counts": result.counts,
        "codes": result.code_stats,
        "diagnostics": result.diagnostics,
        "seconds": result.time,
        "cost": {"images per second": result.images_per_s, "peak memory, MB": result.peak_memory_mb},
        "provenance": {"id": result.id, **result.provenance},
    }
    facts = [[section, name, _told(value)] for section, values in sections.items() for name, value in values.items()]
    return "\n\n".join(
        [
            f"{label} on {block.name}, {result.coords['bits']} bits, seed {result.coords['seed']}\n{block.describe()}",
            render.plain_table(measures, header=["measure", "value", "worst order of ties", "best order of ties"]),
            render.plain_table(facts),
        ]
    )


def _told(value: Any) -> Any:
    """Return a value of a result as people write it: no brackets, quotes, True or None."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_told(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join(str(_told(item)) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "—" if value is None else value


def _distinct(results: Iterable[Result], problems: list[str]) -> list[Result]:
    """Return each run once; a copy of it with other numbers is a problem."""
    kept: dict[str, Result] = {}
    for result in results:
        first = kept.setdefault(result.id, result)
        if first.metrics != result.metrics:
            problems.append(
                f"{first.path} and {result.path} are the same experiment with different numbers; the first is shown, "
                f"delete one of them."
            )
    return list(kept.values())


def _by_measure(block: Block, scores: Scores) -> dict[str, tuple[Result, ...]]:
    measures = dict.fromkeys(measure for result in block.results for measure in scores[result.id])
    return {measure: tuple(r for r in block.results if measure in scores[r.id]) for measure in measures}


def _table(block: Block, measure: str, apart: str, scores: Scores, problems: list[str]) -> Table:
    rows = []
    marks: dict[str, str] = {}  # inputs -> the mark of rows that learn from them, unlike the block
    for label, results in block.rows().items():
        inputs = results[0].coords["inputs"]
        mark = "" if inputs == block.inputs else marks.setdefault(inputs, _MARKS[len(marks)])
        cells = [_cell(results, bits, f"{label} on {block.name}", measure, scores, problems) for bits in block.bits]
        rows.append(Row(label, mark, tuple(cells)))
    if len(rows) > 1:
        rows = _with_best(rows)
    usual = _INPUTS.get(block.inputs, block.inputs)
    learned = "" if block.inputs == "images" else f"learned from {usual}"
    parts = [block.describe(), learned, apart, _seed_words(rows)]
    return Table(
        title=f"{block.name}: {measure}",
        caption=", ".join(part for part in parts if part) + ".",
        bits=tuple(block.bits),
        rows=tuple(rows),
        notes=tuple(
            (mark, f"learned from {_INPUTS.get(inputs, inputs)}, the others from {usual}.")
            for inputs, mark in marks.items()
        ),
    )


def _cell(row: list[Result], bits: int, where: str, measure: str, scores: Scores, problems: list[str]) -> Cell:
    """Return the cell of a row at `bits`, one value a seed."""
    groups: dict[str, list[Result]] = {}
    for result in row:
        if result.coords["bits"] == bits:
            groups.setdefault(result.coords["cell"], []).append(result)
    if len(groups) > 1:
        # Equal coordinates and another identity: something moved that no caption can name.
        problems.append(
            f"{where} at {bits} bits has runs which differ in something that the table does not name; the newest and "
            f"those like it are shown, move the others to another runs directory."
        )
    chosen = max(groups.values(), key=lambda runs: max(str(run.provenance.get("started")) for run in runs), default=[])
    if len({run.provenance.get("source_sha256") for run in chosen}) > 1:
        problems.append(
            f"{where} at {bits} bits averages runs of different source code of the method; run them again, and raise "
            f"the method's version when its numbers move."
        )
    values = (scores[run.id][measure].value for run in chosen)
    return Cell(tuple(value for value in values if value is not None))


def _with_best(rows: Sequence[Row]) -> list[Row]:
    """Mark the best cells of each column, in which more than one row has a value."""
    best = []
    for column in zip(*(row.cells for row in rows), strict=True):
        means = [render.rounded(cell.mean) for cell in column if cell.values]
        best.append(max(means) if len(means) > 1 else None)
    return [
        replace(
            row,
            cells=tuple(
                replace(cell, best=bool(cell.values) and render.rounded(cell.mean) == top)
                for cell, top in zip(row.cells, best, strict=True)
            ),
        )
        for row in rows
    ]


def _seed_words(rows: Sequence[Row]) -> str:
    counts = {len(cell.values) for row in rows for cell in row.cells if cell.values}
    if not counts:
        return ""
    if counts == {1}:
        return "one seed"
    spread = str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    return f"mean ± std (n) over {spread} seeds"


def _record(result: Result, measure: str, score: Score) -> dict[str, Any]:
    coords = {key: value for key, value in result.coords.items() if key not in ("fields", "measure")}
    return {
        **coords,
        "fields": canonical(result.coords["fields"]),
        "measure": measure,
        "ties": result.ties,
        "value": score.value,
        "lower": score.lower,
        "upper": score.upper,
        "epoch_kept": result.epoch["kept"],
        "epoch_of": result.epoch["of"],
        "train_s": result.time.get("train"),
        "images_per_s": result.images_per_s,
        "peak_memory_mb": result.peak_memory_mb,
        "id": result.id,
        "run": None if result.path is None else str(result.path),
    }
