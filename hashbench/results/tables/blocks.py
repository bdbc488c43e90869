"""Blocks of results that may be compared: those that differ in method, code length and seed only.

Tables and figures, and whatever compares results later, group them here, so that nothing is averaged by accident.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hashbench.storage.strict_json import canonical, dumps

if TYPE_CHECKING:
    from hashbench.results.result import Result

# The coordinates that a block spreads out. Every other one keeps runs apart, also one that a later hashbench adds.
_ROW = ("method", "method_version", "base_version", "fields", "lengths", "start", "tuned", "fixed_views")
_SHOWN = ("method_version", "base_version", "lengths", "inputs")  # in a row's label, where the runs of a method differ
_SPREAD = {*_ROW, "bits", "seed", "inputs", "measure", "cell"}
_PROVENANCE = ("split_sha256", "data_integrity", "weights_sha256")  # equal names, other contents

# What the rows of a block mostly learn from, the first found.
_BY_TRAINING = ("images", "features", "vectors", "text", "pixels")


@dataclass(frozen=True)
class Block:
    """Results that may share a table or a panel."""

    conditions: dict[str, Any]  # what they share
    epoch: dict[str, Any] | None  # {"kept", "of"} of those trained in epochs; None where none is
    results: tuple[Result, ...]

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    @property
    def name(self) -> str:
        """The data set and protocol: `cifar10@54k`."""
        return f"{self.conditions['dataset']}@{self.conditions['protocol']}"

    @property
    def part(self) -> str:
        """The queries' part of the data set: "test" or "validation"."""
        return self.results[0].part

    @property
    def integrity(self) -> str:
        """The sha256 of images and labels, as the results state it."""
        return str(self.results[0].provenance.get("data_integrity"))

    @property
    def condition(self) -> str:
        """The condition under which the runs were measured again; "" of the runs themselves."""
        return self.results[0].condition

    @property
    def bits(self) -> list[int]:
        """The code lengths that occur, ascending."""
        return sorted({result.coords["bits"] for result in self.results})

    @property
    def inputs(self) -> str:
        """What the block's deep methods learn from; a row that learns from something else needs a mark."""
        found = {result.coords["inputs"] for result in self.results}
        return next((inputs for inputs in _BY_TRAINING if inputs in found), min(found))

    def rows(self, *, short: bool = True) -> dict[str, list[Result]]:
        """Return the results by row label, `crh (reassign=false)`; where `short`, a tuned row is `crh (tuned)`, unless
        another row would be called so, too.

        Methods come in the order in which they first occur, the variants of one by their labels.
        """
        alike = Counter(brief for _, brief in self._named)
        rows: dict[str, list[Result]] = {}
        for (label, brief), results in self._named.items():
            rows.setdefault(brief if short and alike[brief] == 1 else label, []).extend(results)
        methods = list(dict.fromkeys(result.coords["method"] for result in self.results))
        return dict(sorted(rows.items(), key=lambda row: (methods.index(row[1][0].coords["method"]), row[0])))

    @cached_property
    def _named(self) -> dict[tuple[str, str], list[Result]]:
        """The results by label and short label."""
        seen: dict[tuple[str, str], set[str]] = {}  # (method, coordinate) -> its values
        for result in self.results:
            for key in _SHOWN:
                seen.setdefault((result.coords["method"], key), set()).add(canonical(result.coords.get(key)))
        named: dict[tuple[str, str], list[Result]] = {}  # (label, short label) -> results
        for result in self.results:
            shown = [key for key in _SHOWN if len(seen[result.coords["method"], key]) > 1]
            labels = row_label(result, shown), row_label(result, shown, settings=False)
            named.setdefault(labels, []).append(result)
        return named

    def epoch_words(self) -> str:
        """Return which epoch counts: `last epoch`."""
        if self.epoch is None:
            return "no epochs"
        kept = self.epoch["kept"]
        return f"epoch {kept}" if isinstance(kept, int) else f"{kept} epoch"

    def describe(self) -> str:
        """Return the conditions that every caption names, as a part of a sentence."""
        return ", ".join(
            [
                f"backbone {self.conditions['backbone'] or 'none'}",
                f"recipe {self.conditions['recipe']}",
                self.epoch_words() + (f" of {self.epoch['of']}" if self.epoch else ""),
                f"{self.part} queries" + (f" under {self.condition}" if self.condition else ""),
                *([f"relevance by {self.conditions['relevance']}"] if "relevance" in self.conditions else []),
                f"ties {self.conditions['ties']}",
            ]
        )


