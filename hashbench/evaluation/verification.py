"""verify: the numbers of a finished run, computed again from its stored files and compared with the stored ones.

Each check of a run ends in one of three ways: as stored, differs, or not checked with the reason. Torch is imported
only where a source seems to have changed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hashbench.errors import HashbenchError
from hashbench.evaluation.conditions.contract import as_text, changes_relevance, places_of, relevance_in
from hashbench.metrics import (
    Histograms,
    class_separation,
    code_statistics,
    evaluate_histograms,
    first_bits,
    histograms,
)
from hashbench.metrics.measures import parse
from hashbench.metrics.pairs import Pairs
from hashbench.registry import BACKBONES, CONDITIONS, METHODS, Registry
from hashbench.results.finding import find_runs
from hashbench.results.result import Result, cell_of, same_values
from hashbench.results.runs import RunDirectory
from hashbench.results.studies import STUDY, Study, Trial
from hashbench.results.sweeps.run_status import SOURCES
from hashbench.storage.files import is_file, is_folder, sha256
from hashbench.storage.strict_json import digest

Content = TypeVar("Content")
Labels = tuple[np.ndarray | None, np.ndarray | None]  # of queries and database; None where pairs say what is relevant
Relevance = Callable[[Result], tuple[Labels, Pairs]]  # of a run's queries and database; raises HashbenchError


@dataclass(frozen=True)
class VerifiedRun:
    """The verification of one run: what was compared, what differs, and what could not be compared, with the reason."""

    path: Path
    checked: tuple[str, ...]
    differences: tuple[str, ...]
    unchecked: tuple[tuple[str, str], ...]
    stale: tuple[str, ...] = ()  # whose source has changed since: "method", "backbone", "condition"
    unofficial: bool = False  # whether its data were not the official files

    @property
    def sound(self) -> bool:
        """Whether all was checked, and nothing differs."""
        return not (self.differences or self.unchecked or self.stale)

    def after(self, name: str, check: Callable[[], Iterable[str]]) -> VerifiedRun:
        """Return the verification with one more check, which runs code of plug-ins: what that raises is a reason."""
        try:
            found = tuple(f"{name}: {difference}" for difference in check())
        except Exception as error:
            reason = str(error) if isinstance(error, HashbenchError) else f"{type(error).__name__}: {error}"
            return replace(self, unchecked=(*self.unchecked, (name, " ".join(reason.split()))))
        return replace(self, checked=(*self.checked, name), differences=(*self.differences, *found))


def verify(
    result: Result, relevance: Relevance, sources: Sources | None = None, *, threads: int | None = None
) -> VerifiedRun:
    """Return the verification of a finished run; `relevance` gives what is relevant to its queries, where readable.

    `threads` count distances (None: one a core).
    """
    run, stale = _Run.of(result, relevance, threads), list[str]()
    checked, differences, unchecked = _compared(
        {
            **_of_folder(run),
            **({"codes from the training's": lambda: _prefix(run)} if _is_prefix(result) else {}),
            **(_of_codes(run) if result.has_codes else {}),
            **({"tuning": lambda: _tuning(result, run.directory)} if "tuned" in result.provenance else {}),
            **({"changes of codes": lambda: _changes(run)} if result.condition else {}),
        }
    )
    try:
        stale += _stale(run, sources or Sources())
        checked.append("source")
    except (FileNotFoundError, HashbenchError) as error:
        unchecked.append(("source", str(error)))
    except (_Damaged, KeyError, TypeError, AttributeError):
        pass  # the identity says so already
    return VerifiedRun(
        run.directory.path,
        tuple(checked),
        tuple(dict.fromkeys(differences)),
        tuple(unchecked),
        tuple(stale),
        result.provenance.get("data_official") is False,
    )


def contradictions(result: Result) -> list[str]:
    """Return what of a finished run differs from its folder's own files, or could not be compared with them.

    It is the quick part of `verify`: the identity, the sha256 of the files, and each measure from the histograms.
    """
    _, differences, unchecked = _compared(_of_folder(_Run.of(result, _no_relevance)))
    return [*dict.fromkeys(differences), *(f"{name}: {reason}" for name, reason in unchecked)]


@dataclass(frozen=True, eq=False)
class _Run:
    """A run that is verified: what several checks read or count is read and counted once.

    Each property raises FileNotFoundError where its file is missing, and _Damaged where that cannot be read.
    """

    result: Result
    directory: RunDirectory
    relevance: Relevance
    threads: int | None

    @classmethod
    def of(cls, result: Result, relevance: Relevance, threads: int | None = None) -> _Run:
        assert result.path is not None
        return cls(result, RunDirectory(result.path), relevance, threads)

    @property
    def bits(self) -> int:
        return int(self.result.coords["bits"])

    @cached_property
    def identity(self) -> dict[str, Any]:
        return _identity_in(self.directory)

    @cached_property
    def stored(self) -> Histograms:
        return Histograms.from_arrays(_arrays(self.directory, "histograms"))

    @cached_property
    def own_codes(self) -> dict[str, np.ndarray]:
        return _arrays(self.directory, "codes")

    @cached_property
    def codes(self) -> dict[str, np.ndarray]:
        """The codes by part; under a condition, the database's lie in the run."""
        own = self.own_codes
        return own if self.directory.run is self.directory else _arrays(self.directory.run, "codes") | own

    @cached_property
    def labelled(self) -> tuple[Labels, Histograms]:
        """Labels, where they say what is relevant, and the histograms counted by them anew."""
        labels, pairs = self.relevance(self.result)
        query, database = self.codes["query"], self.codes["database"]
        gains, threads = self.stored.gains is not None, self.threads
        found = histograms(query, database, *labels, bits=self.bits, pairs=pairs, gains=gains, threads=threads)
        return labels, found

    @cached_property
    def distances(self) -> np.ndarray:
        """The number of items at each distance, counted anew: (Q, bits + 1), with or without labels."""
        with suppress(Exception):  # whatever is wrong with the labels is said where they are checked
            if self.labelled[1].excluded is None:
                return self.labelled[1].n
        nothing = [np.zeros(len(self.codes[part]), dtype=np.int64) for part in ("query", "database")]
        codes = self.codes["query"], self.codes["database"]
        return histograms(*codes, *nothing, bits=self.bits, threads=self.threads).n


