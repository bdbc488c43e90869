"""What `evaluate` and `merge` share: the options about measures, and how scores are printed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hashbench.cli.base import print_kept, warn
from hashbench.cli.options import measure_names
from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    from hashbench.metrics.evaluation import Scores


def measure_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options about what is measured: --measure, --ties and --per-query."""
    measures = click.option("--measure", "measures", multiple=True, default=["mAP@all", "P@H<=2"],
                            metavar="NAME[,NAME]", callback=measure_names, help="Measures.")  # fmt: skip
    ties = click.option("--ties", type=click.Choice(["expected", "optimistic", "pessimistic"]), default="expected",
                        help="Rule for items at one distance.")  # fmt: skip
    each = click.option("--per-query", type=click.Path(path_type=Path), metavar="FILE",
                        help="Write each query's values (.npz).")  # fmt: skip
    return measures(ties(each(function)))


def check_output(written: Path, given: Iterable[Path | str]) -> None:
    """Make the folder of a file to be written; raises HashbenchError where it cannot be, or is one of those `given`."""
    from hashbench.storage.files import check_replaceable, make_folder

    check_replaceable(written)
    make_folder(written.parent)
    if any(os.path.realpath(path) == os.path.realpath(written) for path in given):
        raise HashbenchError(f"{written} is one of the files that are read; name another to write.")


def print_scores(scores: Scores, per_query: Path | None) -> None:
    """Print the values, and write those of each query to the file `per_query`, unless it is None.

    Raises HashbenchError where it shall be written and no measure has any.
    """
    from tabulate import tabulate

    print_notes((*scores.notes, *_counted_as_zero(scores.counts)))
    warn(scores.warnings)
    rows = [[name, value, *scores.bounds.get(name, (None, None))] for name, value in scores.items()]
    tables = [tabulate(rows, headers=["measure", "value", "worst ties", "best ties"], floatfmt=".4f")]
    for name, curve in scores.curves.items():
        points = zip(curve["at"], curve["x"], curve["y"], strict=True)
        tables.append(tabulate(points, headers=[f"{name} at", "recall", "precision"], floatfmt=("g", ".4f", ".4f")))
    text = "\n\n".join(tables)
    try:
        print_kept(text, otherwise=text)  # they are kept nowhere else
    finally:
        if per_query is not None and scores.per_query:
            import numpy as np

            from hashbench.storage.files import replacing

            with replacing(per_query) as file:
                np.savez_compressed(file, **scores.per_query)  # type: ignore[arg-type]  # its stub: allow_pickle first
    if per_query is not None and not scores.per_query:
        raise HashbenchError(
            f"{per_query} is not written, for a curve has no value for each query; add a measure such as mAP@all."
        )


def _counted_as_zero(counts: Mapping[str, int]) -> Iterator[str]:
    """Yield a sentence for each kind of queries that count as 0, where there are any."""
    if alone := counts.get("without_relevant"):
        yield f"{alone:,} of {counts['queries']:,} queries have no relevant item and count as 0."
    for name, empty in counts.items():
        _, within, radius = name.partition("empty_within_")
        if within and empty:
            of = f"{empty:,} of {counts['queries']:,} queries"
            yield f"{of} have nothing within Hamming radius {radius}: they count as 0."


def print_notes(notes: tuple[str, ...]) -> None:
    """Print how the arrays were interpreted, on stderr."""
    for note in notes:
        click.echo(note, err=True)


@contextmanager
def hashbench_errors() -> Iterator[None]:
    """Turn the ValueErrors of hashbench.metrics into HashbenchErrors; its warnings are printed with the scores."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    except ValueError as error:
        raise HashbenchError(str(error)) from error
    except MemoryError as error:
        raise HashbenchError("Memory ran out; give fewer queries, or the database in .npy files.") from error
