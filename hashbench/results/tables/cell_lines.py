"""Tables as csv: a line for each cell, to be read by programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from typing import Any

from hashbench.results.tables import escaping
from hashbench.results.tables.table import Row, Table
from hashbench.storage.strict_json import dumps


def csv_lines(tables: Iterable[Table]) -> str:
    """Return a first line of names and a line for each cell, with everything that is known of it at full precision."""
    lines = [_line(table, row, i) for table in tables for row in table.rows for i in range(len(table.bits))]
    if not any(line["fidelity"] for line in lines):  # results from before it was stated
        lines = [{key: value for key, value in line.items() if key != "fidelity"} for line in lines]
    if not any(line["tuning_trials"] for line in lines):
        lines = [{key: value for key, value in line.items() if not key.startswith("tuning_")} for line in lines]
    lines = [escaping.csv_line(line) for line in lines]
    text = io.StringIO()
    writer = csv.DictWriter(text, dict.fromkeys(key for line in lines for key in line), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().rstrip("\n")


def _line(table: Table, row: Row, place: int) -> dict[str, Any]:
    cell = row.cells[place]
    lower, upper = cell.bounds or (None, None)
    conditions = {
        key: dumps(value) if isinstance(value, dict | list) else value for key, value in table.conditions.items()
    }
    if row.published:  # the others are ours
        conditions = {key: conditions.get(key) for key in ("dataset", "protocol", "evaluated")}
    return {
        "row": row.label,
        "method": row.method,
        "bits": table.bits[place],
        **({"condition": table.columns[place]} if table.columns else {}),
        "measure": table.measure,
        "n": len(cell.values),
        "mean": None if math.isnan(cell.mean) else cell.mean,
        "std": cell.std,
        "values": " ".join(map(repr, cell.values)),
        "lower": lower,
        "upper": upper,
        "best": cell.best,
        "baseline": table.baseline,
        "difference": cell.difference,
        "test": table.test if cell.p is not None else None,
        "p_holm": cell.p,
        "source": row.source,
        "fidelity": row.fidelity,
        "note": " ".join(sentence for mark, sentence in table.notes if mark and mark in row.mark.split()),
        "train_s": row.cost.train_s,
        "prepare_s": row.cost.prepare_s,
        "images_per_s": row.cost.images_per_s,
        "peak_memory_mb": row.cost.peak_memory_mb,
        "tuning_trials": row.cost.tuning_trials,
        "tuning_s": row.cost.tuning_s,
        **conditions,
    }
