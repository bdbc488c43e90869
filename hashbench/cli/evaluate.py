"""`hashbench evaluate`: the measures of any codes, over a whole database or one shard of it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hashbench.cli.base import command
from hashbench.cli.measuring import check_output, hashbench_errors, measure_options, print_notes, print_scores
from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    from hashbench.metrics.large.shards import Shard


@command(
    "hashbench evaluate query_codes.npy database_codes.npy query_labels.npy database_labels.npy",
    "hashbench evaluate tst_binary.npy trn_binary.npy tst_label.npy trn_label.npy --measure mAP@1000/hits",
    "hashbench evaluate all.npz:q all.npz:d all.npz:q_labels all.npz:d_labels --mode deephash-pytorch",
    "hashbench evaluate q.npy huge.npy q_labels.npy huge_labels.npy --shard 1/4 --output part-1.npz",
    "hashbench evaluate q.npy d.npy --relevance relevant.npz --exclude junk.csv",
    "hashbench evaluate all.npy all.npy labels.npy labels.npy --never-itself",
)
@click.argument("query_codes", metavar="QUERY_CODES")
@click.argument("database_codes", metavar="DATABASE_CODES")
@click.argument("query_labels", metavar="[QUERY_LABELS", required=False)
@click.argument("database_labels", metavar="DATABASE_LABELS]", required=False)
@measure_options
@click.option(
    "--relevance",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Pairs that are relevant, in place of labels: a sparse matrix (.npz) or text, 'query item [gain]'.",
)
@click.option("--exclude", type=click.Path(path_type=Path), metavar="FILE",
              help="Pairs that are left out of the rankings, relevant or not; a file of the same kinds.")  # fmt: skip
@click.option("--never-itself", is_flag=True, help="Leave each query out of its ranking; the database is the queries.")
@click.option("--mode", type=click.Choice(["deephash-pytorch", "hashnet", "fire", "dcmh"]),
              help="Compute mAP as published code does; see docs/metrics.md.")  # fmt: skip
@click.option("--encoding", type=click.Choice(["bits", "signs", "real", "packed"]), help="Encoding of the codes.")
@click.option("--bits", type=int, metavar="K", help="Length of packed codes that do not fill their last byte.")
@click.option("--labels", type=click.Choice(["integers", "multi-hot", "packed"]), help="Kind of the labels.")
@click.option("--backend", type=click.Choice(["auto", "numba", "triton", "torch"]), default="auto",
              help="auto: numba on the CPU, triton on a GPU, torch where these are missing.")  # fmt: skip
@click.option("--device", default="cpu", metavar="DEVICE", help="cpu or cuda.")
@click.option("--workers", type=int, default=1, metavar="N", help="Processes that share the database.")
@click.option(
    "--threads", type=int, metavar="N", help="Threads of each process; default: the cores divided by the workers."
)
@click.option("--shard", metavar="I/N", help="Count this shard of the database alone, into --output, for `merge`.")
@click.option("--own-files", is_flag=True, help="With --shard: the database's files hold that shard alone.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="With --shard: the part (.npz).")
def evaluate(
    query_codes: str,
    database_codes: str,
    query_labels: str | None,
    database_labels: str | None,
    relevance: Path | None,
    exclude: Path | None,
    shard: str | None,
    own_files: bool,
    output: Path | None,
    per_query: Path | None,
    ties: Any,
    mode: Any,
    **choices: Any,
) -> None:
    """Measure any codes, exactly and independently of their order; print how the arrays were interpreted.

    Arrays lie in .npy, .npz, .mat or .pt files (FILE:NAME where one holds several) or in text, .csv, .tsv or .txt; a
    database in .npy may be larger than memory. Codes are bool, {0,1}, {-1,+1}, real values (their signs) or packed
    bytes; labels are integers, names or multi-hot, and left out where --relevance gives the pairs.
    """
    from hashbench.metrics import evaluation
    from hashbench.metrics.arrays import plain_array
    from hashbench.metrics.large.files import read_array
    from hashbench.metrics.large.shards import Shard
    from hashbench.metrics.pair_files import read_pair_file
    from hashbench.storage.files import replacing

    if (shard is None) != (output is None) or (own_files and shard is None):
        raise HashbenchError("--shard and --output must be given together, and --own-files only with them; name the "
                             "FILE of the part, for example --shard 1/4 --output part-1.npz.")  # fmt: skip
    if shard is not None and (mode is not None or per_query is not None):
        raise HashbenchError("A shard has counts alone: leave out --mode, and give --per-query to `hashbench merge`.")
    places = (query_codes, database_codes, query_labels, database_labels)
    given: list[Path | str] = [_file_and_key(place)[0] for place in places if place is not None]
    given += [path for path in (relevance, exclude) if path is not None]
    for written in filter(None, (output, per_query)):
        check_output(written, given)  # before the counting, which may take hours
    with hashbench_errors():
        arrays: list[Any] = [None if place is None else read_array(*_file_and_key(place)) for place in places]
        queries, items = (
            len(plain_array(array, f"{name} codes")) for name, array in (("Query", arrays[0]), ("Database", arrays[1]))
        )
        for name, path in (("relevance", relevance), ("exclude", exclude)):
            if path is not None:
                choices[name], note = read_pair_file(path, queries=queries, items=items)
                print_notes((note,))
        chosen = None if shard is None else Shard.parse(shard)
        with _counting_bar(items, chosen if not own_files else None) as progress:
            if chosen is None:
                scores = evaluation.evaluate(
                    *arrays, bounds=True, per_query=per_query is not None, ties=ties, mode=mode, progress=progress,
                    **choices,
                )  # fmt: skip
            else:
                counted, notes = evaluation.count_shard(
                    *arrays, shard=chosen, own_files=own_files, progress=progress, **choices
                )
    if chosen is None:
        print_scores(scores, per_query)
        return
    assert output is not None
    with replacing(output) as file:
        counted.write(file)
    print_notes(notes)
    click.echo(
        f"{output}: shard {chosen}, {counted.hist.database:,} items; `hashbench merge` brings all parts together."
    )


@contextmanager
def _counting_bar(items: int, shard: Shard | None) -> Iterator[Callable[[int], object]]:
    """Show how many items were counted, on a terminal, where that takes longer than a second."""
    from tqdm.auto import tqdm

    if shard is not None:
        start, stop = shard.rows(items)
        items = stop - start
    with tqdm(total=items, unit="code", unit_scale=True, delay=1, leave=False, disable=not sys.stderr.isatty(),
              desc="counting") as bar:  # fmt: skip
        yield bar.update


def _file_and_key(place: str) -> tuple[str, str | None]:
    """Split FILE:NAME after the first ending of a file of arrays; NAME may be any, and a colon part of the path."""
    from hashbench.metrics.large.files import SUFFIXES

    if os.path.isfile(place) and Path(place).suffix.lower() in SUFFIXES:
        return place, None
    for colon in re.finditer(":", place):
        if Path(place[: colon.start()]).suffix.lower() in SUFFIXES:
            return place[: colon.start()], place[colon.end() :]
    return place, None
