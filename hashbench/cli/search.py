"""`hashbench search`: the images of an index that are nearest to photos."""

from __future__ import annotations

from pathlib import Path

import click

from hashbench.cli.base import command, readable, warn
from hashbench.errors import HashbenchError


@command(
    "hashbench search shop.hashindex photo.jpg --top 10",
    "hashbench search shop.hashindex a.jpg b.jpg --rerank --html page.html",
)
@click.argument("index", type=click.Path(path_type=Path))
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--top", type=click.IntRange(min=1), default=10, metavar="N", help="Images to show for each photo.")
@click.option("--rerank", is_flag=True, help="Order images at one distance by the photo's real-valued outputs.")
@click.option(
    "--html", "page", type=click.Path(path_type=Path), metavar="FILE", help="Write a page with pictures, too."
)
@click.option("--method", metavar="TARGET", help="The class of the run's method, where it is in a module or file.")
@click.option("--backbone", metavar="TARGET", help="The factory of the run's backbone, where it is in a file.")
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
def search(
    index: Path,
    photos: tuple[Path, ...],
    top: int,
    rerank: bool,
    page: Path | None,
    method: str | None,
    backbone: str | None,
    device: str,
) -> None:
    """List the images in INDEX that are nearest to each of PHOTOS by Hamming distance.

    INDEX is a file that `hashbench index` wrote. The images themselves need not be there.
    """
    from hashbench.results.tables.render import plain_table
    from hashbench.search.index import open_index
    from hashbench.search.page import search_page
    from hashbench.storage.files import check_replaceable, make_folder, write_text

    if page is not None:
        check_replaceable(page)
        if page.suffix.lower() not in (".html", ".htm"):  # else a slip writes over the index, or a photo
            raise HashbenchError(f"{page} names no page; give --html a file that ends in .html.")
    opened = open_index(index, method=method, backbone=backbone, device=device)
    warn(opened.notes)
    answers = opened.search(photos, top=top, rerank=rerank)
    for answer in answers:
        rows = [[rank, near.distance, readable(near.name)] for rank, near in enumerate(answer.nearest, start=1)]
        click.echo(f"{readable(str(answer.photo))}: nearest of {len(opened):,} images")
        click.echo(plain_table(rows, header=("rank", "distance", "image")))
        for note in answer.notes:
            click.echo(readable(note))
        click.echo("")
    if page is not None:
        make_folder(page.parent)
        write_text(page, search_page(opened, answers))
        click.echo(f"{page}: open it in a browser.")
