"""`hashbench search-cost`: what exact search with a run's codes costs."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from hashbench.cli.base import command, print_kept, warn
from hashbench.cli.options import filter_options, filters, names
from hashbench.errors import HashbenchError


@command(
    "hashbench search-cost runs --radius 2 --neighbours 10,100",
    "hashbench search-cost runs --method crh,csq --bits 64 --tables 4",
    name="search-cost",
)
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option("--radius", metavar="R[,R]", help="Search for all items within these Hamming distances.")
@click.option("--neighbours", metavar="K[,K]", help="Search for this many nearest items.")
@click.option("--tables", type=click.IntRange(min=1), metavar="M", show_default=False,
              help="Tables of the index. Default: bits / log2(items), rounded.")  # fmt: skip
@click.option("--queries", type=click.IntRange(min=1), default=1000, show_default=True, metavar="N",
              help="The first N queries are searched for.")  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, metavar="N")
@filter_options
def search_cost(
    runs: tuple[Path, ...],
    radius: str | None,
    neighbours: str | None,
    tables: int | None,
    queries: int,
    threads: int,
    methods: str | None,
    datasets: str | None,
    bits: str | None,
) -> None:
    """Measure what exact search by multi-index hashing costs with the codes of the finished RUNS (default: runs).

    For each search: how many buckets it looks at, items it meets in them (candidates) and distances it computes, means
    over queries; and microseconds for a query beside a linear scan and FAISS, where that is installed. All of them find
    the same. Without --radius and --neighbours, the searches are radius 2, nearest 10 and nearest 100. Counts and times
    are kept as `search-cost.json` in each run's folder.
    """
    searches = _searches(radius, neighbours)

    from tqdm.auto import tqdm

    from hashbench.evaluation.search_cost import search_cost as measure
    from hashbench.results.finding import finished_runs
    from hashbench.results.runs import RunDirectory
    from hashbench.results.tables.selection import each_once, select

    results, problems = finished_runs(*runs)
    warn(problems)
    runs_themselves = [result for result in each_once(results) if not result.condition]
    if not runs_themselves:
        raise HashbenchError("These are runs under conditions, whose database is the run's; name the runs themselves.")
    chosen = [result for result in runs_themselves if result.has_codes]
    if not chosen:
        raise HashbenchError("These runs rank by real scores and have no codes to search; name runs that have.")
    warn(f"{result.path} ranks by real scores and has no codes to search; it is left out."
         for result in runs_themselves if not result.has_codes)  # fmt: skip
    found: list[tuple[Any, dict[str, Any]]] = []
    with tqdm(select(chosen, **filters(methods, datasets, bits)), unit="run", disable=not sys.stderr.isatty(),
              leave=False) as progress:  # fmt: skip
        for result in progress:
            assert result.path is not None
            costs = measure(RunDirectory(result.path), searches, tables=tables, queries=queries, threads=threads)
            found.append((result, costs))
    text = "\n\n".join(_table(str(search), found) for search in searches)
    if find_spec("faiss") is None:
        text += "\n\nFAISS is not installed and is left out; install it with pip install 'hashbench[faiss]'."
    kept = "Counts and times are kept as search-cost.json in each run's folder."
    print_kept(f"{text}\n\n{_explained(found, threads)}\n{kept}", otherwise=kept)


def _searches(radius: str | None, neighbours: str | None) -> list[Any]:
    from hashbench.evaluation.search_cost import Search

    if radius is None and neighbours is None:
        radius, neighbours = "2", "10,100"
    within = (
        [] if radius is None else [Search(radius=_number("--radius", text, 0)) for text in names("--radius", radius)]
    )
    if neighbours is not None:
        within += [Search(neighbours=_number("--neighbours", text, 1)) for text in names("--neighbours", neighbours)]
    return within


def _number(option: str, text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise HashbenchError(f"{option} takes whole numbers from {least} on, and '{text}' is none.")
    return int(text)


def _table(search: str, found: list[tuple[Any, dict[str, Any]]]) -> str:
    """Return the table of one search, a row for each run."""
    from tabulate import tabulate

    from hashbench.results.tables.blocks import row_label

    rows, ways = [], dict[str, None]()
    for result, costs in found:
        (cost,) = (each for each in costs["searches"] if each["search"] == search)
        ways |= dict.fromkeys(cost["seconds"])
        measure = result.coords["measure"]
        means = [f"{cost[name]['mean']:,.1f}" for name in ("found", "buckets", "candidates", "compared")]
        micro = {way: f"{1e6 * seconds:,.1f}" for way, seconds in cost["seconds"].items()}
        name = f"{result.coords['dataset']}@{result.coords['protocol']}"
        rows.append(([name, row_label(result), costs["bits"], result.coords["seed"], len(costs["tables"]),
                      _value(measure, result.metrics.get(measure)), *means], micro))  # fmt: skip
    heads = [
        "data set",
        "method",
        "bits",
        "seed",
        "tables",
        "measure",
        "found",
        "buckets",
        "candidates",
        "compared",
    ]
    body = [[*row, *(micro.get(way, "") for way in ways)] for row, micro in rows]
    table = tabulate(body, headers=[*heads, *(f"{way} µs" for way in ways)], disable_numparse=True,
                     colalign=["left", "left", *["right"] * (8 + len(ways))])  # fmt: skip
    return f"{search}\n\n{table}"


def _value(measure: str, value: float | None) -> str:
    return "—" if value is None else f"{measure} {value:.4f}"


def _explained(found: list[tuple[Any, dict[str, Any]]], threads: int) -> str:
    searched = sorted({costs["queries"] for _, costs in found})
    machines = ", ".join(sorted({costs["machine"] for _, costs in found}))
    return (
        f"Means over the first {' or '.join(f'{count:,}' for count in searched)} queries; microseconds for a query, "
        f"the shortest of three repeats, {threads} thread{'' if threads == 1 else 's'}, {machines}."
    )
