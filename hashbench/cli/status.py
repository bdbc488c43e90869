"""`hashbench status`: how far the sweeps in a folder are."""

from __future__ import annotations

import time
from pathlib import Path

import click

from hashbench.cli.base import command, warn
from hashbench.errors import HashbenchError

SHORTEST, LONGEST = 0.1, 86400.0  # seconds between two looks


@command("hashbench status", "hashbench status runs --watch")
@click.argument("runs", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--watch", is_flag=True, help="Show it again every few seconds, until nothing runs any more.")
@click.option("--every", type=float, default=5.0, metavar="SECONDS", help="With --watch: how often.")
def status(runs: Path, watch: bool, every: float) -> None:
    """Show how far the sweeps in RUNS are: finished, running and how fast, failed and why, to do."""
    from hashbench.results.sweeps import progress
    from hashbench.storage.locks import LockWatch

    if not SHORTEST <= every <= LONGEST:  # nan is none
        raise HashbenchError(f"--every {every:g} is not possible; give {SHORTEST:g} to {LONGEST:,.0f} seconds.")
    locks = LockWatch()
    while True:
        problems = list[str]()
        found = progress.find_all(runs, problems, watch=locks)
        if watch and found:
            click.clear()
        warn(problems)
        if not found:
            click.echo(f"There is no run below {runs} yet, started or planned; start one with `hashbench run`.")
            return
        click.echo(progress.table(found))
        if left := progress.time_left(runs, found):
            click.echo(f"\n{left}")
        if not (watch and any(run.status.state == "running" for run in found)):
            return
        time.sleep(every)
