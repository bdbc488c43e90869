"""The results that a comparison shows, and their order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from hashbench.errors import HashbenchError, unknown
from hashbench.results.result import Result
from hashbench.results.sweeps.planned import Planned
from hashbench.results.tables.blocks import further_names
from hashbench.results.tables.scores import has_histograms

_TUNED = re.compile(r"(recipe\.\w+=[^,()]+, )*tuned over \d+ trials?")


def select(
    results: Iterable[Result],
    *,
    methods: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    bits: Sequence[int] | None = None,
    baseline: str | None = None,
    known_methods: Iterable[str] = (),
) -> list[Result]:
    """Return the results of these methods, data sets (`cifar10` or `cifar10@54k`) and code lengths, in their order.

    None takes all. A method is meant with all its rows, or as one row: `crh (reassign=false)`, and `crh ()` for the one
    with all defaults; `crh (tuned)` without what its tuning found. Where no row has just that name, those with these
    fields are meant, however tuned. `baseline`, named likewise, stays whatever `methods` are. Raises HashbenchError for
    a name that no result has; that of a method may be a known one instead.
    """
    kept = list(results)
    if datasets is not None:
        named = {name for result in kept for name in _dataset_names(result)}
        _check("data set", datasets, named)
        kept = [result for result in kept if not _dataset_names(result).isdisjoint(datasets)]
        kept.sort(key=lambda result: min(datasets.index(name) for name in _dataset_names(result) & {*datasets}))
    if methods is not None:
        papers = {*known_methods}  # which write names in capitals of their own
        unpublished = [name for name in methods if name.casefold() not in {known.casefold() for known in papers}]
        names = _method_names(kept)
        _check("method", unpublished, {name for named in names.values() for name in named} | papers)
        wanted = [*methods, *_named_by(baseline, names.values())]
        kept = [result for result in kept if not names[result.id].isdisjoint(wanted)]
        kept.sort(key=lambda result: min(wanted.index(name) for name in names[result.id] & {*wanted}))
    if bits is not None:
        _check("code length", bits, {result.coords["bits"] for result in kept})
        kept = [result for result in kept if result.coords["bits"] in bits]
    if not kept:
        raise HashbenchError("No run has all that was asked for; name fewer methods, data sets or code lengths.")
    return kept


def select_planned(
    planned: Iterable[Planned],
    *,
    methods: Sequence[str] | None = None,
    bits: Sequence[int] | None = None,
    beside: Iterable[Result] = (),
) -> list[Planned]:
    """Return the planned runs of these methods or rows and code lengths, None takes all; and of cells of results."""
    cells = {result.coords["cell"] for result in beside}

    def is_meant(run: Planned) -> bool:
        method = run.row.partition(" (")[0]
        names = {method, f"{method} ()" if method == run.row else run.row, _TUNED.sub("tuned", run.row)}
        return methods is None or not names.isdisjoint(methods) or run.cell in cells

    return [run for run in planned if is_meant(run) and (bits is None or run.bits in bits)]


def each_once(results: Iterable[Result], problems: list[str] | None = None) -> list[Result]:
    """Return each run once, of its copies the first that has histograms; sentences about copies with other numbers, of
    which the first is kept, join `problems`.
    """
    kept: dict[str, Result] = {}
    for result in results:
        first = kept.setdefault(result.id, result)
        if first is result:
            continue
        if first.agrees_with(result):
            if not has_histograms(first) and has_histograms(result):
                kept[result.id] = result
        elif problems is not None:
            problems.append(
                f"{first.path} and {result.path} are the same experiment with different numbers; the first is shown, "
                f"delete one of them."
            )
    return list(kept.values())


def _dataset_names(result: Result) -> set[str]:
    name, protocol = result.coords["dataset"], result.coords["protocol"]
    return {name, f"{name}@{protocol}"}


def _method_names(results: Sequence[Result]) -> dict[str, set[str]]:
    """Return by which names each of the results, by id, can be meant: its method, its row, its row's fields alone."""
    methods = {result.id: result.coords["method"] for result in results}
    names = {result.id: further_names(result) for result in results}
    rows = {id: f"{label} ()" if label == methods[id] else label for id, (label, *_) in names.items()}
    taken = {*rows.values()}
    return {id: {methods[id], rows[id], short, *({by_fields} - taken)} for id, (_, short, by_fields) in names.items()}


def _named_by(baseline: str | None, names: Iterable[set[str]]) -> list[str]:
    """Return what a baseline selects: the row of that name where there is one, else the method, else nothing."""
    there = {name for named in names for name in named} if baseline is not None else set()
    return [name for name in (f"{baseline} ()", baseline) if name in there][:1]


def _check(kind: str, wanted: Sequence[object], known: Iterable[object]) -> None:
    there = {str(name) for name in known}
    for name in wanted:
        if str(name) not in there:
            raise unknown(kind, name, there, hint="It is not among these results.")
