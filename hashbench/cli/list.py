"""`hashbench list`: the registered names and their origins."""

from __future__ import annotations

from pathlib import Path

import click

from hashbench.cli import completion
from hashbench.cli.base import command
from hashbench.errors import HashbenchError


@command(
    "hashbench list methods",
    "hashbench list methods --family pairwise --fidelity published",
    "hashbench list methods --fields crh",
    "hashbench list datasets",
    "hashbench list backbones 'torchvision:resnet*'",
    name="list",
)
@click.argument(
    "kind",
    type=click.Choice(["methods", "datasets", "backbones", "recipes", "executors", "measures", "conditions"]),
)
@click.argument("pattern", required=False)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the data sets' files.")
@click.option("--family", metavar="NAME", help="Only methods of this family, such as pairwise.")
@click.option("--fidelity", metavar="NAME", help="Only methods whose equations come from there, such as published.")
@click.option(
    "--fields",
    metavar="METHOD",
    shell_complete=completion.methods,
    help="What one method is, its fields, and the recipe of its paper.",
)
def list_names(
    kind: str, pattern: str | None, data_dir: Path | None, family: str | None, fidelity: str | None, fields: str | None
) -> None:
    """Show the registered names: methods, datasets, backbones, recipes, executors, measures or conditions.

    A data set is ready, preparable by `hashbench prepare`, or missing: then it is downloaded where that is possible.
    With PATTERN, such as 'timm:resnet*', backbones are searched, also those of torchvision and timm.
    """
    from hashbench.cli import listing

    if kind != "methods" and (family or fidelity or fields):
        raise HashbenchError(f"--family, --fidelity and --fields are of methods, not of {kind}.")
    if pattern is not None:
        if kind != "backbones":
            raise HashbenchError(f"PATTERN searches backbones, not {kind}; `hashbench list {kind}` shows all.")
        click.echo(listing.backbones_like(pattern))
    elif fields is not None:
        if family or fidelity:
            raise HashbenchError("--fields shows one method, so leave --family and --fidelity out.")
        click.echo(listing.one_method(fields))
    elif kind == "methods":
        click.echo(listing.methods(family, fidelity))
    else:
        click.echo(listing.datasets(data_dir) if kind == "datasets" else listing.TABLES[kind]())
