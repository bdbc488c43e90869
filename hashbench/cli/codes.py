"""Commands about codes: evaluate those from anywhere, whole or in shards, encode a folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hashbench.cli.base import command
from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    from hashbench.metrics.evaluation import Scores
    from hashbench.metrics.large.shards import Shard


def _measuring(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options about what is measured: --measure, --ties and --per-query."""
    measures = click.option("--measure", "measures", multiple=True, default=["mAP@all", "P@H<=2"], metavar="NAME",
                            help="Measures.")  # fmt: skip
    ties = click.option("--ties", type=click.Choice(["expected", "optimistic", "pessimistic"]), default="expected",
                        help="Order of the items at one distance.")  # fmt: skip
    each = click.option("--per-query", type=click.Path(path_type=Path), metavar="FILE",
                        help="Write each query's values (.npz).")  # fmt: skip
    return measures(ties(each(function)))


@command(
    "hashbench evaluate query_codes.npy database_codes.npy query_labels.npy database_labels.npy",
    "hashbench evaluate tst_binary.npy trn_binary.npy tst_label.npy trn_label.npy --measure mAP@1000/hits",
    "hashbench evaluate all.npz:q all.npz:d all.npz:q_labels all.npz:d_labels --mode deephash-pytorch",
    "hashbench evaluate q.npy huge.npy q_labels.npy huge_labels.npy --shard 1/4 --output part-1.npz",
)
@click.argument("query_codes", metavar="QUERY_CODES")
@click.argument("database_codes", metavar="DATABASE_CODES")
@click.argument("query_labels", metavar="QUERY_LABELS")
@click.argument("database_labels", metavar="DATABASE_LABELS")
@_measuring
@click.option("--mode", type=click.Choice(["deephash-pytorch", "hashnet", "fire", "dcmh"]),
              help="Compute mAP as published code does; see docs/metrics.md.")  # fmt: skip
