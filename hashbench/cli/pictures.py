"""Commands that show results to the eye: plot, report."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hashbench.cli.base import command, data_options, filter_options, filters, warn
from hashbench.results.figures import KINDS

if TYPE_CHECKING:
    from hashbench.results.figures import Drawing
    from hashbench.results.result import Result
    from hashbench.results.tables.blocks import Block


@command(
    "hashbench plot pr runs -o pr.png",
    "hashbench plot bits runs --measure P@H2 --method 'csq,crh ()' -o bits.svg",
    "hashbench plot training runs/cifar10@54k/crh runs/cifar10@54k/csq -o training.pdf",
)
@click.argument("kind", type=click.Choice([*KINDS]), metavar="KIND")
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
              help="Where to: .png, .svg or .pdf.  [default: KIND.png]")  # fmt: skip
@click.option("--measure", metavar="NAME", help="Measure of kinds that show one; default: the data set's own.")
@filter_options
def plot(
    kind: str,
    runs: tuple[Path, ...],
    output: Path | None,
    measure: str | None,
    methods: str | None,
    datasets: str | None,
    bits: str | None,
) -> None:
    """Draw a figure of the finished runs in RUNS (default: runs).

    Results that may not share a figure, of other data or another recipe, give a file each.
    """
    from hashbench.results.figures import draw
    from hashbench.results.figures.style import ending_of, save
    from hashbench.results.runs import finished_runs
    from hashbench.results.tables.selection import select

    output = output or Path(f"{kind}.png")
    ending_of(output)  # refused before anything is read
    results, problems = finished_runs(*runs)
    warn(problems)
    chosen = select(each_once(results), **filters(methods, datasets, bits))
    drawings, refusals = draw(kind, chosen, measure=measure)
    if not drawings:
        raise refusals[0]
    warn(map(str, refusals))
    for drawing, path in zip(drawings, _files(output, drawings), strict=True):
        save(drawing.figure, path)
        click.echo(f"{path}: {drawing.words}")


_KINDS = "\n".join(f"  {name:<10} {kind.summary}" for name, kind in KINDS.items())
plot.help = f"{cleandoc(plot.help or '')}\n\n\b\nKinds:\n{_KINDS}"


@command(
    "hashbench report runs -o report.html",
    "hashbench report runs --measure mAP@all --measure P@H2 --baseline csq --queries 5",
)
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("report.html"), metavar="FILE",
              help="The page to write.")  # fmt: skip
@click.option("--measure", "measures", multiple=True, metavar="NAME", help="Measures; default: the data set's own.")
@click.option("--baseline", metavar="ROW", help="Method or row to which the others' differences are shown and tested.")
@click.option("--published", is_flag=True, help="Papers' numbers beside ours, marked as such.")
@click.option("--title", default="hashbench report", metavar="TEXT", help="The page's title.")
@click.option("--queries", type=click.IntRange(min=0), default=3, metavar="N",
              help="Queries of each data set whose nearest images are shown; 0 reads no data set.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, metavar="N", help="Which queries are drawn.")
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
    from hashbench.results.gallery import Gallery, gallery
    from hashbench.results.report import report as page
    from hashbench.results.runs import finished_runs
    from hashbench.results.tables.baseline import Against
    from hashbench.results.tables.comparison import Comparison
    from hashbench.results.tables.published import read_published
    from hashbench.results.tables.selection import select
    from hashbench.storage.files import make_folder, write_text

    def galleries(block: Block) -> Gallery | None:
        if not queries:
            return None
        evaluated = block.conditions["evaluated"]
        dataset = load(block.name, data_dir=data_dir, evaluate_on=evaluated, accept_unofficial=accept_unofficial)
        return gallery(block, dataset, queries=queries, seed=seed)

    results, problems = finished_runs(*runs)
    results = select(results, baseline=baseline, **filters(methods, datasets, bits))
    comparison = Comparison.of(
        results,
        measures=measures or None,
        against=Against(baseline) if baseline is not None else None,
        published=read_published() if published else None,
        problems=problems,
    )
    warn(comparison.problems)
    text = page(each_once(results), comparison=comparison, title=title, galleries=galleries)
    make_folder(output.parent)
    write_text(output, text)
    click.echo(f"{output}: {len(results)} runs, {len(text.encode()) / 1e6:.1f} MB; open it in a browser.")


def each_once(results: Sequence[Result]) -> list[Result]:
    """Return the results without the copies of a run, whose numbers would count twice in a mean."""
    return list({result.id: result for result in reversed(results)}.values())[::-1]


def _files(output: Path, drawings: Sequence[Drawing]) -> list[Path]:
    """Return `output` for one drawing; for several, its name with the data set's, and a number where that repeats."""
    if len(drawings) == 1:
        return [output]
    seen: Counter[str] = Counter()
    files = []
    for drawing in drawings:
        name = re.sub(r"[^\w@+=.-]", "_", drawing.block.name)  # a plug-in may call its data anything
        seen[name] += 1
        number = f"-{seen[name]}" if seen[name] > 1 else ""
        files.append(output.with_name(f"{output.stem}-{name}{number}{output.suffix}"))
    return files
