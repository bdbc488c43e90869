"""The registries: names of methods, data sets, backbones, ..., found without importing what they name.

A name comes from one of three places: hashbench itself (a lazy `module:attribute` target), an installed distribution's
entry point (group `hashbench.<kind>s`), or a decorator that ran in this process. Built-in names win every clash; the
entry points of hashbench's own distribution count as built in. What was renamed is found by its former names too.
A name like `timm:resnet18` is that of a thing in another library, which no list shows unless it is asked for.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any, Generic, TypeVar

from hashbench import __version__
from hashbench.errors import HashbenchError, unknown

T = TypeVar("T")
OWN_DISTRIBUTION = "hashbench"


@dataclass(frozen=True)
class Origin:
    """Where a name comes from: a distribution and its version, or this process."""

    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


THIS_PROCESS = Origin("this process", "")


@dataclass
class Entry(Generic[T]):
    """One registered name: its origin, and how to load what it names."""

    name: str
    origin: Origin
    module: str  # that defines it
    load: Callable[[], Any]
    builtin: bool = False
    shadows: list[Origin] = field(default_factory=list)  # origins that lost a clash over this name


class Registry(Generic[T]):
    """Names of one kind of thing; what a name stands for is imported when it is requested."""

    def __init__(
        self,
        kind: str,
        *,
        builtin: Mapping[str, str] | None = None,
        former: Mapping[str, str] | None = None,
        libraries: Mapping[str, str] | None = None,
        accepts: Callable[[str, Any], str | None] | None = None,
    ):
        """Make a registry of one `kind`, a noun.

        `builtin` maps names to `module:attribute`, `former` names that built-in things had to those that they have;
        `libraries` maps a distribution to the `module:attribute` that makes a thing of a name in it: what it returns
        may have a `full_name`, which says more than the name that was asked for;
        `accepts(name, thing)` returns why the two do not go together.
        """
        self.kind = kind
        self.group = f"hashbench.{kind.replace(' ', '_')}s"
        self._builtin = dict(builtin or {})
        self._former = dict(former or {})
        self._libraries = dict(libraries or {})
        self.accepts = accepts
        self._local: dict[str, Entry[T]] = {}
        self._loaded: dict[str, T] = {}

    def register(self, name: str, thing: T, *, origin: Origin = THIS_PROCESS, former_names: Collection[str] = ()) -> T:
        """Give `thing` a name in this process, and find it by its `former_names` too.

        Raises HashbenchError when another module holds one of the names already.
        """
        module = getattr(thing, "__module__", "")
        entries = self.entries()
        for wanted in (name, *former_names):
            taken = entries.get(self.name_of(wanted))
            if taken is not None and taken.module != module:
                raise HashbenchError(
                    f"The {self.kind} name '{wanted}' is taken by {taken.module} ({taken.origin}); choose another name "
                    f"for the one in {module}."
                )
        self._former |= dict.fromkeys(former_names, name)
        if name not in entries or name in self._local:
            self._local[name] = Entry(name, origin, module, lambda: thing)
            self._loaded.pop(name, None)  # defined again, in a notebook say: the newer one counts
        return thing

    def name_of(self, name: str) -> str:
        """Return the name that a thing has now, for one that it had; any other name as it is.

        Raises HashbenchError for names that a library does not have, and where it is not installed.
        """
        if self._library(name):
            return str(getattr(self.get(name), "full_name", name))
        return self._former.get(name, name)

    def get(self, name: str) -> T:
        """Return what `name` stands for; raises HashbenchError for unknown names and plug-ins that do not load."""
        if name in self._former:
            now = self._former[name]
            warnings.warn(f"The {self.kind} '{name}' is called '{now}' now.", FutureWarning, stacklevel=2)
            name = now
        if name not in self._loaded and (library := self._library(name)):
            self._loaded[name] = _loader(self._libraries[library])()(name.removeprefix(f"{library}:"))
        if name not in self._loaded:
            entries = self.entries()
            if name not in entries:
                raise unknown(
                    self.kind, name, entries, hint=f"`hashbench list {self.kind.replace(' ', '')}s` shows all."
                )
            entry = entries[name]
            try:
                thing = entry.load()
                reason = self.accepts(name, thing) if self.accepts else None
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a plug-in may do anything while it is imported, even exit
                raise HashbenchError(
                    f"The {self.kind} '{name}' from {entry.origin} does not load: {type(error).__name__}: "
                    f"{' '.join(str(error).split())}"
                ) from error
            if reason:
                raise HashbenchError(f"The {self.kind} '{name}' from {entry.origin} cannot be used: {reason}")
            for other in entry.shadows:
                warnings.warn(f"The {self.kind} '{name}' is the one from {entry.origin}, not that of the same name "
                              f"from {other}.", stacklevel=2)  # fmt: skip
            self._loaded[name] = thing
        return self._loaded[name]

    def entry(self, name: str) -> Entry[T]:
        """Return the entry of a name, also of one in a library; raises KeyError for unknown names."""
        library = self._library(name)
        if library is None:
            return self.entries()[name]
        return Entry(name, Origin(library, version(library)), library, lambda: self.get(name))

    def entries(self) -> dict[str, Entry[T]]:
        """Return every name with its origin, sorted; imports nothing of what they name."""
        found: dict[str, Entry[T]] = {}
        own = Origin(OWN_DISTRIBUTION, __version__)
        for name, target in self._builtin.items():
            found[name] = Entry(name, own, target.partition(":")[0], _loader(target), builtin=True)
        for point, origin in _points(self.group, _state_of_the_path()):
            entry: Entry[T] = Entry(
                point.name,
                origin,
                point.value.partition(":")[0],  # `point.module` raises for a value that is no `module:attribute`
                point.load,
                builtin=origin.distribution == OWN_DISTRIBUTION,
            )
            winner = found.setdefault(point.name, entry)
            if winner is not entry and winner.module != entry.module:
                winner.shadows.append(origin)
        for name, local in self._local.items():
            found.setdefault(name, local)
        return dict(sorted(found.items()))

    def __contains__(self, name: str) -> bool:
        return self._library(name) is not None or self.name_of(name) in self.entries()

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries())

    def _library(self, name: str) -> str | None:
        """Return the library whose thing `name` is, or None."""
        library, colon, _ = name.partition(":")
        return library if colon and library in self._libraries else None


def _loader(target: str) -> Callable[[], Any]:
    module, _, attribute = target.partition(":")
    return lambda: getattr(importlib.import_module(module), attribute)


def _not_a_method(name: str, thing: Any) -> str | None:
    if not hasattr(thing, "info"):
        return f"{thing!r} lacks the decorator @hashbench.method(name, ...)."
    if name not in (thing.info.name, *thing.info.former_names):
        return f"{thing!r} calls itself '{thing.info.name}'; its entry point must have the same name."
    return None


def _not_a_backbone(name: str, thing: Any) -> str | None:
    return None if callable(thing) else f"{thing!r} is no function (shape, pretrained) -> module."


def _state_of_the_path() -> tuple[tuple[str, int], ...]:
    """Return where distributions are looked for, with what changes when one is installed there."""
    return tuple((folder, os.stat(folder).st_mtime_ns if os.path.exists(folder) else 0) for folder in sys.path)


@lru_cache
def _points(group: str, _state: tuple[tuple[str, int], ...]) -> list[tuple[EntryPoint, Origin]]:
    """Return the entry points of a group with their origins, this distribution's first; reading them takes long."""
    origins: dict[int, Origin] = {}  # of each distribution, whose metadata are parsed anew wherever they are asked for

    def origin(point: EntryPoint) -> Origin:
        if id(point.dist) not in origins:
            origins[id(point.dist)] = _origin(point)
        return origins[id(point.dist)]

    def own_first(pair: tuple[EntryPoint, Origin]) -> tuple[bool, str, str]:
        point, origin = pair
        return origin.distribution != OWN_DISTRIBUTION, origin.distribution, point.value

    return sorted(((point, origin(point)) for point in entry_points(group=group)), key=own_first)


