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

    def summary(self, **paid: float) -> dict[str, float]:
        """Return the seconds of each phase, those `paid` for it where given, of all, and of what lies in no phase."""
        total = time.perf_counter() - self._started
        phases = self._phases | paid
        return {**phases, "total": total, "untracked": max(total - sum(phases.values()), 0.0)}
