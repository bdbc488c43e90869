"""The executor of a sweep as the command line names it, and what is shown while its runs are computed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hashbench.errors import HashbenchError
from hashbench.experiments.runner import SERIAL, Reporter

if TYPE_CHECKING:
    from hashbench.executors.base import Executor
    from hashbench.experiments.planning import PlannedRun


def executor_of(name: str | None, workers: int | None, options: Sequence[str]) -> Executor:
    """Return the executor that the command line names (default: serial); raises HashbenchError."""
    from hashbench.executors.base import make_executor, parse_options

    if name is None and (workers is not None or options):
        which = "--workers" if workers is not None else "--executor-option"
        raise HashbenchError(f"{which} belongs to an executor; name one, for example --executor local.")
    return make_executor(name or SERIAL, parse_options(options))


class ProgressLines(Reporter):
    """A line for each run of a sweep, and one bar over all of them with the time that is left."""

    def __init__(self, *, bar: bool):
        from tqdm import tqdm

        self._show_bar, self._bar = bar, tqdm(disable=True)
        self._total, self._shown, self._failed = 0, 0, 0
        self._announced: PlannedRun | None = None

    def __enter__(self) -> ProgressLines:
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.close()

    def begin(self, runs: int) -> None:
        """Draw the bar, where there is more than one run."""
        from tqdm import tqdm

        self._total = runs
        self._bar = tqdm(
            total=runs, unit="run", disable=not self._show_bar or runs < 2, dynamic_ncols=True, leave=False
        )

    def finished(self, run: PlannedRun) -> None:
        """Show that there is nothing to do for a run, and whether its result is stale."""
        status = run.status
        stale = f", but stale: {status.note}" if status.state == "stale" else ""
        self._line(run, f"already finished{stale}")
        self._bar.update()

    def started(self, run: PlannedRun) -> None:
        """Show where a run is stored."""
        self._announced = run
        self._write(f"[{self._shown + 1}/{self._total}] {run} -> {run.directory and run.directory.path}")

    def held(self, run: PlannedRun) -> None:
        """Show which process computes a run."""
        self._write(f"{run} is {run.status.state} elsewhere ({run.status.note}); its result is read when it is there.")

    def ended(self, run: PlannedRun, error: str | None) -> None:
        """Show that a run ended; one that was announced is named again only where it failed."""
        self._failed += error is not None
        if error is not None or run is not self._announced:
            self._line(run, "done" if error is None else f"failed: {error}")
        else:
            self._shown += 1
        self._bar.update()
        self._bar.set_postfix(failed=self._failed) if self._failed else None

    def tick(self, left: Sequence[PlannedRun]) -> None:
        """Show how many runs are computed now; the owner of each is read from its lock."""
        if not self._bar.disable:
            running = sum(run.status.state == "running" for run in left)
            self._bar.set_postfix(running=running, failed=self._failed)

    def _line(self, run: PlannedRun, what: str) -> None:
        self._shown += 1
        self._write(f"[{self._shown}/{self._total}] {run} {what}")

    def _write(self, text: str) -> None:
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)
