"""`hashbench pack`: finished runs in one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hashbench.cli.base import command, warn

if TYPE_CHECKING:
    from hashbench.results.packing import Arrays


@command(
    "hashbench pack runs -o results/two.zip",
    "hashbench pack runs -o results/two.zip --with histograms --with codes",
    "hashbench compare results/two.zip",
)
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs.zip"), metavar="FILE",
              help="The zip file to write.")  # fmt: skip
@click.option("--with", "arrays", multiple=True, type=click.Choice(["histograms", "codes"]), show_default=False,
              help="Arrays to pack, too: `verify` needs the histograms, and --strict the codes.")  # fmt: skip
def pack(runs: tuple[Path, ...], output: Path, arrays: tuple[Arrays, ...]) -> None:
    """Write the results of the finished runs in RUNS (default: runs) into one zip file, to commit or to send.

    Every command that reads results takes the file in the place of a folder, and FILE/DATASET/METHOD/BITS/RUN for one
    run. Weights, logs and command lines are left out.
    """
    from hashbench.results.packing import pack as write_packed
    from hashbench.results.sweeps.estimates import plural

    packed = write_packed(runs or (Path("runs"),), output, arrays=set(arrays))
    warn(f"{lacking:,} of {packed.runs:,} {plural('run', packed.runs)} lack their {name}.npz, and are packed without."
         for name, lacking in sorted(packed.lacking.items()))  # fmt: skip
    size = f"{packed.bytes / 1e6:,.2f} MB, {packed.bytes / packed.runs / 1e3:,.1f} KB a run"
    click.echo(f"{output}: {packed.runs:,} {plural('run', packed.runs)}, {size}.")
