"""The rules that split a data set: versioned, and blind to the order of the files.

Images are ranked by sha256(rule, image), so the same images come out of any copy of the data. A rule is never edited:
a better one gets the next version and a name of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256

import numpy as np

from hashbench.datasets.base import Split, Store
from hashbench.datasets.protocol import Protocol
from hashbench.errors import HashbenchError

VALIDATION_RULE = "validation-v1"
VALIDATION_SHARE = 5  # one image in five asks
Keys = list[tuple[bytes, bytes]]
Parts = tuple[list[int], list[int], list[int]]  # train, query, database without train


def split(store: Store, protocol: Protocol) -> Split:
    """Return the split of `store` that `protocol` describes.

    Raises HashbenchError where the store is too small for the protocol's sizes or lacks what its rule needs.
    """
    keys = rank_keys(store, protocol.rule)
    train, query, rest = _RULES[protocol.rule](store, protocol, keys)
    return _in_rank_order(store, keys, train, query, rest + train if protocol.train_in_database else rest)


def hold_out(store: Store, parts: Split) -> Split:
    """Return the validation split: a fifth of train, of each class, as queries; the rest as train and database.

    Raises HashbenchError where no class has enough train images for that.
    """
    keys = rank_keys(store, VALIDATION_RULE)
    train = parts.train.tolist()
    groups = [train] if store.multi_label else _by_class(store, train)
    query = [image for group in groups for image in _ranked(group, keys)[: len(group) // VALIDATION_SHARE]]
    if not query:
        raise HashbenchError(
            f"{store.name} has too few train images to hold a fifth of each class out; evaluate on test."
        )
    rest = sorted(set(train) - set(query))
    return _in_rank_order(store, keys, rest, query, rest)


def rank_keys(store: Store, rule: str) -> Keys:
    """Return what ranks each image under `rule`; images that tie are the same picture with the same labels."""
    start = sha256(rule.encode() + b"\0")
    keys = []
    for row, labels in zip(store.inputs, store.labels, strict=True):
        digest = start.copy()
        digest.update(row.tobytes())
        keys.append((digest.digest(), labels.tobytes()))
    return keys


def _per_class(store: Store, protocol: Protocol, keys: Keys) -> Parts:
    """Take, of each class, the first images as queries, the next as train and the rest as database."""
    if store.multi_label:
        raise HashbenchError(f"{protocol.full_name} splits by class, but {store.name} has images of several classes.")
    sizes, num_classes = protocol.sizes, len(store.classes)
    if sizes.query % num_classes or sizes.train % num_classes:
        raise HashbenchError(
            f"{protocol.full_name} cannot share {sizes.query} query and {sizes.train} train images evenly among the "
            f"{num_classes} classes of {store.name}; choose multiples of {num_classes}."
        )
    query_each, train_each = sizes.query // num_classes, sizes.train // num_classes
    train: list[int] = []
    query: list[int] = []
    rest: list[int] = []
    for name, members in zip(store.classes, _by_class(store, range(len(keys))), strict=True):
        if len(members) < query_each + train_each:
            raise HashbenchError(
                f"{protocol.full_name} needs {query_each + train_each} images of class '{name}', but {store.name} has "
                f"{len(members)}."
            )
        ranked = _ranked(members, keys)
        query += ranked[:query_each]
        train += ranked[query_each : query_each + train_each]
        rest += ranked[query_each + train_each :]
    return train, query, rest


def _overall(store: Store, protocol: Protocol, keys: Keys) -> Parts:
    """Take the first images of all as queries, the next as train and the rest as database."""
    sizes = protocol.sizes
    if len(keys) < sizes.query + sizes.train:
        raise HashbenchError(
            f"{protocol.full_name} needs {sizes.query + sizes.train} images, but {store.name} has {len(keys)}."
        )
    ranked = _ranked(range(len(keys)), keys)
    first_rest = sizes.query + sizes.train
    return ranked[sizes.query : first_rest], ranked[: sizes.query], ranked[first_rest:]


def _given(store: Store, protocol: Protocol, keys: Keys) -> Parts:
    """Follow the source's own split; its test images are the queries."""
    if store.part is None:
        raise HashbenchError(
            f"{protocol.full_name} follows the source's own split, but {store.name} comes without one."
        )
    train, query, rest = (np.flatnonzero(store.part == part).tolist() for part in ("train", "test", "database"))
    return train, query, rest


_RULES: dict[str, Callable[[Store, Protocol, Keys], Parts]] = {
    "given-v1": _given,
    "overall-v1": _overall,
    "per-class-v1": _per_class,
}


def _by_class(store: Store, images: Iterable[int]) -> list[list[int]]:
    groups: list[list[int]] = [[] for _ in store.classes]
    labelled, first_label = store.labels.max(axis=1).tolist(), store.labels.argmax(axis=1).tolist()
    for image in images:
        if labelled[image]:
            groups[first_label[image]].append(image)
    return groups


def _ranked(images: Iterable[int], keys: Keys) -> list[int]:
    return sorted(images, key=keys.__getitem__)


def _in_rank_order(store: Store, keys: Keys, train: list[int], query: list[int], database: list[int]) -> Split:
    """Order every part by rank, so that position i is the same image in any copy of the data."""
    parts = [np.array(_ranked(part, keys), dtype=np.int64) for part in (train, query, database)]
    return Split(parts[0], parts[1], parts[2], sha256=_split_hash(store, parts))


def _split_hash(store: Store, parts: list[np.ndarray]) -> str:
    total = sha256()
    for part in parts:
        total.update(sha256(b"".join(sorted(store.content_hashes[image] for image in part.tolist()))).digest())
    return total.hexdigest()
