"""`hashbench prepare`: a data set found, checked, decoded once, and audited."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hashbench.cli import completion
from hashbench.cli.base import command
from hashbench.cli.options import data_options, size_option

if TYPE_CHECKING:
    from hashbench.datasets.prepared.building import Preparation


@command(
    "hashbench prepare fashion-mnist-10k",
    "hashbench prepare cifar10 --data-dir data",
    "hashbench prepare cub200 --data-dir data --size 224",
)
@click.argument("dataset", metavar="NAME[@PROTOCOL]", shell_complete=completion.datasets)
@data_options
@size_option
@click.option("--image-root", type=click.Path(path_type=Path), metavar="DIR",
              help="Of lists: the folder that their paths start from; default: the lists' own.")  # fmt: skip
@click.option("--follow-links", is_flag=True, help="Of own data: follow links that lead out of the folder.")
@click.option(
    "--skip-broken", is_flag=True, help="Of own data: leave out images that cannot be decoded, and list them."
)
@click.option("--quiet", is_flag=True, help="No progress bars.")
def prepare(
    dataset: str,
    data_dir: Path | None,
    accept_unofficial: bool,
    size: int | None,
    image_root: Path | None,
    follow_links: bool,
    skip_broken: bool,
    quiet: bool,
) -> None:
    """Prepare a data set: find or download its files, check them, decode its images once, and audit its splits.

    A prepared set is not prepared again; an interrupted preparation resumes.
    """
    from hashbench.datasets.audit import table
    from hashbench.datasets.prepared import building

    made = building.prepare(
        dataset,
        data_dir=data_dir,
        size=size,
        accept_unofficial=accept_unofficial,
        image_root=image_root,
        follow_links=follow_links,
        skip_broken=skip_broken,
        progress=not quiet and sys.stderr.isatty(),
        on_wait=lambda: click.echo(f"Another process prepares {dataset}; waiting for it.", err=True),
        on_begin=lambda sentence: None if quiet else click.echo(sentence, err=True),
    )
    click.echo(_summary(made))
    if made.audits:
        click.echo(f"\n{table(made.audits)}")
    for problem in made.problems.values():
        raise problem


def _summary(made: Preparation) -> str:
    from hashbench.datasets.prepared.opening import PreparedStore

    store = made.store
    official = {True: "official files", False: "NOT the official files", None: "checksums of the release not known"}
    if made.folder:
        place = f"Prepared in {made.folder}."
    elif store.kind == "text":
        place = "Its inputs are sparse rows, which are not kept: each start reads its files anew."
    elif store.sources:
        place = "It ships with hashbench and needs no preparation."
    else:
        place = (
            "Its reader names no files whose changes could be detected, so nothing is stored: "
            "each start reads them again."
        )
    left_out = isinstance(store, PreparedStore) and store.record["unlabelled"]
    unlabelled = f"{left_out:,} images of the release have no label and were left out.\n" if left_out else ""
    shape = "x".join(map(str, store.inputs.shape[1:]))
    notes = "".join(f"{note}\n" for note in made.notes)
    return (
        f"{store.name}: {store.inputs.shape[0]:,} inputs of {shape}, {len(store.classes)} classes, "
        f"{official[store.official]}, integrity {store.integrity[:16]}.\n{notes}{unlabelled}{place}"
    )
