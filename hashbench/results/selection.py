"""Which of many results a comparison takes, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hashbench.errors import HashbenchError, unknown
from hashbench.results.blocks import row_label
from hashbench.results.result import Result


def select(
    results: Iterable[Result],
    *,
    methods: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    bits: Sequence[int] | None = None,
    known_methods: Iterable[str] = (),
) -> list[Result]:
    """Return the results of these methods, data sets (`cifar10` or `cifar10@54k`) and code lengths, in their order.

    None takes all. A method is meant with all its rows, or as one row: `crh (reassign=false)`, and `crh ()` for the one
    with all defaults. Raises HashbenchError for a name that no result has; that of a method may be a known one instead.
    """
    kept = list(results)
    if datasets is not None:
        named = {name for result in kept for name in _dataset_names(result)}
        _check("data set", datasets, named)
        kept = [result for result in kept if not _dataset_names(result).isdisjoint(datasets)]
        kept.sort(key=lambda result: min(datasets.index(name) for name in _dataset_names(result) & {*datasets}))
    if methods is not None:
        papers = {*known_methods}  # which write names in capitals of their own
        asked = [name for name in methods if name.casefold() not in {known.casefold() for known in papers}]
        _check("method", asked, {name for result in kept for name in row_names(result)} | papers)
        kept = [result for result in kept if not row_names(result).isdisjoint(methods)]
        kept.sort(key=lambda result: min(methods.index(name) for name in row_names(result) & {*methods}))
    if bits is not None:
        _check("code length", bits, {result.coords["bits"] for result in kept})
        kept = [result for result in kept if result.coords["bits"] in bits]
    if not kept:
        raise HashbenchError("No run has all that was asked for; name fewer methods, data sets or code lengths.")
    return kept


def with_baseline(methods: Sequence[str], baseline: str, results: Iterable[Result]) -> list[str]:
    """Return `methods` and, where none of their rows is the `baseline`, the row that it means, or all of its method."""
    named = [row_names(result) for result in results]
    known = {name for names in named for name in names}
    means = f"{baseline} ()" if f"{baseline} ()" in known else baseline
    if means not in known or any(means in names and not names.isdisjoint(methods) for names in named):
        return [*methods]
    return [*methods, means]


def row_names(result: Result) -> set[str]:
    """Return by which names a result's row is asked for: its method's, and its own, `crh (heads=1)` or `crh ()`."""
    method, label = result.coords["method"], row_label(result)
    return {method, f"{method} ()" if label == method else label}


def _dataset_names(result: Result) -> set[str]:
    name, protocol = result.coords["dataset"], result.coords["protocol"]
    return {name, f"{name}@{protocol}"}


def _check(kind: str, wanted: Sequence[object], known: Iterable[object]) -> None:
    there = {str(name) for name in known}
    for name in wanted:
        if str(name) not in there:
            raise unknown(kind, name, there, hint="It is not among these results.")
