"""The far side of every executor: a process that makes the plan of the sweep for itself, and computes cells of it."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
import time
from functools import lru_cache

from hashbench.errors import HashbenchError
from hashbench.executors.base import Done, Errand, Sweep
from hashbench.experiments.planning import plan_of
from hashbench.experiments.runner import WAIT, reason_of, run_cell
from hashbench.storage.locks import Held, Watch
from hashbench.system import allocator


class Worker:
    """A plan, and the patience with which this process watches the owners of other cells."""

    def __init__(self, sweep: Sweep):
        """Make the plan; raises HashbenchError where that is not possible here, or the results folder is missing."""
        allocator.settle()
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
            self._plan = plan_of(sweep.request)
        except HashbenchError as error:
            raise HashbenchError(f"On {platform.node()} the sweep cannot be planned: {error}") from error
        self._watch = Watch()

    def compute(self, errand: Errand, *, wait: bool) -> Done | None:
        """Compute a cell and return how it ended; where another process is at it, `wait` for that, or return None."""
        cell = self._plan.cells[errand.at] if errand.at < len(self._plan.cells) else None
        if cell is None or cell.experiment is None or cell.experiment.id != errand.id:
            return Done(
                errand.at,
                f"{platform.node()} makes another experiment of it than the machine that planned the sweep; "
                f"install the same version of hashbench and its plug-ins, and use the same data, on both.",
            )
        cell = dataclasses.replace(cell, planned=errand.planned)
        while True:
            try:
                run_cell(self._plan, cell, watch=self._watch)
                return Done(errand.at)
            except Held:
                if not wait:
                    return None
                time.sleep(WAIT)
            except Exception as error:  # whatever a plug-in does, the worker goes on
                return Done(errand.at, reason_of(error))


def compute(sweep: str, errand: Errand) -> Done:
    """Compute one errand of a sweep's text; its plan is kept for the next errand that this process is given."""
    try:
        done = _worker(sweep).compute(errand, wait=True)
    except HashbenchError as error:
        return Done(errand.at, str(error))
    assert done is not None
    return done


@lru_cache(maxsize=1)
def _worker(sweep: str) -> Worker:
    return Worker(Sweep.from_text(sweep))