def _no_relevance(result: Result) -> tuple[Labels, Pairs]:
    raise HashbenchError("labels are not asked for")


_Checks = Mapping[str, Callable[[], Iterator[str]]]


def _of_codes(run: _Run) -> _Checks:
    """Return the checks that need codes, which a reference that ranks by scores has not."""
    return {
        "histograms from codes": lambda: _distances(run),
        "statistics from codes": lambda: _statistics(run),
        "histograms from codes and labels": lambda: _relevance(run),
    }


def _of_folder(run: _Run) -> _Checks:
    return {
        "identity": lambda: (_identity_under if run.result.condition else _identity)(run),
        "files": lambda: _files(run),
        "measures from histograms": lambda: _measures(run),
    }


def _compared(checks: _Checks) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Return the names of the checks that could be made, what differs, and why the others could not be made."""
    checked, differences, unchecked = list[str](), list[str](), list[tuple[str, str]]()
    for name, check in checks.items():
        try:
            differences += [f"{name}: {difference}" for difference in check()]
            checked.append(name)
        except (FileNotFoundError, HashbenchError) as error:
            unchecked.append((name, str(error)))
        except _Damaged as error:
            differences.append(str(error))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
            differences.append(f"{name}: what is stored does not fit together ({type(error).__name__}: {error})")
    return checked, differences, unchecked


class Sources:
    """The source files of methods, backbones and conditions as they are now; each is read once."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, ...], str | None] = {}

    def unchanged(self, registry: Registry[Any], names: tuple[str, ...], then: str) -> bool:
        """Return whether the files that define `names` still have the sha256 `then`.

        Raises HashbenchError for a name that is not here.
        """
        return any(then == self._found(registry, names, read) for read in (_of_modules, _of_classes))

    def _found(self, registry: Registry[Any], names: tuple[str, ...], read: Callable[..., str | None]) -> str | None:
        key = (read.__name__, registry.kind, *names)
        if key not in self._read:
            self._read[key] = read(registry, names)
        return self._read[key]


