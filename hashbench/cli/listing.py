"""The tables of `hashbench list`: the registered names and their origins."""

from __future__ import annotations

import dataclasses
import fnmatch
import inspect
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from hashbench import recipes
from hashbench.datasets.catalogue import OTHER_KINDS, OWN_KINDS, data_source, track_of
from hashbench.errors import HashbenchError, unknown
from hashbench.registry import BACKBONES, CONDITIONS, DATASETS, EXECUTORS, METHODS, Entry, Registry
from hashbench.results.tables.escaping import plain


def methods(family: str | None = None, fidelity: str | None = None) -> str:
    """Return the table of methods by family: fidelity, what each learns from, paper and origin, or why it is not there.

    Only those of a family and of a fidelity, where these are given; raises HashbenchError where they are unknown.
    """
    from hashbench.methods.contract import FAMILIES, FIDELITIES

    rows: dict[str, list[list[str]]] = {}
    known: dict[str, None] = dict.fromkeys(FAMILIES)
    for entry in METHODS.entries().values():
        name, origin = plain(entry.name), "" if entry.builtin and not entry.shadows else _origin(entry)
        try:
            cls = METHODS.get(entry.name)
            info = cls.info
        except Exception as error:  # whatever a plug-in does, the others are shown
            if family is fidelity is None:
                rows.setdefault("", []).append([name, "", "", f"{_unavailable(error)}\n{origin}"])
            continue
        known.setdefault(info.family)
        if family in (None, info.family) and fidelity in (None, info.fidelity):
            version = f"version {info.version} from {origin}" if origin else ""
            where = ", ".join(part for part in (info.paper, version) if part)
            rows.setdefault(info.family, []).append([name, info.fidelity, learns_from(cls), where])
    if family is not None and family not in known:
        raise unknown("family", family, [name for name in known if name])
    if fidelity is not None and fidelity not in FIDELITIES:
        raise unknown("fidelity", fidelity, FIDELITIES)
    if not rows:
        return f"No method of the family {family} has the fidelity {fidelity}."
    headers = ["method", "fidelity", "learns from", "paper and origin"]
    table = []
    for kind in sorted(rows, key=lambda kind: (kind == "", [*known].index(kind) if kind in known else 0)):
        table += [[f"{kind or 'other'}:", "", "", ""], *rows[kind]]
    return _fitting(headers, table)


def learns_from(cls: type[Any]) -> str:
    """Return what a method learns from: "batches" of a training, fixed "features", or "pairs" of users and items."""
    from hashbench.methods.contract import DeepMethod, Method

    return "batches" if issubclass(cls, DeepMethod) else "features" if issubclass(cls, Method) else "pairs"


def one_method(name: str) -> str:
    """Return what one method is: its docstring, where it comes from, its fields with help, the recipe of its paper.

    Raises HashbenchError where there is no such method.
    """
    from hashbench.interop.targets import resolve_method
    from hashbench.methods.contract import options

    cls = resolve_method(name)
    info, width = cls.info, _terminal_width()
    said = [info.family, info.fidelity, info.paper, f"version {info.version}"]
    said.append(f"from {_origin(METHODS.entries()[info.name])}")
    first, _, rest = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")
    parts = [
        textwrap.fill(f"{info.name}: {first}", width),
        textwrap.fill(", ".join(part for part in said if part), width),
    ]
    parts += [textwrap.fill(paragraph, width) for paragraph in rest.split("\n\n") if paragraph]
    rows = [
        [field, str(found.metadata.get("base", found.default)).lower(), found.metadata.get("help", "")]
        for field, found in options(cls).items()
    ]
    if rows:
        parts.append(_fitting(["field", "default", "what it is"], rows))
    else:
        parts.append("It has no fields.")
    for title, settings in (
        ("Its paper's recipe, --recipe paper", getattr(cls, "paper_recipe", {})),
        ("With it, these fields", getattr(cls, "paper_fields", {})),
    ):
        if settings:
            shown = ", ".join(f"{key}={value}" for key, value in settings.items())
            parts.append(textwrap.fill(f"{title}: {shown}", width))
    return "\n\n".join(parts)


def datasets(data_dir: Path | None = None) -> str:
    """Return the table of data sets: a line for each protocol, and whether its files are below `data_dir`."""
    from hashbench.datasets.prepared.opening import state

    rows = []
    for entry in DATASETS.entries().values():
        try:
            other = track_of(entry.name) is not None
            source: Any = DATASETS.get(entry.name) if other else data_source(entry.name)
            files = source.state(data_dir) if other else state(source, data_dir)
        except Exception as error:  # whatever a plug-in does, the others are shown
            rows.append([entry.name, _origin(entry), *[""] * 5, _unavailable(error)])
            continue
        for protocol in source.protocols:
            sizes = ("by rule" if size is None else f"{size:,}" for size in protocol.sizes)
            rows.append(
                [protocol.full_name, _origin(entry), files, *sizes, protocol.measures[0], _wrapped(protocol.summary)]
            )
    headers = ["data set@protocol", "from", "files", "train", "query", "database", "measure", "what it is"]
    table = tabulate(rows, headers=headers, colalign=(*["left"] * 3, *["right"] * 3, "left", "left"))
    own = ", ".join(f"{kind}PATH" for kind in OWN_KINDS)
    pairs = ", ".join(f"{kind}FILE" for kind in OTHER_KINDS)
    return f"{table}\n\nOwn data: {own} (docs/adding-a-dataset.md), {pairs} (docs/recommendation.md)."


