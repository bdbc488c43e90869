"""`hashbench report`: results as one web page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hashbench.cli.base import command, warn
from hashbench.cli.options import data_options, filter_options, filters, measure_names

if TYPE_CHECKING:
    from hashbench.results.tables.blocks import Block


@command(
    "hashbench report runs -o report.html",
    "hashbench report runs --measure mAP@all --measure P@H2 --baseline csq --queries 5",
)
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("report.html"), metavar="FILE",
              help="The page to write.")  # fmt: skip
@click.option("--measure", "measures", multiple=True, metavar="NAME[,NAME]", callback=measure_names,
              help="Measures; default: the data set's own.")  # fmt: skip
@click.option("--baseline", metavar="ROW", help="Method or row to which the others' differences are shown and tested.")
@click.option("--published", is_flag=True, help="Papers' numbers beside ours, marked as such.")
@click.option("--title", default="hashbench report", metavar="TEXT", help="The page's title.")
@click.option("--queries", type=click.IntRange(min=0), default=3, metavar="N",
              help="Queries of each data set whose nearest images are shown; 0 reads no data set.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, metavar="N", help="Seed for the choice of queries.")
@filter_options
@data_options
def report(
    runs: tuple[Path, ...],
    output: Path,
    measures: tuple[str, ...],
    baseline: str | None,
    published: bool,
    title: str,
    queries: int,
    seed: int,
    methods: str | None,
    datasets: str | None,
    bits: str | None,
    data_dir: Path | None,
    accept_unofficial: bool,
) -> None:
    """Write one web page about the finished runs in RUNS (default: runs): tables, figures, retrieved images.

    The page needs no network and no other file. Retrieved images need the data set, read as `hashbench run` reads it.
    """
    from hashbench.datasets.catalogue import load
    from hashbench.results.finding import finished_runs
    from hashbench.results.gallery import Gallery, gallery
    from hashbench.results.report import report as page
    from hashbench.results.sweeps.estimates import plural
    from hashbench.results.sweeps.planned import planned_runs
    from hashbench.results.tables.baseline import Baseline
    from hashbench.results.tables.comparison import Comparison
    from hashbench.results.tables.published import read_published
    from hashbench.results.tables.selection import each_once, select, select_planned
    from hashbench.storage.files import make_folder, write_text

    def galleries(block: Block) -> Gallery | None:
        if not queries or block.condition:  # the images that were asked under a condition are not kept
            return None
        dataset = load(
            block.name,
            data_dir=data_dir,
            evaluate_on=block.part,
            accept_unofficial=accept_unofficial,
            integrity=block.integrity,
        )
        return gallery(block, dataset, queries=queries, seed=seed)

    results, problems = finished_runs(*runs)
    chosen = filters(methods, datasets, bits)
    results = select(results, baseline=baseline, **chosen)
    planned = planned_runs(runs or ("runs",), problems)
    comparison = Comparison.of(
        results,
        measures=measures or None,
        against=Baseline(baseline) if baseline is not None else None,
        published=read_published() if published else None,
        problems=problems,
        planned=select_planned(planned, methods=chosen["methods"], bits=chosen["bits"], beside=results),
    )
    warn(comparison.problems)
    text = page(each_once(results), comparison=comparison, title=title, galleries=galleries)
    make_folder(output.parent)
    write_text(output, text)
    what = f"{len(results):,} {plural('run', len(results))}, {len(text.encode()) / 1e6:.1f} MB"
    click.echo(f"{output}: {what}; open it in a browser.")
