"""Statistics of codes: how evenly their bits split the database, and how alike two bits are."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.figure import Figure

from hashbench.errors import HashbenchError
from hashbench.results.figures.measures import SPREAD, plot_by_bits
from hashbench.results.figures.style import bits_axis, finish, sheet, styles, the_block
from hashbench.results.result import Result

_STATISTICS = {"bit_balance": "bit balance (1: even)", "bit_correlation": "mean |correlation| of bits"}


def code_statistics(results: Iterable[Result]) -> Figure:
    """Return bit balance and mean absolute bit correlation of the database's codes by code length, a panel each.

    Means over seeds with error bars of ± one sample standard deviation. Raises HashbenchError when the results may not
    share a figure or hold no such statistics.
    """
    block = the_block(results)
    if not any(result.code_stats.get(name) is not None for result in block.results for name in _STATISTICS):
        raise HashbenchError(
            "None of these results holds statistics of its codes, which every finished `hashbench run` stores; "
            "name other runs, or run these again."
        )
    rows = block.rows()
    row_styles = styles(rows, points=True)
    with sheet(len(_STATISTICS), labels=rows, width=3.4, share_y=False) as (figure, panels):
        for (name, words), axes in zip(_STATISTICS.items(), panels, strict=True):
            for label, row in rows.items():
                points = [(r.coords["bits"], r.code_stats[name]) for r in row if r.code_stats.get(name) is not None]
                plot_by_bits(axes, points, label=label, **row_styles[label])
            bits_axis(axes, block.bits)
            axes.set_ylim(0, 1.02 if name == "bit_balance" else None)
            axes.set_ylabel(words)
        caption = f"codes of the database, {SPREAD}, {block.describe()}"
        finish(figure, panels, title=f"{block.name}: use of the bits", caption=caption)
    return figure
