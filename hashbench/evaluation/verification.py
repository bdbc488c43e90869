"""verify: the numbers of a finished run, computed again from its stored files and compared with the stored ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hashbench.errors import HashbenchError
from hashbench.evaluation.conditions.contract import as_text
from hashbench.metrics import Histograms, code_statistics, evaluate_histograms, first_bits, histograms
from hashbench.metrics.measures import parse
from hashbench.metrics.pairs import Pairs
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.storage.files import sha256
from hashbench.storage.strict_json import digest

_MEASURES = "measures from histograms"
TOLERANCE = 1e-9  # the same sums in another order differ by less
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

    @property
    def measured(self) -> bool:
        """Whether the measures were computed again, and not the identity compared alone."""
        return _MEASURES in self.checked


def verify(result: Result, relevance: Relevance) -> VerifiedRun:
    """Return the verification of a finished run; `labels` gives those of its queries and database, where readable."""
    assert result.path is not None
    directory = RunDirectory(result.path)
    checks: dict[str, Callable[[], Iterator[str]]] = {
        "identity": lambda: (_identity_under if result.condition else _identity)(result, directory),
        "files": lambda: _files(result, directory),
        _MEASURES: lambda: _measures(result, directory),
        **(
            {"codes from the training's": lambda: _prefix(result, directory)}
            if "prefix_of" in result.provenance
            else {}
        ),
        "histograms from codes": lambda: _distances(result, directory),
        "statistics from codes": lambda: _statistics(result, directory),
        "histograms from codes and labels": lambda: _relevance(result, directory, relevance),
    }
    checked, differences, unchecked = [], [], []
    for name, check in checks.items():
        try:
            differences += [f"{name}: {difference}" for difference in check()]
            checked.append(name)
        except (FileNotFoundError, HashbenchError) as error:
            unchecked.append((name, str(error)))
        except _Damaged as error:
            differences.append(str(error))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            differences.append(f"{name}: what is stored does not fit together ({type(error).__name__}: {error})")
    return VerifiedRun(result.path, tuple(checked), tuple(dict.fromkeys(differences)), tuple(unchecked))


class _Damaged(Exception):
    """A file of the run that is there and cannot be read: a difference, whatever was to be checked with it."""


def _identity(result: Result, directory: RunDirectory) -> Iterator[str]:
    identity, coords = _read(directory.spec, directory.read_spec)["identity"], result.coords
    if digest(identity) != result.id:
        yield f"spec.json has the id {digest(identity)[:8]}, the result {result.id[:8]}"
    if digest({name: value for name, value in identity.items() if name != "seed"}) != coords["cell"]:
        yield "the result's cell is not that of spec.json"
    named = {
        "method": identity["method"]["name"],
        "method_version": identity["method"]["version"],
        "dataset": identity["data"]["dataset"],
        "protocol": identity["data"]["protocol"],
        "evaluated": identity["data"]["evaluated"],
        **{name: identity[name] for name in ("bits", "seed", "inputs")},
    }
    for name, value in named.items():
        if coords[name] != value:
            yield f"{name} is {coords[name]!r} in the result and {value!r} in spec.json"
    expected = RunDirectory.at(
        "", dataset=f"{coords['dataset']}@{coords['protocol']}", method=coords["method"], bits=coords["bits"],
        seed=coords["seed"], id=result.id,
    ).path  # fmt: skip
    if directory.path.name != expected.name:
        yield f"the folder is called {directory.path.name} instead of {expected.name}"


def _identity_under(result: Result, directory: RunDirectory) -> Iterator[str]:
    """Compare the identity of a run measured again, and that it lies in this run."""
    identity, coords = _read(directory.spec, directory.read_spec)["identity"], result.coords
    run = _read(directory.run.result, directory.run.read_result)
    if digest(identity) != result.id:
        yield f"spec.json has the id {digest(identity)[:8]}, the result {result.id[:8]}"
    if (identity["run"], identity["seed"]) != (run.id, run.coords["seed"]):
        yield f"it is of the run {identity['run'][:8]} with seed {identity['seed']}, and lies in {run.id[:8]}"
    cell = digest({"condition": identity["condition"], "run": run.coords["cell"]})
    expected = {**run.coords, "evaluated": f"{run.part}, {as_text(identity['condition'])}", "cell": cell}
    yield from (f"{name} is {coords.get(name)!r} instead of {value!r}" for name, value in expected.items()
                if coords.get(name) != value)  # fmt: skip
    name = directory.run.under(identity["condition"]["name"], result.id).path.name
    if directory.path.name != name:
        yield f"the folder is called {directory.path.name} instead of {name}"


def _files(result: Result, directory: RunDirectory) -> Iterator[str]:
    """Compare the sha256 of the files that are there with those that the result states."""
    stated = directory.stated_files()
    if not stated and (directory.model.exists() or directory.centers.exists()):  # what nothing else tells of
        raise HashbenchError("the result is from before it stated the sha256 of the run's files")
    for path in directory.kept:
        if path.is_file() and stated.get(path.name) not in (None, sha256(path)):
            yield f"{path.name} is not the file that the result was stored with"


def _measures(result: Result, directory: RunDirectory) -> Iterator[str]:
    stored = Histograms.from_arrays(_arrays(directory, "histograms"))
    if stored.bits != result.coords["bits"]:
        yield f"the histograms are of {stored.bits} bits"
    try:
        measures = [parse(name) for name in (*result.metrics, *result.curves)]
    except ValueError as error:  # of a plug-in that is not installed here
        raise HashbenchError(str(error)) from error
    again = evaluate_histograms(stored, measures, ties=result.ties)  # type: ignore[arg-type]
    for part in ("metrics", "bounds", "curves", "counts"):
        now: Mapping[str, Any] = getattr(again, part)
        then: Mapping[str, Any] = getattr(result, part)
        yield from _differences(then, {name: now[name] for name in now if name in then})


def _prefix(result: Result, directory: RunDirectory) -> Iterator[str]:
    """Compare the codes with the first bits of the codes of the training that they come from."""
    try:
        training = directory.training(result)
    except HashbenchError:
        raise FileNotFoundError("the training's run is not there") from None
    stored, whole = _arrays(directory, "codes"), _arrays(training, "codes")
    for part in ("query", "database"):
        if not np.array_equal(stored[part], first_bits(whole[part], result.coords["bits"])):
            yield f"the codes of the {part} are not the first bits of those in {training.path}"


def _distances(result: Result, directory: RunDirectory) -> Iterator[str]:
    """Compare the distances alone, which need no labels."""
    stored, codes = Histograms.from_arrays(_arrays(directory, "histograms")), _codes(directory)
    nothing = [np.zeros(len(codes[part]), dtype=np.int64) for part in ("query", "database")]
    again = histograms(codes["query"], codes["database"], *nothing, bits=result.coords["bits"])
    if stored.excluded is None:
        if not np.array_equal(again.n, stored.n):
            yield _rows_apart(again.n, stored.n, "distances")
    elif again.n.shape != stored.n.shape or (again.n < stored.n).any():
        yield "the histograms count more items than there are"
    elif not np.array_equal(again.ranked, stored.ranked + stored.excluded):
        yield "the items ranked and left out are not those of the database"


def _statistics(result: Result, directory: RunDirectory) -> Iterator[str]:
    stored, codes = Histograms.from_arrays(_arrays(directory, "histograms")), _codes(directory)
    yield from _differences(result.code_stats, code_statistics(codes["database"], stored))


def _relevance(result: Result, directory: RunDirectory, relevance: Relevance) -> Iterator[str]:
    stored, codes = Histograms.from_arrays(_arrays(directory, "histograms")), _codes(directory)
    labels, pairs = relevance(result)
    again = histograms(
        codes["query"],
        codes["database"],
        *labels,
        bits=result.coords["bits"],
        pairs=pairs,
        gains=stored.gains is not None,
    )
    if again.arrays().keys() != stored.arrays().keys():
        yield f"the histograms hold {', '.join(stored.arrays())}, and {', '.join(again.arrays())} computed anew"
        return
    if not np.array_equal(again.n, stored.n):
        yield _rows_apart(again.n, stored.n, "items that are ranked")
    if not np.array_equal(again.r, stored.r):
        yield _rows_apart(again.r, stored.r, "relevant items")
    if again.gains is not None and stored.gains is not None and not np.array_equal(again.gains, stored.gains):
        yield "the counts by gain differ"


def _codes(directory: RunDirectory) -> dict[str, np.ndarray]:
    own = _arrays(directory, "codes")
    return own if directory.run is directory else _arrays(directory.run, "codes") | own


def _arrays(directory: RunDirectory, name: str) -> dict[str, np.ndarray]:
    return _read(directory.path / f"{name}.npz", lambda: directory.read_arrays(name, as_stated=False))


def _read(path: Path, reading: Callable[[], Content]) -> Content:
    """Return what `reading` gives; raises FileNotFoundError without the file, _Damaged where it cannot be read."""
    if not path.exists():
        raise FileNotFoundError(f"there is no {path.name}")
    try:
        return reading()
    except HashbenchError as error:
        raise _Damaged(error) from error


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name, value in now.items():
        if not _same(then.get(name), value):
            yield f"{name} is {_short(then.get(name))} in the result and {_short(value)} computed anew"


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or (one != one and other != other)
    return bool(one == other) or (one is None and isinstance(other, float) and math.isnan(other))


def _rows_apart(again: np.ndarray, stored: np.ndarray, what: str) -> str:
    if again.shape != stored.shape:
        return f"the {what} have the shape {stored.shape} in the histograms and {again.shape} computed anew"
    return f"the {what} of {int((again != stored).any(axis=1).sum())} of {len(stored)} queries differ"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else f"{value!r:.60}"
