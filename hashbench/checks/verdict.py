"""`hashbench check TARGET`: the contract's checks on a method, and a verdict that people can read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import torch

from hashbench.checks.method_checks import (
    BITS,
    DEEP_CHECKS,
    FITTED_CHECKS,
    MEMORY_CHECKS,
    PREFIX_CHECKS,
    Check,
    NotApplicable,
    keeps_samples,
    overrides_prepare,
    wrong_form,
)
from hashbench.checks.places import error_text
from hashbench.checks.toy_runs import Case, LearnedFrom
from hashbench.errors import HashbenchError
from hashbench.interop.loss_as_method import remarks
from hashbench.interop.targets import resolve_method
from hashbench.methods.contract import DeepMethod, Method, Registrable
from hashbench.registry import METHODS

if TYPE_CHECKING:
    from hashbench.checks.pair_checks import PairCase
    from hashbench.methods.pairs import PairMethod

C = TypeVar("C", "Case", "PairCase")


@dataclass(frozen=True)
class Line:
    """One line of a verdict."""

    state: str  # "ok" | "FAILED" | "warning" | "skipped"
    what: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.state:<8} {self.what}{': ' if self.reason else ''}{self.reason}"


@dataclass(frozen=True)
class Verdict:
    """What the checks found of a method."""

    title: str
    lines: tuple[Line, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(line.state != "FAILED" for line in self.lines)

    def render(self) -> str:
        """Return the verdict for people: a line for each check, and a count."""
        counts = {
            state: sum(line.state == state for line in self.lines) for state in ("ok", "FAILED", "warning", "skipped")
        }
        summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        return "\n".join([self.title, "", *map(str, self.lines), "", f"{summary}."])


def check(target: str | type[Method] | type[PairMethod]) -> Verdict:
    """Return the verdict on a method: a target as `resolve_method` takes, or a class under @hashbench.method.

    Raises HashbenchError where there is no such method; whatever goes wrong inside the method is a line of the verdict.
    """
    cls = resolve_method(target) if isinstance(target, str) else target
    if "info" not in vars(cls):
        raise HashbenchError(
            f"{cls.__name__} lacks the decorator @hashbench.method(name, ...); put it above the class."
        )
    info = cls.info
    paper = f", {info.paper}" if info.paper else ""
    title = f"{info.name} version {info.version}{paper}, from {METHODS.entries()[info.name].origin}"
    form = _line("its name, version and fields are in order", cls, lambda: wrong_form(cls))
    if form.state != "ok":
        return Verdict(title, (form,))
    if not issubclass(cls, Method):
        return Verdict(title, (form, *_checked_on_pairs(cls)))
    warnings = [Line("warning", "its class works without a script of its own", said) for said in remarks(cls)]
    checks = DEEP_CHECKS if issubclass(cls, DeepMethod) else FITTED_CHECKS
    checks = (*checks, *(PREFIX_CHECKS if cls.prefixes else ()), *(MEMORY_CHECKS if keeps_samples(cls) else ()))
    with _one_thread():
        unsupported, cases = _supported(cls, [*_cases(cls)])
        unprepared, cases = _prepared(cls, cases)
        checked = _checked(cls, checks, cases)
    return Verdict(title, (form, *warnings, *unsupported, *unprepared, *checked))


def _checked_on_pairs(cls: type[PairMethod]) -> list[Line]:
    """Return the lines of the checks on a method that learns from pairs."""
    from hashbench.checks.pair_checks import PAIR_CHECKS, PairCase

    with _one_thread():
        unsupported, cases = _supported(cls, [PairCase(cls, bits) for bits in BITS])
        return [*unsupported, *_checked(cls, PAIR_CHECKS, cases)]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread: toy batches are so small that distributing them takes longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _supported(cls: type[Registrable], every: Sequence[C]) -> tuple[list[Line], list[C]]:
    """Return the cases that the method supports, and a line for each reason why it does not support others."""
    lines: list[Line] = []
    cases: list[C] = []
    refused: dict[str, list[C]] = {}
    for case in every:
        try:
            reason = case.supports()
        except Exception as error:
            lines.append(Line("FAILED", f"supports(task), {case}", error_text(error, cls)))
            continue
        if reason is None:
            cases.append(case)
        elif isinstance(reason, str):
            refused.setdefault(reason, []).append(case)
        else:
            lines.append(Line("FAILED", f"supports(task), {case}", f"returned {reason!r:.40}, not None or a sentence."))
    lines += [Line("skipped", _in_words(some), f"not supported: {reason}") for reason, some in refused.items()]
    if not cases:
        lines.append(Line("FAILED", "supports(task)", "no toy task is supported, so nothing could be checked."))
    return lines, cases


def _cases(cls: type[Method]) -> Iterator[Case]:
    """Yield a method on images, as pixels where it trains no network, at all lengths; on vectors and text at two."""
    ends = tuple(dict.fromkeys((min(BITS), max(BITS))))
    images: LearnedFrom = "images" if issubclass(cls, DeepMethod) else "pixels"
    kinds: dict[LearnedFrom, tuple[int, ...]] = {images: BITS, "vectors": ends, "text": ends}
    for inputs, lengths in kinds.items():
        for multi_label in (False, True):
            for bits in lengths:
                yield Case(cls, bits, multi_label, inputs)


def _prepared(cls: type[Method], cases: list[Case]) -> tuple[list[Line], list[Case]]:
    """Return the cases with what the method prepares, once for each kind of data, as the runner does."""
    if not overrides_prepare(cls):
        return [], cases
    lines: list[Line] = []
    ready: list[Case] = []
    for kind in dict.fromkeys(case.data_kind for case in cases):
        alike = [case for case in cases if case.data_kind == kind]
        try:
            prepared = alike[0].prepare()
        except Exception as error:
            lines.append(Line("FAILED", f"it prepares, {kind}", error_text(error, cls)))
            continue
        ready += [replace(case, prepared=prepared) for case in alike]
    return lines, ready


def _checked(cls: type[Registrable], checks: Sequence[Check], cases: Sequence[C]) -> list[Line]:
    """Return a line for each check over all cases that were not dropped by an earlier one."""
    lines = []
    for what, run, decides, once in checks:
        chosen = cases[:1] if once else cases
        found = {case: _line(what, cls, lambda case=case, run=run: run(case)) for case in chosen}  # type: ignore[misc, has-type]
        failed = [case for case, line in found.items() if line.state == "FAILED"]
        if failed:
            more = f" (also {_in_words(failed[1:])})" if len(failed) > 1 else ""
            lines.append(Line("FAILED", what, f"{failed[0]}: {found[failed[0]].reason}{more}"))
        elif found:
            lines.append(min(found.values(), key=lambda line: line.state))  # ok goes before skipped
        if decides:
            cases = [case for case in cases if case not in failed]
    return lines


def _line(what: str, cls: type[Registrable], run: Callable[[], str | None]) -> Line:
    try:
        reason = run()
    except NotApplicable as error:
        return Line("skipped", what, str(error))
    except Exception as error:
        return Line("FAILED", what, error_text(error, cls))
    return Line("ok", what) if reason is None else Line("FAILED", what, reason)


def _in_words(cases: Sequence[Case] | Sequence[PairCase]) -> str:
    """Return `single-label at 12 and 16 bits, multi-label at 12 bits`."""
    parts = []
    for kind in dict.fromkeys(case.data_kind for case in cases):
        *others, last = [str(case.bits) for case in cases if case.data_kind == kind]
        parts.append(f"{kind} at {', '.join(others)}{' and ' if others else ''}{last} bits")
    return ", ".join(parts)
