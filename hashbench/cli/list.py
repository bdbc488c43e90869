"""`hashbench list`: the registered names and their origins."""

from __future__ import annotations

import dataclasses
import fnmatch
import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from tabulate import tabulate

from hashbench import recipes
from hashbench.cli.base import command
from hashbench.datasets.catalogue import OWN_KINDS, data_source
from hashbench.errors import HashbenchError
from hashbench.registry import BACKBONES, CONDITIONS, DATASETS, EXECUTORS, METHODS, Entry, Registry
from hashbench.results.tables.escaping import plain


@command(
    "hashbench list methods", "hashbench list datasets", "hashbench list backbones 'torchvision:resnet*'", name="list"
)
@click.argument(
    "kind",
    type=click.Choice(["methods", "datasets", "backbones", "recipes", "executors", "measures", "conditions"]),
)
@click.argument("pattern", required=False)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the data sets' files.")
def list_names(kind: str, pattern: str | None, data_dir: Path | None) -> None:
    """Show the registered names: methods, datasets, backbones, recipes, executors, measures or conditions.

    A data set is ready, preparable by `hashbench prepare`, or missing: then it is downloaded where that is possible.
    With PATTERN, such as 'timm:resnet*', backbones are searched, also those of torchvision and timm.
    """
    if pattern is not None:
        if kind != "backbones":
            raise HashbenchError(f"PATTERN searches backbones, not {kind}; `hashbench list {kind}` shows all.")
        click.echo(backbones_like(pattern))
        return
    click.echo(datasets(data_dir) if kind == "datasets" else TABLES[kind]())


def methods() -> str:
    """Return the table of methods: origin, version, what each learns from, fidelity, paper and fields, or why not."""
    from hashbench.methods.contract import DeepMethod, Method, options

    def columns(cls: Any) -> list[Any]:
        fields = ", ".join(
            f"{name}={field.metadata.get('base', field.default)}".lower() for name, field in options(cls).items()
        )
        learns_from = "batches" if issubclass(cls, DeepMethod) else "features" if issubclass(cls, Method) else "pairs"
        return [cls.info.version, learns_from, cls.info.fidelity, cls.info.paper, fields]

    return _table(METHODS, ["version", "learns from", "fidelity", "paper", "fields and defaults"], columns)


def datasets(data_dir: Path | None = None) -> str:
    """Return the table of data sets: a line for each protocol, and whether its files are below `data_dir`."""
    from hashbench.datasets.prepared.opening import state

    rows = []
    for entry in DATASETS.entries().values():
        try:
            source = data_source(entry.name)
            files = state(source, data_dir)
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
    return f"{table}\n\nOwn data: {', '.join(f'{kind}PATH' for kind in OWN_KINDS)} (docs/adding-a-dataset.md)."


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
    from hashbench.evaluation.conditions import contract  # noqa: F401  (says what the registry accepts)

    def columns(cls: Any) -> list[Any]:
        fields = ", ".join(
            field.name if field.default is dataclasses.MISSING else f"{field.name}={field.default}".lower()
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


def _unavailable(error: Exception) -> str:
    reason = str(error) if isinstance(error, HashbenchError) else f"{type(error).__name__}: {error}"
    return _wrapped(f"unavailable: {reason}")


def _origin(entry: Entry[Any]) -> str:
    shadowed = "".join(f"; not the one from {origin}" for origin in entry.shadows)
    return f"{entry.origin}{shadowed}"


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 60)) or text


TABLES = {
    "methods": methods,
    "datasets": datasets,
    "backbones": backbones,
    "recipes": recipe_names,
    "executors": executors,
    "measures": measures,
    "conditions": conditions,
}
