"""What all commands share: the group `hashbench`, the decorator of a command, and how errors end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypedDict

import click

from hashbench import __version__
from hashbench.errors import HashbenchError
from hashbench.system import allocator


class OneSentence(click.Group):
    """A group whose commands end a HashbenchError with one sentence and exit code 2, and Ctrl-C with 130."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; with --debug, errors keep their traceback."""
        try:
            return super().invoke(ctx)
        except HashbenchError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"Error: {error}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("\nInterrupted. What was finished is kept; the same command goes on from here.", err=True)
            ctx.exit(130)


def command(*examples: str, name: str | None = None) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a command of `hashbench` whose help ends with examples that work."""
    lines = "\n".join(f"  {example}" for example in examples)
    return main.command(name, epilog=f"\b\nExamples:\n{lines}", context_settings={"show_default": True})


@click.group(cls=OneSentence, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="hashbench")
def main(debug: bool) -> None:
    """Benchmark deep hashing: images in, K-bit codes out, retrieval by Hamming distance, numbers to be trusted."""
    allocator.settle()


def warn(problems: Iterable[str]) -> None:
    """Say on stderr what is wrong but stops nothing."""
    for problem in problems:
        click.echo(f"Warning: {problem}", err=True)


def names(option: str, text: str) -> list[str]:
    """Return the names in a list like `crh,csq`, each once; raises HashbenchError for an empty place.

    A comma between parentheses belongs to a name: `crh,crh (heads=1, reassign=false)`.
    """
    found = [name.strip() for name in re.split(r",(?![^(]*\))", text)]
    if not all(found):
        raise HashbenchError(f"{option} '{text}' has an empty place; write names with one comma between them.")
    return [*dict.fromkeys(found)]


def data_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options about official files, --data-dir and --accept-unofficial, to a command."""
    accept = click.option(
        "--accept-unofficial", is_flag=True, help="Take data files whose checksum is not the official one."
    )
    folder = click.option(
        "--data-dir", type=click.Path(path_type=Path), help="Where the official files lie.  [env: HASHBENCH_DATA]"
    )
    return folder(accept(function))


def size_option(flag: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the option about the size of prepared images, as `size`, to a command."""
    text = "Side of the prepared images of a set of image files; default: what its protocols state."
    return click.option(flag, "size", type=click.IntRange(min=1), metavar="PIXELS", help=text)


def filter_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add --method, --dataset and --bits to a command about results, as `methods`, `datasets` and `bits`."""
    rows = "Only these methods or rows, in this order: 'crh (heads=1)'; 'crh ()': plain."
    methods = click.option("--method", "methods", metavar="NAME[,NAME]", help=rows)
    places = "Only these data sets, in this order."
    datasets = click.option("--dataset", "datasets", metavar="NAME[@PROTOCOL][,...]", help=places)
    return methods(datasets(click.option("--bits", metavar="K[,K]", help="Only these code lengths.")(function)))


class Filters(TypedDict):
    """What to leave out of results; None where nothing was asked for."""

    methods: list[str] | None
    datasets: list[str] | None
    bits: list[int] | None


def filters(methods: str | None, datasets: str | None, bits: str | None) -> Filters:
    """Return what the options of `filter_options` say; raises HashbenchError for an empty place or no number."""
    from hashbench.experiments.settings import parse_bits

    return {
        "methods": None if methods is None else names("--method", methods),
        "datasets": None if datasets is None else names("--dataset", datasets),
        "bits": None if bits is None else parse_bits(bits),
    }
