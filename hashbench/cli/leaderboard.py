"""`hashbench leaderboard`: results ranked by track, as web pages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hashbench.cli.base import command, warn
from hashbench.errors import HashbenchError, few

if TYPE_CHECKING:
    from hashbench.results.result import Result


@command(
    "hashbench leaderboard runs -o site",
    "hashbench leaderboard results runs -o site --reconstructed --title 'Hashing, November'",
    "hashbench leaderboard results/mine -o /tmp/site --strict",
)
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("site"), metavar="FOLDER",
              help="The folder of the pages: a new or empty one, or an older leaderboard's.")  # fmt: skip
@click.option("--reconstructed", is_flag=True, help="Rank methods of fidelity 'reconstructed' as well.")
@click.option("--strict", is_flag=True, help="Exit code 1 where runs break a rule of entry; the pages say which.")
@click.option("--title", default="hashbench leaderboard", metavar="TEXT", help="The title of the pages.")
def leaderboard(results: tuple[Path, ...], output: Path, reconstructed: bool, strict: bool, title: str) -> None:
    """Rank the finished runs below RESULTS (default: runs) by track, and write the ranks as web pages.

    A row needs three seeds, ties in expectation, the canonical split, measures that follow from its histograms, and a
    stated fidelity and source. What breaks a rule is listed with the reason. The pages need no network; any web server
    shows them, and so does a browser from the folder.
    """
    from tqdm.auto import tqdm

    from hashbench.evaluation.verification import contradictions
    from hashbench.results.finding import finished_runs
    from hashbench.results.leaderboard.site import Leaderboard, write_site

    if output.is_file():
        raise HashbenchError(f"{output} is a file; name a folder with -o.")
    found, problems = finished_runs(*results)
    warn(problems)
    with tqdm(total=len(found), unit="run", disable=not sys.stderr.isatty(), leave=False) as bar:

        def check(result: Result) -> list[str]:
            bar.update()
            return contradictions(result)

        board = Leaderboard.of(found, check=check, reconstructed=reconstructed)
    pages = board.pages(title=title, paper=_paper)
    size = write_site(pages, output)
    for ranking in board.rankings:
        best = few([f"{row.place} {row.label}" for row in ranking.ranked], most=3)
        click.echo(f"{ranking.track}, {ranking.trained}: {len(ranking.ranked)} ranked, {best}")
    warn(f"{each.label} on {each.where} is refused: {'; '.join(each.reasons)}." for each in board.refused)
    click.echo(f"{output / 'index.html'}: {len(pages)} files, {size / 1e6:.1f} MB; open it in a browser.")
    if strict and (board.refused or problems):
        sys.exit(1)


def _paper(method: str) -> str:
    """Return the paper that a method names; "" where it is not installed here, or names none."""
    from hashbench.registry import METHODS

    try:
        return str(METHODS.get(method).info.paper)
    except HashbenchError:
        return ""
