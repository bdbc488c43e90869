"""Entries: the runs of one row at one data set and code length, by the rules that they must keep to be shown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hashbench.datasets.catalogue import OWN_KINDS, find_protocol
from hashbench.datasets.protocol import Protocol
from hashbench.errors import HashbenchError
from hashbench.results.leaderboard.tracks import labels_of, track_of
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.results.sweeps.estimates import plural
from hashbench.results.tables.blocks import row_label

SEEDS = 3  # the fewest of an entry
#: Where a method's equations come from.
FIDELITIES = {
    "published": "equations read in the paper or its authors' code",
    "sibling": "equations from other code of the same authors, or from code that contains the step",
    "account": "equations and settings from a third party's account of paper and code",
    "reconstructed": "from the abstract or digests; equations partly ours",
    "reference": "no paper's method",
    "unstated": "its plug-in does not state where its equations come from",
}

#: What contradicts a run's stored files, or why its measures could not be computed again from its histograms.
Check = Callable[[Result], Sequence[str]]


@dataclass(frozen=True, order=True)
class Setting:
    """Where rows are compared: data, code length, the condition of the queries, and the measure."""

    dataset: str  # name@protocol
    bits: int
    condition: str  # "" of the runs themselves
    measure: str
    integrity: str  # sha256 of images and labels

    def __str__(self) -> str:
        return f"{self.dataset} at {self.bits} bits" + (f" under {self.condition}" if self.condition else "")


@dataclass(frozen=True)
class Entry:
    """The runs of one row in one setting, a run for each seed."""

    runs: tuple[Result, ...]  # by seed
    track: str
    setting: Setting

    @property
    def values(self) -> tuple[float, ...]:
        """The measure of each run, in [0, 1]."""
        return tuple(float(run.metrics[self.setting.measure] or 0.0) for run in self.runs)

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float:
        """The sample standard deviation over seeds."""
        return statistics.stdev(self.values)

    @property
    def labels(self) -> str:
        """Whether labels were "used" or "withheld" in training."""
        return str(labels_of(self.runs[0]))

    @property
    def fidelity(self) -> str:
        """Where the method's equations come from, one of FIDELITIES."""
        return str(self.runs[0].provenance["fidelity"])

    def stated(self, name: str) -> list[str]:
        """Return what the runs state of `name` in their provenance, each value once."""
        return sorted({str(run.provenance[name]) for run in self.runs if run.provenance.get(name)})

    @property
    def official(self) -> bool:
        """Whether the data were the official files in all runs."""
        return all(run.provenance.get("data_official") is not False for run in self.runs)


@dataclass(frozen=True)
class Refusal:
    """Runs that are not shown, and each rule that they break."""

    label: str
    where: str  # data set, code length and condition
    reasons: tuple[str, ...]
    seeds: tuple[int, ...]


def entries(results: Iterable[Result], check: Check) -> tuple[list[Entry], list[Refusal]]:
    """Return the entries among `results`, and the refusals of all other ones."""
    cells: dict[str, list[Result]] = {}
    for result in results:
        cells.setdefault(result.coords["cell"], []).append(result)
    found, refused = [], []
    for members in cells.values():
        runs, reasons = _each_once(members)
        reasons += _broken_rules(runs, check)
        first = runs[0]
        protocol, data, track = None, None, ""
        try:
            protocol, data = _protocol(first), _data(first)
            track = track_of(first, data, protocol)
        except HashbenchError as error:
            reasons.append(str(error))
        if protocol is not None:
            reasons += _wrong_split(runs, protocol)
        if reasons:
            refused.append(refusal(runs, reasons))
        else:
            found.append(Entry(tuple(runs), track, _setting(first)))
    return found, refused


def refusal(runs: Sequence[Result], reasons: Iterable[str]) -> Refusal:
    """Return the refusal of `runs` of one row and setting, for these reasons."""
    seeds = tuple(run.coords["seed"] for run in runs)
    each_once = dict.fromkeys(reason.rstrip(".") for reason in reasons)
    return Refusal(row_label(runs[0]), str(_setting(runs[0])), tuple(each_once), seeds)


