"""The rules that pick train, query and database images: versioned, and independent of the order of the files.

A rule is never edited: a better one gets the next version and a name of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from itertools import chain

import numpy as np

from hashbench.datasets.base import Store
from hashbench.datasets.protocol import Protocol
from hashbench.errors import HashbenchError

UNSEEN_SHARE = 4  # of unseen-v1: one class in four, rounded up
UNSEEN_QUERY_SHARE = 5  # of unseen-v1: one image in five becomes a query where the source has no test images
QUERY_SHARE, TRAIN_SHARE = 0.1, 0.4  # of shares-v1
Keys = list[tuple[bytes, bytes]]  # what ranks each image
Parts = tuple[list[int], list[int], list[int]]  # train, query, database without train
Rule = Callable[[Store, Protocol, Keys], Parts]


def by_class(store: Store, images: Iterable[int]) -> list[list[int]]:
    """Return the labelled ones of `images` by their first class, C lists in the order of the classes."""
    groups: list[list[int]] = [[] for _ in store.classes]
    labelled, first_label = store.labels.max(axis=1).tolist(), store.labels.argmax(axis=1).tolist()
    for image in images:
        if labelled[image]:
            groups[first_label[image]].append(image)
    return groups


def ranked(images: Iterable[int], keys: Keys) -> list[int]:
    """Return `images` in the order of their keys."""
    return sorted(images, key=keys.__getitem__)


def _per_class(store: Store, protocol: Protocol, keys: Keys) -> Parts:
    """Of each class, the first images become the queries, the next ones the training images, the rest the database."""
    train, query = protocol.stated
    num_classes = len(store.classes)
    _require_single_label(store, protocol)
    _require_even(store, protocol)
    return _by_quota(store, protocol, keys, [train // num_classes] * num_classes, [query // num_classes] * num_classes)


def _even(store: Store, protocol: Protocol, keys: Keys) -> Parts:
    """As per class; where the numbers do not divide evenly, the largest classes give one image more."""
    sizes = _class_sizes(store, protocol)
    train, query = (_even_shares(total, sizes) for total in protocol.stated)
    return _by_quota(store, protocol, keys, train, query)


def _proportional(store: Store, protocol: Protocol, keys: Keys) -> Parts:
    """As per class; each class gives train and query images in proportion to its size (largest remainders)."""
    sizes = _class_sizes(store, protocol)
    train, query = (_proportional_shares(total, sizes) for total in protocol.stated)
    return _by_quota(store, protocol, keys, train, query)


def _by_quota(store: Store, protocol: Protocol, keys: Keys, train_each: list[int], query_each: list[int]) -> Parts:
    """Of class c, the first `query_each[c]` images become queries, the next `train_each[c]` training images."""
    train: list[int] = []
    query: list[int] = []
    rest: list[int] = []
    groups = by_class(store, range(len(keys)))
    for name, members, num_query, num_train in zip(store.classes, groups, query_each, train_each, strict=True):
        if len(members) < num_query + num_train:
            raise HashbenchError(
                f"{protocol.full_name} needs {num_query + num_train} images of class '{name}', but {store.name} has "
                f"{len(members)}."
            )
        order = ranked(members, keys)
        query += order[:num_query]
        train += order[num_query : num_query + num_train]
        rest += order[num_query + num_train :]
    return train, query, rest


def _per_label(store: Store, protocol: Protocol, keys: Keys) -> Parts:
    """For each class of a multi-label set, the first free images that show it become queries, then training images.

    The rarest class comes first, as its images could all be taken by other classes.
    """
    _require_even(store, protocol)
    train_each, query_each = (total // len(store.classes) for total in protocol.stated)
    train: list[int] = []
    query: list[int] = []
    taken: set[int] = set()
    for label in np.argsort(store.labels.sum(axis=0, dtype=np.int64), kind="stable").tolist():
        free = [image for image in np.flatnonzero(store.labels[:, label]).tolist() if image not in taken]
        if len(free) < query_each + train_each:
            raise HashbenchError(
                f"{protocol.full_name} needs {query_each + train_each} images that show '{store.classes[label]}', but "
                f"{store.name} has {len(free)} beside those taken for rarer classes."
            )
        chosen = ranked(free, keys)[: query_each + train_each]
        query += chosen[:query_each]
        train += chosen[query_each:]
        taken.update(chosen)
    return train, query, [image for image in range(len(keys)) if image not in taken]


def _overall(store: Store, protocol: Protocol, keys: Keys) -> Parts:
    """The first images of all become the queries, the next ones the training images, the rest the database."""
    return _of_all(store, protocol, keys, range(len(keys)))


def _overall_labelled(store: Store, protocol: Protocol, keys: Keys) -> Parts:
    """As overall; an image without a label is in the database, whatever its rank."""
    return _of_all(store, protocol, keys, np.flatnonzero(store.labels.any(axis=1)).tolist())


def _of_all(store: Store, protocol: Protocol, keys: Keys, candidates: Sequence[int]) -> Parts:
    num_train, num_query = protocol.stated
    if len(candidates) < num_query + num_train:
        raise HashbenchError(
            f"{protocol.full_name} needs {num_query + num_train} images, but {store.name} has {len(candidates)}."
        )
    chosen = ranked(candidates, keys)[: num_query + num_train]
    taken = set(chosen)
    return chosen[num_query:], chosen[:num_query], [image for image in range(len(keys)) if image not in taken]


def _given(store: Store, protocol: Protocol, keys: Keys) -> Parts:
    """The source's own split is kept; its test images are the queries."""
    _require_part(store, protocol)
    train, query, rest = (np.flatnonzero(store.part == part).tolist() for part in ("train", "test", "database"))
    return train, query, rest


