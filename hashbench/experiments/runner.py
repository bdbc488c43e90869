"""The cells of a sweep to their results: loaded, computed, put aside where another process is at them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from hashbench.errors import HashbenchError
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.models import load_model
from hashbench.experiments.phases import compute
from hashbench.experiments.planning import Cell, Plan, Settings, plan, resolve_device
from hashbench.interop.targets import resolve_method
from hashbench.networks.model import Model, true_float32
from hashbench.registry import METHODS
from hashbench.results.runs import Result, RunDirectory
from hashbench.results.sweeps.progress import record_sweep
from hashbench.storage.files import make_folder
from hashbench.storage.locks import Held, Watch
from hashbench.system.distributed import Team, join
from hashbench.system.memory import is_out_of_memory

WAIT = 1.0  # seconds between two looks at cells that other processes are at


@dataclass(frozen=True)
class Outcome:
    """What came of a plan: results in its order, and the cells that failed with what went wrong."""

    results: Sequence[Result]
    failures: Sequence[tuple[Cell, Exception]]

    def raise_first_failure(self) -> None:
        """Raise HashbenchError about the first failure, if there is one, and say how many there were."""
        if self.failures:
            cell, error = self.failures[0]
            others = f" ({len(self.failures)} cells failed; FAILED.json in a run directory says more.)"
            raise HashbenchError(f"{cell}: {reason_of(error)}{others if len(self.failures) > 1 else ''}") from error


def reason_of(error: Exception) -> str:
    """Return why a cell failed, in one line."""
    text = str(error) if isinstance(error, HashbenchError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def execute(
    plan: Plan,
    *,
    on_cell: Callable[[Cell, int, int], None] = lambda cell, at, of: None,
    on_wait: Callable[[Sequence[tuple[Cell, Held]]], None] = lambda held: None,
) -> Outcome:
    """Run what is to do and load what is finished; `on_cell` hears of each cell before its turn.

    A cell that fails leaves FAILED.json behind, and the others go on. A cell that another process is at is put aside;
    once only such are left, `on_wait` hears of them, and they are taken up as they are finished or their owners die.
    """
    team = join(plan.device)
    if not team.leads:
        _follow(plan, team)
        return Outcome([], [])
    rerun = plan.settings.rerun
    left = {at: cell for at, cell in enumerate(plan.cells) if cell.to_compute(rerun) or cell.finished}
    record_sweep(plan.settings.runs_dir, (cell.directory for cell in plan.cells if cell.directory is not None))
    results: dict[int, Result] = {}
    failures: list[tuple[Cell, Exception]] = []
    watch, met, waiting_for = Watch(), set[int](), ""
    while left:
        held: dict[int, Held] = {}
        for at, cell in left.items():
            if at not in met:
                on_cell(cell, at + 1, len(plan.cells))
            met.add(at)
            try:
                results[at] = run_cell(plan, cell, watch=watch)
            except Held as other:
                held[at] = other
            except Exception as error:  # whatever a plug-in does, the other cells are worth finishing
                failures.append((cell, error))
                if not team.alone:  # nobody knows where the other ranks stand: the next call begins anew
                    return Outcome([results[at] for at in sorted(results)], failures)
        if len(held) == len(left):
            if str(held) != waiting_for:
                on_wait([(left[at], other) for at, other in held.items()])
                waiting_for = str(held)
            time.sleep(WAIT)
        left = {at: left[at] for at in held}
    team.from_first(None)
    return Outcome([results[at] for at in sorted(results)], failures)


def _follow(plan: Plan, team: Team) -> None:
    """Compute with rank 0 what it computes, cell by cell, until it has no more."""
    cells = {cell.experiment.id: cell for cell in plan.cells if cell.experiment is not None}
    while (id := team.from_first(None)) is not None:
        cell = cells.get(id)
        if cell is None or cell.experiment is None or cell.directory is None:
            raise HashbenchError(f"Rank {team.rank} has made another plan than rank 0; give all the same command.")
        with true_float32():
            compute(
                cell.experiment,
                plan.datasets[cell.dataset],
                cell.directory,
                plan.device,
                progress=False,
                eval_every=None,
            )


def run_cell(plan: Plan, cell: Cell, *, watch: Watch | None = None) -> Result:
    """Return the result of one cell of a plan: loaded where it is finished, else computed and stored.

    Raises Held where another process is at it (without `watch`, one of another machine counts as alive for ever); any
    other error of a computation leaves FAILED.json behind and goes on.
    """
    if cell.directory is None or cell.experiment is None:
        raise HashbenchError(f"{cell}: {cell.skipped}")
    if cell.finished and not cell.to_compute(plan.settings.rerun):
        cell.directory.tidy()
        return cell.directory.read_result()
    with cell.directory.lock(watch) as directory:
        if cell.to_compute(plan.settings.rerun):  # no other process did, between the first look and the lock
            if cell.failed_meanwhile:
                raise HashbenchError(f"it has failed since this sweep was planned: {directory.read_failure()}")
            _compute_into(directory.again if directory.finished else directory, cell, plan)
        if directory.again.finished:
            directory.adopt(directory.again)
        return directory.read_result()


def sweep(
    methods: Sequence[str], datasets: Sequence[str], bits: Sequence[int], *, seeds: int = 1, **settings: Any
) -> list[Result]:
    """Run every method on every data set at every code length with seeds 0..seeds-1; returns the results.

    `settings` are the fields of `Settings`, for example `recipe="frozen", runs_dir=Path("runs")`. Raises HashbenchError
    at the end when a cell failed; the others are kept.
    """
    outcome = execute(plan(methods, datasets, bits, seeds=seeds, settings=Settings(**settings)))
    outcome.raise_first_failure()
    return list(outcome.results)


def run(method: str, dataset: str, *, bits: int, seed: int = 0, **settings: Any) -> Result:
    """Run one experiment and return its result; raises HashbenchError with the reason where it is not possible."""
    if seed < 0:
        raise HashbenchError(f"The seed {seed} is not possible; give 0 or more.")
    made = plan([method], [dataset], [bits], seeds=seed + 1, settings=Settings(**settings))
    cell = made.cells[-1]
    if cell.skipped is not None:
        raise HashbenchError(f"{cell}: {cell.skipped}")
    outcome = execute(dataclasses.replace(made, cells=[cell]))
    outcome.raise_first_failure()
    return outcome.results[0]


def load(run: str | Path, *, method: str | None = None, device: str = "auto") -> Model:
    """Return the trained model of a finished run: `load("runs/.../s0-3f9a2c71").encode(images)`.

    Where the method's class came from a module or file, `method` names it again: no code runs because a run says so.
    """
    directory = RunDirectory(Path(run))
    directory.read_result()  # an unfinished run has no model
    spec = directory.read_spec()
    experiment = Experiment.from_identity(spec["identity"])
    found = resolve_method(method).info.name if method is not None else experiment.method
    if found != experiment.method or found not in METHODS:
        which = "there" if method is None else method
        raise HashbenchError(
            f"{run} was trained by '{experiment.method}', which is not {which}; name its class as it was named then, "
            f"for example --method path/file.py:{experiment.method}."
        )
    if not directory.model.is_file():
        raise HashbenchError(f"There is no {directory.model}; run again to have the weights, or copy them along.")
    return load_model(experiment, directory.model, resolve_device(device))


def _compute_into(directory: RunDirectory, cell: Cell, plan: Plan) -> None:
    """Compute a cell and store all of it in `directory`, which is ours; leave FAILED.json where that fails."""
    assert cell.experiment is not None
    make_folder(directory.path)
    _forget_other_source(directory, cell.source_sha256)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    how = {"device": str(plan.device), "started": started, "source_sha256": cell.source_sha256}
    directory.write_spec({"identity": cell.experiment.identity, "how": how})
    dataset, progress = plan.datasets[cell.dataset], plan.settings.progress
    try:
        with true_float32():
            join(plan.device).from_first(cell.experiment.id)
            result = compute(
                cell.experiment, dataset, directory, plan.device, progress=progress, eval_every=plan.settings.eval_every
            )
            assert result is not None, "rank 0 has the result"
            directory.write_result(result)
    except Held:
        raise
    except Exception as error:
        directory.check()  # who lost the run, or its folder, fails of that and of nothing else
        told = _out_of_memory(cell.experiment, plan.device, error) if is_out_of_memory(error) else None
        if told is not None:
            told.__cause__ = error  # for the traceback in the file
        with suppress(HashbenchError):  # where nothing can be written, the error itself is what to say
            directory.write_failure(told or error)
        if told is not None:
            raise told from error
        raise


def _forget_other_source(directory: RunDirectory, source_sha256: str | None) -> None:
    """Remove a checkpoint that other code of the method has made: half a training each makes no result of either."""
    if not (directory.checkpoint.is_file() and directory.spec.is_file()):
        return
    then = directory.read_spec()["how"].get("source_sha256")
    if then not in (None, source_sha256):
        directory.checkpoint.unlink()
        directory.append_log({"warning": "started over: the method's source changed since the checkpoint was made"})


def _out_of_memory(experiment: Experiment, device: torch.device, error: BaseException) -> HashbenchError:
    """Return the error that names the knobs by which this experiment takes less memory."""
    recipe = experiment.recipe
    knobs = [f"--set recipe.batch_size={max(recipe.batch_size // 2, 1)}"]
    if experiment.inputs == "images":
        knobs += [f"--set recipe.size={recipe.size * 2 // 3}"] if recipe.size > 32 else []
        knobs += [f"a smaller --backbone than {recipe.backbone}"]
        knobs += ["--set recipe.precision=bf16"] if recipe.precision == "fp32" else []
    where = "GPU" if device.type == "cuda" else "main"
    detail = " ".join(str(error).split())[:200]
    return HashbenchError(
        f"There was not enough {where} memory; take less by {', or '.join(knobs)} (each makes it another experiment)"
        f"{f'. The system said: {detail}' if detail else '.'}"
    )
