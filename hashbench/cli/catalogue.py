"""Commands about what there is: list names, check a method, export a split."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hashbench.cli.base import command, data_options, size_option


@command("hashbench list methods", "hashbench list datasets", name="list")
@click.argument("kind", type=click.Choice(["methods", "datasets", "backbones", "recipes", "executors"]))
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the files of data sets are looked for.")
def list_names(kind: str, data_dir: Path | None) -> None:
    """Show what there is: methods, datasets, backbones, recipes or executors.

    A data set is ready to be used, preparable by `hashbench prepare`, or missing, and then downloaded where it may be.
    """
    from hashbench import listing

    click.echo(listing.datasets(data_dir) if kind == "datasets" else listing.TABLES[kind]())


@command("hashbench check crh", "hashbench check my_package.my_module:MyMethod", "hashbench check my_file.py:MyLoss")
@click.argument("target")
def check(target: str) -> None:
    """Check that TARGET, a method or loss class, keeps the contract: on toy data, in seconds.

    TARGET is a registered name, or a class in a module or a file, whose code is then run.
    """
    from hashbench.checks.verdict import check as check_method

    verdict = check_method(target)
    click.echo(verdict.render())
    if not verdict.ok:
        sys.exit(1)


@command("hashbench export-split fashion-mnist-10k lists")
@click.argument("dataset")
@click.argument("folder", type=click.Path(path_type=Path))
@data_options
@size_option("--data-size")
def export_split(dataset: str, folder: Path, data_dir: Path | None, accept_unofficial: bool, size: int | None) -> None:
    """Write the split of DATASET to FOLDER for suites that read lists: `path 0 1 0 ...`, and the images as PNG."""
    from hashbench.datasets.catalogue import load
    from hashbench.datasets.files import export

    loaded = load(dataset, data_dir=data_dir, accept_unofficial=accept_unofficial, size=size)
    count = export.export_split(loaded, folder, progress=sys.stderr.isatty())
    click.echo(f"{folder}: {', '.join(export.LISTS.values())} and {count:,} images.")
