"""A study on disk: which settings of a method were tried on validation queries, what each gave, and what that cost.

It is one file, written anew after each trial. Trials are only ever added, so that what a run states of the first so
many of them stays true.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hashbench.errors import HashbenchError
from hashbench.results.result import Result
from hashbench.results.runs import TUNING, folder_name
from hashbench.storage.files import exists, is_folder, walk
from hashbench.storage.notes import read_note, write_note
from hashbench.storage.strict_json import canonical, digest, loads

STUDY = "study.json"
_TRIALS = "trials"  # in a study's folder: the runs of its trials, a runs directory
_NOT_PHASES = ("total", "untracked")  # in the time of a result


@dataclass(frozen=True)
class Trial:
    """One point of the space: the settings, as they are typed in --set, and the mean measure of its runs."""

    settings: Mapping[str, str]  # "csq.quantization" -> "0.03"
    value: float | None  # on validation queries; None where the trial failed
    seconds: float
    runs: tuple[str, ...]  # their ids; () where the trial failed
    reason: str = ""  # why it failed

    @classmethod
    def of(cls, settings: Mapping[str, str], results: Sequence[Result]) -> Trial:
        """Return the trial that `results` are the runs of; it fails where the measure of one is undefined."""
        values = [result.metrics.get(result.coords["measure"]) for result in results]
        known = [value for value in values if value is not None]
        seconds = sum(map(seconds_of, results))
        if len(known) < len(values):
            return cls(settings, None, seconds, (), f"{results[0].coords['measure']} is undefined")
        return cls(settings, statistics.fmean(known), seconds, tuple(result.id for result in results))

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Trial:
        """Return a trial as `vars` of it is stored; raises ValueError, KeyError or TypeError where that is none."""
        trial = cls(**{**stored, "runs": tuple(stored["runs"])})
        kinds = {"settings": dict, "value": float | int | None, "seconds": float | int, "reason": str}
        for name, kind in kinds.items():
            if not isinstance(value := getattr(trial, name), kind):
                raise ValueError(f"{name} of a trial is {value!r:.60}")
        if not all(isinstance(text, str) for text in (*trial.settings.values(), *trial.runs)):
            raise ValueError("settings and runs of a trial are texts")
        return trial


@dataclass(frozen=True)
class Study:
    """What is searched for one row of a table, and the trials so far, in their order."""

    path: Path  # its folder
    subject: Mapping[str, Any]  # what decides the trials: `base`, `space`, `bits`, `seeds`, `sampler`, `measure`
    asked: int = 0  # trials that the last command asked for
    trials: tuple[Trial, ...] = ()

    @classmethod
    def at(cls, runs_dir: Path, subject: Mapping[str, Any]) -> Study:
        """Return the study of `subject` in a runs directory: as it is there, else without trials."""
        subject = loads(canonical(subject))  # as it is read again
        dataset, method = data_of(subject["base"]), subject["base"]["method"]["name"]
        place = runs_dir / TUNING / folder_name(dataset) / folder_name(method) / digest(subject)[:8]
        return cls.read(place) if os.path.lexists(place / STUDY) else cls(place, subject)

    @classmethod
    def read(cls, folder: Path) -> Study:
        """Return the study in a folder; raises HashbenchError where it is missing, damaged, or another's."""
        path = folder / STUDY
        if not exists(path):
            raise HashbenchError(f"There is no {path}; copy the study along, or tune again.")
        note = read_note(path)
        try:
            if note is None:
                raise ValueError("it is torn or altered")
            trials = tuple(map(Trial.read, note["trials"]))
            study = cls(folder, note["subject"], note["asked"], trials)
            if not isinstance(study.asked, int):
                raise ValueError(f"asked is {study.asked!r:.60}")
            if digest(study.subject)[:8] != folder.name:
                raise ValueError("it is another study's than the folder's")
        except (ValueError, KeyError, TypeError) as error:
            raise HashbenchError(
                f"{path} cannot be read: {error}; put a whole copy in its place, or delete it and tune again, which "
                f"loads the runs of its trials."
            ) from error
        return study

    @property
    def id(self) -> str:
        """The sha256 of its subject, 64 hex digits."""
        return digest(self.subject)

    @property
    def data(self) -> str:
        """The data set and protocol that its trials train on."""
        return data_of(self.subject["base"])

    @property
    def runs_dir(self) -> Path:
        """Where the runs of its trials lie."""
        return self.path / _TRIALS

    @property
    def failed(self) -> int:
        """How many trials failed."""
        return sum(trial.value is None for trial in self.trials)

    @property
    def seconds(self) -> float:
        """What all trials cost, the failed ones among them."""
        return math.fsum(trial.seconds for trial in self.trials)

    @property
    def best(self) -> Trial | None:
        """The first trial of the highest value; None where none has one."""
        known = [(trial.value, trial) for trial in self.trials if trial.value is not None]
        return max(known, key=lambda each: each[0])[1] if known else None

    def first(self, trials: int) -> Study:
        """Return the study as it was after so many trials."""
        return replace(self, trials=self.trials[:trials])

    def write(self) -> None:
        """Store the study; raises HashbenchError where it cannot be written."""
        trials = [{**vars(trial), "settings": dict(trial.settings), "runs": list(trial.runs)} for trial in self.trials]
        write_note(self.path / STUDY, {"subject": dict(self.subject), "asked": self.asked, "trials": trials})

    def cost(self) -> dict[str, Any]:
        """Return what a result states of the study that its settings come from, but for where that lies."""
        return {
            "id": self.id,
            "trials": len(self.trials),
            "failed": self.failed,
            "seconds": self.seconds,
            "bits": self.subject["bits"],
            "space_sha256": digest(self.subject["space"]),
        }


def data_of(base: Mapping[str, Any]) -> str:
    """Return the data set and protocol of the base of a study or run."""
    return f"{base['data']['dataset']}@{base['data']['protocol']}"


def find_studies(root: Path) -> Iterator[Path]:
    """Yield the folders of the studies below `root`, a runs directory, a folder inside `.tuning`, or a study, also of
    packed ones.
    """
    if not is_folder(root):
        raise HashbenchError(f"There is no folder {root}; name a runs directory, or tune with `hashbench tune`.")
    top = root / TUNING if is_folder(root / TUNING) else root
    for folder, subfolders, names in walk(top):
        subfolders.sort()
        if STUDY in names:
            subfolders.clear()
            yield Path(folder)


def settings_words(settings: Mapping[str, str]) -> str:
    """Return the settings of a trial as they are typed, `csq.quantization=0.03, recipe.learning_rate=0.01`."""
    return ", ".join(f"{name}={text}" for name, text in settings.items())


def seconds_of(result: Result) -> float:
    """Return the seconds of all phases of a run, also of those from before an interruption or from a cache."""
    return math.fsum(value or 0.0 for phase, value in result.time.items() if phase not in _NOT_PHASES)
