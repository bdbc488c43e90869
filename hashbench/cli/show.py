"""`hashbench show`: one run."""

from __future__ import annotations

from pathlib import Path

import click

from hashbench.cli.base import command


@command("hashbench show runs/fashion-mnist-10k@5k/crh/32b/s0-*")
@click.argument("run", type=click.Path(path_type=Path))
def show(run: Path) -> None:
    """Show one run: its measures, cost and provenance."""
    from hashbench.results.runs import RunDirectory

    click.echo(RunDirectory(run).read_result())
