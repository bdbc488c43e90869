"""Runs of a sweep that differ in nothing but the seed: their trainings go on side by side where the method allows it.

Only the training is shared. Each run is left in its own folder as if it had been interrupted after its last epoch, so
that whoever computes it next encodes and evaluates; and its numbers are those that it would have alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress

from hashbench.datasets.base import Dataset
from hashbench.errors import no_exit
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.models import make_method, new_model, task_of
from hashbench.experiments.phases import code_and_run, fixed_inputs, fixed_views, train_set
from hashbench.experiments.planned import PlannedRun
from hashbench.experiments.planning import Plan
from hashbench.methods.contract import DeepMethod
from hashbench.registry import METHODS
from hashbench.results.runs import RunDirectory
from hashbench.results.sweeps.run_status import EMPTY, snapshot
from hashbench.storage.locks import LockWatch, RunLocked
from hashbench.system.distributed import SINGLE, world
from hashbench.training.loop import Reports, Training
from hashbench.training.preparation import RecipeTools, prepare
from hashbench.training.together import train_together, why_not_together

_LOG = logging.getLogger(__name__)
MOST = 8  # seeds at a time: more gain nothing, and take memory


def train_with_siblings(
    plan: Plan, run: PlannedRun, directory: RunDirectory, watch: LockWatch | None, *, at_most: int
) -> None:
    """Train a run, whose `directory` is locked, and others of its row that no process computes; or do nothing.

    With it are `at_most` runs trained. What goes wrong here goes wrong again where the run is trained alone, and is
    said then.
    """
    others = _siblings(plan, run, directory) if at_most > 1 else []
    if not others:
        return
    with ExitStack() as locks:
        runs = [(run, directory)]
        for other in others:
            if len(runs) == min(at_most, MOST):
                break
            assert other.directory is not None
            with suppress(RunLocked):
                locked = locks.enter_context(other.directory.lock(watch))
                if snapshot(other.directory) == EMPTY:  # nobody has tried it before it was locked
                    other.state_experiment(locked, plan.device)
                    runs.append((other, locked))
        try:
            with no_exit():
                trainings = [*_trainings(plan, runs)]
                epochs = trainings[0].progress.epochs_done
                level = [training for training in trainings if training.progress.epochs_done == epochs]
                title = f"{run.method} {run.bits}b, {len(level)} seeds" if plan.settings.progress else None
                if len(level) > 1 and not train_together(level, bar=title):
                    _LOG.info("%s: its seeds are trained one by one, as together they would round otherwise.", run)
        except Exception as error:
            _LOG.info("%s: its seeds are trained one by one: %s", run, error)


def _siblings(plan: Plan, run: PlannedRun, directory: RunDirectory) -> list[PlannedRun]:
    """Return the runs that may be trained with a run; none where its method, or what was asked for, excludes it."""
    experiment, settings = run.experiment, plan.settings
    if not isinstance(experiment, Experiment):
        return []
    cls = METHODS.get(experiment.method)
    if (
        not issubclass(cls, DeepMethod)
        or why_not_together(cls) is not None
        or experiment.inputs == "images"  # the network is what takes the time
        or experiment.lengths
        or experiment.recipe.compile
        or plan.device.type != "cpu"  # nobody has measured it on another
        or settings.rerun != "missing"
        or settings.eval_every is not None
        or run.start is not None
        or not world().is_single
        or _is_trained(directory, experiment.recipe.epochs)
    ):
        return []
    return [
        other
        for other in plan.runs
        if (other.dataset, other.method, other.bits) == (run.dataset, run.method, run.bits)
        and other.seed != run.seed
        and other.directory is not None
        and snapshot(other.directory) == EMPTY
        and not _is_trained(other.directory, experiment.recipe.epochs)
    ]


def _is_trained(directory: RunDirectory, epochs: int) -> bool:
    """Return whether a training was interrupted after its last epoch."""
    if not directory.checkpoint.is_file():
        return False
    return any(line.get("epoch") == epochs - 1 for line in directory.read_log())


def _trainings(plan: Plan, runs: Sequence[tuple[PlannedRun, RunDirectory]]) -> Iterator[Training]:
    """Yield the training of each run, which share the inputs on the device; resumed where it was interrupted."""
    first, dataset, device = runs[0][0].experiment, plan.datasets[runs[0][0].dataset], plan.device
    assert isinstance(first, Experiment)
    assert isinstance(dataset, Dataset)
    inputs = fixed_inputs(first, dataset, device, plan.settings.progress, SINGLE)
    views = fixed_views(first, dataset, device, plan.settings.progress, SINGLE)
    shared = train_set(first, dataset, inputs, views, lambda: inputs, device, SINGLE)
    for run, directory in runs:
        experiment = run.experiment
        assert isinstance(experiment, Experiment)
        data = shared.of_seed(experiment.seed)
        title = f"{run.method} {run.bits}b s{run.seed} prepare" if plan.settings.progress else None
        task = task_of(experiment, device)
        tools = RecipeTools(task, experiment.recipe, experiment.data.shape, data, bar=title)
        prepared = prepare(make_method(experiment), tools, experiment.identity)
        model = new_model(experiment, device, width=data.width, prepared=prepared.tensors)
        assert isinstance(model.method, DeepMethod)
        assert model.network is not None
        reports = Reports(log=directory.append_log, checkpoint=directory.checkpoint, of=code_and_run(experiment))
        yield Training(model.method, model.network, task, experiment.recipe, data, reports)