def _of_modules(registry: Registry[Any], names: tuple[str, ...]) -> str | None:
    """Return the sha256 of the modules that the registry names, without importing them; None where one has no file."""
    hashes = []
    for name in names:
        try:
            found = importlib.util.find_spec(registry.entry(name).module)
            hashes.append(hashlib.sha256(Path(str(found and found.origin)).read_bytes()).hexdigest())
        except KeyError:
            raise HashbenchError(f"the {registry.kind} '{name}' is not installed here") from None
        except (ImportError, ValueError, OSError):
            return None
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _of_classes(registry: Registry[Any], names: tuple[str, ...]) -> str | None:
    """Return the sha256 of the files that define the classes, which may be others than the registry's modules."""
    from hashbench.system.provenance import source_sha256  # imports torch

    return source_sha256(*map(registry.get, names))


def _stale(run: _Run, sources: Sources) -> Iterator[str]:
    """Yield whose source has changed since the run; raises HashbenchError where either source is unknown."""
    result, directory, identity = run.result, run.directory, run.identity
    of_run = identity if directory.run is directory else _identity_in(directory.run)
    method, backbone = of_run["method"], str(of_run["recipe"]["backbone"])
    base = method["fields"].get("base")
    names = (method["name"], base["name"]) if isinstance(base, Mapping) else (method["name"],)
    of: dict[str, tuple[Registry[Any], tuple[str, ...]]] = {"source_sha256": (METHODS, names)}
    if result.provenance.get("backbone_sha256") is not None:  # None for hashbench's own and those of libraries
        of["backbone_sha256"] = (BACKBONES, (backbone,))
    if result.condition:
        of["condition_sha256"] = (CONDITIONS, (identity["condition"]["name"],))
    for key, (registry, named) in of.items():
        then = result.provenance.get(key)
        if then is None:
            raise HashbenchError(f"the result does not state the source of its {SOURCES[key]}")
        if not sources.unchanged(registry, named, then):
            yield SOURCES[key]


class _Damaged(Exception):
    """A file of the run that is there and cannot be read: a difference, whatever was to be checked with it."""


