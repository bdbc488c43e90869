"""The error about a user's mistake: one sentence, which the command line prints before it exits with code 2."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

_LONGEST = 200  # characters of a name that a message repeats


class HashbenchError(ValueError):
    """A mistake of the user: its message names the thing, the reason and the way out."""


@contextmanager
def no_exit() -> Iterator[None]:
    """Raise HashbenchError where code of others, such as a script made into a method, ends the process by sys.exit."""
    try:
        yield
    except SystemExit as error:
        raise HashbenchError(
            f"it called sys.exit({error.code!r}), which ends the process; let it raise an error."
        ) from error


def unknown(kind: str, name: object, known: Iterable[str], *, hint: str = "") -> HashbenchError:
    """Return the error for a `name` that is not among the `known` ones, with the nearest of them as a suggestion."""
    known, text = sorted(known), str(name)
    folded = {each.casefold(): each for each in known}  # capitals are no reason to know nothing like it
    near = get_close_matches(text.casefold(), folded, n=3, cutoff=0.5)
    typed = sorted(text.casefold())
    near.sort(key=lambda each: sorted(each) != typed)  # letters in another order are the likeliest slip
    guess = f" Did you mean '{folded[near[0]]}'?" if near else f" Known: {', '.join(known)}." if known else ""
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return HashbenchError(f"Unknown {kind} '{shown}'.{guess}{' ' + hint if hint else ''}")


def few(names: Sequence[str], most: int = 5) -> str:
    """Return names for a sentence, "a, b and 7 more" where there are more than `most`."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"
