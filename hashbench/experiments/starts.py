"""The finished run whose weights a training begins with: found when a sweep is planned, read when it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from hashbench.errors import HashbenchError
from hashbench.experiments.experiment import Experiment
from hashbench.methods.contract import DeepMethod, Method, defines, wraps
from hashbench.registry import METHODS
from hashbench.results.finding import find_runs
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.results.sweeps.estimates import plural
from hashbench.results.sweeps.run_status import START, stale_note
from hashbench.storage.files import sha256
from hashbench.storage.strict_json import canonical
from hashbench.storage.tensorfiles import Unusable, load


@dataclass(frozen=True)
class Start:
    """A finished run whose network, and whose method's buffers, a training begins with."""

    directory: RunDirectory
    result: Result

    @property
    def identity(self) -> dict[str, str]:
        """What of it is part of an experiment's identity: the ids of the run and of its cell."""
        return {"id": self.result.id, "cell": self.result.coords["cell"]}

    @property
    def label(self) -> str:
        """What a row of a table says of it: `dpsh for 30 epochs`, and what that began with in its turn."""
        coords = self.result.coords
        before = f" after {coords['start']}" if "start" in coords else ""
        epochs = self.result.epoch["of"]
        return f"{coords['method']} for {epochs} {plural('epoch', epochs)}{before}"

    @cached_property
    def weights_sha256(self) -> str:
        """The sha256 of the file of its weights: as its result states it, else of what lay there when first asked."""
        path = self.directory.model
        return self.result.files.get(path.name) or sha256(path)

    def state(self, device: torch.device) -> dict[str, Any]:
        """Return the weights and buffers by name, as `Model.state` does.

        Raises HashbenchError where they are missing, damaged, or another run's, or were trained again meanwhile.
        """
        path = self.directory.model
        if not path.is_file():
            raise HashbenchError(f"There is no {path} to start from; run that again to have the weights, or copy them.")
        self.directory.require_stated(path)
        if self.directory.others_than({path.name: self.weights_sha256}):
            raise HashbenchError(f"{self.directory.path} was trained again meanwhile; run this again.")
        try:
            return load(path, device, of=self.result.id, unmarked=True)
        except Unusable as error:
            raise HashbenchError(f"{path} {error}; copy the run's own along, or run it again.") from error


class Starts:
    """The finished runs below a folder, or the one that it is, of which each run of a sweep starts from one."""

    def __init__(self, root: Path):
        """Read them; in a folder, a run that was itself started from another one is left out.

        Raises HashbenchError where there are none.
        """
        named = RunDirectory(root).finished
        results, problems = find_runs([root])
        self._root, self._runs = root, dict[str, tuple[Start, Experiment]]()  # by id: copies of a run are one
        for result in results:
            if result.condition or ("start" in result.coords and not named):
                continue
            assert result.path is not None
            directory = RunDirectory(result.path)
            try:
                experiment = Experiment.from_identity(directory.read_spec()["identity"])
            except HashbenchError as error:
                problems.append(str(error))
                continue
            self._runs.setdefault(result.id, (Start(directory, result), experiment))
        if not self._runs:
            first = "".join(f" {problem}" for problem in problems[:1])
            raise HashbenchError(
                f"There is no finished run below {root} to start from; train one first, or name its folder.{first}"
            )

    def of(self, experiment: Experiment) -> Start:
        """Return the run that an experiment starts from: of its own method or its base, alike in all but the recipe.

        Raises HashbenchError where no run or more than one is such, and where its weights are missing or damaged.
        """
        fitting, nearest = list[Start](), (-1, "")
        for start, theirs in self._runs.values():
            misfits = enumerate(_misfits(experiment, theirs))
            place, misfit = next(((place, text) for place, text in misfits if text), (0, ""))
            if not misfit:
                fitting.append(start)
            elif place > nearest[0]:
                nearest = (place, f"{start.directory.path} {misfit}")
        of = f"{experiment.method} on {experiment.data.name}, {experiment.bits} bits, seed {experiment.seed}"
        if not fitting:
            raise HashbenchError(
                f"{of}: no run in {self._root} is one to start from ({nearest[1]}); first train "
                f"{_wanted(experiment)['name']} on the same data with the same backbone, bits and seed, or name the "
                f"folder of that run."
            )
        if len(fitting) > 1:
            first, second, *_ = (start.directory.path for start in fitting)
            raise HashbenchError(f"{of} could start from {first} or from {second}; name the folder of one.")
        fitting[0].state(torch.device("cpu"))  # what is damaged is found now, and not after hours
        return fitting[0]


def start_of(directory: RunDirectory, result: Result) -> Start | None:
    """Return the run that a finished one was started from, None where it was not.

    Raises HashbenchError where that is no longer where it was, or was trained again since, or another run lies there.
    """
    if "start" not in result.provenance:
        return None
    found = directory.start(result)
    start = Start(found, found.read_result())
    if note := stale_note(result, {START: start.weights_sha256}):
        raise HashbenchError(f"{directory.path}: {note}.")
    return start


def cannot_start(cls: type[Method]) -> str | None:
    """Return why a method cannot begin with the weights of a finished run, or None."""
    if not issubclass(cls, DeepMethod):
        return "it is fitted in one call, so there are no weights to start from; leave --start-from out."
    if wraps(cls) and defines(cls, "head"):
        return "its head is another than its base's, so it cannot start from a run of that; leave --start-from out."
    return None


def _wanted(experiment: Experiment) -> dict[str, Any]:
    """Return name, version and fields of the method whose run an experiment starts from."""
    if wraps(METHODS.get(experiment.method)):
        return dict(experiment.fields["base"])
    return {"name": experiment.method, "version": experiment.method_version, "fields": experiment.fields}


def _misfits(experiment: Experiment, start: Experiment) -> Iterator[str]:
    """Yield for each thing in which the two must be alike in what the start is another, "" where it is not."""
    wanted = _wanted(experiment)
    yield "" if start.method == wanted["name"] else f"is of {start.method}, not {wanted['name']}"
    data, other = experiment.data, start.data
    if (other.name, other.evaluated) != (data.name, data.evaluated):
        yield f"learned from {other.name} ({other.evaluated} queries), not {data.name} ({data.evaluated} queries)"
    else:
        yield "" if other == data else f"learned from other images, or another split, of {data.name}"
    if start.bits != start.training_bits:
        yield "holds no weights, as its codes are the first bits of another run's"
    else:
        same = (start.bits, start.lengths) == (experiment.training_bits, experiment.lengths)
        yield "" if same else f"has {start.bits} bits, not {experiment.training_bits}"
    yield "" if start.seed == experiment.seed else f"is of seed {start.seed}, not {experiment.seed}"
    theirs = {"name": start.method, "version": start.method_version, "fields": start.fields}
    yield "" if canonical(theirs) == canonical(wanted) else f"is of {start.method} with other fields or version"
    mine, its = ([*_network(one)] for one in (experiment, start))
    yield "" if mine == its else f"has another network ({its[0]}, not {mine[0]})"


def _network(experiment: Experiment) -> Iterator[str]:
    """Yield what decides which weights a network has: in words, and exactly."""
    recipe = experiment.recipe
    hidden = f", a hidden layer of {recipe.hidden}" if recipe.hidden else ""
    yield f"{recipe.backbone} on {experiment.inputs} at {f'{recipe.size} px' if recipe.size else 'native size'}{hidden}"
    yield canonical({"weights": experiment.weights, "backbone": dict(experiment.backbone)})
