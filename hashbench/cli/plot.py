"""`hashbench plot`: figures of results."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hashbench.cli.base import command, warn
from hashbench.cli.options import filter_options, filters
from hashbench.results.figures import KINDS

if TYPE_CHECKING:
    from hashbench.results.figures.drawing import Drawing


@command(
    "hashbench plot pr runs -o pr.png",
    "hashbench plot bits runs --measure P@H2 --method 'csq,crh ()' -o bits.svg",
    "hashbench plot robustness runs -o robustness.png",
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
    from hashbench.results.figures.drawing import draw
    from hashbench.results.figures.style import ending_of, save
    from hashbench.results.finding import finished_runs
    from hashbench.results.tables.selection import each_once, select

    output = output or Path(f"{kind}.png")
    ending_of(output)  # refused before anything is read
    results, problems = finished_runs(*runs)
    warn(problems)
    chosen = select(each_once(results), **filters(methods, datasets, bits))
    drawings, refusals = draw(kind, chosen, measure=measure)
    if not drawings:
        raise refusals[0]
    warn(map(str, refusals))
    warn(dict.fromkeys(problem for drawing in drawings for problem in drawing.problems))
    for drawing, path in zip(drawings, _files(output, drawings), strict=True):
        save(drawing.figure, path)
        click.echo(f"{path}: {drawing.words}")


_KINDS = "\n".join(f"  {name:<10} {kind.summary}" for name, kind in KINDS.items())
plot.help = f"{cleandoc(plot.help or '')}\n\n\b\nKinds:\n{_KINDS}"


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
