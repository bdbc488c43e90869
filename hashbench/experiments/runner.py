"""A sweep: its jobs through an executor, its results, and what failed; one loop wherever they are computed."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hashbench.errors import HashbenchError
from hashbench.experiments.execution import follow, reason_of
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.jobs import Job, JobEvent, JobHeld, JobStart, Sweep
from hashbench.experiments.models import load_model
from hashbench.experiments.phases import sources_of
from hashbench.experiments.planned import PlannedRun, Settings
from hashbench.experiments.planning import Plan, plan, resolve_device
from hashbench.interop.targets import resolve_method
from hashbench.methods.contract import wraps
from hashbench.networks.backbones import file_sha256
from hashbench.networks.chosen import resolve_backbone, source_of, weights_name
from hashbench.networks.model import Model
from hashbench.registry import BACKBONES, EXECUTORS, METHODS
from hashbench.results.bundle import opened_run
from hashbench.results.result import Result
from hashbench.results.sweeps.progress import record_sweep
from hashbench.results.sweeps.run_status import RunStatus, stale_note
from hashbench.storage.files import make_folder
from hashbench.storage.locks import EXPIRY
from hashbench.system.distributed import join

if TYPE_CHECKING:
    from hashbench.executors.base import Executor

SERIAL = "serial"  # the default executor
_POLL = 1.0  # seconds between two checks for a result that a network file system does not show yet


@dataclass(frozen=True)
class Outcome:
    """The outcome of a plan: results in its order, and the failed runs with their errors."""

    results: Sequence[Result]
    failures: Sequence[tuple[PlannedRun, Exception]]

    def raise_first_failure(self) -> None:
        """Raise HashbenchError about the first failure, if there is one, and say how many there were."""
        if self.failures:
            run, error = self.failures[0]
            others = f" ({len(self.failures)} runs failed; FAILED.json in a run directory says more.)"
            raise HashbenchError(f"{run}: {reason_of(error)}{others if len(self.failures) > 1 else ''}") from error


class Reporter:
    """Receives the events of a sweep; each method does nothing here, and a subclass overrides what it shows."""

    def begin(self, runs: int) -> None:
        """Receive the number of runs, of finished ones and of those to compute."""

    def finished(self, run: PlannedRun, status: RunStatus) -> None:
        """Receive a run that had its result before, with its status: finished, stale, damaged or running again."""

    def started(self, run: PlannedRun) -> None:
        """Receive a run that is computed from now on, where the executor knows."""

    def held(self, run: PlannedRun) -> None:
        """Receive a run that another process computes: it is put aside, then waited for."""

    def ended(self, run: PlannedRun, error: str | None) -> None:
        """Receive a run that ended, with the reason where it failed."""

    def tick(self, left: Sequence[PlannedRun]) -> None:
        """Receive the runs that are left, about once a second while there is no other event."""


def execute(
    plan: Plan, executor: Executor | None = None, *, workers: int | None = None, reporter: Reporter | None = None
) -> Outcome:
    """Let an executor (default: serial) compute the missing results, and load the finished ones.

    A run that fails, or whose worker dies of it, leaves FAILED.json behind, and the others continue. Raises
    HashbenchError for a number of workers that is not possible, and where the executor cannot begin.
    """
    if workers is not None and workers < 1:
        raise HashbenchError(f"--workers {workers} is not possible; give 1 or more.")
    world, reporter = join(plan.device), reporter or Reporter()
    if not world.is_main:
        follow(plan, world)
        return Outcome([], [])
    left = {at: run for at, run in enumerate(plan.runs) if run.to_compute(plan.settings.rerun)}
    finished = {at: run for at, run in enumerate(plan.runs) if at not in left and run.finished}
    stored = {run.directory.path: run for run in plan.runs if run.directory is not None}
    cells = {
        path: {"cell": run.experiment.cell, "row": run.method, "dataset": run.dataset}
        for path, run in stored.items()
        if run.experiment is not None
    }
    one_of = {cells[path]["cell"]: run for path, run in stored.items()}  # all runs of a cell do the same work
    work_of = {cell: plan.work(run) for cell, run in one_of.items()}
    works = {path: work_of[cells[path]["cell"]] for path in stored}
    record_sweep(plan.settings.runs_dir, works, cells)
    reporter.begin(len(left) + len(finished))
    known: dict[int, Result | HashbenchError] = {}  # what the finished runs' results say, each read once
    for at, run in finished.items():
        known[at] = _read(run)
        reporter.finished(run, run.status_by(known[at]))
    failures: dict[int, Exception] = {}
    wanted = [*sorted({**left, **finished})]
    with closing(_events(plan, executor, left, workers)) as events:
        for event in events:
            if event is None:
                reporter.tick([*left.values()])
            elif isinstance(event, JobStart):
                reporter.started(plan.runs[event.at])
            elif isinstance(event, JobHeld):
                reporter.held(plan.runs[event.at])
            elif event.at in left:
                run = left.pop(event.at)
                if event.error is not None:
                    failures[event.at] = event.cause or HashbenchError(event.error)
                    _write_failure(run, event.error)
                reporter.ended(run, event.error)
    for at, run in left.items():
        error = "the executor ended without it; the same command takes it up again."
        failures[at] = HashbenchError(error)
        reporter.ended(run, error)
    if world.is_single or not failures:
        world.broadcast(None)  # the other ranks end
    return _outcome(plan, wanted, failures, known)


def sweep(
    methods: Sequence[str], datasets: Sequence[str], bits: Sequence[int], *, seeds: int = 1, **settings: Any
) -> list[Result]:
    """Run every method on every data set at every code length with seeds 0..seeds-1; returns the results.

    `settings` are the fields of `Settings`, for example `recipe="frozen", runs_dir=Path("runs")`. Raises HashbenchError
    at the end when a run failed; the others are kept.
    """
    outcome = execute(plan(methods, datasets, bits, seeds=seeds, settings=Settings(**settings)))
    outcome.raise_first_failure()
    return list(outcome.results)


def run(method: str, dataset: str, *, bits: int, seed: int = 0, **settings: Any) -> Result:
    """Run one experiment and return its result; raises HashbenchError with the reason where it is not possible."""
    if seed < 0:
        raise HashbenchError(f"The seed {seed} is not possible; give 0 or more.")
    made = plan([method], [dataset], [bits], first_seed=seed, settings=Settings(**settings))
    (planned,) = made.runs
    if planned.skipped is not None:
        raise HashbenchError(f"{planned}: {planned.skipped}")
    outcome = execute(made)
    outcome.raise_first_failure()
    return outcome.results[0]


def load(run: str | Path, *, method: str | None = None, backbone: str | None = None, device: str = "auto") -> Model:
    """Return the trained model of a finished run: `load("runs/.../s0-3f9a2c71").encode(images)`.

    `run` is its folder, a bundle of it, or a search index. Where the method's class came from a module or file,
    `method` names it again, and `backbone` a backbone's factory: no code runs because a run says so. Raises
    HashbenchError where they are others than the run's; where their files have changed since, a warning says so.
    """
    loaded = load_with_result(run, method=method, backbone=backbone, device=device)
    for note in loaded.notes:
        warnings.warn(note, stacklevel=2)
    return loaded.model


class Loaded(NamedTuple):
    """The trained model of a finished run, its result, and sentences on what its codes depend on and has changed."""

    model: Model
    result: Result
    notes: tuple[str, ...]


def load_with_result(
    run: str | Path, *, method: str | None = None, backbone: str | None = None, device: str = "auto"
) -> Loaded:
    """Return what a finished run left; raises HashbenchError as `load` does."""
    with opened_run(Path(run)) as directory:
        directory.refuse_condition()
        result = directory.read_result()  # an unfinished run has no model
        spec = directory.read_spec()
        experiment = Experiment.from_identity(spec["identity"])
        require_code(run, experiment, method=method, backbone=backbone)
        _require_weights(run, experiment, result)
        training = directory.weights_of(result)
        of = result.id if training is directory else result.provenance["prefix_of"]["id"]
        if not training.model.is_file():
            raise HashbenchError(f"There is no {training.model}; run again to have the weights, or copy them along.")
        training.require_stated(training.model)
        model = load_model(experiment, training.model, resolve_device(device), of=of)
        changed = changed_since(experiment, result)
        notes = () if changed is None else (f"{run}: {changed}, and codes made now may differ from those of then.",)
        return Loaded(model, result, notes)


def changed_since(experiment: Experiment, result: Result) -> str | None:
    """Return what of a finished run's method or backbone is another here, as a part of a sentence, if anything is."""
    version = METHODS.get(experiment.method).info.version
    if version != experiment.method_version:
        return f"the method has version {version} here, and had version {experiment.method_version} then"
    return stale_note(result, sources_of(experiment))


