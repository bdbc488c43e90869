"""Figure of hash centers: their distances over the similarity of their classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hashbench.errors import HashbenchError
from hashbench.metrics.hamming import unpack
from hashbench.results.figures.style import PAPER, finish, sheet, styles, the_block
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory

_GROUPS = 10  # a method's line: the mean distance over tenths of its pairs
_SCATTERED = 400  # up to this many pairs are also drawn one by one


def center_distances(results: Iterable[Result]) -> Figure:
    """Return the Hamming distance of two classes' centers, as a share of the bits, over how alike the classes are.

    x is the cosine of the classes' mean training inputs as a fixed map gives them (the frozen backbone's features,
    vectors, or pixels), the mean over classes taken off: known before any method is trained, and one for all. Lines
    join the means over tenths of the pairs of classes, by similarity; rho is Spearman's rank correlation over all
    pairs, negative where like classes have near centers. Pairs of all seeds count; one panel for each code length.
    Raises HashbenchError when the results may not share a figure or none keeps centers.
    """
    block = the_block(results)
    pairs = {result.id: found for result in block.results if (found := _pairs(result)) is not None}
    if not pairs:
        raise HashbenchError(
            f"No run on {block.name} keeps hash centers (centers.npz): its method states none, or it ran before "
            f"hashbench kept them. csq and others with hash centers keep them; delete their runs and run them again."
        )
    rows = {
        label: held for label, row in block.rows().items() if (held := [result for result in row if result.id in pairs])
    }
    row_styles = styles(rows, points=True)
    lengths = sorted({result.coords["bits"] for row in rows.values() for result in row})
    with sheet(len(lengths), labels=rows) as (figure, panels):
        for bits, axes in zip(lengths, panels, strict=True):
            correlations = []
            for label, row in rows.items():
                of_seeds = [pairs[result.id] for result in row if result.coords["bits"] == bits]
                if of_seeds:
                    alike, apart = np.concatenate(of_seeds, axis=1)
                    _draw(axes, alike, apart, label, row_styles[label])
                    correlations.append(f"{label}  ρ = {_rank_correlation(alike, apart)}")
            axes.set(title=f"{bits} bits", xlabel="similarity of the classes (cosine)")
            axes.text(0.02, 0.02, "\n".join(correlations), transform=axes.transAxes, fontsize=6.5, va="bottom",
                      bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 1.5})  # fmt: skip
        panels[0].set_ylim(bottom=0)  # once all are drawn: they share their limits
        panels[0].set_ylabel("distance of the centers / bits")
        caption = f"lines: means over tenths of all pairs of classes, ρ: rank correlation, {block.describe()}"
        finish(figure, panels, title=f"{block.name}: centers and classes", caption=caption)
    return figure


def _draw(axes: Axes, alike: np.ndarray, apart: np.ndarray, label: str, style: dict[str, Any]) -> None:
    if len(alike) <= _SCATTERED:
        axes.plot(alike, apart, **style | {"linestyle": "", "markersize": 2.5, "alpha": 0.35})
    groups = np.array_split(np.argsort(alike, kind="stable"), min(_GROUPS, len(alike)))
    means = [[values[group].mean() for group in groups] for values in (alike, apart)]
    axes.plot(*means, label=label, **style)


def _pairs(result: Result) -> np.ndarray | None:
    """Return similarity and center distance of each two classes, (2, pairs) float; None where none are kept."""
    run = None if result.path is None else RunDirectory(result.path)
    if run is None or not run.centers.is_file():
        return None
    kept, bits = run.read_arrays("centers"), result.coords["bits"]
    try:
        centers = unpack(kept["centers"], bits)
        first, second = np.triu_indices(len(centers), k=1)
        alike = kept["similarity"][first, second].astype(float)
    except (KeyError, IndexError, ValueError) as error:
        raise HashbenchError(f"{run.centers} cannot be drawn: {error}; delete its folder and run again.") from error
    apart = (centers[first] != centers[second]).mean(axis=1)
    known = np.isfinite(alike)  # a class without training images is like none
    return np.stack([alike[known], apart[known]]) if known.any() else None


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> str:
    """Return Spearman's rho as text: none where one of the two never changes, as in a Hadamard codebook."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return "none"
    from scipy.stats import spearmanr

    return f"{spearmanr(x, y).statistic:+.2f}"
