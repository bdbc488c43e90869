"""`hashbench index`: a folder of images as a file to search in."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hashbench.cli.base import command, warn
from hashbench.errors import HashbenchError


@command(
    "hashbench index runs/fashion-mnist-10k@5k/crh/32b/s0-* photos -o shop.hashindex",
    "hashbench index shop.hashindex more-photos --skip-broken",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
              help="The index to write, or to bring up to date; default: RUN, where it is an index.")  # fmt: skip
@click.option("--kind", type=click.Choice(["flat", "multi-index", "hnsw"]),
              help="How it is searched: flat (default) and multi-index are exact; hnsw, of faiss, is not.")  # fmt: skip
@click.option("--skip-broken", is_flag=True,
              help="Leave out images that cannot be decoded, and list them beside the index.")  # fmt: skip
@click.option("--follow-links", is_flag=True, help="Follow links to folders.")
@click.option(
    "--drop-gone", is_flag=True, help="Drop images of FOLDER that are not there any more, all where FOLDER is not."
)
@click.option("--method", metavar="TARGET", help="The class of RUN's method, where it is in a module or file.")
@click.option("--backbone", metavar="TARGET", help="The factory of RUN's backbone, where it is in a file.")
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
def index(
    run: Path,
    folder: Path,
    output: Path | None,
    kind: str | None,
    skip_broken: bool,
    follow_links: bool,
    drop_gone: bool,
    method: str | None,
    backbone: str | None,
    device: str,
) -> None:
    """Encode the images in FOLDER with the model of RUN (a run, its bundle, or an index), and write a search index.

    The index is one file with codes, names and model. Of one that is there, images of other folders stay, and files
    that have not changed are not encoded again. An interrupted indexing goes on with the same command.
    """
    from hashbench.results.sweeps.estimates import plural
    from hashbench.search.building import build_index

    if output is None:
        if not run.is_file():
            raise HashbenchError("There is no name for the index; give one with -o, for example -o photos.hashindex.")
        output = run
    indexed = build_index(
        run,
        folder,
        output,
        kind=kind,  # type: ignore[arg-type]  # one of the choices
        skip_broken=skip_broken,
        follow_links=follow_links,
        drop_gone=drop_gone,
        method=method,
        backbone=backbone,
        device=device,
        progress=sys.stderr.isatty(),
    )
    for note in indexed.notes:
        click.echo(note, err=True)
    if indexed.skipped:
        count = len(indexed.skipped)
        warn([f"{count:,} {plural('image', count)} could not be decoded; {indexed.listed} lists what was left out."])
    if indexed.gone:
        count = indexed.gone
        warn(
            [f"{count:,} {plural('image', count)} of {folder} are gone and stay in the index; --drop-gone drops them."]
        )
    resumed = f", {indexed.resumed:,} of them before an interruption" if indexed.resumed else ""
    dropped = f", {indexed.dropped:,} dropped" if indexed.dropped else ""
    size = output.stat().st_size / 1e6
    click.echo(
        f"{output}: {indexed.images:,} {plural('image', indexed.images)}, {size:,.1f} MB; {indexed.new:,} encoded now"
        f"{resumed}{dropped}."
    )
