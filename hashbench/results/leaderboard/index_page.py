"""The index of the leaderboard: the rankings as tables with filters, a diagram of mean ranks, and what was refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hashbench.results.leaderboard.entries import FIDELITIES, SEEDS, Refusal
from hashbench.results.leaderboard.ranking import LeaderboardRow, Ranking
from hashbench.results.leaderboard.row_page import family_of, page_of
from hashbench.results.leaderboard.tracks import TRACKS
from hashbench.results.pages import page
from hashbench.results.tables.rows import NOT_PUBLISHED

LEFT, PLOT = 200, 460  # pixels of the diagram: its labels, its marks


def index_page(rankings: Sequence[Ranking], refused: Sequence[Refusal], *, title: str) -> str:
    """Return the page of some rankings and refusals; its links lead to `page_of` each row."""
    rows = [row for ranking in rankings for row in ranking.rows]
    settings = {setting for row in rows for setting in row.entries}
    choices = {
        "track": [track for track in TRACKS if any(ranking.track == track for ranking in rankings)],
        "dataset": sorted({setting.dataset for setting in settings}),
        "bits": [str(bits) for bits in sorted({setting.bits for setting in settings})],
        "trained": sorted({ranking.trained for ranking in rankings}),
        "family": sorted({family_of(row) for row in rows}),
        "fidelity": sorted({row.first.fidelity for row in rows}),
        "labels": sorted({row.first.labels for row in rows}),
    }
    return page(
        "leaderboard.html",
        styles=("page.css", "leaderboard.css"),
        scripts=("sortable.js", "filters.js"),
        title=title,
        rankings=rankings,
        refused=refused,
        tracks=TRACKS,
        choices=choices,
        meanings=FIDELITIES,
        seeds=SEEDS,
        runs=sum(len(row.runs) for row in rows),
        newest=max((str(run.provenance.get("started") or "") for row in rows for run in row.runs), default=""),
        page_of=page_of,
        family=family_of,
        mark=_mark,
        diagram=_diagram,
    )


def _mark(row: LeaderboardRow) -> str:
    marks = [NOT_PUBLISHED] if row.first.fidelity != "published" else []
    return "".join([*marks, *(["†"] if not row.official else [])])


def _diagram(ranking: Ranking) -> dict[str, Any]:
    """Return the marks of the diagram of mean ranks: ticks by x, and each row with the x of its rank and interval.

    Two intervals overlap where the ranks are no further apart than the critical difference.
    """
    ranks = [row.mean_rank or 0.0 for row in ranking.ranked]
    half = (ranking.test.difference or 0.0) / 2
    low, high = min(1.0, ranks[0] - half), max(float(len(ranks)), ranks[-1] + half)

    def x(rank: float) -> float:
        return round(LEFT + PLOT * (rank - low) / (high - low), 1)

    points = [(row, x(rank), x(rank - half), x(rank + half)) for row, rank in zip(ranking.ranked, ranks, strict=True)]
    ticks = [(tick, x(tick)) for tick in range(1, len(ranks) + 1, 1 if len(ranks) <= 12 else 5)]
    return {"points": points, "ticks": ticks, "width": LEFT + PLOT + 20, "height": 22 * len(ranks) + 34}
