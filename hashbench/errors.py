"""The error about a user's mistake: one sentence, which the command line prints before it exits with code 2."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class HashbenchError(ValueError):
    """A mistake of the user: its message names the thing, the reason and the way out."""


def unknown(kind: str, name: object, known: Iterable[str], *, hint: str = "") -> HashbenchError:
    """Return the error for a `name` that is not among the `known` ones, with the nearest of them as a suggestion."""
    known = sorted(known)
    near = get_close_matches(str(name), known, n=1, cutoff=0.5)
    guess = f" Did you mean '{near[0]}'?" if near else f" Known: {', '.join(known)}." if known else ""
    return HashbenchError(f"Unknown {kind} '{name}'.{guess}{' ' + hint if hint else ''}")


def few(names: Sequence[str], most: int = 5) -> str:
    """Return names for a sentence, "a, b and 7 more" where there are more than `most`."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"
