"""Data sets by name: how one is registered, what it holds, and `load`, which turns a name into a `Dataset`.

Registering and finding protocols imports neither numpy nor torch, so that listing them costs nothing; what needs numpy
is imported where data are read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hashbench.datasets.protocol import Protocol, read_protocols
from hashbench.datasets.store import SourceFile
from hashbench.errors import HashbenchError, unknown
from hashbench.registry import DATASETS

if TYPE_CHECKING:
    import numpy as np

    from hashbench.datasets.audit import Audit
    from hashbench.datasets.imagefiles import ImageFiles

ACCEPT_UNOFFICIAL = "HASHBENCH_ACCEPT_UNOFFICIAL"
EVALUATED_PARTS = ("test", "validation")
OWN_KINDS = ("folder:", "lists:", "arrays:")  # what the names of own data start with, before a path
OWN_PROTOCOLS = ("given", "auto", "unseen")
OWN_NEEDS = {  # what own data must be like to have a protocol
    "given": "'given' is there where the data come with a split.",
    "unseen": "'unseen' is there where each image has one label, of five classes or more.",
}


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
        # The registry tells two things of one name apart by the module that defines them.
        object.__setattr__(self, "__module__", self.read.__module__)


@dataclass(frozen=True, eq=False)
class Store:
    """A whole data set in memory or mapped: inputs, multi-hot labels, and the source's own split where it has one."""

    name: str
    inputs: np.ndarray  # (N, channels, height, width) uint8, or (N, width) float32
    labels: np.ndarray  # (N, C) uint8, multi-hot
    classes: tuple[str, ...]
    part: np.ndarray | None = None  # (N,) str: "train", "test" or "database", the source's own split
    sources: tuple[SourceFile, ...] = ()  # the files it was read from
    names: tuple[str, ...] | None = None  # official file names, in store order

    def __post_init__(self) -> None:
        form = (self.inputs.ndim, self.inputs.dtype.name)
        if form not in ((4, "uint8"), (2, "float32")):
            raise HashbenchError(
                f"The inputs of {self.name} are {form[1]} of shape {self.inputs.shape}; give images as uint8 "
                f"(N, channels, height, width) or vectors as float32 (N, width)."
            )
        wanted = (len(self.inputs), len(self.classes))
        if self.labels.shape != wanted or self.labels.dtype.name != "uint8" or self.labels.max(initial=0) > 1:
            raise HashbenchError(
                f"The labels of {self.name} are {self.labels.dtype.name} of shape {self.labels.shape}; give uint8 "
                f"zeros and ones of shape {wanted}, one row for each input and one column for each class."
            )
        if self.part is not None and self.part.shape != (len(self.inputs),):
            raise HashbenchError(
                f"The part of {self.name} has shape {self.part.shape} instead of ({len(self.inputs)},)."
            )

    @property
    def kind(self) -> Literal["images", "vectors"]:
        """What the inputs are."""
        return "images" if self.inputs.ndim == 4 else "vectors"

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
        """The sha256 of each input's bytes: equal for equal pictures, whatever their labels."""
        return [sha256(row.tobytes()).digest() for row in self.inputs]

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
    """Which inputs of a store train, ask and answer: int64 positions, in an order that no file order changes."""

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
    part: str  # what is evaluated on: "test" or "validation"
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
    def kind(self) -> Literal["images", "vectors"]:
        """What the inputs are."""
        return self.store.kind


def dataset(name: str, *, protocols: str) -> Callable[[Callable[[Path | None], Store | ImageFiles]], DataSource]:
    """Register `read(data_dir) -> Store | ImageFiles` as data set `name`, its protocols in the TOML file `protocols`.

    The file's path is relative to the module of the function. Raises HashbenchError for a protocol file that is missing
    or not in order, and for a name that is taken.
    """

    def register(read: Callable[[Path | None], Store | ImageFiles]) -> DataSource:
        home = Path(getattr(sys.modules.get(read.__module__), "__file__", None) or ".").parent
        source = DataSource(name, read, read_protocols(name, home / protocols))
        return DATASETS.register(name, source)

    return register


def one_hot(numbers: np.ndarray, classes: tuple[str, ...], *, name: str) -> np.ndarray:
    """Return labels (N, C) uint8 for class `numbers` (N,); raises HashbenchError naming set `name` for others."""
    import numpy as np

    if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(classes):
        raise HashbenchError(
            f"{name} has labels from {numbers.min()} to {numbers.max()}, but its {len(classes)} classes are numbered "
            f"from 0; are its files damaged?"
        )
    return np.eye(len(classes), dtype=np.uint8)[numbers]


