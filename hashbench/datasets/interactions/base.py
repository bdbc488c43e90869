"""What a data set of users and items is: its pairs, its protocols, and its training pairs and relevant ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    import numpy as np
    from scipy.sparse import csr_matrix

    from hashbench.datasets.files.releases import SourceFile
    from hashbench.metrics.pairs import Pairs

RANKED_BY_HITS = ("HR@10", "nDCG@10", "R@20", "mAP@all")  # the default measure first
RANKED_BY_GAIN = ("nDCG@10", "HR@10", "R@20", "mAP@all")
NUL = b"\0"


@dataclass(frozen=True)
class InteractionProtocol:
    """One way to split the pairs of users and items, and to measure on them."""

    dataset: str
    name: str
    rule: str  # one of splits.RULES
    measures: tuple[str, ...]  # the default one first
    summary: str
    liked: float | None = None  # a test pair is relevant from this rating on; None: whatever its rating

    sizes: ClassVar[tuple[None, None, None]] = (None, None, None)  # train, query, database: as the rule yields

    @property
    def full_name(self) -> str:
        """The name to type, `dataset@protocol`."""
        return f"{self.dataset}@{self.name}"


@dataclass(frozen=True)
class InteractionSource:
    """A registered data set of users and items: its protocols, and the function that reads it."""

    name: str
    read: Callable[[Path | None], Interactions]
    protocols: tuple[InteractionProtocol, ...]
    state: Callable[[Path | None], str]  # "ready" or "missing", without reading
    licence: str = ""
    citation: str = ""
    source: str = ""

    track: ClassVar[str] = "pairs"  # what the sweep's planning asks for


@dataclass(frozen=True, eq=False)
class Interactions:
    """All pairs of a data set; users and items are numbered in the order of their names, whatever that of the files."""

    name: str
    user: np.ndarray  # (N,) int64, from 0
    item: np.ndarray  # (N,) int64, from 0
    users: tuple[str, ...]  # names, in order
    items: tuple[str, ...]
    rating: np.ndarray | None = None  # (N,) float32, above 0
    time: np.ndarray | None = None  # (N,) float64
    part: np.ndarray | None = None  # (N,) str: "train" or "test", the source's own split
    sources: tuple[SourceFile, ...] = ()

    def __len__(self) -> int:
        return len(self.user)

    @property
    def official(self) -> bool | None:
        """Whether every file is the official release's; None where the release's checksums are not known."""
        verdicts = [file.official for file in self.sources]
        return None if not verdicts or None in verdicts else all(verdicts)

    @cached_property
    def names(self) -> list[bytes]:
        """The names of user and item of each pair, by which rules rank it wherever it stands in the files."""
        users, items = ([name.encode() for name in names] for names in (self.users, self.items))
        return [users[u] + NUL + items[i] for u, i in zip(self.user.tolist(), self.item.tolist(), strict=True)]

    @cached_property
    def integrity(self) -> str:
        """The sha256 over all pairs in the order of their names, with rating, time and part: one name for the data."""
        columns = [each.tolist() for each in (self.rating, self.time, self.part) if each is not None]
        kinds = [kind for kind in ("rating", "time", "part") if getattr(self, kind) is not None]
        rows = sorted(zip(self.names, *columns, strict=True))
        lines = (NUL.join([row[0], *(str(value).encode() for value in row[1:])]) for row in rows)
        return sha256(b"\n".join([" ".join(kinds).encode(), *lines])).hexdigest()


@dataclass(frozen=True, eq=False)
class InteractionDataset:
    """Users and items ready to learn from and to be measured on, as a protocol splits them.

    The queries are the users with a relevant pair, the database is all items. A user's training pairs are left out of
    the user's ranking.
    """

    store: Interactions
    protocol: InteractionProtocol
    evaluated: str  # "test" or "validation"
    is_train: np.ndarray  # (N,) bool
    is_relevant: np.ndarray  # (N,) bool

    track: ClassVar[str] = InteractionSource.track

    @property
    def name(self) -> str:
        """The name `dataset@protocol`."""
        return self.protocol.full_name

    @property
    def integrity(self) -> str:
        """The sha256 over all pairs."""
        return self.store.integrity

    @property
    def sizes(self) -> tuple[int, int]:
        """The numbers of queries and of database items."""
        return len(self.query), len(self.store.items)

    @cached_property
    def query(self) -> np.ndarray:
        """The users with a relevant pair, (Q,) int64, ascending."""
        import numpy as np

        return np.unique(self.store.user[self.is_relevant])

    @cached_property
    def train(self) -> csr_matrix:
        """The training pairs (users, items), float32: ratings, or ones where there are none."""
        return self._matrix(self.is_train, self.store.rating)

    @cached_property
    def pairs(self) -> Pairs:
        """What the queries' relevant items are, and which are left out of their rankings."""
        from hashbench.metrics.pairs import read_pairs

        relevant, excluded = (self._matrix(which, None)[self.query] for which in (self.is_relevant, self.is_train))
        return read_pairs(relevant, excluded, queries=len(self.query), items=len(self.store.items))

    @cached_property
    def split_sha256(self) -> str:
        """The sha256 over the names of training and of relevant pairs: equal for any copy of the data."""
        found = sha256(self.protocol.rule.encode())
        for part, which in (("train", self.is_train), ("relevant", self.is_relevant)):
            found.update(NUL + part.encode())
            for name in sorted(name for name, taken in zip(self.store.names, which.tolist(), strict=True) if taken):
                found.update(NUL + sha256(name).digest())
        return found.hexdigest()

    @property
    def file_of_names(self) -> dict[str, Any]:
        """Which user each query is and which item each of the database: what a run keeps as names."""
        return {
            "split_sha256": self.split_sha256,
            "rows": "names",
            "query": [self.store.users[user] for user in self.query.tolist()],
            "database": [*self.store.items],
        }

    def _matrix(self, which: np.ndarray, values: np.ndarray | None) -> csr_matrix:
        import numpy as np
        from scipy.sparse import csr_matrix

        store = self.store
        stored = np.ones(int(which.sum()), np.float32) if values is None else values[which]
        shape = (len(store.users), len(store.items))
        return csr_matrix((stored, (store.user[which], store.item[which])), shape=shape)


