"""Tables with a column for each condition: how much of a method is left when its queries are changed.

A column's differences are to the same runs as they are, seed by seed; a condition on some of the queries is compared
with `clean` on as many, which are the same ones.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hashbench.errors import HashbenchError
from hashbench.results.result import Result
from hashbench.results.sweeps.estimates import plural
from hashbench.results.tables.best import with_best
from hashbench.results.tables.blocks import Block
from hashbench.results.tables.conditions import (
    CLEAN,
    Condition,
    compared_with,
    condition_blocks,
    condition_of,
    heads_of,
)
from hashbench.results.tables.rows import (
    averaged,
    averaged_cell,
    conditions_of,
    cost_of,
    devices_of,
    fidelity_of,
    seed_words,
    with_fidelity,
)
from hashbench.results.tables.scores import Score, ScoresByRun
from hashbench.results.tables.significance import FEWEST, holm, paired
from hashbench.results.tables.table import ALPHA, IN_UNITS, Cell, Row, Table, footnote_mark
from hashbench.results.tables.tuning_costs import tuning_notes


def condition_tables(
    results: Iterable[Result], scores: ScoresByRun, problems: list[str]
) -> Iterator[tuple[Block, Table]]:
    """Yield a table for each block of `results`, code length and measure; raises HashbenchError where there is none."""
    found = condition_blocks(results)
    if not found:
        raise HashbenchError(
            "None of these runs was measured under a condition that changes its queries; measure some with "
            "`hashbench evaluate-run RUNS --under noise`." + "".join(f" {problem}" for problem in problems[:1])
        )
    for block in found:
        measures = dict.fromkeys(measure for result in block.results for measure in scores[result.id])
        for bits in block.bits:
            for measure in measures:
                yield block, _table(block, bits, measure, scores, problems)


@dataclass(frozen=True)
class _Measured:
    """A row of runs at one code length: its results, and their scores by condition and seed."""

    runs: tuple[Result, ...]
    scores: Mapping[Condition, Mapping[int, Score]]

    def apart(self, condition: Condition) -> list[float]:
        """Return for each seed measured under both how far the condition is from what it is compared with."""
        base = self.scores.get(compared_with(condition), {})
        pairs = [(score.value, base[seed].value) for seed, score in self.of(condition).items() if seed in base]
        return [value - clean for value, clean in pairs if value is not None and clean is not None]

    def of(self, condition: Condition) -> Mapping[int, Score]:
        """Return the scores under a condition by seed."""
        return self.scores.get(condition, {})

    def seeds_lacking(self, condition: Condition) -> str:
        """Return `2 of 5` where two of five seeds were measured under both the condition and what it is compared with;
        "" where all were, or one of the two is missing.
        """
        here, there = self.of(condition).keys(), self.of(compared_with(condition)).keys()
        return f"{len(here & there)} of {len(here | there)}" if here and there and here != there else ""

    @property
    def without_base(self) -> list[Condition]:
        """The conditions that have nothing to be compared with."""
        return [condition for condition in self.scores if compared_with(condition) not in self.scores]


def _table(block: Block, bits: int, measure: str, scores: ScoresByRun, problems: list[str]) -> Table:
    measured = {label: _measured(label, row, block, bits, measure, scores, problems)
                for label, row in block.rows().items()}  # fmt: skip
    measured = {label: row for label, row in measured.items() if row.runs}
    columns = sorted({Condition(CLEAN), *(each for row in measured.values() for each in row.scores)},
                     key=lambda condition: condition.order)  # fmt: skip
    heads, rows, fewer = heads_of(columns), list[Row](), dict[str, list[str]]()
    tests: dict[tuple[int, int], float | None] = {}
    for label, row in measured.items():
        cells = list[Cell]()
        for head, condition in zip(heads, columns, strict=True):
            cell, apart = averaged_cell([*row.of(condition).values()]), row.apart(condition)
            if apart and condition.name != CLEAN:
                cell = replace(cell, difference=statistics.fmean(apart))
                tests[len(rows), len(cells)] = paired(apart) if len(apart) >= FEWEST else None
            if lacking := row.seeds_lacking(condition):
                fewer.setdefault(label, []).append(f"{head} ({lacking})")
            cells.append(cell)
        mark, method = footnote_mark(0) if label in fewer else "", row.runs[0].coords["method"]
        rows.append(
            Row(label, mark, tuple(cells), method=method, cost=cost_of(row.runs), fidelity=fidelity_of(row.runs))
        )
    known = {place: p for place, p in tests.items() if p is not None}
    corrected = dict(zip(known, holm([*known.values()]), strict=True))
    rows = [
        replace(row, cells=tuple(replace(cell, p=corrected.get((i, j))) for j, cell in enumerate(row.cells)))
        for i, row in enumerate(rows)
    ]
    rows, of_fidelity = with_fidelity(with_best(rows))
    notes = [*_notes(columns, measured, rows, fewer, tested=len(known), untested=len(tests) - len(known)), *of_fidelity,
             *tuning_notes({label: row.runs for label, row in measured.items()})]  # fmt: skip
    return Table(
        dataset=block.name,
        measure=measure,
        caption=f"{', '.join(filter(None, [f'{bits} bits', block.describe(), seed_words(rows)]))}.",
        bits=(bits,) * len(columns),
        rows=tuple(rows),
        notes=tuple(notes),
        conditions=conditions_of(block),
        devices=devices_of(block.results),
        test="seeds, paired" if known else "",
        heads=tuple(heads),
        columns=tuple(condition.text for condition in columns),
    )


def _measured(
    label: str,
    row: Sequence[Result],
    block: Block,
    bits: int,
    measure: str,
    scores: ScoresByRun,
    problems: list[str],
) -> _Measured:
    """Return what of a row has the measure at `bits`; `clean` without fields is the run itself, and left out."""
    by_condition: dict[Condition, list[Result]] = {}
    for result in row:
        if measure in scores[result.id] and result.condition != CLEAN:
            by_condition.setdefault(condition_of(result), []).append(result)
    kept = {
        condition: averaged(members, bits, f"{label} under {condition.text} on {block.name}", problems)
        for condition, members in by_condition.items()
    }
    found = {
        condition: {run.coords["seed"]: scores[run.id][measure] for run in runs}
        for condition, runs in kept.items()
        if runs
    }
    return _Measured(tuple(run for runs in kept.values() for run in runs), found)


def _notes(
    columns: Sequence[Condition],
    measured: Mapping[str, _Measured],
    rows: Sequence[Row],
    fewer: Mapping[str, Sequence[str]],
    *,
    tested: int,
    untested: int,
) -> Iterator[tuple[str, str]]:
    """Yield the footnotes, marks first: what the heads leave out, what differences are to, and what was not tested."""
    if fewer:
        told = "; ".join(f"{label}: {', '.join(heads)}" for label, heads in fewer.items())
        yield (
            footnote_mark(0),
            f"measured on other seeds than clean, to which the differences are on the seeds of both: {told}.",
        )
    for name in dict.fromkeys(condition.name for condition in columns):
        of_name = [condition.fields for condition in columns if condition.name == name]
        same = [f"{key}={value}" for key, value in of_name[0].items() if all(f.get(key) == value for f in of_name)]
        if same:
            yield "", f"{name}: {', '.join(same)}."
    if any(cell.difference is not None for row in rows for cell in row.cells):
        yield (
            "",
            f"Signed numbers are differences to clean on the same queries, the mean over runs, {IN_UNITS}.",
        )
    for condition in columns:
        if lacking := [label for label, row in measured.items() if condition in row.without_base]:
            of_rows = f" of {', '.join(lacking)}" if len(lacking) < len(measured) else ""
            yield (
                "",
                f"Without differences: {condition.text}{of_rows}, as there is no {compared_with(condition).text} of "
                f"the same queries.",
            )
    if tested:
        yield (
            "↑ ↓",
            f"significantly above or below clean: paired t-test over seeds (two-sided), Holm-corrected over the "
            f"{tested} {plural('test', tested)} of this table, alpha {ALPHA}.",
        )
    if untested:
        yield "", f"Differences not tested: {untested} over fewer than {FEWEST} seeds or with seeds that all agree."