def _identity(run: _Run) -> Iterator[str]:
    result, identity, coords = run.result, run.identity, run.result.coords
    if digest(identity) != result.id:
        yield f"spec.json has the id {digest(identity)[:8]}, the result {result.id[:8]}"
    if cell_of(identity) != coords["cell"]:
        yield "the result's cell is not that of spec.json"
    data, recipe = identity["data"], identity["recipe"]
    named = {
        "method": identity["method"]["name"],
        "method_version": identity["method"]["version"],
        "dataset": data["dataset"],
        "protocol": data["protocol"],
        "evaluated": data["evaluated"],
        "backbone": recipe["backbone"],
        "lengths": identity.get("lengths"),
        **{name: identity[name] for name in ("bits", "seed", "inputs", "engine")},
    }
    yield from _apart(named, coords)
    yield from _apart({name: _field(identity["method"], name) for name in coords["fields"]}, coords["fields"])
    yield from _apart({"train": data["num_train"]}, result.counts)
    yield from _apart({"of": recipe["epochs"]} if result.epoch["of"] else {}, result.epoch)
    contents = {"split_sha256": data["split_sha256"], "data_integrity": data["integrity"]}
    yield from _apart({**contents, "weights": identity["weights"]}, result.provenance)
    for name in re.findall(r"(\w+)=", coords["recipe"]):
        value = recipe.get(name)
        if f"{name}={tuple(value) if isinstance(value, list) else value}" not in coords["recipe"]:
            yield f"the recipe is {coords['recipe']} in the result, and {name} is {_short(value)} in spec.json"
    lengths = identity.get("lengths", [identity["bits"]])
    if (identity["bits"] != lengths[-1]) != _is_prefix(result):
        yield "the result and spec.json do not agree on whether its codes are the first bits of another run's"
    elif _is_prefix(result) and result.provenance["prefix_of"]["id"] != digest({**identity, "bits": lengths[-1]}):
        yield f"the run of {lengths[-1]} bits that it names is not that of spec.json"
    start, stated = identity.get("start", {}), result.provenance.get("start", {})
    if start.get("id") != stated.get("id") or bool(start) != ("start" in coords):
        yield "the result and spec.json do not agree on the run that it was started from"
    tuned = identity.get("tuned", {})
    stated = {"study": result.provenance.get("tuned", {}).get("id"), **coords.get("tuned", {})}
    yield from (f"the result and spec.json do not agree on the {name} behind the settings"
                for name in ("study", "trials", "settings", "data") if tuned.get(name) != stated.get(name))  # fmt: skip
    for name, text in tuned.get("settings", {}).items():
        owner, _, field = name.partition(".")
        value = recipe.get(field) if owner == "recipe" else _field(identity["method"], field)
        if not _reads_as(text, value):
            yield f"{name} is {_short(value)} in spec.json, and {text} is the setting that was tuned"
    expected = RunDirectory.at(
        "", dataset=f"{coords['dataset']}@{coords['protocol']}", method=coords["method"], bits=coords["bits"],
        seed=coords["seed"], id=result.id,
    ).path  # fmt: skip
    if run.directory.path.name != expected.name:
        yield f"the folder is called {run.directory.path.name} instead of {expected.name}"


def _apart(specified: Mapping[str, Any], stated: Mapping[str, Any]) -> Iterator[str]:
    for name, value in specified.items():
        if not same_values(stated.get(name), value):
            yield f"{name} is {_short(stated.get(name))} in the result and {_short(value)} in spec.json"