def _origin(point: EntryPoint) -> Origin:
    if point.dist is None or point.dist.name is None:
        return Origin("an unnamed distribution", "")
    return Origin(point.dist.name, point.dist.version or "")


METHODS: Registry[Any] = Registry("method", builtin={"crh": "hashbench.methods.crh:CRH"}, accepts=_not_a_method)
DATASETS: Registry[Any] = Registry(
    "dataset",
    builtin={
        "20newsgroups": "hashbench.datasets.families.text:newsgroups",
        "20newsgroups-body": "hashbench.datasets.families.text:newsgroups_body",
        "agnews": "hashbench.datasets.families.text:agnews",
        "cars": "hashbench.datasets.families.cars:cars",
        "cifar10": "hashbench.datasets.families.cifar:cifar10",
        "cifar100": "hashbench.datasets.families.cifar:cifar100",
        "coco": "hashbench.datasets.families.coco:coco",
        "cub200": "hashbench.datasets.families.birds:cub200",
        "fashion-mnist": "hashbench.datasets.families.fashion_mnist:fashion_mnist",
        "fashion-mnist-10k": "hashbench.datasets.families.fashion_mnist:fashion_mnist_10k",
        "fashion-mosaic": "hashbench.datasets.families.fashion_mnist:fashion_mosaic",
        "imagenet100": "hashbench.datasets.families.imagenet:imagenet100",
        "mirflickr": "hashbench.datasets.families.mirflickr:mirflickr",
        "movielens-100k": "hashbench.datasets.interactions.movielens:movielens_100k",
        "movielens-1m": "hashbench.datasets.interactions.movielens:movielens_1m",
        "nabirds": "hashbench.datasets.families.birds:nabirds",
        "nuswide21": "hashbench.datasets.families.nuswide:nuswide21",
        "reuters": "hashbench.datasets.families.text:reuters",
        "tmc": "hashbench.datasets.families.text:tmc",
    },
)
BACKBONES: Registry[Any] = Registry(
    "backbone",
    builtin={
        "identity": "hashbench.networks.backbones:identity",
        "mlp": "hashbench.networks.backbones:mlp",
        "resnet-small": "hashbench.networks.backbones:resnet_small",
        **{
            name: f"hashbench.networks.backbones:{name}"
            for name in ("alexnet", "mobilenet_v2", "resnet18", "resnet34", "resnet50", "vgg16", "vit_b_16")
        },
    },
    libraries={
        "timm": "hashbench.networks.libraries:timm_factory",
        "torchvision": "hashbench.networks.libraries:torchvision_factory",
    },
    accepts=_not_a_backbone,
)
EXECUTORS: Registry[Any] = Registry(
    "executor",
    builtin={
        "local": "hashbench.executors.local:Local",
        "ray": "hashbench.executors.ray_cluster:Ray",
        "serial": "hashbench.executors.serial:Serial",
        "slurm": "hashbench.executors.slurm:Slurm",
    },
)  # hashbench.executors.base sets what it accepts
CONDITIONS: Registry[Any] = Registry(
    "condition",
    builtin={
        **{
            name: f"hashbench.evaluation.conditions.corruptions:{name.capitalize()}"
            for name in ("blur", "clean", "jpeg", "noise", "occlusion")
        },
        "hag": "hashbench.evaluation.conditions.attacks:HammingAttack",
        "neighbours": "hashbench.evaluation.conditions.neighbours:Neighbours",
        "pgd": "hashbench.evaluation.conditions.attacks:CenterCodePGD",
        "targeted": "hashbench.evaluation.conditions.attacks:Targeted",
    },
)  # hashbench.evaluation.conditions.contract sets what it accepts
