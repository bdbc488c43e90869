"""Figures from results: the kinds that exist. Each is drawn by one function, imported when it is requested.

All are made without pyplot, so that no window, backend or global state is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Kind:
    """A kind of figure: what it shows, and where the function `results -> Figure` is that draws it."""

    summary: str
    target: str  # "module:function", below this package
    measured: bool = False  # whether the function takes a measure
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
