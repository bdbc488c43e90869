"""One result in words, as text and as HTML: its measures with their bounds, its cost, and its provenance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hashbench.results.tables.blocks import blocks, row_label
from hashbench.results.tables.escaping import html
from hashbench.results.tables.render import plain_table

if TYPE_CHECKING:
    from hashbench.results.result import Result

_MEASURES = ("measure", "value", "worst order of ties", "best order of ties")


def describe(result: Result) -> str:
    """Return one result as text: its measures with their bounds, its cost, and its provenance."""
    title, conditions = _title(result)
    return "\n\n".join(
        [f"{title}\n{conditions}", plain_table(_measures(result), header=_MEASURES), plain_table(_facts(result))]
    )


def describe_html(result: Result) -> str:
    """Return what `describe` does as an HTML fragment, for notebooks."""
    title, conditions = _title(result)
    return "\n".join(
        [
            f"<p><strong>{html(title)}</strong><br>{html(conditions)}</p>",
            plain_table(_measures(result), header=_MEASURES, form="html"),
            f"<details><summary>cost and provenance</summary>{plain_table(_facts(result), form='html')}</details>",
        ]
    )


def _title(result: Result) -> tuple[str, str]:
    (block,) = blocks([result])
    return (
        f"{row_label(result)} on {block.name}, {result.coords['bits']} bits, seed {result.coords['seed']}",
        block.describe(),
    )


def _measures(result: Result) -> list[list[Any]]:
    return [[name, value, *result.bounds.get(name, (None, None))] for name, value in result.metrics.items()]


def _facts(result: Result) -> list[list[Any]]:
    sections = {
        "counts": result.counts,
        "codes": result.code_stats,
        "diagnostics": result.diagnostics,
        "seconds": result.time,
        "cost": {"images per second": result.images_per_s, "peak memory, MB": result.peak_memory_mb},
        "provenance": {"id": result.id, **result.provenance},
    }
    return [
        [section, name, _as_written(value)] for section, values in sections.items() for name, value in values.items()
    ]


def _as_written(value: Any) -> Any:
    """Return a value of a result as people write it: no brackets, quotes, True or None."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_as_written(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join(str(_as_written(item)) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "—" if value is None else value