def numbered(
    name: str,
    users: list[str],
    items: list[str],
    *,
    rating: np.ndarray | None = None,
    time: np.ndarray | None = None,
    part: np.ndarray | None = None,
    sources: tuple[SourceFile, ...] = (),
    where: Callable[[int], str] = lambda at: f"pair {at + 1}",
) -> Interactions:
    """Return pairs given by the names of their users and items, numbered in the order of the names.

    Names that are whole numbers are ordered as such. Raises HashbenchError for a pair that is there twice, and says
    `where`, and for none at all.
    """
    import numpy as np

    if not users:
        raise HashbenchError(f"{name} holds no pair of user and item; there is nothing to learn from.")
    (user, user_names), (item, item_names) = _numbers(users), _numbers(items)
    keys = user * len(item_names) + item
    order = np.argsort(keys, kind="stable")
    twice = np.flatnonzero(np.diff(keys[order]) == 0)
    if len(twice):
        first, second = sorted(order[twice[0] : twice[0] + 2].tolist())
        raise HashbenchError(
            f"{name} holds user '{users[first]}' with item '{items[first]}' twice, {where(first)} and {where(second)}; "
            f"keep one of them."
        )
    return Interactions(name, user, item, user_names, item_names, rating, time, part, sources)


def _numbers(names: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    import numpy as np

    known = {*names}
    whole = all(name.isascii() and name.isdigit() and (name == "0" or name[0] != "0") for name in known)
    ordered = sorted(known, key=lambda name: (len(name), name)) if whole else sorted(known)  # without int: any length
    number = {name: at for at, name in enumerate(ordered)}
    return np.array([number[name] for name in names], np.int64), tuple(ordered)
