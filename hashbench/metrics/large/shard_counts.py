"""The counts of one shard in a file, and the counts of the whole database from the files of all shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from hashbench.metrics.histograms import Histograms
from hashbench.metrics.large.files import reading
from hashbench.metrics.large.shards import Shard

FORMATS = (1, 2)  # the first has no sample of the database and no sum of its counts
MOST = 1 << 48  # items at one distance: sums of these do not overflow


@dataclass(frozen=True, eq=False)
class ShardCounts:
    """The histograms of one shard of a database, and what they may be added to.

    `rows` are where the shard starts and stops among the `items` of the database, None where its files hold it alone;
    `encoding` is that of the database's codes, `queries` the sha256 of the queries' codes and labels, and
    of the pairs that say which items are relevant or left out; `database` that of some rows of the whole database.
    """

    hist: Histograms
    shard: Shard
    rows: tuple[int, int] | None
    items: int | None
    encoding: str
    queries: str
    database: str = ""

    def write(self, file: IO[bytes]) -> None:
        """Write the counts as an .npz file."""
        about = {**asdict(self), "format": FORMATS[-1], "counts": _sum(self.hist.arrays())}
        del about["hist"]
        np.savez_compressed(file, about=np.array(json.dumps(about)), **self.hist.arrays())  # type: ignore[arg-type]

    @classmethod
    def read(cls, path: Path) -> ShardCounts:
        """Return the counts in a file; raises ValueError where there are none, and where they are damaged."""
        with reading(path):
            loaded = np.load(path, allow_pickle=False)
            arrays: Mapping[str, np.ndarray] = (
                {name: loaded[name] for name in loaded} if isinstance(loaded, Mapping) else {}
            )
        if "about" not in arrays:
            raise ValueError(f"{path} is not a part: `hashbench evaluate --shard` did not write it.")
        try:
            about: dict[str, Any] = json.loads(str(arrays["about"]))
            version = about.pop("format")
            if version in FORMATS:
                return cls._of(arrays, about)
        except Exception as error:  # JSON, numpy and the types raise whatever damaged counts bring about
            raise ValueError(f"{path} is damaged; count that shard again.") from error
        raise ValueError(f"{path} was written by another version of hashbench; count that shard again.")

    @classmethod
    def _of(cls, arrays: Mapping[str, np.ndarray], about: dict[str, Any]) -> ShardCounts:
        """Return the counts that a file holds; raises any error where they cannot be those of a shard."""
        hist = Histograms.from_arrays(arrays)
        _check_counts(hist)
        if about.pop("counts", None) not in (None, _sum(hist.arrays())):
            raise ValueError("the counts are others than were written")
        shard, rows = Shard(**about.pop("shard")), about.pop("rows")
        counted = cls(hist, Shard.parse(str(shard)), rows and (int(rows[0]), int(rows[1])), **about)
        if not all(isinstance(word, str) for word in (counted.encoding, counted.queries, counted.database)):
            raise TypeError("these are no words")
        cut = None if counted.items is None else shard.rows(int(counted.items))
        if counted.rows != cut or (cut is not None and hist.database != cut[1] - cut[0]):
            raise ValueError("the rows are not those that were counted")
        return counted


def fingerprint(codes: np.ndarray, labels: np.ndarray | None, pairs: str = "") -> str:
    """Return the sha256 of queries: packed codes (Q, bytes), labels (Q,) int64 or (Q, C) bool, and what tells pairs."""
    given = [codes] if labels is None else [codes, labels]
    about = (*(array.shape for array in given), *(array.dtype.str for array in given[1:]))
    both = hashlib.sha256(repr(about).encode())
    for array in given:
        both.update(np.ascontiguousarray(array).tobytes())
    both.update(pairs.encode())
    return both.hexdigest()


def _sum(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the sha256 of counts."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(f"{name}{arrays[name].shape}".encode() + np.ascontiguousarray(arrays[name], "<i8").tobytes())
    return found.hexdigest()


def _check_counts(hist: Histograms) -> None:
    """Raise ValueError for what no counting gives: every query meets every item, at one distance, relevant or not."""
    arrays = [*hist.arrays().values()]
    sound = (
        all(array.dtype.kind in "iu" and array.size and 0 <= array.min() <= array.max() <= MOST for array in arrays)
        and hist.bits >= 1
        and (hist.r <= hist.n).all()
        and (hist.gains is None or np.array_equal(hist.gains.sum(axis=1), hist.r))
        and len(np.unique(hist.ranked + (0 if hist.excluded is None else hist.excluded))) == 1
        and hist.database > 0
    )
    if not sound:
        raise ValueError("these are no counts")


def merged(shards: Mapping[str, ShardCounts]) -> Histograms:
    """Return the histograms of the whole database from the counts of all its shards, by the names of their files.

    Raises ValueError, naming the files, where shards are missing, there twice, or of different queries or databases.
    """
    if not shards:
        raise ValueError("There are no parts; name the files that `hashbench evaluate --shard` wrote.")
    (first, reference), *others = shards.items()
    for name, counted in others:
        reason = _difference(reference, counted)
        if reason is not None:
            raise ValueError(f"{first} and {name} do not belong together: {reason}.")
    _check_complete(shards)
    _check_distinct(shards)
    total = reference.hist
    for _, counted in others:
        total += counted.hist
    return total


def _difference(a: ShardCounts, b: ShardCounts) -> str | None:
    if a.queries != b.queries:
        return "their queries differ in codes or labels, or the pairs that were given"
    if a.hist.bits != b.hist.bits:
        return f"one counts codes of {a.hist.bits} bits, the other of {b.hist.bits}"
    if a.shard.of != b.shard.of:
        return f"one is shard {a.shard}, the other {b.shard}"
    if (a.rows is None) != (b.rows is None):
        return "one was cut from a whole database, the other has files of its own"
    if a.items != b.items:
        return f"one was cut from a database of {a.items:,} items, the other of {b.items:,}"
    if a.database and b.database and a.database != b.database:
        return "they were cut from databases that differ in codes or labels"
    if a.encoding != b.encoding:
        return (
            f"the codes of one were taken as '{a.encoding}', of the other as '{b.encoding}'; say which with --encoding"
        )
    if (a.hist.gains is None) != (b.hist.gains is None):
        return "only one of them was counted with --measure nDCG@k"
    return None


def _check_complete(shards: Mapping[str, ShardCounts]) -> None:
    files: dict[int, str] = {}
    for name, counted in shards.items():
        if counted.shard.number in files:
            raise ValueError(f"{files[counted.shard.number]} and {name} are both shard {counted.shard}; leave one out.")
        files[counted.shard.number] = name
    of = next(iter(shards.values())).shard.of
    missing = of - len(files)
    if missing:
        some = islice((str(Shard(number, of)) for number in range(1, of + 1) if number not in files), 5)
        more = f" and {missing - 5} more" if missing > 5 else ""
        raise ValueError(f"The parts of {missing} shards are missing: {', '.join(some)}{more}; count them first.")


def _check_distinct(shards: Mapping[str, ShardCounts]) -> None:
    """Refuse two shards from files of their own that count the same for every query: one file, named twice."""
    seen: dict[str, str] = {}
    for name, counted in shards.items():
        if counted.rows is not None:
            continue
        content = fingerprint(counted.hist.n, counted.hist.r)
        if content in seen:
            raise ValueError(
                f"{seen[content]} and {name} count exactly the same, so they come from one file; count the right one."
            )
        seen[content] = name
