"""A method around a method: the fields of both as plain data, the two as modules, and what keeps them apart.

In a wrapper's fields its base is {"name", "version", "fields"}. As it is set, that is `base` (a name) and `base.field`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hashbench.errors import HashbenchError
from hashbench.methods.contract import (
    NOT_FORWARDED,
    DeepMethod,
    Method,
    Task,
    base_of,
    defines,
    options,
    resolve_fields,
    wraps,
)
from hashbench.registry import METHODS

OF_BASE = "base."


def base_class(cls: type[Method], name: str | None = None) -> type[DeepMethod]:
    """Return the class of the base called `name`, the default one without; raises HashbenchError where it is none."""
    name = options(cls)["base"].metadata["base"] if name is None else name
    base: type[Method] = METHODS.get(name)
    outer = cls.info.name
    if not issubclass(base, DeepMethod):
        raise HashbenchError(
            f"{outer}.base={name} is not possible: {name} is fitted in one call, and only a method that is trained by "
            f"gradients can be wrapped; choose another base."
        )
    if wraps(base):
        raise HashbenchError(f"{outer}.base={name} is not possible: {name} wraps a method itself; choose another base.")
    return base


def resolve(cls: type[Method], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return every field of a method as plain data: what was given, else its default.

    Raises HashbenchError for unknown fields, its base's among them, and for what cannot be a base.
    """
    own, of_base = _parted(cls, given)
    fields = resolve_fields(cls.info.name, options(cls), own)
    if wraps(cls):
        base = base_class(cls, own.get("base"))
        fields["base"] = {"name": base.info.name, "version": base.info.version, "fields": resolve(base, of_base)}
    return fields


def owner_of(cls: type[Method], field: str, given: Mapping[str, Any]) -> tuple[type[Method], str]:
    """Return the class to which a field belongs and its name there: for `base.margin` the base's, and `margin`."""
    if wraps(cls) and field.startswith(OF_BASE):
        return base_class(cls, given.get("base")), field.removeprefix(OF_BASE)
    return cls, field


def changed_fields(cls: type[Method], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a method's fields that differ from their defaults, a base's as `base.field`."""
    known = options(cls)
    changed = {name: value for name, value in fields.items() if name not in known or known[name].default != value}
    if wraps(cls):
        base = changed.pop("base")
        inner = base_class(cls, base["name"])
        changed |= {} if inner is base_class(cls) else {"base": base["name"]}
        changed |= {f"{OF_BASE}{name}": value for name, value in changed_fields(inner, base["fields"]).items()}
    return changed


def construct(cls: type[Method], fields: Mapping[str, Any]) -> Method:
    """Return a method with these fields, its base made of {"name", "version", "fields"}."""
    if wraps(cls):
        base = construct(base_class(cls, fields["base"]["name"]), fields["base"]["fields"])
        made = cls(**{**fields, "base": base})
        if kept := [f"{OF_BASE}{name}" for name in getattr(base, "keeps_samples", ())]:
            vars(made)["keeps_samples"] = (*getattr(cls, "keeps_samples", ()), *kept)  # they are the wrapper's to share
        return made
    return cls(**fields)


def classes_of(cls: type[Method], fields: Mapping[str, Any]) -> tuple[type[Method], ...]:
    """Return the class of a method and, where it is around another one, that of its base."""
    return (cls, base_class(cls, fields["base"]["name"])) if wraps(cls) else (cls,)


def unsupported(method: Method, task: Task) -> str | None:
    """Return why a method or its base does not do the task, or why the two do not go together; None where they do."""
    reason, cls, base = method.supports(task), type(method), base_of(method)
    if reason is not None or base is None:
        return reason
    inner = base.supports(task)
    if inner is not None:
        return f"its base {base.info.name}: {inner}"
    for hook in NOT_FORWARDED:
        if defines(type(base), hook) and not defines(cls, hook):
            return f"its base {base.info.name} has a {hook} of its own, which {cls.info.name} does not call."
    for declared in ("views", "view_augments"):
        wanted = getattr(base, declared, None)
        if wanted not in (getattr(DeepMethod, declared, None), getattr(cls, declared, None)):
            return f"its base {base.info.name} has {declared} = {wanted!r}; {cls.info.name} has to declare the same."
    if base.supervised and not cls.supervised:
        return f"its base {base.info.name} learns from labels, which an unsupervised method is not given."
    return None


def _parted(cls: type[Method], given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields given for the method itself, and those for its base."""
    inner = {name for name in given if wraps(cls) and name.startswith(OF_BASE)}
    return (
        {name: value for name, value in given.items() if name not in inner},
        {name.removeprefix(OF_BASE): given[name] for name in given if name in inner},
    )
