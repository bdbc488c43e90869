"""How long runs will take, by finished runs: of the same kind, else scaled from runs alike; and when a sweep ends."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from hashbench.errors import HashbenchError
from hashbench.results.finding import find_runs
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.results.sweeps.run_status import RunStatus
from hashbench.storage.files import is_folder
from hashbench.storage.strict_json import digest


@dataclass(frozen=True)
class Work:
    """What a run has to do, as far as its length depends on it."""

    kind: str  # runs of it take about as long: they differ in fields, bits and seed alone
    alike: str  # runs of it differ in the number of epochs and images, too: one's length is scaled from another's
    epochs: int
    num_train: int
    queries: int
    database: int
    prefix: bool = False  # of codes that another run trains and encodes

    def __post_init__(self) -> None:
        """Refuse with a TypeError what notes and specs may hold in place of names and counts."""
        counts = (self.epochs, self.num_train, self.queries, self.database)
        if not (isinstance(self.kind, str) and isinstance(self.alike, str) and isinstance(self.prefix, bool)):
            raise TypeError("kind and alike are texts, prefix is true or false")
        if not all(isinstance(count, int) and 0 <= count < 1 << 53 for count in counts):
            raise TypeError(f"{counts} are no numbers of epochs and images")

    @classmethod
    def of(cls, identity: Mapping[str, Any], *, queries: int, database: int) -> Work:
        """Return the work of the run with this identity; raises KeyError where that lacks something."""
        data, recipe, method = identity["data"], dict(identity["recipe"]), identity["method"]["name"]
        shared = {part: identity[part] for part in ("weights", "inputs")}
        kind = digest({**shared, "data": data, "recipe": recipe, "method": method})
        epochs = recipe.pop("epochs")
        alike = digest({**shared, "shape": data["shape"], "recipe": recipe, "method": method})
        lengths = identity.get("lengths", [identity["bits"]])
        prefix = identity["bits"] != lengths[-1]
        return cls(kind, alike, epochs, data["num_train"], queries, database, prefix)


@dataclass(frozen=True)
class Estimate:
    """The seconds that a run will take, and what they come from."""

    seconds: float
    source: Literal["finished", "scaled", "probed"]

    def __str__(self) -> str:
        return duration(self.seconds) + ("" if self.source == "finished" else f" ({self.source})")


class Estimates:
    """The lengths of runs that are known, and those of others that follow from them."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}  # by kind
        self._alike: dict[str, list[tuple[Work, Result]]] = {}
        self._probed: dict[str, float] = {}  # by kind

    @classmethod
    def of(cls, runs_dir: Path) -> Estimates:
        """Return what the finished runs below `runs_dir` tell, on whatever machine they ran; nothing without any."""
        known = cls()
        for result in find_runs([runs_dir])[0] if is_folder(runs_dir) else []:
            assert result.path is not None
            try:
                identity = RunDirectory(result.path).read_spec()["identity"]
                counts = result.counts
                work = Work.of(identity, queries=counts["queries"], database=counts["database"])
            except (HashbenchError, KeyError, TypeError, ValueError, IndexError):
                continue  # a run without its spec, or with one that is none, is of no known kind
            known.add(work, result)
        return known

    def add(self, work: Work, result: Result) -> None:
        """Take a finished run into account, unless another one did its work."""
        if work.prefix:
            return
        # A run that was interrupted counts its training whole, but its total from the last start only.
        self._seconds.setdefault(work.kind, []).append(max(_phase(result, "total"), _phase(result, "train")))
        self._alike.setdefault(work.alike, []).append((work, result))

    def add_probe(self, work: Work, seconds: float) -> None:
        """Take into account how long a run would take by some of its steps."""
        self._probed[work.kind] = seconds

    def estimate(self, work: Work) -> Estimate | None:
        """Return how long a run will take: by runs of its kind, else by its probe, else scaled; None where unknown."""
        if work.prefix:
            return Estimate(0.0, "finished")
        if work.kind in self._seconds:
            return Estimate(statistics.median(self._seconds[work.kind]), "finished")
        if work.kind in self._probed:
            return Estimate(self._probed[work.kind], "probed")
        if work.alike in self._alike:
            scaled = (_scaled(result, done, work) for done, result in self._alike[work.alike])
            return Estimate(statistics.median(scaled), "scaled")
        return None


@dataclass(frozen=True)
class TimeLeft:
    """How long a sweep still takes, at as many runs at a time as are computed now."""

    runs: int
    running: int
    seconds: float | None  # of the runs whose length is known; None where none is
    unknown: int  # runs whose length is not

    @classmethod
    def of(cls, left: Iterable[tuple[RunStatus, float | None]]) -> TimeLeft:
        """Return it for runs that are not finished, each with the seconds that it still takes."""
        runs = [*left]
        running = [seconds for status, seconds in runs if status.state == "running"]
        known = [seconds for _, seconds in runs if seconds is not None]
        longest = max((seconds for seconds in running if seconds is not None), default=0.0)
        seconds = max(sum(known) / max(len(running), 1), longest) if known else None
        return cls(len(runs), len(running), seconds, len(runs) - len(known))

    def __str__(self) -> str:
        if self.seconds is None:
            return ""
        unknown = f" and {self.unknown} {plural('run', self.unknown)} of unknown length" if self.unknown else ""
        return f"about {duration(self.seconds)} left{unknown}"


def seconds_left(status: RunStatus, estimate: Estimate | None) -> float | None:
    """Return what is left of a run's estimated seconds, less those for which it has been computed; None if unknown."""
    if estimate is None:
        return None
    try:
        begun = datetime.fromisoformat(status.since)
        elapsed = (datetime.now(UTC) - begun).total_seconds()
    except (ValueError, TypeError):  # nobody computes it, or its lock does not tell since when
        elapsed = 0.0
    return max(estimate.seconds - max(elapsed, 0.0), 0.0)


def duration(seconds: float) -> str:
    """Return seconds as people say them: `45 s`, `12 min`, `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{max(round(seconds), 1)} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def plural(noun: str, count: int) -> str:
    """Return the noun in the number that goes with `count`."""
    return noun if count == 1 else f"{noun}s"


def _scaled(result: Result, done: Work, asked: Work) -> float:
    """Return the seconds of a run that is asked for, by a finished one of other epochs or images.

    Training and preparation go with epochs and training images, encoding with the images encoded, evaluation with the
    pairs compared; what else was done takes as long again.
    """
    trained = asked.num_train / max(done.num_train, 1)
    if result.epoch["of"]:  # else it was fitted in one call, whatever the recipe says
        trained *= asked.epochs / max(done.epochs, 1)
    encoded = (asked.queries + asked.database) / max(done.queries + done.database, 1)
    compared = asked.queries * asked.database / max(done.queries * done.database, 1)
    prepared = 0.0 if result.provenance.get("prepared_from_cache") else _phase(result, "prepare")
    training, encoding = _phase(result, "train") + prepared, _phase(result, "encode")
    evaluating = _phase(result, "evaluate")
    rest = max(_phase(result, "total") - training - encoding - evaluating, 0.0)
    return training * trained + encoding * encoded + evaluating * compared + rest


def _phase(result: Result, name: str) -> float:
    return result.time.get(name) or 0.0
