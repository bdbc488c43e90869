"""What is left of a measure as a condition grows: attacks over eps, corruptions over their severity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hashbench.errors import HashbenchError
from hashbench.results.figures import UNMEASURED
from hashbench.results.figures.measures import values_of
from hashbench.results.figures.style import finish, sheet, styles
from hashbench.results.result import Result
from hashbench.results.tables.conditions import Condition, compared_with, condition_blocks, condition_of, number_of

#: Fields at whose value 0 a condition leaves the queries as they are; over any other, clean is a dotted line.
FROM_CLEAN = ("eps", "sigma", "share")
_PIXEL = "/255"


@dataclass(frozen=True)
class _Series:
    """Conditions that differ in one numeric field alone."""

    name: str
    field: str
    rest: tuple[tuple[str, str], ...]  # the other fields as typed
    conditions: tuple[Condition, ...]  # by the field's value, ascending

    @property
    def in_levels(self) -> bool:
        """Whether all values are typed as levels of a pixel, which are then the unit of the axis."""
        return all(each.fields[self.field].endswith(_PIXEL) for each in self.conditions)

    def value(self, condition: Condition) -> float:
        """Return the field's value in the axis's unit."""
        value = number_of(condition.fields[self.field])
        assert value is not None
        return value * 255 if self.in_levels else value

    @property
    def label(self) -> str:
        """The label of the axis: the field, and its unit where that is a level."""
        return f"{self.field}, in 1/255" if self.in_levels else self.field


def by_severity(results: Iterable[Result], *, measure: str | None = None) -> Figure:
    """Return the mean of `measure` over seeds by the field that varies between conditions, with a band of ± one std.

    A panel for each condition and field, a row for each code length. Clean is drawn at 0 where that field's 0 leaves
    the queries as they are, else as a dotted line. Raises HashbenchError where no field varies, and when the results
    may not share a figure.
    """
    found = condition_blocks(results)
    if len(found) != 1:
        raise HashbenchError(
            "These results do not belong into one figure; plot them apart."
            if found
            else f"None of these runs was measured under a condition that changes its queries; {UNMEASURED}"
        )
    (block,) = found
    measure, values = values_of(block, measure)
    series = [*_series({condition_of(result) for result in block.results})]
    if not series:
        raise HashbenchError(f"No condition of {block.name} was measured at two values of a field alone; {UNMEASURED}")
    rows = block.rows()
    row_styles = styles(rows, points=True)
    with sheet(*[len(series)] * len(block.bits), labels=rows) as (figure, panels):
        places = ((bits, each) for bits in block.bits for each in series)
        for axes, (bits, each) in zip(panels, places, strict=True):
            for label, row in rows.items():
                at: dict[Condition, list[float]] = {}
                for result in row:
                    if result.coords["bits"] == bits and result.id in values:
                        at.setdefault(condition_of(result), []).append(values[result.id])
                _draw(axes, each, at, label, row_styles[label])
            axes.set(title=f"{each.name}, {bits} bits", xlabel=each.label)
            axes.margins(x=0.06)
        panels[0].set_ylabel(measure)
        seeds = {result.coords["seed"] for result in block.results}
        band = "bands: ± one standard deviation over seeds (n - 1)" if len(seeds) > 1 else "one seed"
        fixed = dict.fromkeys(f"{each.name}: {', '.join(map('='.join, each.rest))}" for each in series if each.rest)
        caption = ", ".join([band, block.describe(), *fixed])
        finish(figure, panels, title=f"{block.name}: {measure} under conditions", caption=caption)
    return figure


def _series(conditions: Iterable[Condition]) -> Iterator[_Series]:
    """Yield the conditions that differ in one numeric field, for each such field, in the order of the names."""
    found: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[Condition]] = {}
    for condition in sorted(conditions, key=lambda condition: condition.order):
        for field, value in condition.fields.items():
            if number_of(value) is not None and field not in ("queries", "surrogate"):  # which are no severities
                rest = tuple(pair for pair in condition.fields.items() if pair[0] != field)
                found.setdefault((condition.name, field, rest), []).append(condition)
    for (name, field, rest), members in found.items():
        if len(members) > 1:
            yield _Series(name, field, rest, tuple(members))


def _draw(
    axes: Axes, series: _Series, at: Mapping[Condition, Sequence[float]], label: str, style: Mapping[str, Any]
) -> None:
    """Draw one row's line with its band; nothing where it was not measured."""
    points = [(series.value(condition), at[condition]) for condition in series.conditions if condition in at]
    clean = at.get(compared_with(series.conditions[0]), [])
    if not points:
        return
    if clean and series.field in FROM_CLEAN:
        points = [(0.0, clean), *(point for point in points if point[0])]
    elif clean:
        axes.axhline(float(np.mean(clean)), color=style["color"], linestyle=":", linewidth=0.9)
    x = [value for value, _ in points]
    mean = np.array([np.mean(found) for _, found in points])
    std = np.array([np.std(found, ddof=1) if len(found) > 1 else 0.0 for _, found in points])
    axes.plot(x, mean, label=label, **style)
    if std.any():
        axes.fill_between(x, mean - std, mean + std, color=style["color"], alpha=0.15, linewidth=0)
