"""Commands that read results: compare and show."""

from __future__ import annotations

from pathlib import Path

import click

from hashbench.cli.base import command, warn


@command(
    "hashbench compare",
    "hashbench compare runs --format markdown",
    "hashbench compare runs --measure mAP@1000/hits --measure P@H2",
)
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option("--measure", "measures", multiple=True, metavar="NAME", help="Measures; default: the data set's own.")
@click.option("--format", "form", type=click.Choice(["text", "markdown", "latex", "csv"]), default="text")
def compare(runs: tuple[Path, ...], measures: tuple[str, ...], form: str) -> None:
    """Print a table of the results in RUNS (default: runs): methods by code length, a block per data set."""
    from hashbench.results.table import compare as compare_runs

    comparison = compare_runs(*(runs or (Path("runs"),)), measures=measures or None)
    warn(comparison.problems)
    click.echo(comparison.render(form))


@command("hashbench show runs/fashion-mnist-10k@5k/crh/32b/s0-*")
@click.argument("run", type=click.Path(path_type=Path))
def show(run: Path) -> None:
    """Show one run: its measures, what it cost, and where it comes from."""
    from hashbench.results.store import RunDirectory
    from hashbench.results.table import describe

    click.echo(describe(RunDirectory(run).read_result()))