def require_code(run: str | Path, experiment: Experiment, *, method: str | None, backbone: str | None) -> None:
    """Raise HashbenchError where method or backbone of a run are not here, or are others than the run's.

    `method` and `backbone` name again what came from a module or file.
    """
    found = resolve_method(method).info.name if method is not None else experiment.method
    if found != experiment.method or found not in METHODS:
        which = "there" if method is None else method
        raise HashbenchError(
            f"{run} was trained by '{experiment.method}', which is not {which}; name its class as it was named then, "
            f"for example --method path/file.py:{experiment.method}."
        )
    if wraps(METHODS.get(found)) and experiment.fields["base"]["name"] not in METHODS:
        base = experiment.fields["base"]["name"]
        raise HashbenchError(
            f"{run} was trained by {found} around '{base}', which is not there; install its plug-in, or import the "
            f"module that defines it."
        )
    _require_backbone(run, experiment, backbone)


def _require_backbone(run: str | Path, experiment: Experiment, given: str | None) -> None:
    """Raise HashbenchError where the run's backbone is not there, or its file is another than it was."""
    if experiment.inputs == "pixels":
        return  # it has none
    name = experiment.recipe.backbone
    found = name if given is None else resolve_backbone(given)
    if found != name or name not in BACKBONES:
        which = "there" if given is None else given
        raise HashbenchError(
            f"{run} has the backbone '{name}', which is not {which}; name it as it was named then, for example "
            f"--backbone path/file.py:{name}."
        )
    then = experiment.backbone.get("source_sha256")
    if then not in (None, source_of(name)):
        raise HashbenchError(f"{run} has the backbone '{name}' from another file than this one; give it as it was.")


