"""The backbone that a run has chosen: found by what was typed, and what the run's identity and provenance say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from hashbench.datasets.base import Kind
from hashbench.errors import HashbenchError
from hashbench.interop.targets import given_name, thing_in_file
from hashbench.networks.backbones import BackboneFactory, BackboneInfo, file_sha256, info_of
from hashbench.registry import BACKBONES, Entry, Origin
from hashbench.system.provenance import source_sha256


def resolve_backbone(target: str) -> str:
    """Return the registered name of the backbone that `target` means.

    A target is a name, `timm:NAME`, `torchvision:NAME` or `path/file.py:factory`.
    The factory of a file, which is run, has the name of its decorator, else its own, or that of
    `name=path/file.py:factory`; it is registered for this process. Raises HashbenchError where there is no such
    factory, where its code does not load, and where its name is taken.
    """
    given, place = given_name(target)
    source, _, attribute = place.rpartition(":")
    if not source.endswith(".py"):
        if target.endswith(".py"):
            raise HashbenchError(f"'{target}' names a file but no factory in it; write {target}:name_of_the_factory.")
        BACKBONES.get(target)
        return BACKBONES.name_of(target)
    factory = thing_in_file(Path(source), attribute, "backbone")
    if not callable(factory):
        raise HashbenchError(f"{place} is no factory; name a function (shape, pretrained) -> module.")
    info = getattr(factory, "info", None)
    own = info.name if isinstance(info, BackboneInfo) else None
    if own and given not in (None, own):
        raise HashbenchError(f"{place} has a name, '{own}'; leave '{given}=' out.")
    name = own or given or attribute
    BACKBONES.register(name, factory, origin=Origin(source, ""))
    return name


def misfit(name: str, kind: Kind) -> str | None:
    """Return why the backbone `name` is not for inputs of a `kind`, as a sentence, or None where it is."""
    takes = info_of(BACKBONES.get(name)).takes
    if kind in takes:
        return None
    return f"The backbone '{name}' takes {' and '.join(takes)}, not {kind}; `hashbench list backbones` shows others."


def weights_name(name: str) -> str | None:
    """Return the name of a backbone's pretrained weights, which carries the start of their sha256; None without any.

    Raises HashbenchError where they have no name because they are not there.
    """
    factory = BACKBONES.get(name)
    path = getattr(factory, "weights_file", None)
    return None if path is None else str(getattr(factory, "weights_name", path.name))


def identity_of(name: str, shape: Sequence[int]) -> dict[str, Any]:
    """Return what a run's identity says of a backbone beside its name, for inputs of `shape`.

    That is the version where it is not 1; of a backbone that is not hashbench's own also its width and what it takes,
    and of one in a file that was named the file's sha256. Raises HashbenchError where it cannot be built, or does not
    take inputs of `shape`.
    """
    factory, entry = BACKBONES.get(name), BACKBONES.entry(name)
    info = info_of(factory)
    found: dict[str, Any] = {} if info.version == 1 else {"version": info.version}
    width = _width(factory, tuple(shape), name) if not entry.builtin or _on_meta(factory) else None
    if not entry.builtin:
        found |= {"width": width, "takes": list(info.takes)}
        if _is_file(entry):
            found["source_sha256"] = _source(factory)
    return found


def source_of(name: str) -> str | None:
    """Return the sha256 of the file that defines a plug-in's backbone; None for hashbench's own and those of libraries.

    Their code changes with a version, which the run's provenance states.
    """
    factory = BACKBONES.get(name)
    return None if BACKBONES.entry(name).builtin or hasattr(factory, "full_name") else _source(factory)


def provenance_of(name: str) -> dict[str, Any]:
    """Return distribution and version that a backbone comes from."""
    origin = BACKBONES.entry(name).origin
    return {"distribution": origin.distribution, "version": origin.version}


def code_of(name: str) -> dict[str, Any]:
    """Return what tells a backbone's code from that of another time, for caches; {} for hashbench's own.

    Of a plug-in the weights' file, whose name need not carry its sha256, is part of it.
    """
    factory, entry = BACKBONES.get(name), BACKBONES.entry(name)
    version = info_of(factory).version
    if entry.builtin:
        return {} if version == 1 else {"version": version}
    found = {"version": version, "source": source_of(name) or str(entry.origin)}
    weights = None if hasattr(factory, "full_name") else getattr(factory, "weights_file", None)
    return {**found, "weights": file_sha256(weights)} if weights is not None and weights.is_file() else found


def label_of(identity: Mapping[str, Any]) -> str:
    """Return what a table says to tell backbones of one name apart: `version 2, width 64, source 1f3a90c2`."""
    shown = {key: value[:8] if key == "source_sha256" else value for key, value in identity.items() if key != "takes"}
    return ", ".join(f"{key.removesuffix('_sha256')} {value}" for key, value in shown.items())


@cache
def _width(factory: BackboneFactory, shape: tuple[int, ...], name: str) -> int:
    """Return the number of features, known by building the network; one of a library shows that it takes the shape."""
    try:
        with torch.random.fork_rng([]):
            if not _on_meta(factory):
                return int(factory(shape, False).width)  # type: ignore[arg-type]
            return _width_on_meta(factory, shape)
    except HashbenchError:
        raise
    except Exception as error:
        sides = " x ".join(map(str, shape))
        raise HashbenchError(
            f"The backbone '{name}' cannot be built for inputs of {sides}: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error


def _on_meta(factory: BackboneFactory) -> bool:
    return bool(getattr(factory, "on_meta", False))


def _width_on_meta(factory: BackboneFactory, shape: tuple[int, ...]) -> int:
    try:
        with torch.device("meta"):
            module = factory(shape, False)
    except HashbenchError:
        raise
    except Exception:  # its plan of layers is computed with tensors, say
        module = factory(shape, False).to("meta")
    width = int(module.width)  # type: ignore[arg-type]
    given = tuple(module.eval()(torch.empty(2, *shape, device="meta")).shape)
    if given != (2, width):
        raise HashbenchError(f"it gives outputs {given} without its last layer, not features (2, {width}).")
    return width


def _is_file(entry: Entry[Any]) -> bool:
    return entry.origin.distribution.endswith(".py")


def _source(factory: Any) -> str | None:
    if isinstance(factory, partial):
        return _source(factory.func)
    return source_sha256(factory if hasattr(factory, "__qualname__") else type(factory))
