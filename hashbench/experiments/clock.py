"""Seconds of a run by phase."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._phases: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count the seconds inside as those of `phase`."""
        started = time.perf_counter()
        yield
        self._phases[phase] = time.perf_counter() - started

    def before(self, phase: str, paid: float) -> float:
        """Return how much of the seconds `paid` for a phase passed before this clock was there."""
        return max(paid - self._phases.get(phase, 0.0), 0.0)

    def summary(self, *, before: float = 0.0, **paid: float) -> dict[str, float]:
        """Return the seconds of each phase, those `paid` for it where given, of all, and of what lies in no phase.

        All are those since the clock was made, and those `before`.
        """
        total = before + time.perf_counter() - self._started
        phases = self._phases | paid
        return {**phases, "total": total, "untracked": max(total - sum(phases.values()), 0.0)}
