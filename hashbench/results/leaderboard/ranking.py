"""Ranks: the rows of one track that may be compared, by their mean rank over data sets and code lengths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hashbench.errors import few
from hashbench.results.leaderboard.critical_difference import RankTest, mean_ranks, rank_test
from hashbench.results.leaderboard.entries import Entry, Refusal, Setting, refusal
from hashbench.results.leaderboard.tracks import TRACKS
from hashbench.results.result import Result
from hashbench.results.tables.blocks import Block
from hashbench.storage.strict_json import canonical

NOT_RANKED = {
    "reconstructed": "its equations are partly our own reconstruction",
    "unstated": "its plug-in does not state where its equations come from",
}
# What all rows of a ranking share, beside the track: one backbone trained in one way.
_COORDS = ("backbone", "backbone_is", "recipe", "inputs", "engine")


@dataclass(frozen=True)
class LeaderboardRow:
    """A method with its fields in one ranking, and its place there."""

    label: str
    entries: Mapping[Setting, Entry]
    mean_rank: float | None = None  # None of a row that is not ranked
    place: int | None = None  # equal mean ranks share one
    not_ranked: str = ""  # why

    @property
    def runs(self) -> list[Result]:
        """All runs, by setting and seed."""
        return [run for setting in sorted(self.entries) for run in self.entries[setting].runs]

    @property
    def first(self) -> Entry:
        """An entry that stands for what all entries of a row share."""
        return self.entries[min(self.entries)]

    @property
    def official(self) -> bool:
        """Whether the data were the official files everywhere."""
        return all(entry.official for entry in self.entries.values())


@dataclass(frozen=True)
class Ranking:
    """Rows of one track that share backbone and recipe, ranked over the settings that count."""

    track: str
    shared: Mapping[str, Any]  # what the rows share: backbone, recipe, epochs, inputs, labels, ...
    settings: tuple[Setting, ...]  # over which ranks are taken
    further: tuple[Setting, ...]  # in which fewer than half of the rows stand
    rows: tuple[LeaderboardRow, ...]  # the ranked ones by place, then the others
    test: RankTest

    @property
    def ranked(self) -> list[LeaderboardRow]:
        """The ranked rows by place."""
        return [row for row in self.rows if row.place is not None]

    @property
    def trained(self) -> str:
        """Backbone, recipe and inputs, in words."""
        shared = self.shared
        words = [f"{shared['backbone'] or 'no backbone'}, {shared['recipe']}"]
        words += [f"{shared['backbone_is']}"] if shared["backbone_is"] else []
        words += [f"{shared['epochs']['of']} epochs"] if shared["epochs"] else ["no epochs"]
        return ", ".join([*words, f"from {shared['inputs']}"])


def rankings(found: Sequence[Entry], *, reconstructed: bool = False) -> tuple[list[Ranking], list[Refusal]]:
    """Return the rankings of entries in the order of TRACKS, and the refusals of entries that have no single place.

    Rows whose method is reconstructed are ranked only where `reconstructed` is set.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in found:
        groups.setdefault(canonical(_shared(entry)), []).append(entry)
    ranked, refused = [], list[Refusal]()
    for members in groups.values():
        for epochs in _epochs(members):
            of = [entry for entry in members if _epoch(entry) in (epochs, None)]
            ranked.append(_ranking(of, _shared(of[0]) | {"epochs": epochs}, refused, reconstructed=reconstructed))
    ranked = [ranking for ranking in ranked if ranking.rows]
    return sorted(ranked, key=lambda each: ([*TRACKS].index(each.track), -len(each.rows), each.trained)), refused


def _shared(entry: Entry) -> dict[str, Any]:
    run = entry.runs[0]
    shared = {key: run.coords.get(key) for key in _COORDS}
    return {"track": entry.track, **shared, "labels": entry.labels, "weights": run.provenance.get("weights_sha256")}


def _epoch(entry: Entry) -> Mapping[str, Any] | None:
    epoch = entry.runs[0].epoch
    return dict(epoch) if epoch["of"] else None


def _epochs(members: Iterable[Entry]) -> list[Mapping[str, Any] | None]:
    """Return the different epochs of some entries; None, for methods that know no epochs, only where all are such."""
    found = {canonical(epoch): epoch for epoch in map(_epoch, members) if epoch is not None}
    return [*found.values()] or [None]


def _ranking(
    members: Sequence[Entry], shared: Mapping[str, Any], refused: list[Refusal], *, reconstructed: bool
) -> Ranking:
    entry_of = {id(run): entry for entry in members for run in entry.runs}
    rows = []
    for label, runs in Block({}, None, tuple(run for entry in members for run in entry.runs)).rows(short=False).items():
        own = list({id(entry): entry for entry in (entry_of[id(run)] for run in runs)}.values())
        by_setting: dict[Setting, list[Entry]] = {}
        for entry in own:
            by_setting.setdefault(entry.setting, []).append(entry)
        alone = {setting: several[0] for setting, several in by_setting.items() if len(several) == 1}
        reason = "there are runs of it that differ in something that no page names; give those of one kind"
        refused += [refusal(e.runs, [reason]) for several in by_setting.values() if len(several) > 1 for e in several]
        if alone:
            rows.append(LeaderboardRow(label, alone))
    rows = [replace(row, not_ranked=_fidelity_reason(row, reconstructed=reconstructed)) for row in rows]
    settings, further = _counting([row for row in rows if not row.not_ranked])
    rows = [replace(row, not_ranked=row.not_ranked or _missing(row, settings)) for row in rows]
    complete = [row for row in rows if not row.not_ranked]
    values = np.array([[row.entries[setting].mean for row in complete] for setting in settings])
    values = values.reshape(len(settings), len(complete))
    placed = _placed(complete, values)
    others = [row for row in rows if row.not_ranked]
    every = {setting for row in rows for setting in row.entries}
    return Ranking(
        str(shared["track"]),
        shared,
        settings,
        tuple(sorted({*further} | (every - {*settings}))),
        (*placed, *sorted(others, key=lambda row: row.label)),
        rank_test(values),
    )


def _fidelity_reason(row: LeaderboardRow, *, reconstructed: bool) -> str:
    stated = {entry.fidelity for entry in row.entries.values()} - ({"reconstructed"} if reconstructed else set())
    return "; ".join(NOT_RANKED[fidelity] for fidelity in sorted(stated & NOT_RANKED.keys()))


def _counting(rows: Sequence[LeaderboardRow]) -> tuple[tuple[Setting, ...], tuple[Setting, ...]]:
    """Return the settings in which at least half of the rows stand, and the other ones."""
    every = sorted({setting for row in rows for setting in row.entries})
    counts = {setting: sum(setting in row.entries for row in rows) for setting in every}
    return (
        tuple(setting for setting in every if 2 * counts[setting] >= len(rows)),
        tuple(setting for setting in every if 2 * counts[setting] < len(rows)),
    )


def _missing(row: LeaderboardRow, settings: Sequence[Setting]) -> str:
    absent = [str(setting) for setting in settings if setting not in row.entries]
    return f"not in: {few(absent, most=3)}" if absent else ""


def _placed(rows: Sequence[LeaderboardRow], values: np.ndarray) -> list[LeaderboardRow]:
    """Return the rows with mean ranks and places, by place; `values` are (settings, rows)."""
    if not rows:
        return []
    ranks = mean_ranks(values)
    placed = [
        replace(row, mean_rank=float(rank), place=1 + int((ranks < rank - 1e-9).sum()))
        for row, rank in zip(rows, ranks, strict=True)
    ]
    return sorted(placed, key=lambda row: (row.mean_rank, row.label))
