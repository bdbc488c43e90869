"""The worker of every executor: a process that makes the plan of the sweep and computes its runs."""

from __future__ import annotations

import os
import platform
import sys
import time
from functools import lru_cache

from hashbench.errors import HashbenchError
from hashbench.experiments.execution import execute_run, reason_of
from hashbench.experiments.jobs import Job, JobEnd, Sweep
from hashbench.experiments.planning import Plan, plan_of
from hashbench.storage.locks import LockWatch, RunLocked
from hashbench.system import allocator

WAIT = 1.0  # seconds between two checks of a run that another process computes


class Worker:
    """A plan, and the watch on the locks of other processes."""

    def __init__(self, plan: Plan, *, together: int = 1):
        """`together` is the largest number of runs that it trains at once, where their seed alone differs."""
        self._plan, self._watch, self._together = plan, LockWatch(), together

    @classmethod
    def start(cls, sweep: Sweep, *, together: int = 1) -> Worker:
        """Make this process a worker of `sweep`, with a plan of its own.

        Raises HashbenchError where the sweep cannot be planned here, or the results folder is missing.
        """
        allocator.configure()
        sys.argv = [*sweep.argv]
        if os.path.isdir(sweep.folder):
            os.chdir(sweep.folder)
        runs_dir = sweep.request.settings.runs_dir
        if not runs_dir.is_dir():
            raise HashbenchError(
                f"{runs_dir} is not there on {platform.node()}, and workers share the results folder; "
                f"name one that all machines see: --runs-dir /shared/runs."
            )
        try:
            return cls(plan_of(sweep.request), together=together)
        except HashbenchError as error:
            raise HashbenchError(f"On {platform.node()} the sweep cannot be planned: {error}") from error

    def compute(self, job: Job, *, wait: bool) -> JobEnd | None:
        """Compute a run and return how it ended; where another process does, `wait` for its end, or return None."""
        run = self._plan.runs[job.at] if job.at < len(self._plan.runs) else None
        if run is None or run.experiment is None or run.experiment.id != job.id:
            return JobEnd(
                job.at,
                f"{platform.node()} plans another experiment for it than the machine that planned the sweep; "
                f"install the same version of hashbench and its plug-ins, and use the same data, on both.",
            )
        run = job.as_planned(run)
        while True:
            try:
                execute_run(self._plan, run, watch=self._watch, together=self._together)
                return JobEnd(job.at)
            except RunLocked:
                if not wait:
                    return None
                time.sleep(WAIT)
            except Exception as error:  # whatever a plug-in does, the worker continues
                return JobEnd(job.at, reason_of(error), cause=error)


def compute(sweep: str, job: Job) -> JobEnd:
    """Compute one job of a sweep's text; its plan is kept for the next job of this process."""
    try:
        end = _worker(sweep).compute(job, wait=True)
    except HashbenchError as error:
        return JobEnd(job.at, str(error))
    assert end is not None
    return JobEnd(end.at, end.error)  # an exception may not survive pickling for another machine


@lru_cache(maxsize=1)
def _worker(sweep: str) -> Worker:
    return Worker.start(Sweep.from_text(sweep))
