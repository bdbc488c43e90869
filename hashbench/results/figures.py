"""Figures from results: one style, and each method keeps its colour in every figure.

Each is a function from results to a Figure, made without pyplot, so that no window, backend or global state is touched.
"""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hashbench.errors import HashbenchError
from hashbench.results.blocks import blocks, differences
from hashbench.results.files import make_folder, replacing
from hashbench.results.result import Result

FORMATS = ("png", "svg", "pdf")
_STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "savefig.dpi": 200,
    "text.parse_math": False,  # a plug-in may have a $ in its name
    "svg.hashsalt": "hashbench",  # the same figure is the same file
}
# Paul Tol's "muted" scheme, told apart with every common colour blindness (https://personal.sron.nl/~pault/).
_COLOURS = ("#332288", "#cc6677", "#117733", "#88ccee", "#ddcc77", "#aa4499", "#44aa99", "#882255", "#999933")
_MARKERS = ("", "o", "s", "^")  # a second round through the colours is told apart by markers
_DASHES = ("-", "--", ":", "-.")  # variants of one method share its colour
# Methods that often share a figure get colours far apart; a name that is not here gets one by its hash.
_KNOWN = ("crh", "csq", "dpn", "shc", "itq", "lsh", "classifier", "hashnet", "dpsh")


def pr_curves(results: Iterable[Result]) -> Figure:
    """Return precision over recall by Hamming radius, the mean over seeds, one panel for each code length.

    Raises HashbenchError when the results may not share a figure (other data, recipe, ...) or hold no curve.
    """
    drawn = [result for result in results if "PR" in result.curves]
    if not drawn:
        raise HashbenchError("None of these results holds a precision-recall curve; name finished runs.")
    found = blocks(drawn)
    if len(found) > 1:
        told = [
            ", ".join(filter(None, (b.name, b.describe(), d))) for b, d in zip(found, differences(found), strict=True)
        ]
        raise HashbenchError(
            f"These results do not belong into one figure: {told[0]} against {told[1]}; plot them apart."
        )
    (block,) = found
    rows = block.rows()
    styles = _styles(rows)
    with rc_context(_STYLE):
        figure, panels = _panels(len(block.bits), labels=rows)
        for bits, axes in zip(block.bits, panels, strict=True):
            for label, row in rows.items():
                curves = [result.curves["PR"] for result in row if result.coords["bits"] == bits]
                if curves:
                    axes.plot(_mean(curves, "x"), _mean(curves, "y"), label=label, **styles[label])
            axes.set(title=f"{bits} bits", xlabel="recall", xlim=(0, 1), ylim=(0, 1.02), xticks=np.linspace(0, 1, 6))
        panels[0].set_ylabel("precision")
        _finish(figure, panels, title=f"{block.name}: precision and recall", caption=f"by radius, {block.describe()}")
    return figure


def save(figure: Figure, path: Path | str) -> None:
    """Write `figure` as png, svg or pdf by the ending of `path`; raises HashbenchError where that is impossible."""
    path = Path(path)
    ending = path.suffix.lstrip(".").lower()
    if ending not in FORMATS:
        raise HashbenchError(f"A figure cannot be saved as '{path.name}'; end the name in .png, .svg or .pdf.")
    make_folder(path.parent)
    undated: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending, {})
    with rc_context(_STYLE), replacing(path) as file:
        figure.savefig(file, format=ending, metadata=undated)


def _styles(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return how each row label is drawn: its method's colour, and dashes for the method's variants in turn."""
    styles: dict[str, dict[str, Any]] = {}
    dashes: dict[str, Any] = {}
    for label in sorted(labels):  # a method without changed fields comes first, and is solid
        method = label.split(" ", 1)[0]
        colour, marker = _look(method)
        dash = next(dashes.setdefault(method, cycle(_DASHES)))
        styles[label] = {"color": colour, "marker": marker, "markersize": 4, "markevery": 0.12, "linestyle": dash}
    return styles


def _look(method: str) -> tuple[str, str]:
    """Return the colour and marker of a method, the same in every figure whatever else is drawn."""
    if method in _KNOWN:
        return _COLOURS[_KNOWN.index(method)], _MARKERS[0]
    place = int.from_bytes(hashlib.sha256(method.encode()).digest()[:4], "big")
    marked = _MARKERS[1:]
    return _COLOURS[place % len(_COLOURS)], marked[place // len(_COLOURS) % len(marked)]


def _panels(number: int, *, labels: Iterable[str]) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with `number` panels side by side, and room for a legend of `labels`."""
    legend = 0.7 + 0.065 * max(map(len, labels))  # inches; a letter of the legend is about 0.065 wide
    figure = Figure(figsize=(0.5 + 2.6 * number + legend, 3.2), layout="constrained")
    return figure, figure.subplots(1, number, sharey=True, squeeze=False)[0]


def _finish(figure: Figure, panels: Sequence[Axes], *, title: str, caption: str) -> None:
    """Add title, conditions and one legend for all panels."""
    figure.suptitle(title, fontsize=10)
    figure.supxlabel(textwrap.fill(caption, int(figure.get_figwidth() / 0.06)), fontsize=7, color="#666666")
    handles = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize=8)


def _mean(curves: Sequence[Mapping[str, Any]], axis: str) -> np.ndarray:
    """Return the mean over seeds, point by point: all have one point for each radius."""
    return np.mean([np.asarray(curve[axis], dtype=float) for curve in curves], axis=0)
