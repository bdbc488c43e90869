"""The contract of a condition: what it may know of a finished run, and what it returns.

Most change the queries; one that defines `relevance` says what is relevant to them instead. A condition is one class in
one file under `@condition`; its typed fields are its parameters, as they are typed in `--under "noise(sigma=0.1)"`, and
part of its identity. Torch is imported where it is used: `verify` does without.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform

from hashbench.errors import HashbenchError
from hashbench.registry import CONDITIONS
from hashbench.storage.strict_json import digest
from hashbench.system import seeds

if TYPE_CHECKING:
    import numpy as np
    import torch
    from scipy.sparse import csr_array
    from torch import Tensor

    from hashbench.datasets.sparse import Inputs
    from hashbench.networks.model import Model


@dataclass(frozen=True, eq=False)
class Queries:
    """A batch of a run's queries, and what a condition may know beside them."""

    images: Tensor  # (n, channels, height, width) float32 in [0, 1], at the data set's size; vectors: (n, width)
    places: Sequence[int]  # of the images in the query set
    condition: str  # the condition's name, which its streams of chance carry
    seed: int  # the run's
    model: Model  # as it was trained, on the device of the images; the surrogate's where an attack is made on one
    labels: Tensor | None = None  # (n, C) uint8 multi-hot, on that device; for attacks alone, as are the next two
    database_codes: Tensor | None = None  # (N, bits) bool, on the CPU
    database_labels: Tensor | None = None  # (N, C) uint8 multi-hot, on the CPU

    def draw(self, draw: Callable[[torch.Generator], Tensor], *purpose: str | int) -> Tensor:
        """Return what `draw` gives for each image, stacked (n, ...), on the device of the images.

        The stream of an image follows from the run's seed, the condition's name, the image's place in the query set and
        `purpose`; it lies on the CPU, so neither the batch size nor the device changes what is drawn.
        """
        import torch

        streams = (seeds.generator(self.seed, "condition", self.condition, place, *purpose) for place in self.places)
        return torch.stack([draw(stream) for stream in streams]).to(self.images.device)


@dataclass(frozen=True, eq=False)
class FixedFeatures:
    """A run's inputs as what no training changes: vectors, texts, pixels, or the features of a fixed backbone."""

    inputs: Inputs  # (n, width), of the whole data set, an array or a CSR matrix
    query: np.ndarray  # (Q,) positions of the queries in them
    database: np.ndarray  # (N,) positions of the database's items
    left_out: csr_array[Any, Any] | None = None  # (Q, N), nonzero: the pair is left out of the query's ranking
    progress: bool = False  # whether to show how far it is


@dataclass(frozen=True)
class ConditionInfo:
    """What the registry shows of a condition."""

    name: str
    version: int  # raised whenever the numbers under the condition may change
    former_names: tuple[str, ...] = ()  # by which it is found too


@dataclass(frozen=True, kw_only=True)
class Condition:
    """How a finished run is measured again: with changed queries, or by another relevance.

    Every condition has two fields beside its own, which are left out of its identity and its text where they are None.
    """

    queries: int | None = None  # how many of the queries are measured, chosen by a hash of their places; None: all
    surrogate: str | None = None  # of an attack: another run, its folder or id, on whose model it is made

    info: ClassVar[ConditionInfo]
    #: What it can change: "images", "vectors", "text".
    takes: ClassVar[tuple[str, ...]] = ("images",)
    #: Whether it is an attack: it gets labels and the database, and its `apply` may follow gradients.
    attack: ClassVar[bool] = False
    #: Whether it leads each query to other labels, which `target_labels` names; measures are then counted for both.
    targets: ClassVar[bool] = False

    def apply(self, queries: Queries) -> Tensor:
        """Return the changed images, in the shape and on the device of `queries.images`, in [0, 1]."""
        raise TypeError(f"{type(self).__name__} must define apply(queries).")

    def target_labels(self, queries: Queries) -> Tensor:
        """Return the labels (n, C) uint8 that an attack with `targets` leads each query to."""
        raise TypeError(f"{type(self).__name__} must define target_labels(queries).")

    def relevance(self, features: FixedFeatures) -> csr_array[Any, Any]:
        """Return what is relevant instead of the data set's own, (Q, N) with ones; the queries are not changed then."""
        raise TypeError(f"{type(self).__name__} must define relevance(features).")

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that it adds to the run's."""
        return ()


C = TypeVar("C", bound=type[Condition])


