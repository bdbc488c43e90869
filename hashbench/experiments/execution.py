"""One planned run: its result loaded, or computed and stored under the lock of the run, by all ranks together."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import torch

from hashbench.datasets.base import Dataset
from hashbench.errors import HashbenchError, no_exit
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.phases import compute, compute_prefix
from hashbench.experiments.planned import PlannedRun
from hashbench.experiments.planning import Plan
from hashbench.experiments.siblings import train_with_siblings
from hashbench.experiments.tracks import track
from hashbench.experiments.tuned import stated
from hashbench.methods.contract import DeepMethod
from hashbench.networks.model import true_float32
from hashbench.registry import METHODS
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.storage.files import make_folder
from hashbench.storage.locks import LockWatch, RunLocked
from hashbench.system.distributed import World, join
from hashbench.system.memory import is_out_of_memory


def execute_run(
    plan: Plan, run: PlannedRun, *, watch: LockWatch | None = None, needed: bool = False, together: int = 1
) -> Result:
    """Return the result of one run of a plan: loaded where it is finished, else computed and stored.

    A run whose codes are the first bits of another's has that computed before; one that is `needed` so is computed
    whatever is asked to be run again. Where its method allows it, others of its row that differ in the seed alone are
    trained with it, at most so many `together`, and left to be evaluated. Raises RunLocked where another process
    computes it (without `watch`, one of another machine counts as running for ever); any other error of a computation
    is written to FAILED.json and raised.
    """
    if run.directory is None or run.experiment is None:
        raise HashbenchError(f"{run}: {run.skipped}")

    def to_compute() -> bool:
        return run.to_compute(plan.settings.rerun) or (needed and not run.finished)

    if run.finished and not to_compute():
        return run.directory.read_result()
    if run.training is not None and to_compute():
        _train_for(plan, run.training, watch)
    with run.directory.lock(watch) as directory:
        if to_compute():  # no other process did, between the first check and the lock
            if run.failed_meanwhile:
                raise HashbenchError(f"it has failed since this sweep was planned: {directory.read_failure()}")
            if not directory.finished:
                with true_float32():
                    train_with_siblings(plan, run, directory, watch, at_most=together)
            _compute_into(directory.again if directory.finished else directory, run, plan)
        if directory.again.finished:
            directory.replace_with(directory.again)
        return directory.read_result()


def follow(plan: Plan, world: World) -> None:
    """Compute, together with rank 0, each run whose id it broadcasts, until it broadcasts None."""
    runs = {run.experiment.id: run for run in plan.runs if run.experiment is not None}
    while (id := world.broadcast(None)) is not None:
        run = runs.get(id)
        if run is None or run.experiment is None or run.directory is None:
            raise HashbenchError(f"Rank {world.rank} has made another plan than rank 0; give all the same command.")
        dataset = plan.datasets[run.dataset]
        assert isinstance(run.experiment, Experiment), "those of other tracks are computed by one process"
        assert isinstance(dataset, Dataset)
        with true_float32():
            compute(
                run.experiment, dataset, run.directory, plan.device, progress=False, eval_every=None, start=run.start
            )


def reason_of(error: Exception) -> str:
    """Return why a run failed, in one line."""
    text = str(error) if isinstance(error, HashbenchError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def _train_for(plan: Plan, training: PlannedRun, watch: LockWatch | None) -> None:
    """See to it that the training of a run of shorter codes is finished."""
    try:
        execute_run(plan, training, watch=watch, needed=True)
    except RunLocked:
        raise
    except Exception as error:
        raise HashbenchError(f"its training at {training.bits} bits failed: {reason_of(error)}") from error


def _compute_into(directory: RunDirectory, run: PlannedRun, plan: Plan) -> None:
    """Compute a run and store all of it in `directory`, which is locked; write FAILED.json where that fails."""
    assert run.experiment is not None
    make_folder(directory.path)
    run.state_experiment(directory, plan.device)
    directory.remove_kept()
    dataset, progress = plan.datasets[run.dataset], plan.settings.progress
    result: Result | None
    try:
        with no_exit(), true_float32():
            if not isinstance(run.experiment, Experiment):
                result = track(run.experiment.track).compute(run.experiment, dataset, directory, plan.device)
            elif run.training is not None:
                assert isinstance(dataset, Dataset)
                assert run.training.directory is not None
                result = compute_prefix(run.experiment, dataset, directory, plan.device, run.training.directory)
            else:
                assert isinstance(dataset, Dataset)
                join(plan.device).broadcast(run.experiment.id)
                result = compute(
                    run.experiment,
                    dataset,
                    directory,
                    plan.device,
                    progress=progress,
                    eval_every=plan.settings.eval_every,
                    start=run.start,
                )
            assert result is not None, "rank 0 has the result"
            if run.study is not None:
                result = replace(result, provenance={**result.provenance, **stated(run.study, directory)})
            directory.write_result(result)
    except RunLocked:
        raise
    except Exception as error:
        directory.check()  # a lost lock or folder is raised in place of the error
        explained = None
        if isinstance(run.experiment, Experiment) and is_out_of_memory(error):
            explained = _out_of_memory(run.experiment, plan.device, error)
        if explained is not None:
            explained.__cause__ = error  # for the traceback in the file
        with suppress(HashbenchError):  # where nothing can be written, the error itself is raised alone
            directory.write_failure(explained or error)
        if explained is not None:
            raise explained from error
        raise


def _out_of_memory(experiment: Experiment, device: torch.device, error: BaseException) -> HashbenchError:
    """Return the error that names the options by which this experiment takes less memory.

    A method that is fitted in one call has its whole training set in memory, and no batches.
    """
    recipe = experiment.recipe
    if issubclass(METHODS.get(experiment.method), DeepMethod):
        options = [f"--set recipe.batch_size={max(recipe.batch_size // 2, 1)}"]
        if experiment.inputs == "images":
            options += [f"--set recipe.size={recipe.size * 2 // 3}"] if recipe.size > 32 else []
            options += [f"a smaller --backbone than {recipe.backbone}"]
            options += ["--set recipe.precision=bf16"] if recipe.precision == "fp32" else []
    else:
        options = ["a protocol with fewer training inputs"]
        if experiment.inputs == "pixels":
            options += ["image files prepared at a smaller --size", "a --recipe with a pretrained backbone"]
        if experiment.inputs == "features":
            options += [f"a --backbone with fewer features than {recipe.backbone}"]
    where = "GPU" if device.type == "cuda" else "main"
    detail = " ".join(str(error).split())[:200]
    return HashbenchError(
        f"There was not enough {where} memory; take less by {', or '.join(options)} (each makes it another experiment)"
        f"{f'. The system said: {detail}' if detail else '.'}"
    )
