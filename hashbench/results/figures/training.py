"""Training as it was logged: loss terms by epoch, and measures where `--eval-every` logged them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hashbench.errors import HashbenchError
from hashbench.results.figures.style import finish, log_ticks, sheet, styles, the_block
from hashbench.results.result import LARGEST, Result
from hashbench.results.runs import RunDirectory

_COLUMNS = 4
_TERMS = ("-", "--", ":", "-.")  # dashes of a method's loss terms, in the order of its log
Logs = dict[str, list[dict[str, Any]]]  # run id -> lines of its epochs


def training_curves(results: Iterable[Result]) -> Figure:
    """Return a panel of loss terms by epoch for each method, and one of measures by epoch for each code length.

    Loss terms of different methods are not comparable, so each has a panel of its own: one dash a term, fainter the
    shorter the code, the mean over seeds. Measures stand there where `hashbench run --eval-every` logged them. Raises
    HashbenchError when the results may not share a figure or have no log of epochs.
    """
    block = the_block(results)
    logs: Logs = {result.id: found for result in block.results if (found := _epochs(result))}
    if not logs:
        raise HashbenchError(
            f"No run on {block.name} has a log of epochs: its method trains in none, or log.jsonl was not copied along."
        )
    rows = {
        label: held for label, row in block.rows().items() if (held := [result for result in row if result.id in logs])
    }
    measured = {
        (name, result.coords["bits"])
        for row in rows.values()
        for result in row
        for line in logs[result.id]
        for name in line["measures"]
    }
    row_styles = styles(rows, points=True)
    with sheet(len(rows), len(measured), labels=rows if measured else (), columns=_COLUMNS, share_y=False) as (
        figure,
        panels,
    ):
        for (label, row), axes in zip(rows.items(), panels, strict=False):
            _draw_losses(axes, row, logs, block.bits, str(row_styles[label]["color"]))
            axes.set_title(f"{label}: loss")
        for (name, bits), axes in zip(sorted(measured), panels[len(rows) :], strict=True):
            for label, row in rows.items():
                curve = _mean_by_epoch([logs[r.id] for r in row if r.coords["bits"] == bits], "measures", name)
                axes.plot(curve[0], curve[1], label=label, **row_styles[label])
            axes.set(title=f"{name}, {bits} bits")
        for axes in panels:
            axes.set_xlabel("epochs")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        inspected = ", measures for inspection only: nothing is selected by them" if measured else ""
        caption = f"mean over seeds, losses fainter for shorter codes{inspected}, {block.describe()}"
        finish(figure, panels[len(rows) :], title=f"{block.name}: training", caption=caption)
    return figure


def _draw_losses(axes: Axes, row: Sequence[Result], logs: Logs, lengths: Sequence[int], colour: str) -> None:
    """Draw each loss term of one method by epoch, a line for each code length: on a log axis where none is below 0."""
    drawn = list[float]()
    terms = dict.fromkeys(name for result in row for line in logs[result.id] for name in line["loss"])
    for name, dash in zip(terms, cycle(_TERMS), strict=False):
        idle = not any(line["loss"].get(name) for result in row for line in logs[result.id])
        for place, bits in enumerate(lengths, start=1):
            runs = [logs[result.id] for result in row if result.coords["bits"] == bits]
            epochs, means = _mean_by_epoch(runs, "loss", name)
            longest = place == len(lengths)
            axes.plot(epochs, means, color=colour, linestyle=dash, alpha=0.25 + 0.75 * place / len(lengths),
                      label=name + " (0)" * idle if longest else None)  # fmt: skip
            drawn += means
    if min(drawn, default=0) >= 0 and any(drawn):
        axes.set_yscale("log")
        log_ticks(axes.yaxis)
    axes.legend(fontsize=6.5)


def _mean_by_epoch(runs: Sequence[list[dict[str, Any]]], part: str, name: str) -> tuple[list[int], list[float]]:
    """Return the epochs done, from 1, after which `name` was logged, and its mean over runs after each."""
    values: dict[int, list[float]] = {}
    for lines in runs:
        for line in lines:
            if name in line[part]:
                values.setdefault(line["epoch"] + 1, []).append(line[part][name])
    return sorted(values), [float(np.mean(values[epoch])) for epoch in sorted(values)]


def _epochs(result: Result) -> list[dict[str, Any]]:
    """Return epoch, loss and measures of a run's log by epoch, [] without a run directory or log.

    What is no number was written by something else, and is left out.
    """
    lines = [] if result.path is None else RunDirectory(result.path).read_log()
    return [
        {"epoch": line["epoch"], "loss": _numbers(line["loss"]), "measures": _numbers(line.get("measures"))}
        for line in lines
        if isinstance(line.get("epoch"), int) and isinstance(line.get("loss"), dict)
    ]


def _numbers(found: Any) -> dict[str, float]:
    named = found.items() if isinstance(found, dict) else ()
    return {name: value for name, value in named if isinstance(value, int | float) and abs(value) <= LARGEST}