def _setting(run: Result) -> Setting:
    coords = run.coords
    data = f"{coords['dataset']}@{coords['protocol']}"
    integrity = str(run.provenance.get("data_integrity"))
    return Setting(data, coords["bits"], run.condition, coords["measure"], integrity)


def _each_once(runs: Sequence[Result]) -> tuple[list[Result], list[str]]:
    """Return the runs by seed without copies, and what contradicts that there is one for each seed."""
    by_id: dict[str, Result] = {}
    reasons = []
    for run in sorted(runs, key=lambda run: run.coords["seed"]):
        if not by_id.setdefault(run.id, run).agrees_with(run):
            reasons.append(f"there are two copies of seed {run.coords['seed']} with different numbers; delete one")
    return list(by_id.values()), reasons


def _broken_rules(runs: Sequence[Result], check: Check) -> Iterator[str]:
    """Yield a reason for each rule that the runs of one row and setting break."""
    seeds = {run.coords["seed"] for run in runs}
    if len(seeds) < SEEDS:
        yield f"it has {len(seeds)} {plural('seed', len(seeds))}, and an entry needs {SEEDS}"
    if any(run.ties != "expected" for run in runs):
        yield f"ties count as {', '.join(sorted({run.ties for run in runs}))}, and an entry needs them expected"
    if any(run.part != "test" for run in runs):
        yield f"it was measured on {runs[0].part} queries, and an entry needs the test queries"
    yield from _one("fidelity", "the fidelity of its method", runs, known=FIDELITIES)
    yield from _one("source_sha256", "the source of its method", runs)
    for run in runs:
        if run.metrics.get(run.coords["measure"]) is None:
            yield f"seed {run.coords['seed']} lacks {run.coords['measure']}, the data set's own measure"
        yield from (f"seed {run.coords['seed']}: {difference}" for difference in check(run))


def _one(key: str, what: str, runs: Sequence[Result], *, known: Collection[str] | None = None) -> Iterator[str]:
    """Yield why the provenance `key` is not stated, or not the same in all runs."""
    stated = {run.provenance.get(key) for run in runs}
    if not all(stated) or (known is not None and not stated <= {*known}):
        yield f"it does not state {what}"
    elif len(stated) > 1:
        yield f"its seeds differ in {what}"


def _protocol(run: Result) -> Protocol:
    name = f"{run.coords['dataset']}@{run.coords['protocol']}"
    if run.coords["inputs"] == "pairs":
        raise HashbenchError(f"no track takes users and items, as of {name}; `hashbench compare` shows them in tables")
    if name.startswith(OWN_KINDS):
        raise HashbenchError(f"{name} is data of somebody's own, without a canonical split")
    try:
        return find_protocol(name)
    except HashbenchError:
        raise HashbenchError(f"{name} is not known here, so neither is its canonical split") from None


def _wrong_split(runs: Sequence[Result], protocol: Protocol) -> Iterator[str]:
    if protocol.draw > 1:
        yield f"{protocol.full_name} is another draw of the split, not the canonical one"
    elif protocol.split_sha256 is None:
        yield f"the protocol {protocol.full_name} does not state its canonical split (split_sha256 in its TOML file)"
    elif any(run.provenance.get("split_sha256") != protocol.split_sha256 for run in runs):
        yield f"its split is not the canonical one of {protocol.full_name}"


def _data(run: Result) -> dict[str, Any]:
    """Return the data's part of a run's identity, that of the run itself where it was measured under a condition."""
    if run.path is None:
        raise HashbenchError("it has no run folder")
    data = RunDirectory(run.path).run.read_spec()["identity"].get("data")
    if not isinstance(data, dict) or not {"multi_label", "num_classes"} <= data.keys():
        raise HashbenchError("its spec.json does not describe its data")
    return data
