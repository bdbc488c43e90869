"""The audit of a split: its sizes and class balance, its overlaps and copies, and its contradictions of a protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from hashbench.datasets.base import Split, Store
from hashbench.datasets.protocol import Protocol, Sizes, StatedSizes
from hashbench.datasets.splits import hold_out, split
from hashbench.errors import HashbenchError

COUNTED = {  # the fields that `table` shows, in its words
    "train_in_database": "train items in the database",
    "train_in_query": "train items among the queries",
    "query_in_database": "queries in the database",
    "unlabelled": "unlabelled items",
    "queries_without_relevant": "queries without a relevant item",
    "queries_copied_in_database": "queries with an identical input in the database",
    "queries_copied_with_other_labels": "of them, where it shares no label",
    "queries_copied_in_train": "queries with an identical input in train",
    "copies": "items with an identical input anywhere",
    "copies_with_other_labels": "of them, where its labels differ",
}


@dataclass(frozen=True)
class Audit:
    """What a split holds; plain numbers, so that `dataclasses.asdict` can stand in a result."""

    sizes: Sizes
    train_per_class: tuple[int, ...]
    query_per_class: tuple[int, ...]
    database_per_class: tuple[int, ...]
    train_in_query: int  # items that are in both
    train_in_database: int
    query_in_database: int
    unlabelled: int  # items of any part without a label
    queries_without_relevant: int  # queries to which no database item is relevant, by labels or by given pairs
    queries_copied_in_train: int  # queries whose very input is also a train item's
    queries_copied_in_database: int  # queries whose very input is also a database item's
    queries_copied_with_other_labels: int  # those whose database copies include one that shares no label
    copies: int  # items of any part whose very input is also another item's of any part
    copies_with_other_labels: int  # those of which one such other item has different labels

    def counts(self) -> dict[str, int]:
        """Return the single numbers, without sizes and class balance."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int)}

    def __str__(self) -> str:
        balance = ", ".join(
            f"{size:,} {part} ({min(counts)} to {max(counts)} a class)"
            for part, size, counts in zip(
                self.sizes._fields,
                self.sizes,
                (self.train_per_class, self.query_per_class, self.database_per_class),
                strict=True,
            )
        )
        return (
            f"{balance}; {self.train_in_database:,} train items in the database, {self.unlabelled} unlabelled, "
            f"{self.queries_without_relevant} queries without a relevant item, {self.queries_copied_in_database} "
            f"with an identical copy in the database ({self.queries_copied_with_other_labels} of them under "
            f"other labels), {self.queries_copied_in_train} with one in train"
        )


def audit(store: Store, parts: Split) -> Audit:
    """Return what the split `parts` of `store` holds."""
    train, query, database = parts.train, parts.query, parts.database
    counts = {part: store.labels[index].sum(axis=0, dtype=np.int64) for part, index in _named(parts)}
    used = np.unique(np.concatenate([train, query, database]))
    copied_in_database, copied_with_other_labels = _copies(store, query, database)
    copies, copies_with_other_labels = _shared(store, used)
    return Audit(
        sizes=Sizes(len(train), len(query), len(database)),
        train_per_class=tuple(counts["train"].tolist()),
        query_per_class=tuple(counts["query"].tolist()),
        database_per_class=tuple(counts["database"].tolist()),
        train_in_query=len(np.intersect1d(train, query)),
        train_in_database=len(np.intersect1d(train, database)),
        query_in_database=len(np.intersect1d(query, database)),
        unlabelled=int((~store.labels[used].any(axis=1)).sum()),
        queries_without_relevant=_without_relevant(store, parts, counts["database"] > 0),
        queries_copied_in_train=_copies(store, query, train)[0],
        queries_copied_in_database=copied_in_database,
        queries_copied_with_other_labels=copied_with_other_labels,
        copies=copies,
        copies_with_other_labels=copies_with_other_labels,
    )


def table(audits: Mapping[str, Audit]) -> str:
    """Return a table that people read: a column for each protocol, a line for each thing that was counted."""
    parts = [
        [f"{part} items (a class)", *(_balance(sizes, counts) for sizes, counts in columns)]
        for part, columns in (
            ("train", [(found.sizes.train, found.train_per_class) for found in audits.values()]),
            ("query", [(found.sizes.query, found.query_per_class) for found in audits.values()]),
            ("database", [(found.sizes.database, found.database_per_class) for found in audits.values()]),
        )
    ]
    counted = [[title, *(f"{found.counts()[name]:,}" for found in audits.values())] for name, title in COUNTED.items()]
    return tabulate(
        [*parts, *counted],
        headers=["", *audits],
        disable_numparse=True,
        colalign=("left", *["right"] * len(audits)),
    )


