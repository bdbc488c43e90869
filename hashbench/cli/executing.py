"""`--executor`: the options that say where a sweep's cells are computed, and what is shown meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    from hashbench.executors.base import Executor
    from hashbench.experiments.planning import Cell, Plan
    from hashbench.experiments.runner import Outcome


def executor_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add --executor, --workers and --executor-option to a command."""
    name = click.option(
        "--executor", metavar="NAME", show_default=False,
        help="Where the cells are computed: local (worker processes), ray, slurm; see `hashbench list executors`. "
        "Default: one after another in this process.",
    )  # fmt: skip
    workers = click.option(
        "--workers", type=int, metavar="N", show_default=False,
        help="Cells computed at a time. Default: local one for each CUDA device, ray and slurm as many as fit.",
    )  # fmt: skip
    options = click.option("--executor-option", "executor_settings", multiple=True, metavar="KEY=VALUE",
                           help="An option of the executor, such as partition=gpu.")  # fmt: skip
    return name(workers(options(function)))


@dataclass(frozen=True)
class Elsewhere:
    """An executor with how many cells it computes at a time."""

    executor: Executor
    workers: int | None

    @classmethod
    def of(cls, name: str | None, workers: int | None, options: Sequence[str]) -> Elsewhere | None:
        """Return what the command line names, None where it names no executor; raises HashbenchError."""
        if name is None:
            if workers is not None or options:
                which = "--workers" if workers is not None else "--executor-option"
                raise HashbenchError(f"{which} belongs to an executor; name one, for example --executor local.")
            return None
        from hashbench.executors.base import make_executor, parse_options

        return cls(make_executor(name, parse_options(options)), workers)

    def execute(self, plan: Plan) -> Outcome:
        """Compute what is to do and show how far it is; a line for each cell where no progress bar can be drawn."""
        from hashbench.executors.sweeping import execute_on

        with _Bar(bar=plan.settings.progress) as bar:
            return execute_on(self.executor, plan, workers=self.workers, on_start=bar.start, on_done=bar.done,
                              on_beat=bar.beat)  # fmt: skip


class _Bar:
    """How many cells are done, failed and running; who is at a cell is read from the runs' locks."""

    def __init__(self, *, bar: bool):
        from tqdm import tqdm

        self._bar = tqdm(unit="cell", disable=not bar, dynamic_ncols=True, leave=False)
        self._of, self._ended, self._failed = 0, 0, 0

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.close()

    def start(self, cells: int) -> None:
        """Hear how many cells there are to compute."""
        self._of = cells
        self._bar.total = cells
        self._bar.refresh()

    def done(self, cell: Cell, error: str | None) -> None:
        """Show that a cell ended."""
        from tqdm import tqdm

        self._ended += 1
        self._failed += error is not None
        tqdm.write(f"[{self._ended}/{self._of}] {cell} {'done' if error is None else f'failed: {error}'}",
                   file=sys.stderr)  # fmt: skip
        self._bar.update()

    def beat(self, left: Sequence[Cell]) -> None:
        """Show what is being computed now."""
        if not self._bar.disable:
            running = sum(cell.standing.state == "running" for cell in left)
            self._bar.set_postfix(running=running, failed=self._failed)
