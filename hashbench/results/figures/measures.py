"""Single measures: over the code length with the spread over seeds, and over the seconds that training took."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hashbench.errors import HashbenchError
from hashbench.results.figures.style import bits_axis, finish, log_ticks, sheet, styles, the_block
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.results.search_costs import read_search_cost
from hashbench.results.tables.blocks import Block
from hashbench.results.tables.scores import all_scores, measure_name

SPREAD = "bars: ± one standard deviation over seeds (n - 1), none for a single seed"
_FEWEST = 1e-3  # distances computed for a query in the mean; a log scale has no place for none
_SHORTEST = 1e-3  # seconds; a log scale has no place for a training that took none


def by_bits(results: Iterable[Result], *, measure: str | None = None) -> Figure:
    """Return the mean of `measure` over seeds by code length, with error bars of ± one sample standard deviation.

    The default is the data set's measure. Raises HashbenchError when the results may not share a figure, or for a
    measure that is none or that none of them knows.
    """
    block = the_block(results)
    measure, values = values_of(block, measure)
    rows = block.rows()
    row_styles = styles(rows, points=True)
    with sheet(1, labels=rows, width=4.2) as (figure, (axes,)):
        for label, row in rows.items():
            points = [(r.coords["bits"], values[r.id]) for r in row if r.id in values]
            plot_by_bits(axes, points, label=label, **row_styles[label])
        bits_axis(axes, block.bits)
        axes.set_ylabel(measure)
        caption = f"{_seeds(block)}, {block.describe()}"
        finish(figure, [axes], title=f"{block.name}: {measure} by code length", caption=caption)
    return figure


def by_seconds(results: Iterable[Result], *, measure: str | None = None) -> Figure:
    """Return `measure` over the seconds of training with preparation (log scale), one point for each run; as `by_bits`.

    Seconds of reading data, fixed features, encoding and evaluation are not in it.
    """
    block = the_block(results)
    measure, values = values_of(block, measure)
    timed = [r for r in block.results if r.id in values and r.time.get("train") is not None]
    if not timed:
        raise HashbenchError("None of these results says how long its training took; name runs of `hashbench run`.")
    rows = block.rows()
    row_styles = styles(rows, points=True)
    lengths, shown = sorted({result.coords["bits"] for result in timed}), {result.id for result in timed}
    with sheet(len(lengths), labels=rows) as (figure, panels):
        for bits, axes in zip(lengths, panels, strict=True):
            for label, row in rows.items():
                runs = [result for result in row if result.id in shown and result.coords["bits"] == bits]
                seconds = [max(training_seconds(result), _SHORTEST) for result in runs]
                if runs:
                    axes.plot(
                        seconds, [values[r.id] for r in runs], label=label, **row_styles[label] | {"linestyle": ""}
                    )
            axes.set(title=f"{bits} bits", xlabel="seconds", xscale="log")
            log_ticks(axes.xaxis)
            axes.margins(0.12)
        panels[0].set_ylabel(measure)
        caption = f"preparation and training, {_machines(timed)}, {block.describe()}"
        finish(figure, panels, title=f"{block.name}: {measure} by training time", caption=caption)
    return figure


def by_candidates(results: Iterable[Result], *, measure: str | None = None) -> Figure:
    """Return `measure` over the distances that exact search computes for a query (log scale), one point for each run.

    A panel for each search that `hashbench search-cost` kept; as `by_bits`.
    """
    block = the_block(results)
    measure, values = values_of(block, measure)
    rows = block.rows()
    row_styles = styles(rows, points=True)
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}  # search -> label -> (compared, value)
    for label, row in rows.items():
        for result in row:
            kept = read_search_cost(RunDirectory(result.path)) if result.path and result.id in values else None
            for cost in kept["searches"] if kept else ():
                at = max(cost["compared"]["mean"], _FEWEST)
                points.setdefault(cost["search"], {}).setdefault(label, []).append((at, values[result.id]))
    if not points:
        raise HashbenchError("None of these results says what search costs; measure it with `hashbench search-cost`.")
    with sheet(len(points), labels=rows) as (figure, panels):
        for (search, found), axes in zip(points.items(), panels, strict=True):
            for label, at in found.items():
                axes.plot(*zip(*at, strict=True), label=label, **row_styles[label] | {"linestyle": ""})
            axes.set(title=search, xlabel="distances computed", xscale="log")
            log_ticks(axes.xaxis)
            axes.margins(0.12)
        panels[0].set_ylabel(measure)
        caption = f"means over queries, exact search by multi-index hashing, {block.describe()}"
        finish(figure, panels, title=f"{block.name}: {measure} by the cost of search", caption=caption)
    return figure


def training_seconds(result: Result) -> float:
    """Return the seconds that a run's preparation and training took."""
    return float(result.time.get("prepare") or 0) + float(result.time.get("train") or 0)


def plot_by_bits(axes: Axes, points: list[tuple[int, float]], *, label: str, **style: object) -> None:
    """Draw the mean of `points` (bits, value) at each code length, with error bars where there are several seeds."""
    lengths = sorted({bits for bits, _ in points})
    if not lengths:
        return
    groups = [[value for at, value in points if at == bits] for bits in lengths]
    means = [float(np.mean(group)) for group in groups]
    spread = [float(np.std(group, ddof=1)) if len(group) > 1 else np.nan for group in groups]
    axes.errorbar(lengths, means, yerr=None if np.isnan(spread).all() else spread, label=label, **style)  # type: ignore[arg-type]


def values_of(block: Block, measure: str | None) -> tuple[str, dict[str, float]]:
    """Return the measure's name, and its value for each run that knows it."""
    name = measure_name(measure) if measure is not None else str(block.results[0].coords["measure"])
    problems: list[str] = []
    scores = all_scores(block.results, [name], problems)
    values = {id: score.value for id, found in scores.items() if (score := found[name]).value is not None}
    if not values:
        raise HashbenchError(f"No run on {block.name} can be drawn: " + " ".join(problems))
    return name, {id: value for id, value in values.items() if value is not None}


def _seeds(block: Block) -> str:
    seeds = {result.coords["seed"] for result in block.results}
    return SPREAD if len(seeds) > 1 else "one seed"


def _machines(results: Iterable[Result]) -> str:
    """Return on what the seconds were measured; on different devices they cannot be compared, which is said."""
    found = {(r.provenance.get("device_name") or "unknown device", r.provenance.get("threads")) for r in results}
    devices = [f"{name}, {threads} thread{'' if threads == 1 else 's'}" for name, threads in found]
    return f"on {devices.pop()}" if len(devices) == 1 else "on DIFFERENT devices or threads, so not comparable"