@click.option("--encoding", type=click.Choice(["bits", "signs", "real", "packed"]), help="What the codes are.")
@click.option("--bits", type=int, metavar="K", help="Length of packed codes that do not fill their last byte.")
@click.option("--labels", type=click.Choice(["integers", "multi-hot", "packed"]), help="What the labels are.")
@click.option("--backend", type=click.Choice(["auto", "numba", "torch"]), default="auto")
@click.option("--device", default="cpu", metavar="DEVICE", help="cpu or cuda, with the torch backend.")
@click.option("--workers", type=int, default=1, metavar="N", help="Processes that share the database.")
@click.option("--threads", type=int, metavar="N", help="Threads of each process; default: the cores shared out.")
@click.option("--shard", metavar="I/N", help="Count this shard of the database alone, into --output, for `merge`.")
@click.option("--own-files", is_flag=True, help="With --shard: the database's files hold that shard alone.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="With --shard: the part (.npz).")
def evaluate(
    query_codes: str,
    database_codes: str,
    query_labels: str,
    database_labels: str,
    shard: str | None,
    own_files: bool,
    output: Path | None,
    per_query: Path | None,
    ties: Any,
    mode: Any,
    **choices: Any,
) -> None:
    """Measure codes from anywhere, exactly and whatever their order; says what it took the arrays for.

    Arrays lie in .npy, .npz (FILE:NAME where it holds several) or .pt files; a database in .npy may be larger than
    memory. Codes are bool, {0,1}, {-1,+1}, real values (their signs) or packed bytes; labels are integers or multi-hot.
    """
    from hashbench.metrics import evaluation
    from hashbench.metrics.large.files import read_array
    from hashbench.metrics.large.shards import Shard
    from hashbench.storage.files import make_folder, replacing

    if (shard is None) != (output is None) or (own_files and shard is None):
        raise HashbenchError("--shard and --output belong together, and --own-files to them: say which FILE the part "
                             "goes to, for example --shard 1/4 --output part-1.npz.")  # fmt: skip
    if shard is not None and (mode is not None or per_query is not None):
        raise HashbenchError("A shard has counts alone: leave out --mode, and give --per-query to `hashbench merge`.")
    for written in filter(None, (output, per_query)):
        make_folder(written.parent)  # before the counting, which may take hours
    places = (query_codes, database_codes, query_labels, database_labels)
    with _usable():
        arrays = [read_array(*_file_and_key(place)) for place in places]
        part = None if shard is None else Shard.parse(shard)
        with _counting_bar(len(arrays[1]), part if not own_files else None) as progress:
            if part is None:
                scores = evaluation.evaluate(
                    *arrays, bounds=True, per_query=per_query is not None, ties=ties, mode=mode, progress=progress,
                    **choices,
                )  # fmt: skip
            else:
                counted, notes = evaluation.count_shard(
                    *arrays, shard=part, own_files=own_files, progress=progress, **choices
                )
    if part is None:
        _show(scores, per_query)
        return
    assert output is not None
    with replacing(output) as file:
        counted.write(file)
    _echo_notes(notes)
    click.echo(f"{output}: shard {part}, {counted.hist.database:,} items; `hashbench merge` brings all parts together.")


@command("hashbench merge part-1.npz part-2.npz --measure mAP@1000/R")
@click.argument("parts", nargs=-1, required=True, metavar="PART...", type=click.Path(path_type=Path))
@_measuring
def merge(parts: tuple[Path, ...], per_query: Path | None, **choices: Any) -> None:
    """Measure a database that `evaluate --shard` counted in parts, to the digit as if it had been counted whole."""
    from hashbench.metrics.evaluation import evaluate_parts
    from hashbench.metrics.large.shard_counts import ShardCounts

    with _usable():
        read = {str(path): ShardCounts.read(path) for path in parts}
        scores = evaluate_parts(read, bounds=True, per_query=per_query is not None, **choices)
    _show(scores, per_query)


@command("hashbench encode runs/fashion-mnist-10k@5k/crh/32b/s0-* photos --output codes.npz")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default=Path("codes.npz"), help="The file to write.")
@click.option("--method", metavar="TARGET", help="The class behind RUN, where it came from a module or file.")
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
def encode(run: Path, folder: Path, output: Path, method: str | None, device: str) -> None:
    """Encode the images in FOLDER with the model of RUN into packed codes and file names (.npz)."""
    from hashbench.evaluation.folders import encode_folder
    from hashbench.experiments import runner

    count = encode_folder(runner.load(run, method=method, device=device), folder, output, progress=sys.stderr.isatty())
    click.echo(f"{output}: codes of {count:,} images.")


def _show(scores: Scores, per_query: Path | None) -> None:
    """Print the values, and write those of each query where that was asked for."""
    from tabulate import tabulate

    _echo_notes(scores.notes)
    rows = [[name, value, *scores.bounds.get(name, ("", ""))] for name, value in scores.items()]
    click.echo(tabulate(rows, headers=["measure", "value", "worst ties", "best ties"], floatfmt=".4f"))
    for name, curve in scores.curves.items():
        points = zip(curve["at"], curve["x"], curve["y"], strict=True)
        click.echo()
        click.echo(tabulate(points, headers=[f"{name} at", "recall", "precision"], floatfmt=("g", ".4f", ".4f")))
    if per_query is not None:
        import numpy as np

        from hashbench.storage.files import make_folder, replacing

        make_folder(per_query.parent)
        with replacing(per_query) as file:
            np.savez_compressed(file, **scores.per_query)  # type: ignore[arg-type]  # its stub takes allow_pickle first


def _echo_notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        click.echo(note, err=True)


@contextmanager
def _counting_bar(items: int, shard: Shard | None) -> Iterator[Callable[[int], object]]:
    """Show how many items were counted, where that takes longer than a second and somebody watches."""
    from tqdm import tqdm

    if shard is not None:
        start, stop = shard.rows(items)
        items = stop - start
    with tqdm(total=items, unit="code", unit_scale=True, delay=1, leave=False, disable=not sys.stderr.isatty(),
              desc="counting") as bar:  # fmt: skip
        yield bar.update


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
