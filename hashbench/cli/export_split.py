"""`hashbench export-split`: a split as lists that other suites read."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hashbench.cli import completion
from hashbench.cli.base import command
from hashbench.cli.options import data_options, size_option


@command("hashbench export-split fashion-mnist-10k lists")
@click.argument("dataset", shell_complete=completion.datasets)
@click.argument("folder", type=click.Path(path_type=Path))
@data_options
@size_option
def export_split(dataset: str, folder: Path, data_dir: Path | None, accept_unofficial: bool, size: int | None) -> None:
    """Write the split of DATASET to FOLDER for suites that read lists: `path 0 1 0 ...`, and the images as PNG."""
    from hashbench.datasets.catalogue import load
    from hashbench.datasets.files import export
    from hashbench.results.sweeps.estimates import plural

    loaded = load(dataset, data_dir=data_dir, accept_unofficial=accept_unofficial, size=size)
    count = export.export_split(loaded, folder, progress=sys.stderr.isatty())
    click.echo(f"{folder}: {', '.join(export.LISTS.values())} and {count:,} {plural('image', count)}.")
