"""Tuning: settings of methods tried on validation queries, as many trials for each row of a table.

A trial is a run with `evaluate_on="validation"`, whose queries are training images; no test query is encoded.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hashbench.datasets import catalogue
from hashbench.datasets.base import Dataset
from hashbench.errors import HashbenchError
from hashbench.experiments import planning
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.planned import PlannedRun, Settings
from hashbench.experiments.planning import Plan
from hashbench.experiments.runner import Outcome, execute, reason_of
from hashbench.experiments.sampling import next_settings, require_optuna, size_of
from hashbench.experiments.search_space import RECIPE, Space, read_space, space_of
from hashbench.experiments.settings import parse_row, parse_settings
from hashbench.experiments.tuned import base_of
from hashbench.interop.targets import resolve_method
from hashbench.methods.contract import Method
from hashbench.results.studies import Study, Trial
from hashbench.storage.files import make_folder
from hashbench.storage.locks import RunLocked, hold_lock
from hashbench.system.distributed import world

_PAIRS = "pairs of users and items, which are not tuned yet"
OnTrial = Callable[["Row", Study], object]  # is told of each trial that ended, the last one of the study


@dataclass(frozen=True)
class Row:
    """One row of a table that is tuned: what is searched, and the study in which it is."""

    name: str  # crh (reassign=false)
    data: Dataset
    dataset: str  # as it was named
    space: Space
    study: Study
    untuned: Mapping[str, str] | None  # the settings as they are without tuning, where they lie in the space
    settings: Settings = field(repr=False)  # of all trials

    def plan(self, tried: Mapping[str, str]) -> Plan:
        """Return the plan of a trial; raises HashbenchError for settings that the method or the recipe refuses."""
        overrides = {owner: dict(given) for owner, given in self.settings.overrides.items()}
        for owner, given in parse_settings(f"{name}={text}" for name, text in tried.items()).items():
            overrides[owner] = {**overrides.get(owner, {}), **given}
        subject = self.study.subject
        return planning.plan(
            [self.name],
            [self.dataset],
            subject["bits"],
            seeds=subject["seeds"],
            settings=dataclasses.replace(self.settings, overrides=overrides, runs_dir=self.study.runs_dir),
            loaded={self.dataset: self.data},
        )

    def __str__(self) -> str:
        return f"{self.name} on {self.data.name}"


def tune(
    methods: Sequence[str],
    datasets: Sequence[str],
    bits: Sequence[int],
    *,
    space: Path | str,
    trials: int,
    seeds: int = 1,
    sampler_seed: int = 0,
    on_trial: OnTrial = lambda row, study: None,
    **settings: Any,
) -> list[Study]:
    """Try `trials` settings of every method on every data set, those that a `space` file names; return the studies.

    The value of a trial is the data set's own measure on validation queries, the mean over `bits` and `seeds`. The
    `settings` are the fields of `Settings`, as of `sweep`, which then takes the best ones by `tuned=runs_dir`. What is
    there is kept: the same call with more trials goes on. Raises HashbenchError where anything is unknown, impossible
    or without validation queries, before any trial.
    """
    rows = rows_of(
        methods, datasets, bits, space=Path(space), trials=trials, seeds=seeds, sampler_seed=sampler_seed,
        settings=Settings(**settings),
    )  # fmt: skip
    return [search(row, trials, on_trial) for row in rows]


def rows_of(
    methods: Sequence[str],
    datasets: Sequence[str],
    bits: Sequence[int],
    *,
    space: Path,
    trials: int,
    seeds: int = 1,
    sampler_seed: int = 0,
    settings: Settings,
) -> list[Row]:
    """Return the rows to tune, each checked at the ends of its space; raises HashbenchError as `tune` does."""
    require_optuna()
    if trials < 1:
        raise HashbenchError(f"--trials {trials} is not possible; give 1 or more.")
    if not world().is_single:
        raise HashbenchError("Trials are computed by one process; tune without torchrun.")
    if settings.start_from is not None or settings.tuned is not None:
        raise HashbenchError("Trials train from the beginning, from untuned settings; leave start_from and tuned out.")
    settings = dataclasses.replace(settings, evaluate_on="validation", rerun="missing")
    classes = {name: resolve_method(parse_row(name)[0]) for name in dict.fromkeys(methods)}
    entries, spaces = read_space(space), dict[str, Space]()
    for name, cls in classes.items():
        if not issubclass(cls, Method):
            raise HashbenchError(f"{name} learns from {_PAIRS}; name a method of inputs with labels.")
        spaces[name] = space_of(entries, cls, space)
        _refuse_given(name, cls.info.name, spaces[name], settings, space)
        if size_of(spaces[name]) < trials:
            raise HashbenchError(
                f"--trials {trials} is more than the {size_of(spaces[name]):.0f} settings that {space} has for {name}; "
                f"give fewer trials, or a larger space."
            )
    rows = []
    for dataset in dict.fromkeys(datasets):
        data = _validation(dataset, settings)
        for name, searched in spaces.items():
            plan = planning.plan([name], [dataset], bits, seeds=seeds, settings=settings, loaded={dataset: data})
            experiment = _planned(plan)[0].experiment
            assert isinstance(experiment, Experiment)
            subject = {
                "base": base_of(experiment),
                "validation_sha256": data.split.sha256,
                "measure": data.protocol.measures[0],
                "space": {each: dimension.plain for each, dimension in searched.items()},
                "bits": sorted({*bits}),
                "seeds": seeds,
                "sampler": {"name": "tpe", "seed": sampler_seed},
            }
            study = Study.at(settings.runs_dir, subject)
            row = Row(name, data, dataset, searched, study, _untuned(searched, experiment), settings)
            _check_ends(row)
            rows.append(row)
    return rows


def search(row: Row, trials: int, on_trial: OnTrial = lambda row, study: None) -> Study:
    """Try settings of a row until its study has so many trials, and return it; what is there is kept.

    A trial that fails, because the training diverged for example, counts. Raises HashbenchError where another process
    works on the study, and where the disk, not the settings, is why a trial cannot end.
    """
    make_folder(row.study.path)
    with hold_lock(row.study.path):
        study = Study.at(row.settings.runs_dir, row.study.subject)  # as the last owner of the lock left it
        asked = max(trials, len(study.trials))  # also fewer than a command that was interrupted: they are then all
        if study.asked != asked:
            study = dataclasses.replace(study, asked=asked)
            study.write()
        seed = study.subject["sampler"]["seed"]
        while len(study.trials) < trials:
            tried = next_settings(row.space, study.trials, seed=seed, first=row.untuned)
            trial = _computed(row, tried)
            study = dataclasses.replace(study, trials=(*study.trials, trial))
            study.write()
            on_trial(row, study)
    return study


def _computed(row: Row, tried: Mapping[str, str]) -> Trial:
    """Return a trial of these settings; its runs that are there already are loaded."""
    started = time.perf_counter()
    try:
        plan = row.plan(tried)
        _planned(plan)
        outcome = execute(plan)
        _raise_other_failure(outcome)
        outcome.raise_first_failure()
    except (RunLocked, _NotTheSettings):
        raise
    except HashbenchError as error:
        return Trial(tried, None, time.perf_counter() - started, (), reason_of(error))
    assert all(result.part == "validation" for result in outcome.results)
    return Trial.of(tried, outcome.results)


class _NotTheSettings(HashbenchError):
    """A failure that other settings would have met as well: the study does not go on."""


def _raise_other_failure(outcome: Outcome) -> None:
    """Raise _NotTheSettings for a run that failed because the system refused something, or that another computes."""
    for run, error in outcome.failures:
        if any(isinstance(cause, OSError | RunLocked) for cause in _causes(error)):
            raise _NotTheSettings(f"{run}: {reason_of(error)} The trial does not count; the same command goes on.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _validation(dataset: str, settings: Settings) -> Dataset:
    """Return a data set with its validation queries; raises HashbenchError where it has none."""
    if catalogue.track_of(dataset) is not None:
        raise HashbenchError(f"--dataset {dataset} holds {_PAIRS}; name inputs with labels.")
    load = partial(
        catalogue.load,
        dataset,
        data_dir=settings.data_dir,
        accept_unofficial=settings.accept_unofficial,
        size=settings.data_size,
    )
    try:
        return load(evaluate_on="validation")
    except HashbenchError as error:
        load()  # raises where the data themselves are the reason
        raise HashbenchError(
            f"--dataset {dataset} has no validation queries, and nothing is tuned on test queries; name a protocol "
            f"with more training images, or run without tuning. ({error})"
        ) from error


def _refuse_given(row: str, method: str, searched: Space, settings: Settings, path: Path) -> None:
    """Raise HashbenchError for a field that has a value on the command line and is searched, too."""
    given = {f"{owner}.{name}" for owner, fields in settings.overrides.items() for name in fields}
    given |= {f"{method}.{name}" for name in parse_row(row)[1]}
    if both := sorted(given & searched.keys()):
        raise HashbenchError(f"{both[0]} has a value in the command, and {path} searches it; leave one of the two out.")


def _planned(plan: Plan) -> Sequence[PlannedRun]:
    """Return the runs of a plan; raises HashbenchError for one that is skipped."""
    for run in plan.runs:
        if run.skipped is not None:
            raise HashbenchError(f"{run}: {run.skipped}")
    return plan.runs


def _check_ends(row: Row) -> None:
    """Raise HashbenchError where the least, the largest or any choice of a dimension is refused."""
    for dimension in row.space.values():
        for text in dimension.ends:
            try:
                _planned(row.plan({dimension.name: text}))
            except HashbenchError as error:
                raise HashbenchError(f"{dimension.name}={text} is in the space, and not possible: {error}") from error


def _untuned(space: Space, experiment: Experiment) -> dict[str, str] | None:
    """Return the texts of the settings that an experiment has, None where one lies outside the space."""
    found = {name: dimension.text_of(_setting(experiment, name)) for name, dimension in space.items()}
    texts = {name: text for name, text in found.items() if text is not None}
    return texts if len(texts) == len(found) else None


def _setting(experiment: Experiment, name: str) -> Any:
    """Return the value that an experiment has of `owner.field`, or of `owner.base.field`."""
    owner, *fields = name.split(".")
    if owner == RECIPE:
        return getattr(experiment.recipe, fields[0])
    value: Any = experiment.fields
    for place, name in enumerate(fields):
        value = value["fields"][name] if place else value[name]
    return value