def _reads_as(text: str, value: Any) -> bool:
    """Return whether a setting as it is typed has this value."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return same_values(float(text), value)
    return text == (",".join(map(str, value)) if isinstance(value, list) else str(value)) or (
        isinstance(value, bool) and text == str(value).lower()
    )


def _field(method: Mapping[str, Any], name: str) -> Any:
    """Return a method's field as the coordinates of a result name it, a base's as `base.margin`."""
    base = method["fields"].get("base")
    if isinstance(base, Mapping):
        if name == "base":
            return base["name"]
        if name.startswith("base."):
            return _field(base, name.removeprefix("base."))
    return method["fields"].get(name)


def _is_prefix(result: Result) -> bool:
    return "prefix_of" in result.provenance


def _identity_under(under: _Run) -> Iterator[str]:
    """Compare the identity of a run measured again, and that it lies in this run."""
    result, directory, identity, coords = under.result, under.directory, under.identity, under.result.coords
    run = _read(directory.run.result, directory.run.read_result)
    if digest(identity) != result.id:
        yield f"spec.json has the id {digest(identity)[:8]}, the result {result.id[:8]}"
    if (identity["run"], identity["seed"]) != (run.id, run.coords["seed"]):
        yield f"it is of the run {identity['run'][:8]} with seed {identity['seed']}, and lies in {run.id[:8]}"
    cell = digest({"condition": identity["condition"], "run": run.coords["cell"]})
    expected = {**run.coords, "evaluated": f"{run.part}, {as_text(identity['condition'])}", "cell": cell}
    if changes_relevance(CONDITIONS.get(identity["condition"]["name"])):
        of_run = _identity_in(directory.run)
        expected["relevance"] = relevance_in(identity["condition"]["name"], of_run, run.coords.get("relevance"))
    yield from (f"{name} is {coords.get(name)!r} instead of {value!r}" for name, value in expected.items()
                if coords.get(name) != value)  # fmt: skip
    surrogate = result.provenance.get("surrogate", {}).get("id")
    if surrogate != identity["condition"]["fields"].get("surrogate"):
        yield "the result and spec.json do not agree on the surrogate"
    for name in ("split_sha256", "data_integrity", "weights"):
        if result.provenance.get(name) != run.provenance.get(name):
            yield f"{name} is another than the run's"
    name = directory.run.under(identity["condition"]["name"], result.id).path.name
    if directory.path.name != name:
        yield f"the folder is called {directory.path.name} instead of {name}"


def _files(run: _Run) -> Iterator[str]:
    """Compare the sha256 of the files that are there with those that the result states."""
    directory, stated = run.directory, run.result.files
    if not stated and (directory.model.exists() or directory.centers.exists()):  # what nothing else tells of
        raise HashbenchError("the result is from before it stated the sha256 of the run's files")
    for path in directory.kept:
        if is_file(path) and stated.get(path.name) not in (None, sha256(path)):
            yield f"{path.name} is not the file that the result was stored with"


def _measures(run: _Run) -> Iterator[str]:
    result, stored = run.result, run.stored
    if result.has_codes and stored.bits != result.coords["bits"]:
        yield f"the histograms are of {stored.bits} bits"
    if result.coords["measure"] not in result.metrics:
        yield f"the result lacks {result.coords['measure']}, the data set's own measure"
    try:
        measures = [parse(name) for name in (*result.metrics, *result.curves)]
    except ValueError as error:  # of a plug-in that is not installed here
        raise HashbenchError(str(error)) from error
    again = evaluate_histograms(stored, measures, ties=result.ties)  # type: ignore[arg-type]
    for part in ("metrics", "bounds", "curves", "counts"):
        now: Mapping[str, Any] = getattr(again, part)
        then: Mapping[str, Any] = getattr(result, part)
        yield from _differences(then, now)
        if part != "counts":
            yield from (f"{name} has {part} without a measure" for name in then if name not in now)


def _prefix(run: _Run) -> Iterator[str]:
    """Compare the codes with the first bits of the codes of the training that they come from."""
    try:
        training = run.directory.training(run.result)
    except HashbenchError:
        raise FileNotFoundError("the training's run is not there") from None
    stored, whole = run.own_codes, _arrays(training, "codes")
    for part in ("query", "database"):
        if not np.array_equal(stored[part], first_bits(whole[part], run.bits)):
            yield f"the codes of the {part} are not the first bits of those in {training.path}"


def _tuning(result: Result, directory: RunDirectory) -> Iterator[str]:
    """Compare what a result states of the study behind its settings with the study, and that with its trials' runs."""
    stated = result.provenance["tuned"]
    folder = Path(os.path.normpath(directory.path / stated["path"]))
    if not is_file(folder / STUDY):
        raise FileNotFoundError(f"there is no study in {folder}")
    study = _read(folder / STUDY, lambda: Study.read(folder)).first(stated["trials"])
    yield from (f"{name} is {_short(stated.get(name))} in the result and {_short(value)} in {folder}"
                for name, value in study.cost().items() if not same_values(stated.get(name), value))  # fmt: skip
    if study.data != result.coords["tuned"].get("data", f"{result.coords['dataset']}@{result.coords['protocol']}"):
        yield f"the settings are of {study.data}, which the result does not say"
    if study.best is None or study.best.settings != result.coords["tuned"]["settings"]:
        yield f"the settings are not the best of {folder}"
    runs, problems = find_runs([study.runs_dir]) if is_folder(study.runs_dir) else ([], [])
    yield from problems
    by_id = {run.id: run for run in runs}
    for number, trial in enumerate(study.trials):
        found = [by_id[id] for id in trial.runs if id in by_id]
        if len(found) < len(trial.runs):
            raise FileNotFoundError(f"the runs of trial {number} are not in {study.runs_dir}")
        again = Trial.of(trial.settings, found) if found else trial
        if not (same_values(again.value, trial.value) and same_values(again.seconds, trial.seconds)):
            yield f"trial {number} is not what its runs in {study.runs_dir} give"
        yield from (f"trial {number} was measured on {run.part} queries" for run in found if run.part != "validation")


