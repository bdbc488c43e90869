"""Options that several commands have, and what their values mean."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import click

from hashbench.errors import HashbenchError


def names(option: str, text: str) -> list[str]:
    """Return the names in a list like `crh,csq`, each once; raises HashbenchError for an empty name.

    A comma between parentheses belongs to a name: `crh,crh (heads=1, reassign=false)`.
    """
    found = [name.strip() for name in re.split(r",(?![^(]*\))", text)]
    if not all(found):
        raise HashbenchError(f"{option} '{text}' has an empty name; write names with one comma between them.")
    return [*dict.fromkeys(found)]


def measure_names(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in all values of --measure, each of which may be a list like `mAP@all,P@100`."""
    return tuple(dict.fromkeys(name for text in given for name in names("--measure", text)))


def data_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options about official files, --data-dir and --accept-unofficial, to a command."""
    accept = click.option(
        "--accept-unofficial", is_flag=True, help="Accept data files whose checksum is not the official one."
    )
    folder = click.option(
        "--data-dir", type=click.Path(path_type=Path), help="Folder of the official files.  [env: HASHBENCH_DATA]"
    )
    return folder(accept(function))


def size_option(function: Callable[..., None]) -> Callable[..., None]:
    """Add the option about the size of prepared images, as `size`, to a command; --data-size is its former name."""
    text = (
        "Side of the prepared images of a set of image files; default: the size in its protocols, of own images their "
        "own, at most 256."
    )
    add = click.option("--size", "--data-size", "size", type=click.IntRange(1, 65535), metavar="PIXELS", help=text)
    return add(function)


def filter_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add --method, --dataset and --bits to a command about results, as `methods`, `datasets` and `bits`."""
    rows = "Only these methods or rows, in this order: 'crh (heads=1)'; 'crh ()' is the row with all defaults."
    methods = click.option("--method", "methods", metavar="NAME[,NAME]", help=rows)
    sets = "Only these data sets, in this order."
    datasets = click.option("--dataset", "datasets", metavar="NAME[@PROTOCOL][,...]", help=sets)
    return methods(datasets(click.option("--bits", metavar="K[,K]", help="Only these code lengths.")(function)))


class Filters(TypedDict):
    """The methods, data sets and code lengths to show; None shows all."""

    methods: list[str] | None
    datasets: list[str] | None
    bits: list[int] | None


def filters(methods: str | None, datasets: str | None, bits: str | None) -> Filters:
    """Return the values of the options of `filter_options`; raises HashbenchError for an empty name or no number."""
    from hashbench.experiments.settings import parse_bits

    return {
        "methods": None if methods is None else names("--method", methods),
        "datasets": None if datasets is None else names("--dataset", datasets),
        "bits": None if bits is None else parse_bits(bits),
    }


def executor_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add --executor, --workers and --executor-option to a command."""
    name = click.option(
        "--executor", metavar="NAME", show_default=False,
        help="Where the runs are computed: serial (one after another in this process, the default), local (worker "
        "processes), ray, slurm; see `hashbench list executors`.",
    )  # fmt: skip
    workers = click.option(
        "--workers", type=int, metavar="N", show_default=False,
        help="Runs computed at a time. Default: local one for each CUDA device, ray and slurm as many as fit.",
    )  # fmt: skip
    options = click.option("--executor-option", "executor_settings", multiple=True, metavar="KEY=VALUE",
                           help="An option of the executor, such as partition=gpu.")  # fmt: skip
    return name(workers(options(function)))
