"""The table of measures: an entry for each, from which names, guesses, docs and tests follow; plug-ins add their own.

A plug-in is a function with the decorator `measure`, in this process or behind an entry point of the group
`hashbench.measures`, which is looked at where a name is in no entry yet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from inspect import Parameter, cleandoc, signature
from typing import Any, TypeVar, get_args

import numpy as np

from hashbench.metrics import ranking
from hashbench.metrics.compatibility import MODES
from hashbench.metrics.histograms import Histograms
from hashbench.metrics.ranking import Denominator, Ties

GROUP = "hashbench.measures"
RADII = (0, 1, 2, 3)  # of the names that are guessed
DIGITS = 18  # of the numbers in a name; more are beyond int64
_PLUG_IN_FORM = re.compile(r"[A-Za-z][\w-]*(@\{k\}|@\{k\|all\}|@H<=\{radius\})?")
_PIECE = re.compile(r"(\{[^}]*\}|\[|\])")
_PATTERNS = {
    "{k}": r"(?P<k>\d+)",
    "{k|all}": r"(?P<k>\d+|all)",
    "{radius}": r"(?P<radius>\d+)",
    "{rule}": r"(?P<rule>[\w-]+)",
    "[": "(?:",
    "]": ")?",
}
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry:
    """One kind of measure: the form of its names, and the function of histograms that they stand for.

    form has the places {k} (a cut, 1 or more), {k|all}, {radius} (0 or more) and {rule}, and brackets around what may
    be left out. The function takes Histograms and, by keyword, what the form has places for; it returns (Q,) values, or
    a Curve where `curve` says so. It takes `ties` too where the order of tied items can change its values. `gains`: it
    needs counts by gain. `cuts` and `rules` are those of the names that are shown and guessed; `settle` brings what a
    name says into the function's terms, and raises ValueError where its parts do not go together.
    """

    form: str
    function: Callable[..., Any]
    curve: bool = False
    gains: bool = False
    cuts: tuple[int, ...] = (10, 100, 1000)
    rules: tuple[str, ...] = ()
    settle: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda name, found: found

    @property
    def kind(self) -> str:
        """What its names start with, "P@H" of "P@H<=2": no two entries share it."""
        return re.split(r"[{\[]", self.form)[0].rstrip("@<=")

    @cached_property
    def depends_on_ties(self) -> bool:
        """Whether the order of items at one distance can change the values."""
        return "ties" in signature(self.function).parameters

    @property
    def summary(self) -> str:
        """What it is: the first sentence of its function's docstring, without the shape of what it returns."""
        said = " ".join(cleandoc(self.function.__doc__ or "").partition("\n\n")[0].split())
        return re.sub(r",? \(Q,[^)]*\)( float\d+)?", "", said.removeprefix("Return "))

    def name(self, **found: Any) -> str:
        """Return the name of the measure with this k, radius and rule, None being all of the ranking or no rule."""
        bare = re.sub(r"\[(.*?)\]", r"\1" if found.get("rule") is not None else "", self.form)
        return re.sub(r"\{(\w+)[^}]*\}", lambda place: _written(found.get(place[1])), bare)

    def read(self, name: str) -> dict[str, Any] | None:
        """Return k, radius and rule as `name` says them, None where it is no name of this form.

        Raises ValueError for a name of this form that does not say one thing.
        """
        match = self._pattern.fullmatch(name.strip())
        if match is None:
            return None
        found: dict[str, Any] = match.groupdict()
        settled = dict(self.settle(name, found))
        if settled.get("radius") is not None:
            settled["radius"] = _number(settled["radius"], name)
        if "k" in settled:
            settled["k"] = None if settled["k"] == "all" else _positive(settled["k"], name)
        return settled

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """What matches the names of this form, with the groups k, radius and rule."""
        pieces = (
            _PATTERNS.get(piece) or re.escape(piece).replace("<=", "(?:<=)?") for piece in _PIECE.split(self.form)
        )
        return re.compile("".join(pieces))

    def shown(self) -> list[str]:
        """Return names that show the form, as messages and docs write it."""
        return self._names(self.cuts[1:2], (2,))

    def guesses(self) -> list[str]:
        """Return the names among which the nearest to a mistyped one is looked for."""
        return self._names(self.cuts, RADII)

    def _names(self, cuts: tuple[int, ...], radii: tuple[int, ...]) -> list[str]:
        found = [self.name()] if "|all" in self.form or "{" not in self.form else []
        if "{k" in self.form:
            found += [self.name(k=k, rule=rule) for k in cuts for rule in self.rules or (None,)]
        if "{radius}" in self.form:
            found += [self.name(radius=radius) for radius in radii]
        return found


def _average_precision(hist: Histograms, *, k: int | None, rule: Denominator | None, ties: Ties) -> np.ndarray:
    """Return the average precision of each query over its first k items or the whole ranking, divided as rule says."""
    return ranking.average_precision(hist, k, denominator=rule or "R", ties=ties)


def _settled_average_precision(name: str, found: dict[str, Any]) -> dict[str, Any]:
    rules = (*get_args(Denominator), *MODES)
    cut, rule = found["k"], found["rule"]
    if rule is not None and rule not in rules:
        raise ValueError(f"Unknown denominator or mode '{rule}' in '{name}'; known are {', '.join(rules)}.")
    if cut == "all":
        # Over the whole ranking the three denominators are one.
        return {"k": cut, "rule": rule if rule in MODES else None}
    if rule is None:
        raise ValueError(
            f"'{name}' does not say what it divides by; write {name}/hits (relevant items among the first {cut}, the "
            f"field's usual), {name}/R (all relevant items) or {name}/min (the smaller of {cut} and R)."
        )
    return found


