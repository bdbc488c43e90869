"""A plan through an executor to its outcome: what is to do is handed over, the results are read from their folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress

from hashbench.errors import HashbenchError
from hashbench.executors.base import Done, Errand, Executor, Sweep
from hashbench.experiments.planning import Cell, Plan
from hashbench.experiments.runner import WAIT, Outcome
from hashbench.results.runs import Result
from hashbench.results.sweeps.progress import record_sweep
from hashbench.storage.files import make_folder
from hashbench.storage.locks import PATIENCE


def execute_on(
    executor: Executor,
    plan: Plan,
    *,
    workers: int | None = None,
    on_start: Callable[[int], None] = lambda cells: None,
    on_done: Callable[[Cell, str | None], None] = lambda cell, error: None,
    on_beat: Callable[[Sequence[Cell]], None] = lambda left: None,
) -> Outcome:
    """Have an executor run what is to do, and load what is finished, as `runner.execute` does in this process.

    `on_start` hears how many cells are computed, `on_done` of each that ends, `on_beat` about once a second of those
    that are left. A cell that fails, or whose worker dies of it, leaves FAILED.json behind, and the others go on.
    """
    if workers is not None and workers < 1:
        raise HashbenchError(f"--workers {workers} is not possible; give 1 or more.")
    left = {at: cell for at, cell in enumerate(plan.cells) if cell.to_compute(plan.settings.rerun)}
    asked = [(at, cell) for at, cell in enumerate(plan.cells) if at in left or cell.finished]
    make_folder(plan.settings.runs_dir)
    record_sweep(plan.settings.runs_dir, (cell.directory for cell in plan.cells if cell.directory is not None))
    errors: dict[int, str] = {}
    errands = [_errand(at, cell) for at, cell in left.items()]
    on_start(len(errands))
    sweep = Sweep.of(plan.request, sys.argv)
    with closing(executor.compute(sweep, errands, workers=workers) if errands else _nothing()) as ended:
        for done in ended:
            if done is None:
                on_beat([*left.values()])
            elif cell := left.pop(done.at, None):
                if done.error is not None:
                    errors[done.at] = done.error
                    _leave_failure(cell, done.error)
                on_done(cell, done.error)
    for at, cell in left.items():
        errors[at] = "the executor ended without it; the same command takes it up again."
        on_done(cell, errors[at])
    return _outcome(asked, errors)


def _errand(at: int, cell: Cell) -> Errand:
    assert cell.experiment is not None
    return Errand(at, cell.experiment.id, cell.planned, small=not cell.experiment.recipe.train_backbone)


def _nothing() -> Generator[Done | None]:
    yield from ()


def _outcome(asked: Sequence[tuple[int, Cell]], errors: dict[int, str]) -> Outcome:
    results: list[Result] = []
    failures: list[tuple[Cell, Exception]] = []
    for at, cell in asked:
        try:
            if at in errors:
                raise HashbenchError(errors[at])
            results.append(_result(cell))
        except HashbenchError as error:
            failures.append((cell, error))
    return Outcome(results, failures)


def _result(cell: Cell) -> Result:
    """Return a result that is said to be there; a network file system may show it a little later."""
    assert cell.directory is not None
    deadline = time.monotonic() + PATIENCE
    while not cell.finished:
        if time.monotonic() > deadline:
            raise HashbenchError(
                f"a worker has finished it, but there is no {cell.directory.result} here; "
                f"name a results folder that all machines share: --runs-dir /shared/runs."
            )
        time.sleep(WAIT)
    return cell.directory.read_result()


def _leave_failure(cell: Cell, error: str) -> None:
    """Write FAILED.json for a cell that could not do so itself, because its worker died or never came so far."""
    assert cell.directory is not None
    if cell.failed_meanwhile or cell.finished:
        return
    with suppress(HashbenchError), cell.directory.lock() as directory:
        directory.write_failure(HashbenchError(error))