@dataclass_transform(kw_only_default=True, frozen_default=True)
def condition(name: str, *, version: int = 1, former_names: Collection[str] = ()) -> Callable[[C], C]:
    """Register a class derived from Condition; its annotated attributes become its fields, and it a frozen dataclass.

    `version` must be raised whenever the numbers under the condition may change. Raises HashbenchError for a name that
    is taken, or that could not be typed in a list of conditions, and for a class that is no Condition.
    """

    def decorate(cls: C) -> C:
        if not issubclass(cls, Condition):
            raise HashbenchError(f"{cls.__name__} is no condition; derive it from hashbench.Condition.")
        if not re.fullmatch(r"[A-Za-z][\w.-]*", name):
            raise HashbenchError(f"'{name}' cannot name a condition; take letters, digits and any of '_.-'.")
        dataclass(frozen=True, kw_only=True)(cls)  # changes the class itself
        cls.info = ConditionInfo(name, version, tuple(former_names))
        CONDITIONS.register(name, cls, former_names=former_names)
        return cls

    return decorate


def own_fields(chosen: type[Condition]) -> list[dataclasses.Field[Any]]:
    """Return the fields of a condition but for those that every one has."""
    shared = {field.name for field in dataclasses.fields(Condition)}
    return [field for field in dataclasses.fields(chosen) if field.name not in shared]


def places_of(identity: Mapping[str, Any], split_sha256: str, queries: int) -> Sequence[int]:
    """Return the places, ascending, of the queries that a condition measures, of as many as there are.

    Where the condition limits them, they are those with the smallest sha256 of split and place: the same ones in every
    run of a split. Raises HashbenchError for a limit below 1 or above the number of queries.
    """
    limit = identity["fields"].get("queries")
    if limit is None:
        return range(queries)
    if not 1 <= limit <= queries:
        raise HashbenchError(f"queries={limit} is not possible; give 1 to {queries}, which is how many there are.")
    order = sorted(range(queries), key=lambda place: digest(["query", split_sha256, place]))
    return sorted(order[:limit])


def changes_relevance(chosen: type[Condition]) -> bool:
    """Return whether a condition says what is relevant, and leaves the queries as they are."""
    return chosen.relevance is not Condition.relevance


def from_identity(identity: Mapping[str, Any]) -> Condition:
    """Return the condition that `as_identity` describes; raises HashbenchError where it is not here as it was."""
    cls: type[Condition] = CONDITIONS.get(identity["name"])
    if cls.info.version != identity["version"]:
        raise HashbenchError(f"the condition '{identity['name']}' is of version {cls.info.version} here")
    return cls(**identity["fields"])


def relevance_in(name: str, run: Mapping[str, Any], stated: str | None) -> str:
    """Return the coordinate `relevance` under the condition `name`, which `stated` is in the run itself.

    It names the features that the identity of the `run` gives: `neighbours in resnet34 (resnet34-b627a593, 224 px)`.
    """
    recipe = run["recipe"]
    if len(run["data"]["shape"]) == 1:
        features = "the vectors"
    elif recipe["pretrained"]:
        size = f"{recipe['size']} px" if recipe["size"] else "native size"
        precision = "" if recipe["precision"] == "fp32" else f", {recipe['precision']}"
        features = f"{recipe['backbone']} ({run['weights']}, {size}{precision})"
    else:
        features = "the pixels"
    left_out = "some left out"
    return f"{name} in {features}" + (f", {left_out}" if (stated or "").endswith(left_out) else "")


def as_identity(chosen: Condition) -> dict[str, Any]:
    """Return name, version and every field of a condition, as plain data."""
    fields = {field.name: getattr(chosen, field.name) for field in own_fields(type(chosen))}
    shared = {field.name: getattr(chosen, field.name) for field in dataclasses.fields(Condition)}
    fields |= {name: value for name, value in shared.items() if value is not None}
    return {"name": chosen.info.name, "version": chosen.info.version, "fields": fields}


def as_text(identity: Mapping[str, Any]) -> str:
    """Return the one text of a condition with every field, as it is typed: `pgd(eps=8/255, steps=7)`.

    Equal conditions have equal texts, however they were typed. A version after the first is named: `noise(sigma=1) v2`.
    A surrogate is named by the start of its id.
    """
    fields = ", ".join(
        f"{name}={value[:8] if name == 'surrogate' else value_text(value)}"
        for name, value in identity["fields"].items()
    )
    version = f" v{identity['version']}" if identity["version"] != 1 else ""
    return identity["name"] + (f"({fields})" if fields else "") + version


def value_text(value: Any) -> str:
    """Return the text of a field's value, as it is typed: `0.1`, `8/255`, `true`."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    if float(short) == value:
        return short
    levels = round(value * 255)  # pixels have 255 steps, in which papers count
    return f"{levels}/255" if levels / 255 == value else repr(value)


def _not_a_condition(name: str, thing: Any) -> str | None:
    if not (isinstance(thing, type) and issubclass(thing, Condition) and "info" in vars(thing)):
        return f"{thing!r} is no class under @hashbench.condition(name, ...) derived from hashbench.Condition."
    if name not in (thing.info.name, *thing.info.former_names):
        return f"{thing!r} calls itself '{thing.info.name}'; its entry point must have the same name."
    return None


CONDITIONS.accepts = _not_a_condition
