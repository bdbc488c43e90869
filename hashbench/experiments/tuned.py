"""Runs with tuned settings: the study that an experiment takes them from, and what its run states of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hashbench.errors import HashbenchError
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.search_space import RECIPE
from hashbench.methods.wrapping import changed_fields
from hashbench.recipes import Recipe
from hashbench.registry import METHODS
from hashbench.results.runs import RunDirectory
from hashbench.results.studies import Study, data_of, find_studies
from hashbench.storage.strict_json import canonical, loads

_OF_THE_RUN = ("bits", "seed", "lengths", "world", "tuned")  # what runs with the outcome of one study differ in
_LEFT_OUT = {"compile": False, "hidden": 0, "fixed_views": 0}  # of the recipe in an identity, where it has these values
_OF_THE_PART = ("split_sha256", "evaluated", "num_train")  # of data: test and validation are parts of one split


def base_of(experiment: Experiment) -> dict[str, Any]:
    """Return what of an identity a study and the runs with its outcome have in common: the untuned settings, the data,
    the weights.
    """
    identity = {name: value for name, value in experiment.identity.items() if name not in _OF_THE_RUN}
    data = {name: value for name, value in identity["data"].items() if name not in _OF_THE_PART}
    return {**identity, "data": data}


class Studies:
    """The studies below a folder, of which each row of a sweep takes its settings from one."""

    def __init__(self, root: Path, on: str | None = None):
        """Read those of the data set and protocol `on`, of each run's own where it is None.

        Raises HashbenchError where there are none, and where one is damaged.
        """
        self._root, self._on = root, on
        found = [Study.read(folder) for folder in find_studies(root)]
        self._studies = [study for study in found if on in (None, study.data)]
        if not self._studies:
            there = f"; there are those of {', '.join(sorted({study.data for study in found}))}" if found else ""
            of = f" of {on}" if on else ""
            raise HashbenchError(
                f"There is no study{of} below {root}{there}; tune with `hashbench tune` first, or name its folder."
            )

    def of(self, experiment: Experiment) -> Study:
        """Return the study of an experiment that is as it would be untuned; of several, the one of its code length.

        Raises HashbenchError where none or more than one is such, where trials are missing, and where all failed.
        """
        base = self._compared(base_of(experiment))
        changed = changed_fields(METHODS.get(experiment.method), experiment.fields)
        row = ", ".join(f"{field}={value}" for field, value in changed.items())
        of = f"{experiment.method}{f' ({row})' if row else ''} on {experiment.data.name}, {experiment.bits} bits"
        fitting = [study for study in self._studies if self._compared(study.subject["base"]) == base]
        if not fitting:
            told = "; ".join(
                f"{study.path} {_misfit(base, self._compared(study.subject['base']))}" for study in self._studies[:3]
            )
            raise HashbenchError(
                f"{of}: no study in {self._root} fits ({told}); tune with the same method, data set, recipe, backbone, "
                f"epochs and --set, or run without --tuned."
            )
        fitting = [study for study in fitting if experiment.bits in study.subject["bits"]] or fitting
        if len(fitting) > 1:
            first, second, *_ = (study.path for study in fitting)
            raise HashbenchError(f"{of} could take its settings from {first} or from {second}; name the folder of one.")
        (study,) = fitting
        if len(study.trials) < study.asked:
            raise HashbenchError(
                f"{study.path} has {len(study.trials)} of {study.asked} trials; give the same `hashbench tune` again, "
                f"which goes on from there."
            )
        if study.best is None:
            raise HashbenchError(f"All trials of {study.path} failed: {study.trials[0].reason}")
        return study

    def _compared(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of a base must be the same in a study and a run: all of it, or all but the data."""
        plain: dict[str, Any] = loads(canonical(base))
        return plain if self._on is None else {name: value for name, value in plain.items() if name != "data"}


def settings_of(study: Study, owner: str) -> dict[str, str]:
    """Return the best settings of a study that belong to the recipe or to its method, by field."""
    assert study.best is not None
    return {
        name.removeprefix(f"{owner}."): text
        for name, text in study.best.settings.items()
        if name.startswith(f"{owner}.")
    }


def identity_of(study: Study, data: str) -> dict[str, Any]:
    """Return what of a study is part of the identity of an experiment on `data`: tables tell tuned rows from others by
    it.
    """
    assert study.best is not None
    recipe = study.subject["base"]["recipe"]
    searched = [name.partition(".")[2] for name in study.best.settings if name.startswith(f"{RECIPE}.")]
    return {
        "study": study.id,
        "trials": len(study.trials),
        "settings": dict(study.best.settings),
        "recipe": {field: recipe.get(field, _LEFT_OUT.get(field)) for field in searched},
        **({} if study.data == data else {"data": study.data}),
    }


def tuned_coords(experiment: Experiment) -> dict[str, Any]:
    """Return what the coordinates of a result state of the study that its settings come from; {} without one."""
    tuned, before = experiment.tuned, recipe_before(experiment)
    if not tuned:
        return {}
    changed = [field for field in tuned["recipe"] if getattr(before, field) != getattr(experiment.recipe, field)]
    recipe = {field: tuned["settings"][f"{RECIPE}.{field}"] for field in changed}
    of_other_data = {"data": tuned["data"]} if "data" in tuned else {}
    return {"tuned": {"trials": tuned["trials"], "settings": tuned["settings"], "recipe": recipe, **of_other_data}}


def recipe_before(experiment: Experiment) -> Recipe:
    """Return the recipe that rows of a table share: that of the experiment with the values from before tuning."""
    recipe, tuned = experiment.recipe, experiment.tuned
    if not tuned:
        return recipe
    before: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in tuned["recipe"].items()
    }
    return dataclasses.replace(recipe, **before)


def stated(study: Study, directory: RunDirectory) -> dict[str, Any]:
    """Return what the provenance of a run in `directory` states of the study that its settings come from."""
    return {"tuned": {**study.cost(), "path": RunDirectory(study.path).beside(directory)}}


def _misfit(base: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return in what a study is of another row."""
    if other["method"]["name"] != base["method"]["name"]:
        return f"is of {other['method']['name']}"
    if "data" in base and data_of(base) != data_of(other):
        return f"is of {data_of(other)}"
    apart = [
        f"{part}.{name}" if name else part
        for part in (base.keys() | other.keys()) - {"method"}
        for name in _apart(base.get(part), other.get(part))
    ]
    ours, theirs = base["method"], other["method"]
    apart += [f"method.{name}" for name in _apart(ours, theirs) if name != "fields"]
    apart += [f"{ours['name']}.{name}" for name in _apart(ours.get("fields"), theirs.get("fields"))]
    return f"differs in {', '.join(sorted(apart))}"


def _apart(one: Any, other: Any) -> list[str]:
    """Return the keys in which two mappings differ; [""] for other values that do."""
    if canonical(one) == canonical(other):
        return []
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return [key for key in one.keys() | other.keys() if canonical(one.get(key)) != canonical(other.get(key))]
    return [""]