def blocks(results: Iterable[Result]) -> list[Block]:
    """Return the blocks of `results` in the order in which they first occur; a block is one already."""
    if isinstance(results, Block):
        return [results]
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(canonical(_conditions(result)), []).append(result)
    return [
        Block(_conditions(group[0]), epoch, tuple(member for member in group if _epoch(member) in (epoch, None)))
        for group in groups.values()
        for epoch in _epochs(group)
    ]


def differences(found: Sequence[Block]) -> list[str]:
    """Return for each block what distinguishes it from those that `describe` the same, "" where there are none."""
    described = [(block.name, block.describe()) for block in found]
    texts = []
    for block, words in zip(found, described, strict=True):
        alike = [other for other, theirs in zip(found, described, strict=True) if theirs == words]
        keys = dict.fromkeys(key for other in alike for key in other.conditions)
        differing = [key for key in keys if len({canonical(other.conditions.get(key)) for other in alike}) > 1]
        texts.append(", ".join(f"{_words(key)} {_short(block.conditions.get(key))}" for key in differing))
    return texts


def _conditions(result: Result) -> dict[str, Any]:
    coords = {key: value for key, value in result.coords.items() if key not in _SPREAD}
    return coords | {"ties": result.ties} | {key: result.provenance.get(key) for key in _PROVENANCE}


def _epoch(result: Result) -> dict[str, Any] | None:
    return {"kept": result.epoch["kept"], "of": result.epoch["of"]} if result.epoch["of"] else None


def _epochs(group: Sequence[Result]) -> list[dict[str, Any] | None]:
    """Return the different epochs of a group; None, for methods that know no epochs, only where all are such."""
    found: list[dict[str, Any] | None] = []
    for epoch in map(_epoch, group):
        if epoch is not None and epoch not in found:
            found.append(epoch)
    return found or [None]


def row_label(result: Result, shown: Sequence[str] = (), *, settings: bool = True) -> str:
    """Return the method's name with its changed fields, its tuning, its fixed views, what its training began with,
    and what is `shown`.

    The latter are of versions, lengths and inputs. Of tuning, the `settings` that it found and its trials are named,
    else only that it was.
    """
    coords = result.coords
    name = coords["method"] + (f" v{coords['method_version']}" if "method_version" in shown else "")
    fields = _words_of(coords["fields"] if settings else _given(coords))
    if "tuned" in coords:
        fields += tuned_words(coords["tuned"]) if settings else [f"tuned{_on_other_data(coords['tuned'])}"]
    fields += [views_words(coords["fixed_views"])] if "fixed_views" in coords else []
    fields += [f"start={coords['start']}"] if "start" in coords else []
    fields += [f"base v{coords['base_version']}"] if "base_version" in shown else []
    fields += [f"trained for {' '.join(map(str, coords['lengths']))} bits"] if "lengths" in shown else []
    fields += [f"from {coords['inputs']}"] if "inputs" in shown else []
    return f"{name} ({', '.join(fields)})" if fields else name


def label_by_fields(result: Result) -> str:
    """Return the method's name with its changed fields alone, `crh ()` where there are none, however it was tuned,
    started or trained.
    """
    return f"{result.coords['method']} ({', '.join(_words_of(_given(result.coords)))})"


def further_names(result: Result) -> tuple[str, ...]:
    """Return what the row of a result is called elsewhere: with and without what its tuning found, by its fields."""
    return row_label(result), row_label(result, settings=False), label_by_fields(result)


def _given(coords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changed fields that no tuning has set."""
    searched = coords.get("tuned", {}).get("settings", {})
    return {name: value for name, value in coords["fields"].items() if f"{coords['method']}.{name}" not in searched}


def _words_of(fields: Mapping[str, Any]) -> list[str]:
    return [f"{name}={_value(value)}" for name, value in sorted(fields.items())]


def tuned_words(tuned: Mapping[str, Any]) -> list[str]:
    """Return what a row's label says of its tuning: settings of the recipe, which the other rows need not have."""
    recipe = [f"recipe.{name}={text}" for name, text in tuned["recipe"].items()]
    trials = f"{tuned['trials']} trial{'' if tuned['trials'] == 1 else 's'}"
    return [*recipe, f"tuned over {trials}{_on_other_data(tuned)}"]


def _on_other_data(tuned: Mapping[str, Any]) -> str:
    return f" on {tuned['data']}" if "data" in tuned else ""


def views_words(count: int) -> str:
    """Return what a row's label says of views that were drawn once, which methods of one view do not have."""
    return f"{count} fixed view{'' if count == 1 else 's'}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else dumps(value)


def _words(key: str) -> str:
    return key.removesuffix("_sha256").replace("_", " ")


def _short(value: Any) -> str:
    text = _value(value)
    return text[:8] if len(text) == 64 else text  # a sha256 by its start
