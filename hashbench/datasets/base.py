"""What a data set is: its source, its store of inputs and labels, its split; and how one is registered.

Registering imports neither numpy nor torch, so that listing data sets costs nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from hashbench.datasets.files.releases import SourceFile
from hashbench.datasets.protocol import Protocol, read_protocols
from hashbench.datasets.sparse import bytes_of_rows, canonical_rows, is_sparse
from hashbench.errors import HashbenchError
from hashbench.registry import DATASETS

if TYPE_CHECKING:
    import numpy as np

    from hashbench.datasets.audit import Audit
    from hashbench.datasets.files.imagefiles import ImageFiles
    from hashbench.datasets.sparse import Inputs
    from hashbench.metrics.pairs import Pairs

Kind = Literal["images", "vectors", "text"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class DataSource:
    """A registered data set: its protocols, and the function that reads it.

    `read(data_dir)` returns a Store where the official files hold arrays, and ImageFiles where images lie in files of
    their own, which `hashbench prepare` decodes once.
    """

    name: str
    read: Callable[[Path | None], Store | ImageFiles]
    protocols: tuple[Protocol, ...]
    spelling: str = ""  # of own data: the name with the whole path, `folder:/data/pets`

    def __post_init__(self) -> None:
        # The registry distinguishes two things of one name by the modules that define them.
        object.__setattr__(self, "__module__", self.read.__module__)


@dataclass(frozen=True, eq=False)
class Store:
    """A whole data set in memory or mapped: inputs, multi-hot labels, and the source's own split where it has one."""

    name: str
    inputs: Inputs  # (N, channels, height, width) uint8, or (N, width) float32, an array or a CSR matrix of scipy
    labels: np.ndarray  # (N, C) uint8, multi-hot
    classes: tuple[str, ...]
    part: np.ndarray | None = None  # (N,) str: "train", "test" or "database", the source's own split
    sources: tuple[SourceFile, ...] = ()  # the files it was read from
    names: tuple[str, ...] | None = None  # official file names, in store order
    # Sparse matrices (N, N) of scipy, a row a query and a column an item, each input at its position:
    relevance: Any = None  # gains of the relevant pairs, 1 or more; None: inputs that share a label are relevant
    exclude: Any = None  # nonzero: the pair is left out of the query's ranking

    def __post_init__(self) -> None:
        form = (self.inputs.ndim, self.inputs.dtype.name)
        if form not in ((4, "uint8"), (2, "float32")):
            raise HashbenchError(
                f"The inputs of {self.name} are {form[1]} of shape {self.inputs.shape}; give images as uint8 "
                f"(N, channels, height, width) or vectors as float32 (N, width)."
            )
        if is_sparse(self.inputs):
            object.__setattr__(self, "inputs", canonical_rows(self.inputs))
        elif type(self.inputs).__module__.startswith("scipy"):
            raise HashbenchError(
                f"The inputs of {self.name} are a sparse {type(self.inputs).__name__}; give its rows: inputs.tocsr()."
            )
        count = self.inputs.shape[0]
        if 0 in self.inputs.shape:
            raise HashbenchError(
                f"The inputs of {self.name} are empty, shape {self.inputs.shape}; there is nothing to use."
            )
        wanted = (count, len(self.classes))
        if self.labels.shape != wanted or self.labels.dtype.name != "uint8" or self.labels.max(initial=0) > 1:
            raise HashbenchError(
                f"The labels of {self.name} are {self.labels.dtype.name} of shape {self.labels.shape}; give uint8 "
                f"zeros and ones of shape {wanted}, one row for each input and one column for each class."
            )
        if self.part is not None and self.part.shape != (count,):
            raise HashbenchError(f"The part of {self.name} has shape {self.part.shape} instead of ({count},).")
        if self.has_pairs:
            self._read_pairs(self.relevance, self.exclude, queries=count, items=count)

    @property
    def has_pairs(self) -> bool:
        """Whether pairs say what is relevant, or what is left out of rankings."""
        return self.relevance is not None or self.exclude is not None

    def pairs_of(self, query: np.ndarray, database: np.ndarray) -> Pairs:
        """Return the pairs of the inputs at positions `query` (Q,) and `database` (N,)."""
        cut = (
            None if matrix is None else matrix.tocsr()[query][:, database] for matrix in (self.relevance, self.exclude)
        )
        return self._read_pairs(*cut, queries=len(query), items=len(database))

    def _read_pairs(self, relevance: Any, exclude: Any, *, queries: int, items: int) -> Pairs:
        from hashbench.metrics.pairs import read_pairs

        try:
            return read_pairs(relevance, exclude, queries=queries, items=items)
        except ValueError as error:
            raise HashbenchError(f"The pairs of {self.name} cannot be used: {error}") from error

    @property
    def kind(self) -> Kind:
        """What the inputs are; "text" are sparse term vectors."""
        if self.inputs.ndim == 4:
            return "images"
        return "text" if is_sparse(self.inputs) else "vectors"

    @cached_property
    def multi_label(self) -> bool:
        """Whether any input has more than one label."""
        return bool((self.labels.sum(axis=1) > 1).any())

    @property
    def official(self) -> bool | None:
        """Whether every file is the official release's; None where the release's checksums are not known."""
        verdicts = [file.official for file in self.sources]
        return None if not verdicts or None in verdicts else all(verdicts)

    @cached_property
    def input_hashes(self) -> list[bytes]:
        """The sha256 of each input's bytes, of a sparse one its sorted nonzeros: equal for equal inputs."""
        return [sha256(row).digest() for row in bytes_of_rows(self.inputs)]

    @cached_property
    def content_hashes(self) -> list[bytes]:
        """The sha256 of each input with its labels, which names it whatever its place in the files."""
        pairs = zip(self.input_hashes, self.labels, strict=True)
        return [sha256(digest + labels.tobytes()).digest() for digest, labels in pairs]

    @cached_property
    def integrity(self) -> str:
        """The sha256 over the sorted content hashes: one name for the data in any order."""
        return sha256(b"".join(sorted(self.content_hashes))).hexdigest()


