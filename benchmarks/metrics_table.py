"""Print the table of docs/metrics.md: one set of codes, every way to say what its mAP is.

python benchmarks/metrics_table.py
"""

from __future__ import annotations

import click
import numpy as np

from hashbench.metrics import Scores, evaluate
from hashbench.metrics.compatibility import MODES

BITS, CLASSES, QUERIES, ITEMS = 16, 10, 500, 10_000
MISPLACED = 0.12  # share of images that end up near another class's center, as a trained network's mistakes do
FLIPPED = 0.03  # share of bits that differ from the center's


def make_codes() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Query codes, database codes, query labels, database labels: like those of a well-trained 16-bit model."""
    random = np.random.default_rng(0)
    centers = random.random((CLASSES, BITS)) < 0.5

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = random.integers(0, CLASSES, count)
        seen_as = np.where(random.random(count) < MISPLACED, random.integers(0, CLASSES, count), labels)
        return centers[seen_as] ^ (random.random((count, BITS)) < FLIPPED), labels

    (query, query_labels), (database, database_labels) = draw(QUERIES), draw(ITEMS)
    # The last class is rare: fewer of its items than any usual k, so that the denominators part.
    kept = (database_labels < CLASSES - 1) | (random.random(ITEMS) < 0.2)
    return query, database[kept], query_labels, database_labels[kept]


def rows() -> list[tuple[str, ...]]:
    """One row for each rule: what it is, and its mAP at 100, 1000 and over the whole ranking."""
    codes = make_codes()
    by_class = np.argsort(codes[3], kind="stable")
    sorted_codes = codes[0], codes[1][by_class], codes[2], codes[3][by_class]
    found = []

    def add(title: str, scores: Scores) -> None:
        by_cut = {name.removeprefix("mAP@").partition("/")[0]: value for name, value in scores.items()}
        found.append((title, *(f"{100 * by_cut[k]:.2f}" if k in by_cut else "" for k in ("100", "1000", "all"))))

    for denominator in ("hits", "R", "min"):
        names = [f"mAP@100/{denominator}", f"mAP@1000/{denominator}", "mAP@all"]
        for ties in ("expected", "pessimistic", "optimistic"):
            add(f"`/{denominator}`, ties {ties}", evaluate(*codes, measures=names, ties=ties))
    for mode in MODES:
        names = ["mAP@100", "mAP@1000"] + ([] if mode == "hashnet" else ["mAP@all"])
        add(f"mode `{mode}`", evaluate(*codes, measures=names, mode=mode))
        add(f"mode `{mode}`, database sorted by class", evaluate(*sorted_codes, measures=names, mode=mode))
    return found


@click.command(help=__doc__)
def main() -> None:
    click.echo("| rule | mAP@100 | mAP@1000 | mAP@all |")
    click.echo("| --- | ---: | ---: | ---: |")
    for row in rows():
        click.echo(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
