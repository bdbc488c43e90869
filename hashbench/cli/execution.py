"""The executor of a sweep as the command line names it, and what is shown while its runs are computed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hashbench.errors import HashbenchError
from hashbench.experiments.runner import SERIAL, Reporter
from hashbench.results.sweeps.estimates import Estimates, TimeLeft, plural, seconds_left

if TYPE_CHECKING:
    from hashbench.executors.base import Executor
    from hashbench.experiments.planned import PlannedRun
    from hashbench.experiments.planning import Plan
    from hashbench.results.runs import RunDirectory
    from hashbench.results.sweeps.run_status import RunStatus


def executor_of(name: str | None, workers: int | None, options: Sequence[str]) -> Executor:
    """Return the executor that the command line names (default: serial); raises HashbenchError."""
    from hashbench.executors.base import make_executor, parse_options

    if name is None and (workers is not None or options):
        which = "--workers" if workers is not None else "--executor-option"
        raise HashbenchError(f"{which} belongs to an executor; name one, for example --executor local.")
    return make_executor(name or SERIAL, parse_options(options))


class ProgressLines(Reporter):
    """A line for each run of a sweep, and one bar over all of them with the time that is left.

    What is left is the sum over the runs left of what finished runs say of each, in this sweep or before it.
    """

    def __init__(self, plan: Plan, *, bar: bool, on_result: Callable[[RunDirectory], object] | None = None):
        """Show the progress of `plan`; `on_result` takes each run that has its result, and what it raises is shown."""
        from tqdm.auto import tqdm

        self._on_result = on_result

        self._show_bar, self._bar = bar, tqdm(disable=True)
        self._total, self._shown, self._failed = 0, 0, 0
        self._finished = 0  # before, of which nothing is shown yet
        self._announced: PlannedRun | None = None
        self._left = {str(run): run for run in plan.runs if run.to_compute(plan.settings.rerun)}
        self._known = Estimates.of(plan.settings.runs_dir) if self._left else Estimates()
        self._works = {name: plan.work(run) for name, run in self._left.items()}

    def __enter__(self) -> ProgressLines:
        return self

    def __exit__(self, *error: Any) -> None:
        self._tell_finished()
        self._bar.close()

    @property
    def time_left(self) -> TimeLeft:
        """How long the runs that are left take, as far as that is known now."""
        states = [(run.status, self._known.estimate(self._works[name])) for name, run in self._left.items()]
        return TimeLeft.of((status, seconds_left(status, estimate)) for status, estimate in states)

    def begin(self, runs: int) -> None:
        """Draw the bar, where there is more than one run."""
        from tqdm.auto import tqdm

        self._total = runs
        self._bar = tqdm(
            total=runs,
            unit="run",
            disable=not self._show_bar or runs < 2,
            dynamic_ncols=True,
            leave=False,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} runs [{elapsed}{postfix}]",
        )

    def finished(self, run: PlannedRun, status: RunStatus) -> None:
        """Count the runs for which there is nothing to do, and show those whose result is stale."""
        if status.state == "stale":
            self._line(run, f"already finished, but stale: {status.note}")
        else:
            self._shown, self._finished = self._shown + 1, self._finished + 1
        self._has_result(run)
        self._bar.update()

    def started(self, run: PlannedRun) -> None:
        """Show where a run is stored, and how long it and the others take."""
        self._announced = run
        left = str(self.time_left) if len(self._left) > 1 else ""
        place = f"[{self._shown + 1}/{self._total}] {run} -> {run.directory and run.directory.path}"
        self._write(f"{place}{f' ({left})' if left else ''}")
        self._show()

    def held(self, run: PlannedRun) -> None:
        """Show which process computes a run, or the training whose codes it takes the first bits of."""
        if run.training is not None and run.status.state != "running":
            self._write(f"{run} waits for its training at {run.training.bits} bits.")
            return
        self._write(f"{run} is {run.status.state} elsewhere ({run.status.note}); its result is read when it is there.")

    def ended(self, run: PlannedRun, error: str | None) -> None:
        """Show that a run ended; one that was announced is named again only where it failed."""
        self._failed += error is not None
        self._left.pop(str(run), None)
        if error is None and run.directory is not None:
            with suppress(HashbenchError):  # a network file system may show it a little later
                self._known.add(self._works[str(run)], run.directory.read_result())
        if error is not None or run is not self._announced:
            left = str(self.time_left)
            done = f"done{f' ({left})' if left else ''}"
            self._line(run, done if error is None else f"failed: {error}")
        else:
            self._shown += 1
        if error is None:
            self._has_result(run)
        self._bar.update()
        self._show()

    def tick(self, left: Sequence[PlannedRun]) -> None:
        """Show how many runs are computed now; the owner of each is read from its lock."""
        self._show()

    def _has_result(self, run: PlannedRun) -> None:
        if self._on_result is not None and run.directory is not None:
            try:
                self._on_result(run.directory)
            except HashbenchError as error:  # the result is there, and the other runs are to come
                self._write(f"Warning: {run}: {error}")

    def _show(self) -> None:
        """Show beside the bar what is left, how many runs are computed now, and how many failed."""
        if self._bar.disable:
            return
        left = self.time_left
        parts = [str(left), f"{left.running} running" if left.running else ""]
        parts += [f"{self._failed} failed"] if self._failed else []
        self._bar.set_postfix_str(", ".join(filter(None, parts)))

    def _line(self, run: PlannedRun, what: str) -> None:
        self._shown += 1
        self._write(f"[{self._shown}/{self._total}] {run} {what}")

    def _tell_finished(self) -> None:
        count, self._finished = self._finished, 0
        if count:
            self._write(f"{count} of {self._total} {plural('run', self._total)} already finished.")

    def _write(self, text: str) -> None:
        from tqdm.auto import tqdm

        self._tell_finished()
        tqdm.write(text, file=sys.stderr)
