"""Curves that a result stores: precision over recall, and both over the number of retrieved images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hashbench.errors import HashbenchError
from hashbench.results.figures.style import finish, log_ticks, sheet, styles, the_block
from hashbench.results.result import Result


def pr_curves(results: Iterable[Result]) -> Figure:
    """Return precision over recall by Hamming radius, the mean over seeds, one panel for each code length.

    Raises HashbenchError when the results may not share a figure (other data, recipe, ...) or hold no curve.
    """
    drawing = {"xlabel": "recall", "xlim": (0, 1), "ylim": (0, 1.02), "xticks": np.linspace(0, 1, 6)}
    return _curves(results, "PR", "x", "y", "precision", title="precision and recall", by="by radius", drawing=drawing)


def precision_curves(results: Iterable[Result]) -> Figure:
    """Return precision over the number N of retrieved images (log scale), ties in expectation; as `pr_curves`."""
    drawing = {"xlabel": "retrieved images N", "xscale": "log", "ylim": (0, 1.02)}
    return _curves(results, "PR@k", "at", "y", "precision", title="precision at N", by="by rank", drawing=drawing)


def recall_curves(results: Iterable[Result]) -> Figure:
    """Return recall over the number N of retrieved images (log scale), ties in expectation; as `pr_curves`."""
    drawing = {"xlabel": "retrieved images N", "xscale": "log", "ylim": (0, 1.02)}
    return _curves(results, "PR@k", "at", "x", "recall", title="recall at N", by="by rank", drawing=drawing)


def _curves(
    results: Iterable[Result], curve: str, x: str, y: str, ylabel: str, *, title: str, by: str, drawing: dict[str, Any]
) -> Figure:
    """Return axis `y` over axis `x` of a stored curve; `drawing` are the properties of each panel."""
    block = the_block(results)
    rows = {
        label: held for label, row in block.rows().items() if (held := [r for r in row if x in r.curves.get(curve, {})])
    }
    if not rows:
        raise HashbenchError(
            f"None of these results holds the curve {curve}, which every finished `hashbench run` stores; "
            f"name other runs, or run these again."
        )
    row_styles = styles(rows)
    lengths = sorted({result.coords["bits"] for row in rows.values() for result in row})
    with sheet(len(lengths), labels=rows) as (figure, panels):
        for bits, axes in zip(lengths, panels, strict=True):
            for label, row in rows.items():
                curves = [result.curves[curve] for result in row if result.coords["bits"] == bits]
                if curves:
                    axes.plot(_mean(curves, x, label), _mean(curves, y, label), label=label, **row_styles[label])
            axes.set(title=f"{bits} bits", **drawing)
            if axes.get_xscale() == "log":
                log_ticks(axes.xaxis)
        panels[0].set_ylabel(ylabel)
        finish(figure, panels, title=f"{block.name}: {title}", caption=f"{by}, {block.describe()}")
    return figure


def _mean(curves: Sequence[Mapping[str, Any]], axis: str, label: str) -> np.ndarray:
    """Return the mean over seeds, point by point: all have one point for each radius or cut."""
    if len({len(curve[axis]) for curve in curves}) > 1:
        raise HashbenchError(f"The runs of {label} hold curves of different lengths; one of them was changed by hand.")
    return np.mean([np.asarray(curve[axis], dtype=float) for curve in curves], axis=0)
