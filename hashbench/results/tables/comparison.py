"""compare: a table for each block of results, methods by code lengths, mean ± std over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashbench.errors import HashbenchError, unknown
from hashbench.results.finding import finished_runs
from hashbench.results.result import Result
from hashbench.results.sweeps.planned import Planned, planned_runs
from hashbench.results.tables import published as papers
from hashbench.results.tables import render
from hashbench.results.tables.baseline import Baseline, Test
from hashbench.results.tables.blocks import Block, blocks, differences, further_names
from hashbench.results.tables.condition_tables import condition_tables
from hashbench.results.tables.escaping import html
from hashbench.results.tables.layout import Layout
from hashbench.results.tables.published import PublishedNumber
from hashbench.results.tables.rows import table_of
from hashbench.results.tables.scores import Score, ScoresByRun, all_scores, measure_name
from hashbench.results.tables.selection import each_once, select, select_planned
from hashbench.results.tables.table import DIGITS, MOST_DIGITS, PERCENT_DIGITS, Notation, Table
from hashbench.storage.strict_json import canonical

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Comparison:
    """The tables of some results, the runs as records (one a run and measure), and what could not be shown."""

    tables: tuple[Table, ...]
    records: tuple[dict[str, Any], ...]
    problems: tuple[str, ...]

    @classmethod
    def of(
        cls,
        results: Iterable[Result],
        *,
        measures: Sequence[str] | None = None,
        against: Baseline | None = None,
        published: Sequence[PublishedNumber] | None = None,
        problems: Iterable[str] = (),
        planned: Sequence[Planned] = (),
        conditions: bool = False,
    ) -> Comparison:
        """Compare `results` by `measures` (default: the data set's), `against` a baseline, beside `published` numbers.

        Of what sweeps `planned`, the runs that are missing are named. With `conditions`, a table has a column for each
        condition, with differences to the runs as they are, at one code length. Raises HashbenchError for unknown
        names, and where what was asked for does not go together.
        """
        sentences = list(problems)
        distinct = each_once(results, sentences)
        chosen = None if measures is None else [measure_name(measure) for measure in measures]
        if conditions and (against is not None or published is not None):
            raise HashbenchError("Differences are to clean in a table of conditions; leave baseline and published out.")
        found = blocks(distinct)
        if against is not None:
            _check_baseline(against, found)
        by_query = against is not None and against.test == "queries"
        scores = all_scores(distinct, chosen, sentences, per_query=by_query, compared=True)
        if conditions:
            by_condition = condition_tables(distinct, scores, sentences)
            return cls(tuple(table for _, table in by_condition), _records(distinct, scores), _once(sentences))
        tables = [
            table_of(
                replace(block, results=members),
                measure,
                scores,
                sentences,
                apart=apart,
                against=against,
                published=published,
                planned=planned,
            )
            for block, apart in zip(found, differences(found), strict=True)
            for measure, members in _by_measure(block, scores).items()
        ]
        return cls(tuple(tables), _records(distinct, scores), _once(sentences))

    def render(
        self,
        format: str = "text",
        *,
        bounds: bool = False,
        cost: bool = False,
        percent: bool = False,
        digits: int | None = None,
        counts: bool = True,
        wide: bool = False,
        transpose: bool = False,
        width: int | None = None,
        bold: bool = False,
    ) -> str:
        """Return the tables as "text", "markdown", "latex" or "html", or "csv" with a line for each cell.

        `bounds` adds the worst and the best order of ties, `cost` time and memory; csv always has both, and nothing of
        what follows. Numbers are in `percent` or in [0, 1], with so many decimal `digits` (1 or 4), and with `counts`
        of seeds. `wide` puts all tables into one with columns by data set, measure and code length, `transpose` the
        methods into columns. Text alone has a `width`, into which it is broken by columns, and the best in a terminal's
        `bold`. Raises HashbenchError for another format, and for what does not go together.
        """
        if format == "csv" and (percent or digits is not None or not counts or wide or transpose):
            raise HashbenchError(
                "csv has a line for each cell, its numbers in full and in [0, 1]; leave out what lays out tables for "
                "readers (percent, digits, no n, wide, transpose), or take another format."
            )
        if digits is None:
            digits = PERCENT_DIGITS if percent else DIGITS
        if not 0 <= digits <= MOST_DIGITS:
            raise HashbenchError(f"A table has 0 to {MOST_DIGITS} decimal digits, not {digits}.")
        notation = Notation(percent, digits)
        layout = Layout(bounds, cost, notation, counts, wide, transpose)
        return render.render(self, format, layout, width=width, bold=bold)

    def to_pandas(self) -> DataFrame:
        """Return the records as a pandas DataFrame, a row for each run and measure.

        Raises HashbenchError where pandas, which hashbench does not need, is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError:
            raise HashbenchError("A DataFrame needs pandas; install it with pip install pandas.") from None
        return DataFrame.from_records([*self.records])

    def __str__(self) -> str:
        return self.render()

    def _repr_html_(self) -> str:
        """Return the tables for notebooks, and what could not be shown."""
        problems = "".join(f"<p>Warning: {html(problem)}</p>" for problem in self.problems)
        return self.render("html") + problems


def compare(
    *roots: Path | str,
    measures: Sequence[str] | None = None,
    baseline: str | None = None,
    test: Test = "seeds",
    published: bool | Path | str = False,
    methods: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    bits: Sequence[int] | None = None,
    conditions: bool = False,
) -> Comparison:
    """Compare the finished runs below `roots` (default: runs).

    `baseline`, a method or row label, gives every other cell its difference and a test of it over "seeds" or "queries".
    `published` puts papers' numbers beside ours, those of a csv file if it is a path. `methods`, `datasets` (name or
    name@protocol) and `bits` leave out all others; rows and tables come in their order. With `conditions`, a table has
    a column for each condition that runs were measured under, and its difference to clean. Raises HashbenchError where
    there are no runs, or none of a name.
    """
    results, problems = finished_runs(*roots)
    numbers: list[PublishedNumber] | None = None
    if published is not False:
        numbers = papers.read_published(papers.PUBLISHED if published is True else Path(published))
    kept = select(
        results,
        methods=methods,
        datasets=datasets,
        bits=bits,
        baseline=baseline,
        known_methods=[number.method for number in numbers or ()],
    )
    if numbers is not None and methods is not None:
        numbers = papers.of_methods(numbers, [*methods, *([baseline] if baseline is not None else [])])
    against = None if baseline is None else Baseline(baseline, test)
    planned = select_planned(planned_runs(roots or ("runs",), problems), methods=methods, bits=bits, beside=kept)
    return Comparison.of(
        kept,
        measures=measures,
        against=against,
        published=numbers,
        problems=problems,
        planned=planned,
        conditions=conditions,
    )


def _check_baseline(against: Baseline, found: Sequence[Block]) -> None:
    """Raise HashbenchError where no block has the baseline."""
    rows = [
        [(label, further_names(runs[0]), runs[0].coords["method"]) for label, runs in block.rows().items()]
        for block in found
    ]
    if not any([against.find(named) for named in rows]):
        known = {name for named in rows for label, _, method in named for name in (label, method)}
        raise unknown("baseline", against.name, known, hint="It is not among these results.")


def _by_measure(block: Block, scores: ScoresByRun) -> dict[str, tuple[Result, ...]]:
    measures = dict.fromkeys(measure for result in block.results for measure in scores[result.id])
    return {measure: tuple(r for r in block.results if measure in scores[r.id]) for measure in measures}


def _once(sentences: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(sentences))


def _records(results: Sequence[Result], scores: ScoresByRun) -> tuple[dict[str, Any], ...]:
    return tuple(_record(result, measure, score) for result in results for measure, score in scores[result.id].items())


def _record(result: Result, measure: str, score: Score) -> dict[str, Any]:
    coords = {key: value for key, value in result.coords.items() if key not in ("fields", "measure", "tuned")}
    return {
        **coords,
        "fields": canonical(result.coords["fields"]),
        **_tuning(result),
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


def _tuning(result: Result) -> dict[str, Any]:
    """Return what a record says of the tuning behind a run; only those of tuned ones have it."""
    if "tuned" not in result.coords:
        return {}
    seconds = result.provenance.get("tuned", {}).get("seconds")
    return {
        "tuned": canonical(result.coords["tuned"]["settings"]),
        "tuning_trials": result.coords["tuned"]["trials"],
        "tuning_s": seconds,
    }