def _distances(run: _Run) -> Iterator[str]:
    """Compare the distances alone, which need no labels."""
    stored, again = run.stored, run.distances
    if stored.excluded is None:
        if not np.array_equal(again, stored.n):
            yield _rows_apart(again, stored.n, "distances")
    elif again.shape != stored.n.shape or (again < stored.n).any():
        yield "the histograms count more items than there are"
    elif not np.array_equal(again.sum(axis=1), stored.ranked + stored.excluded):
        yield "the items ranked and left out are not those of the database"


def _statistics(run: _Run) -> Iterator[str]:
    yield from _differences(run.result.code_stats, code_statistics(run.codes["database"], run.stored))


def _changes(run: _Run) -> Iterator[str]:
    """Compare how many codes and bits a condition changed."""
    codes, before = run.own_codes, _arrays(run.directory.run, "codes")["query"]
    split = str(run.result.provenance.get("split_sha256"))
    before = before[places_of(run.identity["condition"], split, len(before))]
    flipped = np.unpackbits(codes["query"] ^ before, axis=1).sum(axis=1)
    now = {"changed_codes": float((flipped > 0).mean()), "flipped_bits": float(flipped.mean())}
    if "relevant_items" in run.result.diagnostics:
        now["relevant_items"] = float(run.stored.r.sum(axis=1).mean())
    yield from _differences(run.result.diagnostics, now)


def _relevance(run: _Run) -> Iterator[str]:
    stored, (labels, again) = run.stored, run.labelled
    if again.arrays().keys() != stored.arrays().keys():
        yield f"the histograms hold {', '.join(stored.arrays())}, and {', '.join(again.arrays())} computed anew"
        return
    if not np.array_equal(again.n, stored.n):
        yield _rows_apart(again.n, stored.n, "items that are ranked")
    if not np.array_equal(again.r, stored.r):
        yield _rows_apart(again.r, stored.r, "relevant items")
    if again.gains is not None and stored.gains is not None and not np.array_equal(again.gains, stored.gains):
        yield "the counts by gain differ"
    now = class_separation(run.codes["database"], labels[1], run.bits)
    code_stats = run.result.code_stats
    yield from _differences(code_stats, {name: value for name, value in now.items() if name in code_stats})


def _identity_in(directory: RunDirectory) -> dict[str, Any]:
    identity: dict[str, Any] = _read(directory.spec, directory.read_spec)["identity"]
    return identity


def _arrays(directory: RunDirectory, name: str) -> dict[str, np.ndarray]:
    return _read(directory.path / f"{name}.npz", lambda: directory.read_arrays(name, as_stated=False))


def _read(path: Path, reading: Callable[[], Content]) -> Content:
    """Return what `reading` gives; raises FileNotFoundError without the file, _Damaged where it cannot be read."""
    if not path.exists() and not is_file(path):
        raise FileNotFoundError(f"there is no {path.name}")
    try:
        return reading()
    except HashbenchError as error:
        raise _Damaged(error) from error


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name, value in now.items():
        if not same_values(then.get(name), value):
            yield f"{name} is {_short(then.get(name))} in the result and {_short(value)} computed anew"


def _rows_apart(again: np.ndarray, stored: np.ndarray, what: str) -> str:
    if again.shape != stored.shape:
        return f"the {what} have the shape {stored.shape} in the histograms and {again.shape} computed anew"
    return f"the {what} of {int((again != stored).any(axis=1).sum())} of {len(stored)} queries differ"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else f"{value!r:.60}"
