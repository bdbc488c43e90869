"""What all commands share: the group `hashbench`, the decorator of a command, and how errors end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

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
    """Benchmark deep hashing: images in, K-bit codes out, retrieval by Hamming distance, exact numbers."""
    allocator.configure()


def warn(problems: Iterable[str]) -> None:
    """Print warnings on stderr."""
    for problem in problems:
        click.echo(f"Warning: {problem}", err=True)
