"""Splits: the images of a data set ranked, picked by a protocol's rule, and named by a hash.

Images are ranked by sha256(rule, image), those of large sets by sha256(rule, official file name), so the same images
come out of any copy of the data. Another draw of a protocol hashes its number with the rule.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np

from hashbench.datasets.base import Split, Store
from hashbench.datasets.protocol import Protocol
from hashbench.datasets.rules import RULES, Keys, by_class, ranked
from hashbench.datasets.sparse import bytes_of_rows
from hashbench.errors import HashbenchError

VALIDATION_RULE = "validation-v1"
VALIDATION_SHARE = 5  # one image in five becomes a query


def split(store: Store, protocol: Protocol) -> Split:
    """Return the split of `store` that `protocol` describes.

    Raises HashbenchError where the store has not the number of images that a complete copy has, is too small for the
    protocol's sizes, or lacks what its rule needs.
    """
    protocol.require_count(len(store.labels))
    keys = rank_keys(store, protocol.ranking)
    train, query, rest = RULES[protocol.rule](store, protocol, keys)
    return _in_rank_order(store, keys, train, query, rest + train if protocol.train_in_database else rest)


def hold_out(store: Store, parts: Split) -> Split:
    """Return the validation split: a fifth of each class's training images become queries, the rest train and database.

    Raises HashbenchError where no class has enough train images for that.
    """
    keys = rank_keys(store, VALIDATION_RULE)
    train = parts.train.tolist()
    groups = [train] if store.multi_label else by_class(store, train)
    query = [image for group in groups for image in ranked(group, keys)[: len(group) // VALIDATION_SHARE]]
    if not query:
        raise HashbenchError(
            f"{store.name} has too few train images to hold a fifth of each class out; evaluate on test."
        )
    rest = sorted(set(train) - set(query))
    return _in_rank_order(store, keys, rest, query, rest)


def rank_keys(store: Store, ranking: str) -> Keys:
    """Return what ranks each image: the hash of `ranking` (a rule and its draw) and the image.

    The image is its official name, or its pixels where the store has no names.
    Images that tie are the same picture with the same labels.
    """
    start = sha256(ranking.encode() + b"\0")
    images = bytes_of_rows(store.inputs) if store.names is None else map(str.encode, store.names)
    keys = []
    for image, labels in zip(images, store.labels, strict=True):
        digest = start.copy()
        digest.update(image)
        keys.append((digest.digest(), labels.tobytes()))
    return keys


def _in_rank_order(store: Store, keys: Keys, train: list[int], query: list[int], database: list[int]) -> Split:
    """Order every part by rank, so that position i is the same image in any copy of the data."""
    parts = [np.array(ranked(part, keys), dtype=np.int64) for part in (train, query, database)]
    return Split(parts[0], parts[1], parts[2], sha256=_split_hash(store, parts))


def _split_hash(store: Store, parts: list[np.ndarray]) -> str:
    total = sha256()
    for part in parts:
        total.update(sha256(b"".join(sorted(store.content_hashes[image] for image in part.tolist()))).digest())
    if store.has_pairs:
        total.update(_pairs_hash(store, query=parts[1], database=parts[2]))
    return total.hexdigest()


def _pairs_hash(store: Store, *, query: np.ndarray, database: np.ndarray) -> bytes:
    """Return the sha256 of the split's pairs, each named by its contents: equal whatever the order of the files."""
    pairs, total = store.pairs_of(query, database), sha256()
    for name, columns in (("relevance", pairs.relevant), ("exclude", pairs.excluded)):
        if columns is None:
            continue
        of_query, of_item = query[columns.query].tolist(), database[columns.items].tolist()
        named = [
            store.content_hashes[one] + store.content_hashes[other] + bytes([gain])
            for one, other, gain in zip(of_query, of_item, columns.gain.tolist(), strict=True)
        ]
        total.update(name.encode() + sha256(b"".join(sorted(named))).digest())
    return total.digest()
