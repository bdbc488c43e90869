"""`hashbench check TARGET`: the contract's checks on a method, and a verdict that people can read."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from hashbench.checks.method_checks import (
    BITS,
    DEEP_CHECKS,
    FITTED_CHECKS,
    Check,
    NotApplicable,
    overrides_prepare,
    wrong_form,
)
from hashbench.checks.toy_runs import CPU, Case
from hashbench.errors import HashbenchError
from hashbench.experiments.models import task_of
from hashbench.interop.targets import resolve_method
from hashbench.methods.contract import DeepMethod, Method
from hashbench.registry import METHODS


@dataclass(frozen=True)
class Line:
    """One line of a verdict."""

    state: str  # "ok" | "FAILED" | "skipped"
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
        counts = {state: sum(line.state == state for line in self.lines) for state in ("ok", "FAILED", "skipped")}
        summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        return "\n".join([self.title, "", *map(str, self.lines), "", f"{summary}."])


def check(target: str | type[Method]) -> Verdict:
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
    checks = DEEP_CHECKS if issubclass(cls, DeepMethod) else FITTED_CHECKS
    with _one_thread():
        unsupported, cases = _supported(cls)
        unprepared, cases = _prepared(cls, cases)
        checked = _checked(cls, checks, cases)
    return Verdict(title, (form, *unsupported, *unprepared, *checked))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread: toy batches are so small that distributing them takes longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _supported(cls: type[Method]) -> tuple[list[Line], list[Case]]:
    """Return the cases that the method supports, and a line for each reason why it does not support others."""
    lines: list[Line] = []
    cases: list[Case] = []
    refused: dict[str, list[Case]] = {}
    for case in (Case(cls, bits, multi_label) for multi_label in (False, True) for bits in BITS):
        try:
            reason = cls(**case.experiment.fields).supports(task_of(case.experiment, CPU))
        except Exception as error:
            lines.append(Line("FAILED", f"supports(task), {case}", _error_text(error, cls)))
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


def _prepared(cls: type[Method], cases: list[Case]) -> tuple[list[Line], list[Case]]:
    """Return the cases with what the method prepares, once for each label kind, as the runner does."""
    if not overrides_prepare(cls):
        return [], cases
    lines: list[Line] = []
    ready: list[Case] = []
    for labels in dict.fromkeys(case.labels for case in cases):
        alike = [case for case in cases if case.labels == labels]
        try:
            prepared = alike[0].prepare()
        except Exception as error:
            lines.append(Line("FAILED", f"it prepares, {labels}", _error_text(error, cls)))
            continue
        ready += [replace(case, prepared=prepared) for case in alike]
    return lines, ready


def _checked(cls: type[Method], checks: Sequence[Check], cases: Sequence[Case]) -> list[Line]:
    """Return a line for each check over all cases that were not dropped by an earlier one."""
    lines = []
    for what, run, decides in checks:
        found = {case: _line(what, cls, lambda case=case, run=run: run(case)) for case in cases}  # type: ignore[misc]
        failed = [case for case, line in found.items() if line.state == "FAILED"]
        if failed:
            more = f" (also {_in_words(failed[1:])})" if len(failed) > 1 else ""
            lines.append(Line("FAILED", what, f"{failed[0]}: {found[failed[0]].reason}{more}"))
        elif found:
            lines.append(next(iter(found.values())))
        if decides:
            cases = [case for case in cases if case not in failed]
    return lines


def _line(what: str, cls: type[Method], run: Callable[[], str | None]) -> Line:
    try:
        reason = run()
    except NotApplicable as error:
        return Line("skipped", what, str(error))
    except Exception as error:
        return Line("FAILED", what, _error_text(error, cls))
    return Line("ok", what) if reason is None else Line("FAILED", what, reason)


def _error_text(error: Exception, cls: type[Method]) -> str:
    """Return an error with the line of the method's file that it passed through last."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    errors = [error, error.__cause__] if error.__cause__ else [error]
    frames = [frame for raised in errors for frame in traceback.extract_tb(raised.__traceback__)]
    lines = [frame.lineno for frame in frames if frame.filename == file]
    kind = "" if isinstance(error, HashbenchError) else f"{type(error).__name__}: "
    return f"{kind}{error}{f' (line {lines[-1]} of {file})' if lines else ''}"


def _in_words(cases: Sequence[Case]) -> str:
    """Return `single-label at 12 and 16 bits, multi-label at 12 bits`."""
    parts = []
    for labels in dict.fromkeys(case.labels for case in cases):
        *others, last = [str(case.bits) for case in cases if case.labels == labels]
        parts.append(f"{labels} at {', '.join(others)}{' and ' if others else ''}{last} bits")
    return ", ".join(parts)