def backbones() -> str:
    """Return the table of registered backbones: what they take, and their pretrained weights."""
    from hashbench.networks.backbones import info_of

    def columns(factory: Any) -> list[Any]:
        path, info = getattr(factory, "weights_file", None), info_of(factory)
        state = "" if path is None else "there" if path.is_file() else "downloaded when needed"
        return [info.version, ", ".join(info.takes), "none" if path is None else path.name, state]

    table = _table(BACKBONES, ["version", "takes", "pretrained weights", "state"], columns)
    return (
        f"{table}\n\nAlso torchvision:NAME, timm:NAME and path/file.py:factory (docs/backbones.md); "
        f"`hashbench list backbones 'torchvision:*'` searches."
    )


def backbones_like(pattern: str) -> str:
    """Return the names of all backbones that match a pattern, or that hold it where it has no wildcard, one a line.

    Raises HashbenchError where there are none, and where a library that it names is not installed.
    """
    from hashbench.networks.libraries import search

    wanted = pattern if any(mark in pattern for mark in "*?[") else f"*{pattern}*"
    found = [*fnmatch.filter(BACKBONES, wanted), *search(wanted)]
    if not found:
        raise HashbenchError(f"No backbone is called like '{pattern}'; `hashbench list backbones` says where to look.")
    return "\n".join(found)


def executors() -> str:
    """Return the table of executors: what they are and their options, or what is missing for one."""

    def columns(cls: Any) -> list[Any]:
        fields = ", ".join(f"{field.name}={field.default}".lower() for field in dataclasses.fields(cls))
        try:
            cls().require()
        except HashbenchError as error:
            return [str(error), fields]
        return [inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0], fields]

    return _table(EXECUTORS, ["what it is, or what it lacks", "options and defaults"], columns)


def conditions() -> str:
    """Return the table of conditions: what they do and to what, version, fields with their default severities."""
    from hashbench.evaluation.conditions import contract  # which says what the registry accepts

    def columns(cls: Any) -> list[Any]:
        fields = ", ".join(
            field.name if field.default is dataclasses.MISSING else f"{field.name}={contract.value_text(field.default)}"
            for field in dataclasses.fields(cls)
        )
        what = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0]
        return [cls.info.version, ", ".join(cls.takes), "yes" if cls.attack else "no", fields, what]

    return _table(CONDITIONS, ["version", "takes", "attack", "fields and defaults", "what it does"], columns)


def recipe_names() -> str:
    """Return the table of recipes."""
    return tabulate(
        [[name, _wrapped(recipes.summary(name))] for name in recipes.names()], headers=["recipe", "what it is"]
    )


def measures() -> str:
    """Return the table of measures: how they are written, where they are from, and whether ties move them."""
    from hashbench.metrics import table

    problems = table.load_plug_ins()
    rows = [
        [
            "\n".join(entry.shown()),
            "hashbench" if table.is_built_in(entry.kind) else entry.function.__module__,
            "curve" if entry.curve else "exact, with bounds" if entry.depends_on_ties else "none",
            _wrapped(entry.summary),
        ]
        for entry in table.entries()
    ]
    return "\n".join([tabulate(rows, headers=["measure", "from", "ties", "what it is"]), *problems])


def _table(registry: Registry[Any], headers: list[str], columns: Callable[[Any], list[Any]]) -> str:
    rows = []
    for entry in registry.entries().values():
        try:
            found = [_wrapped(str(value)) for value in columns(registry.get(entry.name))]
        except Exception as error:  # whatever a plug-in does, the others are shown
            found = [*[""] * (len(headers) - 1), _unavailable(error)]
        rows.append([plain(entry.name), _origin(entry), *found])
    return tabulate(rows, headers=[registry.kind, "from", *headers])


def _fitting(headers: list[str], rows: list[list[str]]) -> str:
    """Return a table whose last column is wrapped so that the table fits the terminal."""
    padded = [f"{name}  " for name in headers]  # tabulate's columns are at least two wider than their header
    taken = sum(max(len(row[column]) for row in (padded, *rows)) + 2 for column in range(len(headers) - 1))
    left = max(_terminal_width() - taken, 16)

    def wrapped(text: str) -> str:
        return "\n".join(
            line for part in text.split("\n") for line in textwrap.wrap(part, left, break_on_hyphens=False)
        )

    shown = [[*row[:-1], wrapped(row[-1])] for row in rows]
    return tabulate(shown, headers=headers, disable_numparse=True)


def _terminal_width() -> int:
    return max(shutil.get_terminal_size().columns, 60)


def _unavailable(error: Exception) -> str:
    reason = str(error) if isinstance(error, HashbenchError) else f"{type(error).__name__}: {error}"
    return _wrapped(f"unavailable: {reason}")


def _origin(entry: Entry[Any]) -> str:
    shadowed = "".join(f"; not the one from {origin}" for origin in entry.shadows)
    return f"{entry.origin}{shadowed}"


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 60)) or text


TABLES = {
    "backbones": backbones,
    "recipes": recipe_names,
    "executors": executors,
    "measures": measures,
    "conditions": conditions,
}
