"""The pages of the leaderboard: an index, a page for each row, and the same as JSON; plain files for any web server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hashbench import __version__
from hashbench.errors import HashbenchError
from hashbench.results.leaderboard.entries import Check, Refusal, Setting, entries
from hashbench.results.leaderboard.index_page import index_page
from hashbench.results.leaderboard.ranking import LeaderboardRow, Ranking, rankings
from hashbench.results.leaderboard.row_page import ROWS, Paper, family_of, page_of, place_of, row_page
from hashbench.results.result import Result
from hashbench.storage.files import make_folder, read_note, reported, write_text
from hashbench.storage.strict_json import document, loads

INDEX, DATA = "index.html", "leaderboard.json"
SCHEMA = 1  # of DATA


@dataclass(frozen=True)
class Leaderboard:
    """Rankings of results by track, and the runs that break a rule of entry."""

    rankings: tuple[Ranking, ...]
    refused: tuple[Refusal, ...]
    reconstructed: bool = False  # whether reconstructed methods are ranked

    @classmethod
    def of(cls, results: Iterable[Result], *, check: Check, reconstructed: bool = False) -> Leaderboard:
        """Return the leaderboard of finished runs; `check` gives what contradicts a run's stored files."""
        found, refused = entries(results, check)
        ranked, more = rankings(found, reconstructed=reconstructed)
        refused = sorted({*refused, *more}, key=lambda each: (each.label, each.where, each.seeds))
        return cls(tuple(ranked), tuple(refused), reconstructed)

    def pages(self, *, title: str, paper: Paper = lambda method: "") -> dict[str, str]:
        """Return the text of each file of the site by its path in it, the index last."""
        files = {
            page_of(ranking, row): row_page(ranking, row, title=title, paper=paper)
            for ranking in self.rankings
            for row in ranking.rows
        }
        files[DATA] = document(self.to_dict())
        files[INDEX] = index_page(self.rankings, self.refused, title=title)
        return files

    def to_dict(self) -> dict[str, Any]:
        """Return rankings and refusals as plain data, as the site's leaderboard.json holds them."""
        return {
            "schema": SCHEMA,
            "hashbench": __version__,
            "rankings": [_ranking_data(ranking) for ranking in self.rankings],
            "refused": [
                {"label": r.label, "where": r.where, "seeds": list(r.seeds), "reasons": list(r.reasons)}
                for r in self.refused
            ],
        }


def write_site(pages: Mapping[str, str], folder: Path) -> int:
    """Write the files of a site to `folder`, and remove the pages of rows that it has no longer; returns their bytes.

    Raises HashbenchError where the folder holds anything but a leaderboard.
    """
    former = _pages_of(folder)
    make_folder(folder / ROWS)
    write_text(folder / DATA, pages[DATA])  # first: after an interruption the folder is known as a leaderboard's
    for name, text in pages.items():
        write_text(folder / name, text)
    for name in former - pages.keys():
        with reported(folder / name):
            (folder / name).unlink(missing_ok=True)
    return sum(len(text.encode()) for text in pages.values())


def _pages_of(folder: Path) -> set[str]:
    """Return the pages of rows that the leaderboard in a folder names; raises HashbenchError for anything else there.

    No file that it does not name is ours to remove.
    """
    with reported(folder):
        if not folder.is_dir() or not any(folder.iterdir()):
            return set()
    try:
        data = loads(read_note(folder / DATA))
        named = {str(row["page"]) for ranking in data["rankings"] for row in ranking["rows"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise HashbenchError(
            f"{folder} holds files that are no leaderboard; name a new or empty folder with -o."
        ) from None
    return {name for name in named if PurePosixPath(name).parts[:-1] == (ROWS,) and name.endswith(".html")}


def _ranking_data(ranking: Ranking) -> dict[str, Any]:
    return {
        **ranking.shared,
        "settings": [_setting_data(setting) for setting in ranking.settings],
        "further_settings": [_setting_data(setting) for setting in ranking.further],
        "test": {
            "friedman_chi_square": ranking.test.statistic,
            "p": ranking.test.p,
            "nemenyi_critical_difference": ranking.test.difference,
            "says": str(ranking.test),
        },
        "rows": [_row_data(ranking, row) for row in ranking.rows],
    }


def _setting_data(setting: Setting) -> dict[str, Any]:
    return {
        "dataset": setting.dataset,
        "bits": setting.bits,
        "condition": setting.condition,
        "measure": setting.measure,
        "data_integrity": setting.integrity,
    }


def _row_data(ranking: Ranking, row: LeaderboardRow) -> dict[str, Any]:
    return {
        "label": row.label,
        "place": row.place,
        "mean_rank": row.mean_rank,
        "not_ranked": row.not_ranked,
        "fidelity": row.first.fidelity,
        "family": family_of(row),
        "official_data": row.official,
        "page": page_of(ranking, row),
        "entries": [
            {
                **_setting_data(setting),
                "mean": entry.mean,
                "std": entry.std,
                "runs": [
                    {"seed": run.coords["seed"], "value": value, "id": run.id, "run": place_of(run)}
                    for run, value in zip(entry.runs, entry.values, strict=True)
                ],
            }
            for setting, entry in sorted(row.entries.items())
        ],
    }
