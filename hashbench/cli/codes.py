"""Commands about codes: evaluate those from anywhere, encode a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from hashbench.cli.base import command
from hashbench.errors import HashbenchError


@command(
    "hashbench evaluate query_codes.npy database_codes.npy query_labels.npy database_labels.npy",
    "hashbench evaluate tst_binary.npy trn_binary.npy tst_label.npy trn_label.npy --measure mAP@1000/hits",
    "hashbench evaluate all.npz:q all.npz:d all.npz:q_labels all.npz:d_labels --mode deephash-pytorch",
)
@click.argument("query_codes", metavar="QUERY_CODES")
@click.argument("database_codes", metavar="DATABASE_CODES")
@click.argument("query_labels", metavar="QUERY_LABELS")
@click.argument("database_labels", metavar="DATABASE_LABELS")
@click.option("--measure", "measures", multiple=True, default=["mAP@all", "P@H<=2"], metavar="NAME", help="Measures.")
@click.option("--ties", type=click.Choice(["expected", "optimistic", "pessimistic"]), default="expected",
              help="Order of the items at one distance.")  # fmt: skip
@click.option("--mode", type=click.Choice(["deephash-pytorch", "hashnet", "fire", "dcmh"]),
              help="Compute mAP as published code does; see docs/metrics.md.")  # fmt: skip
@click.option("--encoding", type=click.Choice(["bits", "signs", "real", "packed"]), help="What the codes are.")
@click.option("--bits", type=int, metavar="K", help="Length of packed codes that do not fill their last byte.")
@click.option("--labels", type=click.Choice(["integers", "multi-hot"]), help="What the labels are.")
@click.option("--per-query", type=click.Path(path_type=Path), metavar="FILE", help="Write each query's values (.npz).")
@click.option("--backend", type=click.Choice(["auto", "numba", "torch"]), default="auto")
@click.option("--device", default="cpu", metavar="DEVICE", help="cpu or cuda, with the torch backend.")
def evaluate(
    query_codes: str,
    database_codes: str,
    query_labels: str,
    database_labels: str,
    per_query: Path | None,
    **choices: Any,
) -> None:
    """Measure codes from anywhere, exactly and whatever their order; says what it took the arrays for.

    Arrays lie in .npy, .npz (FILE:NAME where it holds several) or .pt files. Codes are bool, {0,1}, {-1,+1}, real
    values (their signs) or packed bytes; labels are integers or multi-hot.
    """
    from tabulate import tabulate

    from hashbench.metrics.evaluation import evaluate as evaluate_codes
    from hashbench.metrics.files import read_array
    from hashbench.results.files import replacing

    places = (query_codes, database_codes, query_labels, database_labels)
    with _usable():
        arrays = [read_array(*_file_and_key(place)) for place in places]
        scores = evaluate_codes(*arrays, bounds=True, per_query=per_query is not None, **choices)
    for note in scores.notes:
        click.echo(note, err=True)
    rows = [[name, value, *scores.bounds.get(name, ("", ""))] for name, value in scores.items()]
    click.echo(tabulate(rows, headers=["measure", "value", "worst ties", "best ties"], floatfmt=".4f"))
    for name, curve in scores.curves.items():
        points = zip(curve["at"], curve["x"], curve["y"], strict=True)
        click.echo()
        click.echo(tabulate(points, headers=[f"{name} at", "recall", "precision"], floatfmt=("g", ".4f", ".4f")))
    if per_query is not None:
        import numpy as np

        with replacing(per_query) as file:
            np.savez_compressed(file, **scores.per_query)  # type: ignore[arg-type]  # its stub takes allow_pickle first


@command("hashbench encode runs/fashion-mnist-10k@5k/crh/32b/s0-* photos --output codes.npz")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default=Path("codes.npz"), help="The file to write.")
@click.option("--method", metavar="TARGET", help="The class behind RUN, where it came from a module or file.")
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
def encode(run: Path, folder: Path, output: Path, method: str | None, device: str) -> None:
    """Encode the images in FOLDER with the model of RUN into packed codes and file names (.npz)."""
    from hashbench import runner
    from hashbench.encoding import encode_folder

    count = encode_folder(runner.load(run, method=method, device=device), folder, output, progress=sys.stderr.isatty())
    click.echo(f"{output}: codes of {count:,} images.")


@contextmanager
def _usable() -> Iterator[None]:
    """Turn the refusals of hashbench.metrics, which knows no HashbenchError, into one."""
    try:
        yield
    except ValueError as error:
        raise HashbenchError(str(error)) from error


def _file_and_key(place: str) -> tuple[str, str | None]:
    """Split FILE:NAME; a colon that is part of the path, as in C:\\codes.npy, is followed by an ending."""
    path, colon, key = place.rpartition(":")
    return (path, key) if colon and "." not in key else (place, None)
