"""Options that several commands have, and what their values mean."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import click

from hashbench.cli import completion
from hashbench.errors import HashbenchError


def names(option: str, text: str, *, is_there: Callable[[str], bool] = lambda name: False) -> list[str]:
    """Return the names in a list like `crh,csq`, each once; raises HashbenchError for an empty name.

    A comma between parentheses or quotes belongs to a name, `crh,crh (heads=1, reassign=false)`, and one in a path that
    `is_there`: a name with it is then no list of two, unless both of these are there as well, which raises, too.
    """
    quoted = re.sub(r'(^|,)\s*"([^"]*)"\s*(?=,|$)', lambda item: f"{item[1]}\1" + item[2].replace(",", "\0"), text)
    written = [piece.strip() for piece in re.split(r",(?![^(]*\))", quoted)]
    whole = [piece.startswith("\1") for piece in written]  # those in quotes are joined with nothing
    pieces = [piece.lstrip("\1").strip().replace("\0", ",") for piece in written]
    if not all(pieces):
        raise HashbenchError(f"{option} '{text}' has an empty name; write names with one comma between them.")
    found = []
    while pieces:
        joined = [n for n in range(len(pieces), 1, -1) if not any(whole[:n]) and is_there(",".join(pieces[:n]))]
        count = joined[0] if joined else 1
        name = ",".join(pieces[:count])
        if count > 1 and all(map(is_there, pieces[:count])):
            raise HashbenchError(f"{option} '{name}' is a path, and a list of {count}; put what is one into quotes: "
                                 f"'\"{name}\"'.")  # fmt: skip
        found.append(name)
        pieces, whole = pieces[count:], whole[count:]
    return [*dict.fromkeys(found)]


def method_is_there(name: str) -> bool:
    """Return whether `name` is a registered method, or a class of a file that is there."""
    from hashbench.registry import METHODS

    target = re.sub(r"\s*\([^()]*\)$", "", name)  # without fields
    file = re.sub(r"^[\w-]+=", "", target).rpartition(":")[0]  # without the name that it may be given
    is_class = file.endswith(".py") and target.rpartition(":")[2].isidentifier()
    return name in METHODS.entries() or (is_class and os.path.exists(file))


def dataset_is_there(name: str, data_dir: Path | None) -> bool:
    """Return whether `name` is a registered data set, or own data whose file or folder is there."""
    from hashbench.datasets.catalogue import OTHER_KINDS, OWN_KINDS, own_name
    from hashbench.datasets.files.releases import data_root
    from hashbench.registry import DATASETS

    own = (*OWN_KINDS, *OTHER_KINDS)
    if not name.startswith(own):
        return "," not in name and name.partition("@")[0] in DATASETS
    path = Path(own_name(name)[0].partition(":")[2]).expanduser()
    return any(os.path.exists(place / path) for place in (Path(), data_root(data_dir)))


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
    methods = click.option("--method", "methods", metavar="NAME[,NAME]", shell_complete=completion.methods, help=rows)
    sets = "Only these data sets, in this order."
    datasets = click.option("--dataset", "datasets", metavar="NAME[@PROTOCOL][,...]",
                            shell_complete=completion.datasets, help=sets)  # fmt: skip
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
