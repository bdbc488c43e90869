"""Figures from results: the kinds that exist. Each is drawn by one function, imported when it is requested.

All are made without pyplot, so that no window, backend or global state is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from hashbench.errors import HashbenchError, unknown
from hashbench.results.result import Result
from hashbench.results.tables.blocks import Block, blocks, differences
from hashbench.results.tables.conditions import condition_blocks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Kind:
    """A kind of figure: what it shows, and where the function `results -> Figure` is that draws it."""

    summary: str
    target: str  # "module:function", below this package
    measured: bool = False  # whether the function takes a measure
    across: bool = False  # of runs with what they gave under conditions, together
    of_queries: bool = True  # False: of training and database, which are the run's under each condition

    def load(self) -> Callable[..., Figure]:
        """Return the function; its module needs matplotlib, which listing the kinds must not wait for."""
        module, _, name = self.target.partition(":")
        return cast("Callable[..., Figure]", getattr(import_module(f"{__name__}.{module}"), name))


KINDS = {
    "pr": Kind("precision over recall, by Hamming radius", "curves:pr_curves"),
    "precision": Kind("precision over the number of retrieved images (P@N)", "curves:precision_curves"),
    "recall": Kind("recall over the number of retrieved images (R@N)", "curves:recall_curves"),
    "bits": Kind("a measure over the code length, with the spread over seeds", "measures:by_bits", measured=True),
    "robustness": Kind(
        "a measure under growing attacks or corruptions, with the spread over seeds",
        "robustness:by_severity",
        measured=True,
        across=True,
    ),
    "seconds": Kind(
        "a measure over the seconds of training, a point for each run",
        "measures:by_seconds",
        measured=True,
        of_queries=False,
    ),
    "candidates": Kind(
        "a measure over the distances that exact search computes, as `hashbench search-cost` kept them",
        "measures:by_candidates",
        measured=True,
        of_queries=False,
    ),
    "codes": Kind("bit balance and bit correlation over the code length", "codes:code_statistics", of_queries=False),
    "centers": Kind(
        "distance of hash centers over the similarity of their classes", "centers:center_distances", of_queries=False
    ),
    "training": Kind(
        "loss terms by epoch, and measures where --eval-every logged them", "training:training_curves", of_queries=False
    ),
}

UNMEASURED = 'measure some: hashbench evaluate-run RUNS --under "pgd(eps=2/255),pgd(eps=8/255)".'


@dataclass(frozen=True)
class Drawing:
    """A figure of one block of results, and the description of the block."""

    block: Block
    words: str
    figure: Figure


def draw(
    kind: str, results: Sequence[Result], *, measure: str | None = None
) -> tuple[list[Drawing], list[HashbenchError]]:
    """Return the figure of each block of `results` in which the kind can be drawn, and why not in each of the others.

    A kind that is not about the queries leaves out what runs gave under conditions, unless there is nothing else.

    Raises HashbenchError for an unknown kind, and for a measure given to a kind that has none.
    """
    if kind not in KINDS:
        raise unknown("kind of figure", kind, KINDS)
    if measure is not None and not KINDS[kind].measured:
        measured = " and ".join(name for name, other in KINDS.items() if other.measured)
        raise HashbenchError(f"A figure of kind '{kind}' shows no measure; {measured} do.")
    function = KINDS[kind].load()
    drawings, refusals = list[Drawing](), list[HashbenchError]()
    if not KINDS[kind].of_queries:
        results = [result for result in results if not result.condition] or results
    found = condition_blocks(results) if KINDS[kind].across else blocks(results)
    if not found and results:
        refusals.append(HashbenchError(f"None of these runs was measured under conditions; {UNMEASURED}"))
    for block, apart in zip(found, differences(found), strict=True):
        try:
            figure = function(block.results, measure=measure) if KINDS[kind].measured else function(block.results)
        except HashbenchError as error:
            refusals.append(error)
        else:
            words = ", ".join(part for part in (block.name, block.describe(), apart) if part)
            drawings.append(Drawing(block, words, figure))
    return drawings, refusals