def _given_query(store: Store, protocol: Protocol, keys: Keys) -> Parts:
    """The source's test images are the queries; of each class, the first of the others become the training images."""
    _require_part(store, protocol)
    _require_single_label(store, protocol)
    _require_even(store, protocol)
    each = protocol.stated[0] // len(store.classes)
    train: list[int] = []
    rest: list[int] = []
    for name, members in zip(
        store.classes, by_class(store, np.flatnonzero(store.part != "test").tolist()), strict=True
    ):
        if len(members) < each:
            raise HashbenchError(
                f"{protocol.full_name} needs {each} train images of class '{name}', but {store.name} has "
                f"{len(members)}."
            )
        order = ranked(members, keys)
        train += order[:each]
        rest += order[each:]
    return train, np.flatnonzero(store.part == "test").tolist(), rest


def _shares(store: Store, protocol: Protocol, keys: Keys) -> Parts:
    """A tenth of each class (of all images, where they have several) become queries, four tenths training images."""
    groups = by_class(store, range(len(keys)))  # of labelled images
    train: list[int] = []
    query: list[int] = []
    for members in [[*chain.from_iterable(groups)]] if store.multi_label else groups:
        order = ranked(members, keys)
        if len(order) < 3:
            continue  # too few for three parts: they stay in the database
        num_query, num_train = (max(1, int(len(order) * share)) for share in (QUERY_SHARE, TRAIN_SHARE))
        query += order[:num_query]
        train += order[num_query : num_query + num_train]
    taken = {*train, *query}
    return train, query, [image for image in range(len(keys)) if image not in taken]


def _unseen(store: Store, protocol: Protocol, keys: Keys) -> Parts:
    """Three classes in four give the training images; the others the queries and the database.

    After Sablayrolles et al. (2017). The queries are the source's test images of the unseen classes, or a fifth of
    their images by rank where the source has none. The seen classes' test images, or that fifth of them, are left out.
    """
    _require_single_label(store, protocol)
    order = sorted(store.classes, key=lambda name: sha256(protocol.ranking.encode() + b"\0" + name.encode()).digest())
    unseen = set(order[: -(-len(order) // UNSEEN_SHARE)])
    train: list[int] = []
    query: list[int] = []
    rest: list[int] = []
    for name, members in zip(store.classes, by_class(store, range(len(keys))), strict=True):
        if store.part is None:
            queries = set(ranked(members, keys)[: len(members) // UNSEEN_QUERY_SHARE])
        else:
            queries = {image for image in members if store.part[image] == "test"}
        others = [image for image in members if image not in queries]
        if name in unseen:
            query += sorted(queries)
            rest += others
        else:
            train += others
    return train, query, rest


RULES: dict[str, Rule] = {
    "even-v1": _even,
    "given-query-v1": _given_query,
    "given-v1": _given,
    "overall-v1": _overall,
    "overall-v2": _overall_labelled,
    "per-class-v1": _per_class,
    "per-label-v1": _per_label,
    "proportional-v1": _proportional,
    "shares-v1": _shares,
    "unseen-v1": _unseen,
}


def _class_sizes(store: Store, protocol: Protocol) -> list[int]:
    _require_single_label(store, protocol)
    return store.labels.sum(axis=0, dtype=np.int64).tolist()


def _even_shares(total: int, sizes: Sequence[int]) -> list[int]:
    each, left = divmod(total, len(sizes))
    largest = sorted(range(len(sizes)), key=lambda number: (-sizes[number], number))[:left]
    return [each + (number in largest) for number in range(len(sizes))]


def _proportional_shares(total: int, sizes: Sequence[int]) -> list[int]:
    everything = max(1, sum(sizes))
    shares, remainders = zip(*(divmod(total * size, everything) for size in sizes), strict=True)
    with_one_more = sorted(range(len(sizes)), key=lambda number: (-remainders[number], number))[: total - sum(shares)]
    return [share + (number in with_one_more) for number, share in enumerate(shares)]


def _require_part(store: Store, protocol: Protocol) -> None:
    if store.part is None:
        raise HashbenchError(
            f"{protocol.full_name} follows the source's own split, but {store.name} comes without one."
        )


def _require_single_label(store: Store, protocol: Protocol) -> None:
    if store.multi_label:
        raise HashbenchError(f"{protocol.full_name} splits by class, but {store.name} has items of several classes.")


def _require_even(store: Store, protocol: Protocol) -> None:
    (train, query), num_classes = protocol.stated, len(store.classes)
    if train % num_classes or (query % num_classes and protocol.rule != "given-query-v1"):
        raise HashbenchError(
            f"{protocol.full_name} cannot divide {query} query and {train} train images evenly among the "
            f"{num_classes} classes of {store.name}; choose multiples of {num_classes}."
        )
