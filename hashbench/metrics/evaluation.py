"""`evaluate`: from codes and labels in any form to the values of named measures, in one call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hashbench.metrics import compatibility
from hashbench.metrics.arrays import (
    Codes,
    Encoding,
    LabelKind,
    Labels,
    one_class_each,
    plain_array,
    read_codes,
    read_labels,
)
from hashbench.metrics.compatibility import MODES, Mode
from hashbench.metrics.hamming import NO_PAIRS, Backend, histograms
from hashbench.metrics.histograms import Histograms, cores
from hashbench.metrics.large.rows import ConvertedRows, SparseRows
from hashbench.metrics.large.shard_counts import ShardCounts, fingerprint, merged
from hashbench.metrics.large.shards import Shard, histograms_by_workers
from hashbench.metrics.measures import Measure, evaluate_histograms, parse
from hashbench.metrics.pairs import Pairs, read_pairs
from hashbench.metrics.ranking import Ties

MOST_EACH = 16  # workers or threads for each core
NOTHING_RELEVANT = "No query has a relevant item; check that both sides name or number the classes alike."
SAMPLED = 64  # rows of a whole database by which its shards are told from another's


@dataclass(frozen=True, eq=False)
class Scores(Mapping[str, float]):
    """Means over the queries by the measures' names (NaN for a mode that keeps none), and what else was requested.

    per_query (Q,) float64 by name; bounds: smallest and largest mean that any order of tied items gives; curves: x
    (recall), y (precision) and `at` (radius or rank); counts of queries and items; notes on how the arrays were
    interpreted, and warnings of what makes the values doubtful.
    """

    means: dict[str, float]
    ties: Ties
    bits: int
    per_query: dict[str, np.ndarray] = field(default_factory=dict)
    bounds: dict[str, list[float]] = field(default_factory=dict)
    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> float:
        return self.means[name if name in self.means else str(parse(name))]

    def __iter__(self) -> Iterator[str]:
        return iter(self.means)

    def __len__(self) -> int:
        return len(self.means)


def evaluate(
    query_codes: Any,
    database_codes: Any,
    query_labels: Any = None,
    database_labels: Any = None,
    *,
    relevance: Any = None,
    exclude: Any = None,
    never_itself: bool = False,
    measures: Iterable[Measure | str] | str = ("mAP@all",),
    ties: Ties = "expected",
    mode: Mode | None = None,
    per_query: bool = False,
    bounds: bool = False,
    encoding: Encoding | None = None,
    bits: int | None = None,
    labels: LabelKind | None = None,
    backend: Backend = "auto",
    device: str = "cpu",
    workers: int = 1,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda items: None,
) -> Scores:
    """Return the measures of a database's codes against queries' codes, a mapping from name to mean over the queries.

    Codes (n, bits) are bool, {0, 1}, {-1, +1} or real (value >= 0 is a one), or packed bytes (n, ceil(bits / 8)) uint8;
    labels are integers or names (n,), multi-hot (n, C), also sparse of scipy, or packed multi-hot; arrays or tensors, a
    memory-mapped database is read a tile at a time. `measures` may be one string with commas. Instead of labels,
    `relevance` says what is relevant: a sparse matrix (Q, N) of scipy, a nonzero value being the gain of the pair, 1 or
    more. `exclude`, such a matrix too, leaves its nonzero pairs out of the
    rankings altogether, relevant or not, and `never_itself` the pairs (i, i) where the queries are the database.
    `encoding`, `bits` and `labels` settle what cannot be recognised. `mode` computes every mAP as one published code
    base does (docs/metrics.md). `per_query` and `bounds` add values per query and tie bounds. `workers` processes of
    `threads` each share the database (None: all cores), `progress` is called with items counted.
    Raises ValueError for what is ambiguous or does not fit together; warns of codes that are all one word, and of
    labels that make nothing relevant.
    """
    chosen = _chosen(measures, mode)
    pairs = NO_PAIRS
    if relevance is not None or exclude is not None or never_itself:
        _refuse_modes(chosen)
        pairs = read_pairs(
            relevance,
            exclude,
            never_itself=never_itself,
            queries=len(plain_array(query_codes, "Query codes")),
            items=len(plain_array(database_codes, "Database codes")),
        )
    given = _Given.recognise(
        query_codes, database_codes, query_labels, database_labels, encoding=encoding, bits=bits, labels=labels,
        pairs=pairs,
    )  # fmt: skip
    counting = _Counting(_needs_gains(chosen), backend, device, workers, threads, progress)
    hist = counting.count(given)
    published = {str(measure): _as_published(given, hist, measure) for measure in chosen if measure.mode is not None}
    scores = _scores(
        hist, chosen, published, ties=ties, per_query=per_query, bounds=bounds, notes=given.notes, warned=given.warnings
    )
    for sentence in scores.warnings:
        warnings.warn(sentence, stacklevel=2)
    return scores


def count_shard(
    query_codes: Any,
    database_codes: Any,
    query_labels: Any = None,
    database_labels: Any = None,
    *,
    shard: Shard,
    own_files: bool = False,
    relevance: Any = None,
    exclude: Any = None,
    never_itself: bool = False,
    measures: Iterable[Measure | str] | str = ("mAP@all",),
    encoding: Encoding | None = None,
    bits: int | None = None,
    labels: LabelKind | None = None,
    backend: Backend = "auto",
    device: str = "cpu",
    workers: int = 1,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda items: None,
) -> tuple[ShardCounts, tuple[str, ...]]:
    """Count one shard of a database, for `evaluate_shards` to bring together; returns it and notes on the arrays.

    The arrays hold the whole database, or that shard alone with `own_files`; so do the columns of `relevance` and
    `exclude`. `measures` only say whether gains must be counted (nDCG). All else is as for `evaluate`.
    """
    chosen = _countable_in_shards(measures)
    codes = plain_array(database_codes, "Database codes")
    items = len(codes)
    labels_given = None if database_labels is None else plain_array(database_labels, "Database labels")
    if labels_given is not None and len(labels_given) != items:
        raise ValueError(f"Database labels and codes differ in number: {len(labels_given)} labels for {items} codes.")
    if own_files and never_itself:
        raise ValueError(
            "A shard's own files do not say which of its items each query is; give these pairs to exclude."
        )
    rows = None if own_files else shard.rows(items)
    if rows is not None and rows[0] == rows[1]:
        raise ValueError(f"Shard {shard} of {items:,} items is empty; cut the database into fewer shards.")
    within = slice(*rows) if rows is not None else slice(None)
    queries = len(plain_array(query_codes, "Query codes"))
    pairs = read_pairs(relevance, exclude, never_itself=never_itself, queries=queries, items=items)
    given = _Given.recognise(
        query_codes, _cut(database_codes, within), query_labels, _cut(database_labels, within),
        encoding=encoding, bits=bits, labels=labels, pairs=pairs.between(*rows) if rows and pairs else pairs,
    )  # fmt: skip
    hist = _Counting(_needs_gains(chosen), backend, device, workers, threads, progress).count(given)
    # The pairs of files of its own are those of this shard alone, so that only their kinds can be compared.
    told = pairs.fingerprint if pairs and rows else pairs.kinds
    of_query = None if given.of_query is None else np.asarray(given.of_query.values)
    told += "\0".join((given.of_query and given.of_query.names) or ())
    told_apart = fingerprint(np.asarray(given.query.packed), of_query, told)
    counted = ShardCounts(
        hist,
        shard,
        rows,
        None if own_files else items,
        given.database.encoding,
        told_apart,
        "" if own_files else _sampled(given.database, codes, labels_given),
    )
    return counted, (*given.notes, *(f"Warning: {sentence}" for sentence in given.warnings))


def evaluate_shards(
    shards: Mapping[str, ShardCounts],
    *,
    measures: Iterable[Measure | str] | str = ("mAP@all",),
    ties: Ties = "expected",
    per_query: bool = False,
    bounds: bool = False,
) -> Scores:
    """Return the measures from the counts of all shards, by the names of their files: those that `evaluate` returns.

    Raises ValueError where shards are missing, there twice or do not belong together, and for measures that need more
    than their counts.
    """
    chosen = _countable_in_shards(measures)
    hist = merged(shards)
    if _needs_gains(chosen) and hist.gains is None:
        raise ValueError("nDCG needs gains counted; count every shard with the same --measure nDCG@k.")
    notes = (f"{len(shards)} shards, {hist.database:,} items.",)
    return _scores(hist, chosen, {}, ties=ties, per_query=per_query, bounds=bounds, notes=notes)


@dataclass(frozen=True, eq=False)
class _Given:
    """The arrays as they were interpreted; without labels, pairs say what is relevant."""

    query: Codes
    database: Codes
    of_query: Labels | None
    of_database: Labels | None
    pairs: Pairs

    @classmethod
    def recognise(
        cls,
        query_codes: Any,
        database_codes: Any,
        query_labels: Any,
        database_labels: Any,
        *,
        encoding: Encoding | None,
        bits: int | None,
        labels: LabelKind | None,
        pairs: Pairs,
    ) -> _Given:
        query = read_codes(query_codes, "Query codes", encoding=encoding, bits=bits)
        database = read_codes(database_codes, "Database codes", encoding=encoding, bits=bits)
        if query.bits != database.bits:
            raise ValueError(
                f"Query codes have {query.bits} bits and database codes {database.bits}; they cannot be compared "
                f"({query.note} {database.note})"
            )
        _check_one_relevance(query_labels, database_labels, pairs, labels)
        if pairs.relevant is not None:
            return cls(query, database, None, None, pairs)
        of_query = read_labels(query_labels, "Query labels", kind=labels)
        return cls(query, database, of_query, read_labels(database_labels, "Database labels", kind=labels), pairs)

    @property
    def labels(self) -> tuple[ConvertedRows, ConvertedRows] | tuple[None, None]:
        """Labels of query and database, as `histograms` takes them."""
        if self.of_query is None or self.of_database is None:
            return None, None
        return one_class_each(self.of_query, self.of_database)

    @property
    def notes(self) -> tuple[str, ...]:
        said = (self.query, self.database, self.of_query, self.of_database, self.pairs)
        return tuple(each.note for each in said if each is not None and each.note)

    @property
    def warnings(self) -> tuple[str, ...]:
        a, b = self.query.encoding, self.database.encoding
        apart = "" if a == b or {a, b} == {"bits", "signs"} else (
            f"Query codes were taken as {a} and database codes as {b}; a one must be the same in both"
            f"{', and the first bit the highest of a byte (numpy.packbits)' if 'packed' in (a, b) else ''}."
        )  # fmt: skip
        return tuple(filter(None, (self.query.warning, self.database.warning, apart)))


def _check_one_relevance(query_labels: Any, database_labels: Any, pairs: Pairs, labels: LabelKind | None) -> None:
    """Raise ValueError where nothing, half of it or two things say which items are relevant."""
    given = [name for name, array in (("query", query_labels), ("database", database_labels)) if array is not None]
    if pairs.relevant is not None and (given or labels is not None):
        raise ValueError("Both labels and relevance say which items are relevant; leave out one of them.")
    if pairs.relevant is None and len(given) < 2:
        lacking = f"only the {given[0]} labels do" if given else "neither labels nor pairs do"
        raise ValueError(
            f"Nothing says which items are relevant ({lacking}); give the labels of queries and database, or relevance "
            "(`--relevance`)."
        )


@dataclass(frozen=True)
class _Counting:
    """How the counting is done; no choice changes a count."""

    gains: bool
    backend: Backend
    device: str
    workers: int
    threads: int | None
    progress: Callable[[int], object]

    def __post_init__(self) -> None:
        for name, value in (("workers", self.workers), ("threads", self.threads)):
            if value is not None and value < 1:
                raise ValueError(f"{value} {name} count nothing; give at least 1 (`--{name}`).")
            if value is not None and value > MOST_EACH * cores():
                raise ValueError(
                    f"{value} {name} are more than {cores()} cores can use; give at most {MOST_EACH * cores()} "
                    f"(`--{name}`)."
                )
        if self.workers > 1 and self.device != "cpu":
            raise ValueError(f"Workers share the CPU, not '{self.device}'; leave out workers or the device.")

    def count(self, given: _Given) -> Histograms:
        query, database, (of_query, of_database) = given.query.packed, given.database.packed, given.labels
        unequal = of_database is not None and len(of_database) != len(database)
        if unequal or self.workers == 1:
            return histograms(
                query, database, of_query, of_database, bits=given.query.bits, pairs=given.pairs, backend=self.backend,
                device=self.device, gains=self.gains, threads=self.threads, progress=self.progress,
            )  # fmt: skip
        return histograms_by_workers(
            np.asarray(query), database, None if of_query is None else np.asarray(of_query), of_database,
            bits=given.query.bits, pairs=given.pairs, workers=self.workers, threads=self.threads, backend=self.backend,
            gains=self.gains, progress=self.progress,
        )  # fmt: skip


def _scores(
    hist: Histograms,
    chosen: Sequence[Measure],
    published: Mapping[str, np.ndarray],
    *,
    ties: Ties,
    per_query: bool,
    bounds: bool,
    notes: tuple[str, ...],
    warned: tuple[str, ...] = (),
) -> Scores:
    """Return the values of the measures: from histograms, or `published` (Q,) ones that depend on the order."""
    exact = [measure for measure in chosen if measure.mode is None]
    found = evaluate_histograms(hist, exact, ties=ties, bounds=bounds)
    means = found.metrics | {name: compatibility.mean(values) for name, values in published.items()}
    each_query: dict[str, np.ndarray] = {}
    if per_query:
        each_query = {str(measure): measure.per_query(hist, ties=ties) for measure in exact if not measure.is_curve}
        each_query |= published
    return Scores(
        means={str(measure): means[str(measure)] for measure in chosen if not measure.is_curve},
        ties=ties,
        bits=hist.bits,
        per_query=each_query,
        bounds=found.bounds,
        curves=found.curves,
        counts=found.counts,
        notes=notes,
        warnings=warned if hist.r.any() else (*warned, NOTHING_RELEVANT),
    )


def _cut(array: Any, rows: slice) -> Any:
    """Return some rows of an array of any library, of its own kind; None of none."""
    return array if array is None else (array.tocsr() if hasattr(array, "tocsr") else array)[rows]


def _sampled(database: Codes, codes: np.ndarray | SparseRows, labels: np.ndarray | SparseRows | None) -> str:
    """Return the sha256 of some rows of a whole database: shards of two databases are told apart by it."""
    places = np.unique(np.linspace(0, len(codes) - 1, SAMPLED).astype(np.int64))
    rows = np.concatenate([np.asarray(codes[place : place + 1]) for place in places])
    said = [] if labels is None else [np.asarray(labels[place : place + 1]).tolist() for place in places]
    return fingerprint(database.packed.convert(rows), None, repr(said))


def _chosen(measures: Iterable[Measure | str] | str, mode: Mode | None) -> list[Measure]:
    """Return the measures of these names, of which one string may hold several with commas between them."""
    each = [measures] if isinstance(measures, str) else measures
    names = [part for name in each for part in (name.split(",") if isinstance(name, str) else [name])]
    if not names:
        raise ValueError("There is no measure to compute; name one, such as mAP@all.")
    return [_in_mode(name, mode) for name in names]


def _countable_in_shards(measures: Iterable[Measure | str] | str) -> list[Measure]:
    chosen = _chosen(measures, None)
    for measure in chosen:
        if measure.mode is not None:
            raise ValueError(f"{measure} depends on the order of the whole database; it cannot be counted in shards.")
    return chosen


def _refuse_modes(chosen: Iterable[Measure]) -> None:
    for measure in chosen:
        if measure.mode is not None:
            raise ValueError(
                f"{measure} is as published code computes it, by labels and over all items; ask for mAP@1000/hits or "
                "mAP@all where pairs are given or left out."
            )


def _as_published(given: _Given, hist: Histograms, measure: Measure) -> np.ndarray:
    query, database = given.labels
    assert query is not None
    assert database is not None
    assert measure.mode is not None
    codes = given.query.packed, given.database.packed
    return compatibility.average_precision(*codes, query, database, hist=hist, mode=measure.mode, k=measure.k)


def _needs_gains(measures: Iterable[Measure]) -> bool:
    return any(measure.needs_gains for measure in measures)


def _in_mode(measure: Measure | str, mode: Mode | None) -> Measure:
    """Return the measure as `mode` computes it; raises ValueError where its name says another denominator."""
    if mode is not None and mode not in MODES:
        raise ValueError(f"Unknown compatibility mode '{mode}'; known are {', '.join(MODES)}.")
    name = str(measure)
    if mode is not None and name.startswith("mAP@"):
        written, _, rule = name.partition("/")
        if rule not in ("", mode) and (rule != "hits" or mode == "dcmh"):
            raise ValueError(
                f"The mode {mode} fixes the denominator; write {written}, or leave out the mode for {name}."
            )
        name = f"{written}/{mode}"
    return parse(name)
