"""What a shell completes: registered names, also in lists like `crh,csq`. Nothing imports torch for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click


def methods(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Return the lists that a registered method completes."""
    from hashbench.registry import METHODS

    return _lists(METHODS.entries(), incomplete)


def datasets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Return the lists that a registered data set completes; protocols are left out, for bash ends a word at @."""
    from hashbench.registry import DATASETS

    return _lists(DATASETS.entries(), incomplete)


def backbones(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Return the registered backbones that begin so."""
    from hashbench.registry import BACKBONES

    return [name for name in sorted(BACKBONES.entries()) if name.startswith(incomplete)]


def recipes(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Return the recipes that begin so."""
    from hashbench.recipes import names

    return [name for name in sorted(names()) if name.startswith(incomplete)]


def _lists(names: Iterable[str], incomplete: str) -> list[Any]:
    """Return the incomplete list with each name that its last one may become, but for those that are in it."""
    before, comma, last = incomplete.rpartition(",")
    there = before.split(",")
    return [before + comma + name for name in sorted(names) if name.startswith(last) and name not in there]
