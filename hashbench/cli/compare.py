"""`hashbench compare`: tables of results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hashbench.cli.base import command, terminal, warn
from hashbench.cli.options import filter_options, filters, measure_names
from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    from hashbench.results.tables.baseline import Test


@command(
    "hashbench compare",
    "hashbench compare runs --format markdown",
    "hashbench compare runs --measure mAP@1000/hits --measure P@H2",
    "hashbench compare runs --baseline crh --format latex",
    "hashbench compare runs --conditions --bits 32",
    "hashbench compare runs --percent --no-n --wide --format latex",
    "hashbench compare runs --baseline crh --test queries --method csq,dpn --bits 32,64",
)
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option("--measure", "measures", multiple=True, metavar="NAME[,NAME]", callback=measure_names,
              help="Measures; default: the data set's own.")  # fmt: skip
@click.option("--baseline", metavar="ROW", help="Method or row to which the others' differences are shown and tested.")
@click.option("--test", type=click.Choice(["seeds", "queries"]), show_default=False,
              help="Welch's t-test over seeds (default), or a paired randomisation test over queries.")  # fmt: skip
@click.option("--published", is_flag=True, help="Papers' numbers beside ours, marked as such.")
@click.option(
    "--published-from", metavar="FILE", type=click.Path(path_type=Path), help="As --published, from your csv file."
)
@click.option("--conditions", is_flag=True,
              help="A column for each condition of `evaluate-run`, with its difference to clean.")  # fmt: skip
@click.option("--bounds", is_flag=True, help="Show the values for the worst and the best order of ties.")
@click.option("--cost", is_flag=True, help="Training seconds, images/s and peak memory.")
@click.option("--percent", is_flag=True, help="81.2 instead of 0.8120.")
@click.option("--digits", type=click.IntRange(0, 8), metavar="N", show_default=False,
              help="Decimals of means, deviations and differences; default: 4, in percent 1.")  # fmt: skip
@click.option("--no-n", is_flag=True, help="Leave out the number of seeds in each cell.")
@click.option("--wide", is_flag=True, help="One table, with columns by data set, measure and code length.")
@click.option("--transpose", is_flag=True, help="Methods as columns.")
@filter_options
@click.option("--format", "form", type=click.Choice(["text", "markdown", "latex", "html", "csv"]), default="text")
def compare(
    runs: tuple[Path, ...],
    measures: tuple[str, ...],
    baseline: str | None,
    test: Test | None,
    published: bool,
    published_from: Path | None,
    conditions: bool,
    bounds: bool,
    cost: bool,
    percent: bool,
    digits: int | None,
    no_n: bool,
    wide: bool,
    transpose: bool,
    methods: str | None,
    datasets: str | None,
    bits: str | None,
    form: str,
) -> None:
    """Print a table of the results in RUNS (default: runs): methods by code length, a block per data set.

    Each cell is the mean ± standard deviation over seeds, with their number; the best of a column is marked.
    """
    from hashbench.results.tables.comparison import compare as compare_runs

    if test is not None and baseline is None:
        raise HashbenchError(f"--test {test} has nothing to test against; name a row with --baseline.")
    comparison = compare_runs(
        *(runs or (Path("runs"),)),
        measures=measures or None,
        baseline=baseline,
        test=test or "seeds",
        published=published_from or published,
        conditions=conditions,
        **filters(methods, datasets, bits),
    )
    warn(comparison.problems)
    width, bold = terminal()
    text = comparison.render(
        form,
        bounds=bounds,
        cost=cost,
        percent=percent,
        digits=digits,
        counts=not no_n,
        wide=wide,
        transpose=transpose,
        width=width,
        bold=bold,
    )
    click.echo(text)