def audited_split(store: Store, protocol: Protocol, evaluate_on: str) -> tuple[Split, Audit]:
    """Return the split of `store` under `protocol` for `evaluate_on` ("test" or "validation"), audited.

    Raises HashbenchError for a split that contradicts its protocol, and for one by which all measures are 0 or 1.
    """
    parts = split(store, protocol)
    found = audit(store, parts)
    require(found, store, protocol)
    if found.queries_without_relevant == len(parts.query):
        raise HashbenchError(
            f"Under {protocol.full_name} nothing in the database is relevant to any query, so that every measure would "
            "be 0; are the classes called the same in all parts?"
        )
    if not store.has_pairs and found.database_per_class == (len(parts.database),):
        raise HashbenchError(
            f"Under {protocol.full_name} all of the database is of one class, so that every order would be perfect; "
            "give items of other classes."
        )
    if evaluate_on == "test":
        return parts, found
    parts = hold_out(store, parts)
    found = audit(store, parts)
    if store.relevance is not None and found.queries_without_relevant == len(parts.query):
        raise HashbenchError(
            f"{store.name} says for no train item which others are relevant to it, so that none can be a validation "
            "query; give such pairs too, or evaluate on test."
        )
    return parts, found


def require(found: Audit, store: Store, protocol: Protocol) -> None:
    """Raise HashbenchError where `found` contradicts `protocol`: its sizes, or that parts are disjoint."""
    name = protocol.full_name
    if len(store.classes) != protocol.num_classes:
        raise HashbenchError(
            f"{name} states {protocol.num_classes} classes, but {store.name} has {len(store.classes)}."
        )
    if store.multi_label and not protocol.multi_label:
        raise HashbenchError(f"{name} is a single-label protocol, but {store.name} has items of several classes.")
    if 0 in found.sizes:
        raise HashbenchError(f"{name} needs items of every part, but {store.name} gives {_in_words(found.sizes)}.")
    if found.query_in_database or found.train_in_query:
        raise HashbenchError(
            f"{name} states unseen queries, but {found.query_in_database} of them are in the database and "
            f"{found.train_in_query} in train; the split is not usable."
        )
    if found.train_in_database != (found.sizes.train if protocol.train_in_database else 0):
        raise HashbenchError(
            f"{name} states {'all' if protocol.train_in_database else 'no'} train items in the database, but "
            f"{found.train_in_database} of {found.sizes.train} are; the split is not usable."
        )
    if any(stated not in (None, size) for stated, size in zip(protocol.sizes, found.sizes, strict=True)):
        raise HashbenchError(
            f"{name} states {_in_words(protocol.sizes)}, but {store.name} gives {_in_words(found.sizes)}; "
            f"is the data set complete?"
        )


def _without_relevant(store: Store, parts: Split, in_database: np.ndarray) -> int:
    """Count the queries to which nothing is relevant; `in_database` (C,) says which classes the database has.

    Pairs left out do not count here where labels say what is relevant.
    """
    if store.relevance is None:
        return int((~(store.labels[parts.query] & in_database).any(axis=1)).sum())
    relevant = store.pairs_of(parts.query, parts.database).relevant
    assert relevant is not None
    return len(parts.query) - len(np.unique(relevant.query))


def _named(parts: Split) -> list[tuple[str, np.ndarray]]:
    return [("train", parts.train), ("query", parts.query), ("database", parts.database)]


def _copies(store: Store, query: np.ndarray, others: np.ndarray) -> tuple[int, int]:
    """Count the queries with an identical input among `others`, and those where one shares no label with it."""
    hashes = store.input_hashes
    query_hashes = {hashes[item] for item in query.tolist()}
    same: dict[bytes, list[int]] = {}
    for item in others.tolist():
        if hashes[item] in query_hashes:
            same.setdefault(hashes[item], []).append(item)
    copied = [item for item in query.tolist() if hashes[item] in same]
    conflicting = [item for item in copied if not _share_labels(store, item, same[hashes[item]])]
    return len(copied), len(conflicting)


def _shared(store: Store, used: np.ndarray) -> tuple[int, int]:
    """Count the items of `used` whose input is another one's too, and those where one such has different labels."""
    hashes = store.input_hashes
    same: dict[bytes, list[int]] = {}
    for item in used.tolist():
        same.setdefault(hashes[item], []).append(item)
    groups = [group for group in same.values() if len(group) > 1]
    mixed = [group for group in groups if (store.labels[group] != store.labels[group[0]]).any()]
    return sum(map(len, groups)), sum(map(len, mixed))


def _balance(size: int | None, per_class: tuple[int, ...]) -> str:
    """Return how many items a part holds, and how many of each class that occurs in it, as text."""
    held = [count for count in per_class if count]
    low, high = min(held, default=0), max(held, default=0)
    each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    some = "" if len(held) == len(per_class) else f", {len(held)} class{'' if len(held) == 1 else 'es'}"
    return f"{size:,} ({each}{some})"


def _share_labels(store: Store, item: int, others: list[int]) -> bool:
    return bool((store.labels[others] & store.labels[item]).any(axis=1).all())


def _in_words(sizes: StatedSizes | Sizes) -> str:
    train, query, database = ("any number of" if size is None else f"{size:,}" for size in sizes)
    return f"{train} train, {query} query and {database} database items"
