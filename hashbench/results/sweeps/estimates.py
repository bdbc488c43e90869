"""How long a run takes, estimated from finished runs of the same method, data, recipe and inputs, on any machine."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hashbench.errors import HashbenchError
from hashbench.results.runs import RunDirectory, find_runs
from hashbench.storage.strict_json import digest


def kind_of(identity: Mapping[str, Any]) -> str:
    """Return what runs of about the same length have in common: all of the identity but fields, bits and seed."""
    parts = {part: identity[part] for part in ("data", "recipe", "weights", "inputs")}
    return digest({**parts, "method": identity["method"]["name"]})


def seconds_by_kind(runs_dir: Path) -> dict[str, float]:
    """Return the median seconds of the finished runs below `runs_dir`, by kind; {} where there are none."""
    if not runs_dir.is_dir():
        return {}
    found: dict[str, list[float]] = {}
    for result in find_runs([runs_dir])[0]:
        assert result.path is not None
        try:
            kind = kind_of(RunDirectory(result.path).read_spec()["identity"])
        except (HashbenchError, KeyError):
            continue  # a run without its spec is of no known kind
        # A run that was interrupted counts its training whole, but its total from the last start only.
        found.setdefault(kind, []).append(max(result.time.get("total") or 0, result.time.get("train") or 0))
    return {kind: statistics.median(seconds) for kind, seconds in found.items()}


def duration(seconds: float) -> str:
    """Return seconds as people say them: `45 s`, `12 min`, `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{max(round(seconds), 1)} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