def _require_weights(run: str | Path, experiment: Experiment, result: Result) -> None:
    """Raise HashbenchError where features come from a pretrained backbone whose weights here are not the run's."""
    if experiment.inputs != "features":
        return  # its model.pt has all weights
    name, then = experiment.recipe.backbone, result.provenance.get("weights_sha256")
    file = getattr(BACKBONES.get(name), "weights_file", None)
    now = file_sha256(file) if file is not None and file.is_file() else None
    if weights_name(name) != experiment.weights or (then and now and then != now):
        raise HashbenchError(
            f"{run} learned from features of '{name}' with the weights {experiment.weights}, and here '{name}' has "
            f"others; put those of the run in their place."
        )


def _events(
    plan: Plan, executor: Executor | None, left: dict[int, PlannedRun], workers: int | None
) -> Generator[JobEvent | None]:
    if left:
        make_folder(plan.settings.runs_dir)
        executor = EXECUTORS.get(SERIAL)() if executor is None else executor
        trainings_first = sorted(left.items(), key=lambda item: item[1].training is not None)
        jobs = [Job.of(at, run) for at, run in trainings_first]
        yield from executor.compute(Sweep.of(plan, sys.argv), jobs, workers=workers)


def _outcome(
    plan: Plan, wanted: Sequence[int], failures: dict[int, Exception], known: dict[int, Result | HashbenchError]
) -> Outcome:
    results: list[Result] = []
    failed: list[tuple[PlannedRun, Exception]] = []
    for at in wanted:
        if at in failures:
            failed.append((plan.runs[at], failures[at]))
            continue
        found = known[at] if at in known else _result(plan.runs[at])
        if isinstance(found, Result):
            results.append(found)
        else:
            failed.append((plan.runs[at], found))
    return Outcome(results, failed)


def _read(run: PlannedRun) -> Result | HashbenchError:
    """Return the result of a finished run, or why it cannot be read."""
    assert run.directory is not None
    run.directory.remove_leftovers()
    try:
        return run.directory.read_result()
    except HashbenchError as error:
        return error


def _result(run: PlannedRun) -> Result | HashbenchError:
    """Return `_read` of a run that ended without error; a network file system may show it a little later."""
    assert run.directory is not None
    deadline = time.monotonic() + EXPIRY
    while not run.finished:
        if time.monotonic() > deadline:
            return HashbenchError(
                f"a worker has finished it, but there is no {run.directory.result} here; "
                f"name a results folder that all machines share: --runs-dir /shared/runs."
            )
        time.sleep(_POLL)
    return _read(run)


def _write_failure(run: PlannedRun, error: str) -> None:
    """Write FAILED.json for a run that could not do so itself, because its worker died or did not start it."""
    assert run.directory is not None
    if run.failed_meanwhile or run.finished:
        return
    with suppress(HashbenchError), run.directory.lock() as directory:
        directory.write_failure(HashbenchError(error))