@dataclass(frozen=True, eq=False)
class Split:
    """The training inputs, queries and database of a store: int64 positions, in an order that no file order changes."""

    train: np.ndarray
    query: np.ndarray
    database: np.ndarray
    sha256: str  # over the sorted content hashes of the three parts: equal for any copy of the data


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set ready for training and evaluation: store, protocol, split, and what the audit found."""

    store: Store
    protocol: Protocol
    split: Split
    evaluated: str  # "test" or "validation"
    audit: Audit

    @property
    def name(self) -> str:
        """The name `dataset@protocol`."""
        return self.protocol.full_name

    @property
    def num_classes(self) -> int:
        """The number of classes, C."""
        return len(self.store.classes)

    @property
    def multi_label(self) -> bool:
        """Whether the protocol treats images as having several labels."""
        return self.protocol.multi_label

    @property
    def graded(self) -> bool:
        """Whether some items are more relevant than others: by several shared labels, or by the pairs' gains."""
        return self.multi_label if self.pairs.relevant is None else self.pairs.largest_gain > 1

    @cached_property
    def pairs(self) -> Pairs:
        """What pairs say of the split's queries and database, in its order: what is relevant, and what is left out."""
        return self.store.pairs_of(self.split.query, self.split.database)

    @property
    def labels(self) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        """The labels of queries (Q, C) and database (N, C) by which items are relevant; None where pairs say so."""
        if self.pairs.relevant is not None:
            return None, None
        return self.store.labels[self.split.query], self.store.labels[self.split.database]

    @property
    def names(self) -> dict[str, Any]:
        """Which input each query and each item of the database is, in the split's order: what a run keeps as names.

        `rows` says what identifies them: "files", by the names that the data set's files have, or "positions" in the
        store, from 0, where it has no files of single inputs.
        """
        names, parts = self.store.names, {"query": self.split.query, "database": self.split.database}
        return {
            "split_sha256": self.split.sha256,
            "rows": "positions" if names is None else "files",
            **{part: [at if names is None else names[at] for at in index.tolist()] for part, index in parts.items()},
        }

    def of_queries(self, places: Sequence[int]) -> Dataset:
        """Return the data set with those queries alone that are at `places` in the query set."""
        return replace(self, split=replace(self.split, query=self.split.query[places]))

    @property
    def kind(self) -> Kind:
        """What the inputs are."""
        return self.store.kind


def dataset(
    name: str, *, protocols: str, former_names: Collection[str] = ()
) -> Callable[[Callable[[Path | None], Store | ImageFiles]], DataSource]:
    """Register `read(data_dir) -> Store | ImageFiles` as data set `name`, its protocols in the TOML file `protocols`.

    The file's path is relative to the module of the function. A data set that was renamed is found by its
    `former_names` too, with a warning. Raises HashbenchError for a protocol file that is missing
    or not in order, and for a name that is taken.
    """

    def register(read: Callable[[Path | None], Store | ImageFiles]) -> DataSource:
        folder = Path(getattr(sys.modules.get(read.__module__), "__file__", None) or ".").parent
        source = DataSource(name, read, read_protocols(name, folder / protocols))
        return DATASETS.register(name, source, former_names=former_names)

    return register


def one_hot(numbers: np.ndarray, classes: tuple[str, ...], *, name: str) -> np.ndarray:
    """Return labels (N, C) uint8 for class `numbers` (N,); raises HashbenchError naming set `name` for others."""
    import numpy as np

    if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(classes):
        raise HashbenchError(
            f"{name} has labels from {numbers.min()} to {numbers.max()}, but its {len(classes)} classes are numbered "
            f"from 0; are its files damaged?"
        )
    try:
        labels = np.zeros((len(numbers), len(classes)), np.uint8)  # N x C: an identity matrix would be C x C
    except MemoryError as error:
        raise HashbenchError(
            f"{name} has {len(numbers):,} inputs of {len(classes):,} classes, whose labels do not fit into memory; "
            "use fewer of them."
        ) from error
    labels[np.arange(len(numbers)), numbers] = 1
    return labels