_BUILT_IN = (
    Entry(
        "mAP@{k|all}[/{rule}]",
        _average_precision,
        cuts=(100, 1000, 5000),
        rules=("hits", "R", "min"),
        settle=_settled_average_precision,
    ),
    Entry("P@{k}", ranking.precision_at),
    Entry("R@{k}", ranking.recall_at),
    Entry("HR@{k}", ranking.hit_rate_at),
    Entry("nDCG@{k}", ranking.ndcg_at, gains=True),
    Entry("P@H<={radius}", ranking.precision_in_ball),
    Entry("R@H<={radius}", ranking.recall_in_ball),
    Entry("F1@H<={radius}", ranking.f1_in_ball),
    Entry("PR", ranking.curve_by_radius, curve=True),
    Entry("PR@k", ranking.curve_by_rank, curve=True),
)
_TABLE: dict[str, Entry] = {entry.kind: entry for entry in _BUILT_IN}


def entries() -> Iterator[Entry]:
    """Yield every entry: ours, then those that plug-ins added so far."""
    yield from tuple(_TABLE.values())


def entry(kind: str) -> Entry:
    """Return the entry of a kind; raises ValueError where the table has none."""
    if kind not in _TABLE:
        raise ValueError(f"There is no kind of measure '{kind}'; known are {', '.join(_TABLE)}.")
    return _TABLE[kind]


def is_built_in(kind: str) -> bool:
    """Whether the kind of measure is one of hashbench's own."""
    return any(kind == entry.kind for entry in _BUILT_IN)


def forms() -> str:
    """Return how measures are written, as the end of a sentence."""
    shown = ", ".join(name for entry in entries() for name in entry.shown())
    return f"{shown} (and mAP@1000/MODE with a mode of {', '.join(MODES)})"


def measure(form: str, *, curve: bool = False, gains: bool = False) -> Callable[[Function], Function]:
    """Return the decorator that makes a function of histograms a measure, whose names have this `form`.

    `form` is NAME, `NAME@{k}` (a cut), `NAME@{k|all}` or `NAME@H<={radius}`. The function gets a Histograms and, by
    keyword, `k` (None for all) or `radius`; it returns the value of each query, (Q,) float64 in [0, 1], or with `curve`
    a Curve. A function with a parameter `ties` is asked under "expected", "optimistic" and "pessimistic", for the mean,
    largest and smallest value over all orders of tied items. `gains`: it needs `hist.gains`. Raises ValueError for
    another form, for parameters that do not fit it, and for a name that is taken.
    """

    def register(function: Function) -> Function:
        add(Entry(form, function, curve=curve, gains=gains))
        return function

    return register


def add(new: Entry) -> None:
    """Add a plug-in's entry to the table; defined again in its own module, as in a notebook, the newer one counts.

    Raises ValueError as `measure` says.
    """
    if not _PLUG_IN_FORM.fullmatch(new.form):
        raise ValueError(
            f"'{new.form}' is no form of a measure's names; write NAME, NAME@{{k}}, NAME@{{k|all}} or "
            "NAME@H<={radius}."
        )
    _check_parameters(new)
    for kind, known in _TABLE.items():
        if kind.casefold() != new.kind.casefold():
            continue
        home = known.function.__module__
        if kind != new.kind or is_built_in(kind) or home != new.function.__module__:
            raise ValueError(
                f"The measure '{new.form}' cannot be told from '{known.form}' of {home}; choose another name for the "
                f"one in {new.function.__module__}."
            )
    _TABLE[new.kind] = new


def load_plug_ins() -> list[str]:
    """Import the measures that installed distributions name; returns a sentence for each that does not load."""
    problems = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        origin = f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed distribution"
        try:
            function = point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plug-in may do anything while it is imported, even leave
            problems.append(f"The measure '{point.name}' from {origin} does not load: {type(error).__name__}: {error}.")
            continue
        if not any(entry.function is function for entry in entries()):
            problems.append(
                f"The measure '{point.name}' from {origin} cannot be used: {point.value} lacks the decorator "
                "@hashbench.measure(form)."
            )
    return problems


def _check_parameters(new: Entry) -> None:
    parameters: Mapping[str, Parameter] = signature(new.function).parameters
    _, *others = parameters or ("",)
    places = re.findall(r"\{(\w+)", new.form)
    needed = [name for name in others if parameters[name].default is Parameter.empty and name != "ties"]
    if not parameters or not {*needed} <= {*places} <= {*others}:
        wanted = ", ".join(["hist", *places])
        raise ValueError(
            f"The function of the measure '{new.form}' must have the parameters ({wanted}), and ties where their order "
            f"matters; it has ({', '.join(parameters)})."
        )
    if new.curve and new.depends_on_ties:
        raise ValueError(f"The curve '{new.form}' has no bounds; leave out ties and return its expectation.")


def _written(value: Any) -> str:
    return "all" if value is None else str(value)


def _positive(digits: str, name: str) -> int:
    if _number(digits, name) == 0:
        raise ValueError(f"'{name}' keeps no item; its cut must be at least 1.")
    return int(digits)


def _number(digits: str, name: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"'{name:.40}' has a number of {len(digits)} digits; write one of {DIGITS} at most.")
    return int(digits)
