"""Conditions as results name them, and runs with what they gave under those that change their queries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from hashbench.results.result import Result
from hashbench.results.tables.blocks import Block, blocks
from hashbench.storage.strict_json import canonical

CLEAN = "clean"


@dataclass(frozen=True)
class Condition:
    """A condition as its text names it: `pgd(eps=8/255, steps=7)`; that of a run as it is, `clean`."""

    text: str

    @property
    def name(self) -> str:
        """Its name, with its version where that is not the first."""
        return re.sub(r"\(.*\)", "", self.text)

    @property
    def fields(self) -> dict[str, str]:
        """Its fields' values as they are typed."""
        inside = re.search(r"\((.*)\)", self.text)
        pairs = (pair.partition("=") for pair in (inside[1].split(", ") if inside else ()))
        return {name: value for name, _, value in pairs}

    @property
    def order(self) -> tuple[object, ...]:
        """The key that sorts clean first, then names, then values as numbers."""
        values = [(field, number_of(value) or 0.0, value) for field, value in self.fields.items()]
        return (self.name != CLEAN, self.name, len(values), values)


def condition_of(result: Result) -> Condition:
    """Return the condition under which a result was measured, `clean` of a run as it is."""
    return Condition(result.condition or CLEAN)


def number_of(text: str) -> float | None:
    """Return the number that a field's value is, `8/255` as a fraction; None of anything else."""
    try:
        return float(Fraction(text)) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError):
        return None


def condition_blocks(results: Iterable[Result]) -> list[Block]:
    """Return blocks of runs with what they gave under conditions that change queries: they differ in nothing else."""
    groups: dict[str, list[Block]] = {}
    for block in blocks(results):
        relevance = str(block.conditions.get("relevance", ""))
        if block.condition and relevance.startswith(f"{Condition(block.condition).name.partition(' v')[0]} in "):
            continue  # the condition says what is relevant, and leaves the queries as they are
        shared = {key: value for key, value in block.conditions.items() if key != "evaluated"}
        groups.setdefault(canonical([shared, block.part, block.epoch]), []).append(block)
    found = []
    for group in groups.values():
        if {block.condition for block in group} - {"", CLEAN}:
            first = min(group, key=lambda block: Condition(block.condition or CLEAN).order)
            conditions = {**first.conditions, "evaluated": first.part}
            found.append(replace(first, conditions=conditions, results=tuple(r for b in group for r in b.results)))
    return found


def heads_of(columns: Sequence[Condition]) -> list[str]:
    """Return each condition's name with those of its fields that others of its name have otherwise."""
    heads = []
    for condition in columns:
        alike = [other.fields for other in columns if other.name == condition.name]
        varying = [
            f"{field}={value}"
            for field, value in condition.fields.items()
            if any(other.get(field) != value for other in alike)
        ]
        heads.append(" ".join([condition.name, *varying]))
    return heads


def compared_with(condition: Condition) -> Condition:
    """Return the condition to which another one's difference is taken: clean, on the same queries."""
    queries = condition.fields.get("queries")
    return Condition(CLEAN if queries is None else f"{CLEAN}(queries={queries})")
