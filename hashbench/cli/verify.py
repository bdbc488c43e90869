"""`hashbench verify`: the numbers of finished runs, computed again from what is stored."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hashbench.cli.base import command
from hashbench.cli.options import data_options
from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    from hashbench.datasets.base import Dataset
    from hashbench.evaluation.verification import Labels, VerifiedRun
    from hashbench.experiments.reevaluation import Evaluator
    from hashbench.experiments.relevance import Relevance
    from hashbench.experiments.tracks import TrackData
    from hashbench.metrics.pairs import Pairs
    from hashbench.results.result import Result
    from hashbench.results.sweeps.planned import Planned

QUERIES = 100  # that --model encodes again
SHOWN = 3  # runs that a line about several names
ENOUGH = 100  # runs for each process, which takes a second or two to begin

_check_here: Callable[[Result], VerifiedRun]  # in a worker process


@command(
    "hashbench verify",
    "hashbench verify runs/cifar10@54k --data-dir data",
    "hashbench verify runs --strict --model 500 --rerun 2",
)
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Exit code 1 also for stale runs, unofficial data and incomplete sweeps.")
@click.option("--model", "queries", is_flag=False, flag_value=str(QUERIES), metavar="[N]",
              help=f"Encode N queries ({QUERIES}) of each run again by its model, and compare codes.")  # fmt: skip
@click.option("--rerun", type=click.IntRange(min=1), metavar="N",
              help="Compute N runs anew, sampled by a hash of their ids, and compare the measures.")  # fmt: skip
@click.option("--manifest", type=click.Path(path_type=Path), metavar="FILE",
              help="Compare the files with those that `hashbench freeze` wrote down, too.")  # fmt: skip
@click.option("--dataset", "datasets", multiple=True, metavar="NAME",
              help="Own data of RUNS, as they were named then: arrays:path/file.npz.")  # fmt: skip
@click.option("--method", metavar="TARGET", help="The class behind RUNS, where it came from a module or file.")
@click.option("--backbone", metavar="TARGET", help="The backbone of RUNS, where it came from a module or file.")
@click.option(
    "--device", default="auto", metavar="DEVICE", help="Of what is computed by a network: auto, cpu, cuda or cuda:N."
)
@data_options
def verify(
    runs: tuple[Path, ...],
    strict: bool,
    queries: str | None,
    rerun: int | None,
    manifest: Path | None,
    datasets: tuple[str, ...],
    method: str | None,
    backbone: str | None,
    device: str,
    data_dir: Path | None,
    accept_unofficial: bool,
) -> None:
    """Compute the numbers of the finished runs in RUNS (default: runs) again from what is stored, and compare.

    Measures from histograms; histograms from codes, and from the labels where the data set is there; identities from
    specs. Lists differences and what could not be checked. Exit code 0: all is as stored; 1: something differs; 3:
    something could not be checked.
    """
    from tqdm.auto import tqdm

    from hashbench.results.finding import find_runs
    from hashbench.results.freezing import compare_manifest
    from hashbench.results.sweeps.planned import planned_runs

    if queries is not None and not queries.isdecimal():  # `--model runs`: the number was left out
        runs, queries = (Path(queries), *runs), str(QUERIES)
    if queries is not None and len(queries) > 18:
        raise HashbenchError("--model names more queries than any run has; give fewer.")
    if queries is not None and not int(queries):
        raise HashbenchError("--model 0 encodes no query; give 1 or more.")
    roots = runs or (Path("runs"),)
    results, problems = find_runs(roots)
    if not results and not problems:
        raise HashbenchError(f"There is no finished run below {', '.join(map(str, roots))} to verify.")
    compared = compare_manifest(manifest, results) if manifest is not None else None
    data = _Data(datasets, data_dir, accept_unofficial, device)
    _register(method, backbone)
    verdicts = []
    with tqdm(total=len(results), unit="run", disable=not sys.stderr.isatty(), leave=False) as bar:
        for verdict in _verdicts(results, data, method, backbone):
            verdicts.append(verdict)
            bar.update()
    repeated: set[str] = set()
    if queries is not None or rerun is not None:
        from hashbench.experiments import repetition

        evaluators = _Evaluators(data, device)
        repeated = {result.id for result in repetition.sampled(results, rerun or 0)}
        for place, result in enumerate(tqdm(results, unit="run", disable=not sys.stderr.isatty(), leave=False)):
            evaluator = evaluators.of(result)
            if queries is not None:
                encode = partial(repetition.check_model, result, evaluator, int(queries))
                verdicts[place] = verdicts[place].after("codes from model.pt", encode)
            if result.id in repeated:
                verdicts[place] = verdicts[place].after("run again", partial(repetition.check_rerun, result, evaluator))
    unknown = list[str]()
    missing = [run for run in planned_runs(roots, unknown) if not run.finished]
    for line in (*_lines(verdicts, problems, missing), *(f"not checked: {note}" for note in unknown)):
        click.echo(line)
    if repeated:
        ids = ", ".join(sorted(id[:8] for id in repeated))
        click.echo(f"Run again, as the sha256 of their ids says: {ids}.")
    if compared is not None:
        for line in (*compared.differences, *_unlisted(compared.unlisted)):
            click.echo(line)
        same = compared.files - len(compared.differences)
        click.echo(f"{manifest}: {same:,} of {compared.files:,} files as frozen. Its sha256: {compared.sha256}")
    click.echo(_summary(verdicts, len(problems), model=queries is not None))
    incomplete = bool(missing or unknown)
    differing = compared is not None and bool(compared.differences)
    unfrozen = compared is not None and bool(compared.unlisted)
    weak = incomplete or unfrozen or any(verdict.stale or verdict.unofficial for verdict in verdicts)
    if problems or differing or any(verdict.differences for verdict in verdicts) or (strict and weak):
        sys.exit(1)
    if incomplete or not all(verdict.sound for verdict in verdicts):
        sys.exit(3)


def _verdicts(
    results: Sequence[Result], data: _Data, method: str | None, backbone: str | None
) -> Iterator[VerifiedRun]:
    """Yield the verdicts in the order of `results`, of many by as many processes as there are cores."""
    from hashbench.metrics.histograms import cores
    from hashbench.metrics.workers import WorkerDied, worker_processes

    workers = min(cores(), len(results) // ENOUGH)
    if workers < 2:
        yield from map(_checker(data), results)
        return
    begin = partial(_begin, data, method, backbone)
    try:
        with worker_processes(workers, begin=begin, likely="memory ran out; verify fewer runs at a time") as pool:
            yield from pool.map(_check, results, chunksize=10)
    except WorkerDied as error:
        raise HashbenchError(str(error)) from error


def _checker(data: _Data, threads: int | None = None) -> Callable[[Result], VerifiedRun]:
    """Return what verifies runs on `data`, by `threads` each (None: one a core)."""
    from hashbench.evaluation import verification

    return partial(verification.verify, relevance=data.relevance, sources=verification.Sources(), threads=threads)


def _begin(data: _Data, method: str | None, backbone: str | None) -> None:
    """Prepare a worker process: what it reads once serves all its runs."""
    global _check_here
    _register(method, backbone)
    _check_here = _checker(data, threads=1)


def _check(result: Result) -> VerifiedRun:
    return _check_here(result)


def _lines(verdicts: Sequence[VerifiedRun], problems: Sequence[str], missing: Sequence[Planned]) -> Iterator[str]:
    """Yield what differs, what could not be checked, and what --strict does not accept, a line each."""
    from hashbench.results.sweeps.estimates import plural

    unchecked: dict[tuple[str, str], list[Path]] = {}
    unofficial = [verdict.path for verdict in verdicts if verdict.unofficial]
    for verdict in verdicts:
        yield from (f"{verdict.path}: {difference}" for difference in verdict.differences)
        stale = [("source", f"the {owner}'s source has changed since the run") for owner in verdict.stale]
        for found in (*verdict.unchecked, *stale):
            unchecked.setdefault(found, []).append(verdict.path)
    yield from problems
    total = f"{len(verdicts)} {plural('run', len(verdicts))}"
    for (name, reason), paths in unchecked.items():
        where = f" ({_some(map(str, paths))})" if len(paths) < len(verdicts) else ""
        yield f"not checked in {len(paths)} of {total}: {name}: {reason}{where}"
    if missing:
        planned = f"{len(missing)} planned {plural('run', len(missing))}"
        places = _some(run.place for run in missing)
        yield f"missing: {planned} without a result ({places}); run the sweep again, or delete its note in .sweeps"
    if unofficial:
        yield f"data that are not the official files: in {len(unofficial)} of {total}"


def _unlisted(runs: Sequence[Path]) -> Iterator[str]:
    """Yield that the manifest lacks some runs, where it does."""
    from hashbench.results.sweeps.estimates import plural

    if runs:
        yield f"not in the manifest: {len(runs)} {plural('run', len(runs))} ({_some(map(str, runs))})"


def _some(names: Iterable[str]) -> str:
    found = [*names]
    more = len(found) - SHOWN
    return ", ".join(found[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _summary(verdicts: Sequence[VerifiedRun], damaged: int, *, model: bool) -> str:
    from hashbench.results.sweeps.estimates import plural

    total = len(verdicts) + damaged
    sound = sum(verdict.sound for verdict in verdicts)
    differing = sum(bool(verdict.differences) for verdict in verdicts) + damaged
    parts = [f"{sound} as stored", f"{differing} with differences"]
    if unknown := total - sound - differing:
        parts.append(f"{unknown} not wholly checked")
    left = "" if model else " Not checked in any: that model.pt gives these codes (--model)."
    return f"{total} {plural('run', total)}: {', '.join(parts)}.{left}"


def _register(method: str | None, backbone: str | None) -> None:
    """Make a method and a backbone that came from a module or file known by their names; their code is run."""
    if method is not None:
        from hashbench.interop.targets import resolve_method

        resolve_method(method)
    if backbone is not None:
        from hashbench.networks.chosen import resolve_backbone

        resolve_backbone(backbone)


class _Data:
    """The data sets of runs, as they can be read here: each is read once."""

    def __init__(self, spellings: Sequence[str], data_dir: Path | None, accept_unofficial: bool, device: str):
        """Raise HashbenchError where one of the `spellings` names nothing."""
        for given in spellings:
            self._full_name(given, data_dir)
        self.data_dir, self.accept_unofficial, self._device = data_dir, accept_unofficial, device
        self._spellings = spellings
        self._names: dict[str, str] = {}
        self._found: dict[tuple[str, str, str], Dataset | TrackData | HashbenchError] = {}
        self._relevance: dict[tuple[Any, ...], Relevance] = {}  # by what it follows from

    def name_of(self, result: Result) -> str:
        """Return the name that --dataset gives for a run's data, else the run's own name for them."""
        from hashbench.datasets.catalogue import OTHER_KINDS, OWN_KINDS, own_name

        name, protocol = f"{result.coords['dataset']}@{result.coords['protocol']}", result.coords["protocol"]
        if name not in self._names:
            self._names[name] = name
            for given in self._spellings:
                own = given.startswith((*OWN_KINDS, *OTHER_KINDS)) and not own_name(given)[1]
                for spelled in (f"{given}@{protocol}", given) if own else (given,):
                    with suppress(HashbenchError):  # other data may lack this protocol
                        if self._full_name(spelled, self.data_dir) == name:
                            self._names[name] = spelled
        return self._names[name]

    def relevance(self, result: Result) -> tuple[Labels, Pairs]:
        """Return labels (n, C) of the run's queries and database, and pairs; raises HashbenchError without the data."""
        key = (self.name_of(result), result.part, str(result.provenance.get("data_integrity")))
        if key not in self._found:
            self._found[key] = self._read(*key)
        data = self._found[key]
        from hashbench.datasets.base import Dataset

        if isinstance(data, HashbenchError):
            raise data
        then = [result.provenance.get(name) for name in ("split_sha256", "data_integrity")]
        now = (
            [data.split.sha256, data.store.integrity]
            if isinstance(data, Dataset)
            else [data.split_sha256, data.integrity]
        )
        if then != now:
            raise HashbenchError(f"{data.name} is here, but with other images or another split")
        if not isinstance(data, Dataset):
            return (None, None), data.pairs
        if result.condition:
            return self._under_condition(result, data)
        return data.labels, data.pairs

    def _under_condition(self, result: Result, data: Dataset) -> tuple[Labels, Pairs]:
        """Return labels and pairs by which a run under a condition counts; relevant items are computed anew."""
        from hashbench.evaluation.conditions.contract import as_identity, changes_relevance, from_identity, places_of
        from hashbench.results.runs import RunDirectory

        assert result.path is not None
        directory = RunDirectory(result.path)
        condition = from_identity(directory.read_spec()["identity"]["condition"])
        if not changes_relevance(type(condition)):
            if condition.queries is not None:
                places = places_of(as_identity(condition), data.split.sha256, len(data.split.query))
                data = data.of_queries(places)
            return data.labels, data.pairs
        from hashbench.experiments.experiment import Experiment
        from hashbench.experiments.planning import resolve_device
        from hashbench.experiments.relevance import features_key, fixed_features, relevance_under

        experiment = Experiment.from_identity(directory.run.read_spec()["identity"])
        key = (*features_key(experiment, data), condition)
        if key not in self._relevance:
            features = fixed_features(experiment, data, resolve_device(self._device), progress=sys.stderr.isatty())
            self._relevance[key] = relevance_under(condition, features, anew=True)
        found = self._relevance[key]
        if found.features_sha256 != result.provenance.get("features_sha256"):
            raise HashbenchError("the fixed features here are others than the result's, as another device rounds them")
        return (None, None), found.pairs

    @staticmethod
    def _full_name(given: str, data_dir: Path | None) -> str:
        """Return the name and protocol that a name means; raises HashbenchError where it means none."""
        from hashbench.datasets.catalogue import find_protocol, track_of
        from hashbench.experiments.tracks import track

        other = track_of(given)
        return (
            find_protocol(given, data_dir=data_dir).full_name
            if other is None
            else track(other).measures_of(given, data_dir)[0]
        )

    def _read(self, name: str, part: str, integrity: str) -> Dataset | TrackData | HashbenchError:
        from hashbench.datasets.catalogue import OWN_KINDS, load, track_of
        from hashbench.registry import DATASETS

        try:
            if (other := track_of(name)) is not None:
                from hashbench.experiments.planned import Settings
                from hashbench.experiments.tracks import track

                given = Settings(data_dir=self.data_dir, evaluate_on=part, accept_unofficial=self.accept_unofficial)
                return track(other).load(name, given)
            return load(
                name,
                data_dir=self.data_dir,
                evaluate_on=part,
                accept_unofficial=self.accept_unofficial,
                integrity=integrity,
            )
        except HashbenchError as error:
            own = name.startswith(OWN_KINDS) or name.partition("@")[0] not in DATASETS
            return HashbenchError(f"{error} Name own data with --dataset.") if own else error


class _Evaluators:
    """What encodes and trains again, one for each data set."""

    def __init__(self, data: _Data, device: str):
        self._data, self._device = data, device
        self._known: dict[str, Evaluator] = {}

    def of(self, result: Result) -> Evaluator:
        """Return the evaluator that reads the data set of a run."""
        from hashbench.experiments.reevaluation import Evaluator

        name = self._data.name_of(result)
        if name not in self._known:
            self._known.clear()  # its memory goes before the next one comes
            self._known[name] = Evaluator(
                dataset=name,
                data_dir=self._data.data_dir,
                accept_unofficial=self._data.accept_unofficial,
                device=self._device,
            )
        return self._known[name]