def data_source(name: str) -> DataSource:
    """Return the data set registered as `name`; raises HashbenchError for unknown names."""
    source = DATASETS.get(name)
    if not isinstance(source, DataSource):
        raise HashbenchError(
            f"The data set '{name}' cannot be used: {source!r} lacks the decorator @hashbench.dataset."
        )
    return source


def find_protocol(name: str, *, data_dir: str | Path | None = None) -> Protocol:
    """Return the protocol that `dataset`, `dataset@protocol` or an alias names, without reading any data.

    A bare data set means its first protocol. Of own data (`folder:PATH`, `lists:PATH`, `arrays:PATH`) what is there is
    read, but for the pixels. Raises HashbenchError with the nearest known name.
    """
    return find(name, data_dir)[1]


def find(name: str, data_dir: str | Path | None = None) -> tuple[DataSource, Protocol]:
    """Return the data set and the protocol that a name means, as `find_protocol` does."""
    if name.startswith(OWN_KINDS):
        from hashbench.datasets.own import own_source  # needs numpy

        set_name, wanted = own_name(name)
        source = own_source(set_name, data_dir)
    else:
        set_name, _, wanted = name.partition("@")
        if set_name not in DATASETS:
            aliases = _aliases()
            if name in aliases:
                return data_source(aliases[name].dataset), aliases[name]
            hint = "`hashbench list datasets` shows all."
            if os.path.exists(name):
                hint = f"Own data are {', '.join(f'{kind}{name}' for kind in OWN_KINDS)}, whatever lies there."
            raise unknown("data set", set_name or name, [*DATASETS, *aliases], hint=hint)
        source = data_source(set_name)
    found = {protocol.name: protocol for protocol in source.protocols}
    if name == set_name:
        return source, next(iter(found.values()))
    if wanted not in found:
        known = [protocol.full_name for protocol in found.values()]
        hint = OWN_NEEDS[wanted] if source.spelling else "`hashbench list datasets` shows all."
        raise unknown("protocol", f"{set_name}@{wanted}", known, hint=hint)
    return source, found[wanted]


def own_name(name: str) -> tuple[str, str]:
    """Return the two sides of `folder:PATH@protocol`; an "@" in a path is no protocol's."""
    path, _, protocol = name.rpartition("@")
    return (path, protocol) if protocol in OWN_PROTOCOLS and path else (name, "")


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    evaluate_on: str = "test",
    accept_unofficial: bool = False,
    size: int | None = None,
) -> Dataset:
    """Return the data set that `name` means, split by its protocol's rule, with the audit of the split.

    A set of image files is opened as it was prepared at `size` pixels (None: the size its protocols state); a set of
    arrays is read, or opened where it was prepared. On `validation`, a fifth of the train images asks and the other
    train images are both train and database; the protocol's own query and database images are not used. Raises
    HashbenchError for unknown names, for missing, damaged or unprepared files, for files that are not the official ones
    (unless accepted, here or by HASHBENCH_ACCEPT_UNOFFICIAL=1), and for a split that breaks its protocol's promises.
    """
    # Imported here because they need numpy, which listing protocols must not wait for.
    from hashbench.datasets.audit import audited_split
    from hashbench.datasets.prepared import PreparedStore, open_or_read

    if evaluate_on not in EVALUATED_PARTS:
        raise unknown("part to evaluate on", evaluate_on, EVALUATED_PARTS)
    source, protocol = find(name, data_dir)
    store = open_or_read(source, data_dir, size=size)
    require_official(store, accept_unofficial=accept_unofficial)
    kept = store.kept_split(protocol, evaluate_on) if isinstance(store, PreparedStore) else None
    parts, found = kept or audited_split(store, protocol, evaluate_on)
    return Dataset(store, protocol, parts, evaluate_on, found)


def require_official(data: Store | ImageFiles, *, accept_unofficial: bool) -> None:
    """Raise HashbenchError where a file of `data` is not the official one and nobody accepts that."""
    if accept_unofficial or os.environ.get(ACCEPT_UNOFFICIAL, "") not in ("", "0"):
        return
    for file in data.sources:
        if file.official is False:
            raise HashbenchError(
                f"{file.path} is not the official file of {data.name}: its checksum is {file.digest} instead of "
                f"{file.expected}; fetch the official one, or accept it with --accept-unofficial "
                f"({ACCEPT_UNOFFICIAL}=1), which the results will say."
            )


def _aliases() -> dict[str, Protocol]:
    found: dict[str, Protocol] = {}
    for name in DATASETS:
        try:
            protocols = data_source(name).protocols
        except HashbenchError:
            continue  # a broken plug-in must not hide the names of the others
        for protocol in protocols:
            for alias in protocol.aliases:
                found.setdefault(alias, protocol)
    return found
