"""What the tuning behind the rows of a table cost, so that a tuned row is not taken for one that was run as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hashbench.results.result import Result
from hashbench.results.studies import settings_words
from hashbench.results.sweeps.estimates import duration, plural
from hashbench.results.tables.blocks import label_by_fields


def tuning_notes(runs_of: Mapping[str, Sequence[Result]]) -> list[tuple[str, str]]:
    """Return the footnote of a table with tuned rows, `runs_of` by label; none where no row is tuned."""
    studies = {label: _studies(runs) for label, runs in runs_of.items()}
    tuned = {label: found for label, found in studies.items() if found}
    if not tuned:
        return []
    names = _names(runs_of)
    budgets = {" and ".join(map(_trials, found)) for found in tuned.values()}
    if len(tuned) > 1 and len(budgets) == 1:  # said once
        each = [math.fsum(study["seconds"] for study in found) for found in tuned.values()]
        took = " to ".join(dict.fromkeys(map(duration, (min(each), max(each)))))
        found_by = dict[str, list[str]]()
        for label in tuned:
            found_by.setdefault(_settings(runs_of[label]), []).append(names[label])
        of_rows = "; ".join(f"{settings}: {', '.join(rows)}" for settings, rows in sorted(found_by.items()))
        told = f"{budgets.pop()} for each row, in {took}. Found: {of_rows}"
    else:
        told = "; ".join(
            f"{names[label]}: {' and '.join(map(_words, found))}, found {_settings(runs_of[label])}"
            for label, found in tuned.items()
        )
    untuned = [names[label] for label, found in studies.items() if not found]
    others = f" Not tuned: {', '.join(untuned)}." if untuned else ""
    trials = {sum(study["trials"] for study in found) for found in tuned.values()}
    apart = " The tuned rows had different numbers of trials." if len(trials) > 1 else ""
    return [("", f"Tuned on validation queries: {told}.{others}{apart}")]


def _names(runs_of: Mapping[str, Sequence[Result]]) -> dict[str, str]:
    """Return how a note names each row: without its tuning, which the note is about, where that is no other's name."""
    fields = {label: label_by_fields(runs[0]).removesuffix(" ()") for label, runs in runs_of.items()}
    names = [*fields.values()]
    return {label: name if names.count(name) == 1 else label for label, name in fields.items()}


def _settings(runs: Sequence[Result]) -> str:
    found = [run.coords["tuned"]["settings"] for run in runs if "tuned" in run.coords]
    return " or ".join(sorted({settings_words(settings) or "as it is" for settings in found}))


def total_of(runs: Sequence[Result], what: Literal["trials", "seconds"]) -> float | None:
    """Return all trials, or their seconds, behind a row's settings; None where nothing was tuned."""
    found = _studies(runs)
    return math.fsum(study[what] for study in found) if found else None


def _studies(runs: Sequence[Result]) -> list[Mapping[str, Any]]:
    """Return what the runs state of the studies behind them, each once."""
    stated = [run.provenance["tuned"] for run in runs if "tuned" in run.provenance]
    return list({study["id"]: study for study in stated}.values())


def _words(study: Mapping[str, Any]) -> str:
    return f"{_trials(study)} in {duration(study['seconds'])}"


def _trials(study: Mapping[str, Any]) -> str:
    failed = f" ({study['failed']} failed)" if study["failed"] else ""
    bits = ", ".join(map(str, study["bits"]))
    return f"{study['trials']} {plural('trial', study['trials'])}{failed} at {bits} bits"
