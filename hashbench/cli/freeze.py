"""`hashbench freeze`: the hashes of finished runs, to print in a paper."""

from __future__ import annotations

from pathlib import Path

import click

from hashbench.cli.base import command


@command("hashbench freeze runs", "hashbench freeze runs/cifar10@54k -o runs/cifar10.sha256")
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("frozen.sha256"), metavar="FILE",
              help="The manifest to write; the runs lie in its folder or below.")  # fmt: skip
def freeze(runs: tuple[Path, ...], output: Path) -> None:
    """Write the sha256 of each file of the finished runs in RUNS (default: runs) into a manifest.

    Print the manifest's own sha256 in a paper, and share the manifest with the runs. `hashbench verify --manifest FILE`
    compares them, and so does `sha256sum -c FILE`.
    """
    from hashbench.results.freezing import freeze as write_manifest
    from hashbench.results.sweeps.estimates import plural

    frozen = write_manifest(runs or (Path("runs"),), output)
    click.echo(
        f"{output}: {frozen.files:,} files of {frozen.runs:,} {plural('run', frozen.runs)}.\nsha256 {frozen.sha256}"
    )
