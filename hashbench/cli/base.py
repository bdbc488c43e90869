"""What all commands share: the group `hashbench`, the decorator of a command, and how errors end."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import click

import hashbench
from hashbench.errors import HashbenchError
from hashbench.results.tables.escaping import plain
from hashbench.system import allocator

_python_format = warnings.formatwarning
PIPE_CLOSED = 141  # the exit code of a process that SIGPIPE ended, which is what `hashbench ... | head` expects


class OneSentence(click.Group):
    """A group whose commands end a HashbenchError with one sentence and exit code 2, and Ctrl-C with 130.

    So do they where the system refuses something, such as more output to a full disk; where nobody reads the output
    any more, they end without a word.
    """

    def make_context(self, *arguments: Any, **more: Any) -> click.Context:
        """Parse the command line, and print --help, with one sentence where that cannot be printed."""
        _open_closed_streams()
        with _one_sentence():
            for given in more.get("args", arguments[1] if len(arguments) > 1 else ()):
                if "\0" in given:  # no command line can hold it, a script's list can
                    raise HashbenchError(f"'{given}' holds a NUL, which no name has; leave it out.")
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; with --debug, errors keep their traceback."""
        with _one_sentence(debug=ctx.params.get("debug", False)):
            return super().invoke(ctx)


@contextmanager
def _one_sentence(*, debug: bool = False) -> Iterator[None]:
    try:
        yield
    except HashbenchError as error:
        if debug:
            raise
        _end(f"Error: {error}")
    except OSError as error:
        stream = _failed_stream(error)
        if stream is not None and error.errno == errno.EPIPE:
            _discard_output()
            raise click.exceptions.Exit(PIPE_CLOSED) from None
        if debug or error.errno is None:
            raise
        reason = os.strerror(error.errno)
        if stream == "stdout":
            _discard_output()
            _end(f"Error: The output cannot be written: {reason}; make room there, or send it elsewhere.")
        where = f"{error.filename}: " if error.filename is not None else ""
        _end(f"Error: {where}{reason}; is the name right, and may you read and write there?")
    except MemoryError as error:
        if debug:
            raise
        detail = f" ({error})" if str(error) else ""
        _end(f"Error: There was not enough memory{detail}; give it less at a time, or a machine with more.")
    except KeyboardInterrupt:
        _end("Interrupted. What was finished is kept; the same command goes on from here.", code=130, before="\n")


def _end(sentence: str, *, code: int = 2, before: str = "") -> None:
    with suppress(OSError):  # with nowhere to say it, the exit code is left
        click.echo(before + readable(sentence), err=True)
    raise click.exceptions.Exit(code) from None


def _failed_stream(error: OSError) -> Literal["stdout", "stderr"] | None:
    """Return where printing raised the error, None where something else did."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is click.echo.__code__:
            return "stderr" if frame.f_locals["err"] else "stdout"
    return None


def _open_closed_streams() -> None:
    """Let what goes to a stream that was closed before the start (`>&-`), which Python has as None, go nowhere."""
    for name in ("stdin", "stdout", "stderr"):  # in the order of the numbers that they have in every process
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115


def _discard_output() -> None:
    """Let what stdout still holds go nowhere, or Python would try again to write it when it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def command(*examples: str, name: str | None = None) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a command of `hashbench` whose help ends with examples that work."""
    lines = "\n".join(f"  {example}" for example in examples)
    return main.command(name, epilog=f"\b\nExamples:\n{lines}", context_settings={"show_default": True})


@click.group(cls=OneSentence, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(hashbench.__version__, prog_name="hashbench")
def main(debug: bool) -> None:
    """Benchmark deep hashing: images in, K-bit codes out, retrieval by Hamming distance, exact numbers."""
    allocator.configure()
    warnings.formatwarning = _format_warning
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # for a terminal that has no ±, and names that are no text


def terminal() -> tuple[int | None, bool]:
    """Return how wide the terminal on stdout is, and whether it shows bold; None and False for a file or a pipe."""
    if not sys.stdout.isatty():
        return None, False
    return shutil.get_terminal_size().columns, not os.environ.get("NO_COLOR")


def warn(problems: Iterable[str]) -> None:
    """Print warnings on stderr."""
    for problem in problems:
        click.echo(f"Warning: {readable(problem)}", err=True)


def print_kept(text: str, otherwise: str) -> None:
    """Print `text`; where it cannot be written, `otherwise` says on stderr what it was, or where it is kept."""
    try:
        click.echo(text)
    except OSError as error:
        with suppress(OSError):
            if error.errno != errno.EPIPE:  # a reader who has enough
                click.echo(otherwise, err=True)
        raise


def readable(sentence: str) -> str:
    """Return a sentence in one line, without what moves a terminal's cursor: names of files may hold anything."""
    return re.sub(r"\S{300,}", lambda long: f"{long[0][:100]}...{long[0][-100:]}", plain(sentence))


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return a warning of ours as one line, and that of a library with the place that it comes from."""
    if Path(hashbench.__file__).parent in Path(filename).parents:
        return f"Warning: {readable(str(message))}\n"
    return _python_format(message, category, filename, lineno, line)
