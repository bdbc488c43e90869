"""From a block of results to the rows, marks and caption of its table under one measure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hashbench.results.result import Result
from hashbench.results.sweeps.estimates import plural
from hashbench.results.sweeps.planned import Planned
from hashbench.results.sweeps.run_status import SOURCES
from hashbench.results.tables.baseline import Baseline, with_differences
from hashbench.results.tables.best import with_best
from hashbench.results.tables.blocks import Block, further_names
from hashbench.results.tables.published import PublishedNumber, known_for, published_rows
from hashbench.results.tables.scores import Score, ScoresByRun
from hashbench.results.tables.table import COUNTED, DIGITS, Cell, Cost, Row, Table, footnote_mark
from hashbench.results.tables.tuning_costs import total_of, tuning_notes

_INPUTS = {"images": "images", "features": "fixed features", "pixels": "raw pixels", "vectors": "vectors",
           "text": "term vectors", "pairs": "pairs of users and items"}  # fmt: skip


#: The mark of rows whose equations are not known from the paper or its authors' code.
NOT_PUBLISHED = "°"


def table_of(
    block: Block,
    measure: str,
    scores: ScoresByRun,
    problems: list[str],
    *,
    apart: str = "",
    against: Baseline | None = None,
    published: Sequence[PublishedNumber] | None = None,
    planned: Sequence[Planned] = (),
) -> Table:
    """Return the table of `block`; warnings about it join `problems`.

    `apart` is what distinguishes the block from those of its description; `against` the baseline, to which the other
    rows' differences are shown and tested; `published` what papers printed, None where it is not wanted; `planned` the
    runs of sweeps, of which the missing ones are named.
    """
    evidence: dict[str, list[list[Score]]] = {}
    rows = []
    marks: dict[str, str] = {}  # inputs -> the mark of rows that learn from them, unlike the block
    contradicting: dict[str, list[str]] = {}  # label -> what of it contradicts its histograms
    cells_of: dict[str, str] = {}  # cell -> label
    runs_of: dict[str, list[Result]] = {}  # label -> those averaged
    scored: list[str] = []  # labels of references that have no codes
    collapsed: dict[str, str] = {}  # label -> in how many of its runs all items have one code
    for label, results in block.rows().items():
        chosen = [averaged(results, bits, f"{label} on {block.name}", problems) for bits in block.bits]
        evidence[label] = [[scores[run.id][measure] for run in runs] for runs in chosen]
        cells_of |= {run.coords["cell"]: label for runs in chosen for run in runs}
        if found := [_contradiction(run, scores[run.id][measure]) for runs in chosen for run in runs
                     if scores[run.id][measure].counted is not None]:  # fmt: skip
            contradicting[label] = found
        if not results[0].has_codes:
            scored.append(label)
        inputs = results[0].coords["inputs"]
        mark = "" if inputs == block.inputs else marks.setdefault(inputs, footnote_mark(len(marks)))
        cells = tuple(map(averaged_cell, evidence[label]))
        runs_of[label] = runs = [run for some in chosen for run in some]
        if alike := sum(run.code_stats.get("distinct_codes") == 1 for run in runs):
            collapsed[label] = f"{alike} of {len(runs)} runs ({label})"
        method = results[0].coords["method"]
        rows.append(
            Row(
                label,
                mark,
                cells,
                method=method,
                names=further_names(results[0]),
                cost=cost_of(runs),
                fidelity=fidelity_of(runs),
                ranked=results[0].has_codes,
            )
        )
    rows = with_best(rows)
    usual = _INPUTS.get(block.inputs, block.inputs)
    notes = [
        (mark, f"learned from {_INPUTS.get(inputs, inputs)}, the others from {usual}.")
        for inputs, mark in marks.items()
    ]
    later = [
        *([(contradicting, _contradictions(contradicting))] if contradicting else []),
        *_missing(block, cells_of, planned),
        *([(collapsed, f"all items have one code in {', '.join(collapsed.values())}.")] if collapsed else []),
        *([(scored, "ranked by real scores: it has no codes.")] if scored else []),
    ]
    used = len(marks)
    for labels, sentence in later:
        mark = footnote_mark(used) if labels else ""
        used += bool(labels)
        rows = [replace(row, mark=f"{row.mark} {mark}".strip()) if row.label in labels else row for row in rows]
        notes.append((mark, sentence))
    rows, new_notes = with_fidelity(rows)
    notes += [*new_notes, *tuning_notes(runs_of)]
    baseline, test = None, ""
    if against is not None:
        rows, new_notes, baseline, test = with_differences(against, rows, evidence)
        notes += new_notes
    learned = "" if block.inputs == "images" else f"learned from {usual}"
    parts = [block.describe(), learned, apart, seed_words(rows)]
    if published is not None:
        printed, new_notes = _printed(block, measure, published, problems, first_mark=used)
        rows, notes = [*rows, *printed], [*notes, *new_notes]
    return Table(
        dataset=block.name,
        measure=measure,
        caption=", ".join(part for part in parts if part) + ".",
        bits=tuple(block.bits),
        rows=tuple(rows),
        notes=tuple(notes),
        conditions=conditions_of(block),
        devices=devices_of(block.results),
        baseline=baseline,
        test=test,
    )


def _contradiction(run: Result, score: Score) -> str:
    assert score.value is not None
    assert score.counted is not None
    of_bounds = math.isclose(score.value, score.counted, abs_tol=1e-9)
    told = f"{score.value:.{DIGITS}f} stored, {score.counted:.{DIGITS}f} by its histograms"
    return f"{run.coords['bits']} bits, seed {run.coords['seed']} ({'its bounds by ties' if of_bounds else told})"


def _contradictions(found: Mapping[str, Sequence[str]]) -> str:
    told = "; ".join(f"{label} at {', '.join(runs)}" for label, runs in found.items())
    return f"what is stored contradicts the stored histograms: {told}; `hashbench verify` says more."


def _missing(
    block: Block, cells_of: Mapping[str, str], planned: Sequence[Planned]
) -> Iterator[tuple[Collection[str], str]]:
    """Yield the footnote about planned runs of a block without a result, with the labels of the rows that it marks.

    A cell without any result belongs to the block whose results the same sweep has planned.
    """
    sweeps = {sweep for run in planned if run.cell in cells_of for sweep in run.sweeps}
    elsewhere = {run.cell for run in planned if run.finished and run.cell not in cells_of}
    cells: dict[str, list[Planned]] = {}
    for run in planned:
        if run.cell in cells_of or (run.dataset == block.name and run.sweeps & sweeps and run.cell not in elsewhere):
            cells.setdefault(run.cell, []).append(run)
    lacking = {cell: runs for cell, runs in cells.items() if cell and not all(run.finished for run in runs)}
    if lacking:
        named = [(cells_of.get(cell, runs[0].row), runs[0].bits, runs) for cell, runs in lacking.items()]
        told = [
            f"{label} at {bits} bits ({sum(run.finished for run in runs)} of {len(runs)} {plural('seed', len(runs))})"
            for label, bits, runs in sorted(named, key=lambda each: each[:2])
        ]
        yield [cells_of[cell] for cell in lacking if cell in cells_of], f"the sweep is not complete: {', '.join(told)}."


def conditions_of(block: Block) -> dict[str, Any]:
    """Return what all runs of a block's table share, which distinguishes its tables from those of any other block."""
    return block.conditions | {f"epoch_{key}": value for key, value in (block.epoch or {}).items()}


def averaged(row: list[Result], bits: int, where: str, problems: list[str]) -> list[Result]:
    """Return the runs of a row at `bits` that may be averaged: all, but for those of another identity."""
    groups: dict[str, list[Result]] = {}
    for result in row:
        if result.coords["bits"] == bits:
            groups.setdefault(result.coords["cell"], []).append(result)
    if len(groups) > 1:
        # Equal coordinates and another identity: something moved that no caption can name.
        problems.append(
            f"{where} at {bits} bits has runs which differ in something that no caption names; the newest and those "
            f"like it are shown, move the others to another runs directory."
        )
    chosen = max(groups.values(), key=lambda runs: max(str(run.provenance.get("started")) for run in runs), default=[])
    for key, owner in SOURCES.items():
        if len({run.provenance[key] for run in chosen if key in run.provenance}) > 1:
            problems.append(
                f"{where} at {bits} bits averages runs of different source code of the {owner}; run them again, and "
                f"raise the {owner}'s version when its numbers move."
            )
    return chosen


def averaged_block(block: Block) -> tuple[Block, list[str]]:
    """Return the block with those runs alone of each row, code length and condition that `averaged` keeps, and its
    warnings.
    """
    problems, kept = list[str](), set[str]()
    for label, results in block.rows().items():
        under: dict[str, list[Result]] = {}
        for result in results:
            under.setdefault(result.condition, []).append(result)
        for condition, members in under.items():
            where = f"{label} under {condition} on {block.name}" if condition else f"{label} on {block.name}"
            kept |= {run.id for bits in block.bits for run in averaged(members, bits, where, problems)}
    return replace(block, results=tuple(result for result in block.results if result.id in kept)), problems


def averaged_cell(scores: Sequence[Score]) -> Cell:
    """Return the cell of runs that differ in the seed alone, by their scores."""
    known = [score for score in scores if score.value is not None]
    lower, upper = (_mean(score.lower for score in known), _mean(score.upper for score in known))
    return Cell(
        values=tuple(score.value for score in known if score.value is not None),
        bounds=None if lower is None or upper is None else (lower, upper),
    )


def cost_of(runs: Sequence[Result]) -> Cost:
    """Return the mean cost of a row's runs, and what its tuning took in all."""

    def mean(of: Callable[[Result], float | None]) -> float | None:
        return _mean(value for value in map(of, runs) if value is not None)

    return Cost(
        train_s=mean(lambda run: run.time.get("train")),
        prepare_s=mean(lambda run: run.time.get("prepare")),
        images_per_s=mean(lambda run: run.images_per_s),
        peak_memory_mb=mean(lambda run: run.peak_memory_mb),
        tuning_trials=total_of(runs, "trials"),
        tuning_s=total_of(runs, "seconds"),
    )


def fidelity_of(runs: Sequence[Result]) -> str:
    """Return what the newest of a row's runs states of its method's equations; "" where none states anything."""
    stating = [run for run in runs if run.provenance.get("fidelity")]
    newest = max(stating, key=lambda run: str(run.provenance.get("started")), default=None)
    return "" if newest is None else str(newest.provenance["fidelity"])


def with_fidelity(rows: Sequence[Row]) -> tuple[list[Row], list[tuple[str, str]]]:
    """Return the rows, marked where their equations are not published ones, and the footnote about their fidelity.

    Without mark and footnote where no row states any fidelity, or every one that it is unstated.
    """
    stated: dict[str, set[str]] = {}  # method -> of its rows
    for row in rows:
        stated.setdefault(row.method, set()).add(row.fidelity)
    named: dict[str, dict[str, None]] = {}  # fidelity -> methods, rows where those of a method differ
    for row in rows:
        name = row.method if len(stated[row.method]) == 1 else row.label
        if row.fidelity:
            named.setdefault(row.fidelity, {})[name] = None
    if {*named} <= {"unstated"}:
        return list(rows), []
    marked = [
        replace(row, mark=f"{row.mark} {NOT_PUBLISHED}".strip()) if row.fidelity not in ("", "published") else row
        for row in rows
    ]
    told = ", ".join(f"{fidelity} ({', '.join(named[fidelity])})" for fidelity in sorted(named))
    meaning = f"; {NOT_PUBLISHED} marks what is not published" if {*named} != {"published"} else ""
    return marked, [("", f"Fidelity: {told}{meaning}.")]


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of numbers; None without any, or with an unknown one among them."""
    found = list(values)
    known = [value for value in found if value is not None]
    return statistics.fmean(known) if known and len(known) == len(found) else None


def seed_words(rows: Sequence[Row]) -> str:
    """Return over how many seeds the cells of a table are means, in words; "" where it has none."""
    counts = {len(cell.values) for row in rows for cell in row.cells if cell.values}
    if not counts:
        return ""
    if counts == {1}:
        return "one seed"
    spread = str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    return f"{COUNTED} over {spread} seeds"


def _printed(
    block: Block, measure: str, numbers: Sequence[PublishedNumber], problems: list[str], *, first_mark: int
) -> tuple[list[Row], list[tuple[str, str]]]:
    """Return the published rows of a block and their footnotes, which say what differs from the runs."""
    rows: list[Row] = []
    if block.conditions["evaluated"] == "test":
        rows, meaning = published_rows(
            numbers, dataset=block.name, measure=measure, bits=block.bits, first_mark=first_mark
        )
    if not rows:
        known = "; ".join(known_for(numbers, block.name)) or "nothing"
        wanted = f"{block.name} {measure} on {block.conditions['evaluated']} queries"
        lengths = ", ".join(map(str, block.bits))
        problems.append(f"No published number fits {wanted} at {lengths} bits; for these images there is {known}.")
        return [], []
    own_backbone = block.conditions["backbone"] or "none"
    return rows, [
        (
            mark,
            f"printed in {number.source}, {number.where}, for the same protocol and measure: backbone {number.backbone}"
            f"{'' if number.backbone == own_backbone else f' (here {own_backbone})'}, epoch: {number.selection} (here "
            f"{block.epoch_words()}), ties as in its own code (here {block.conditions['ties']}). Not run here, so "
            f"neither ranked nor tested.",
        )
        for mark, number in meaning.items()
    ]


def devices_of(results: Iterable[Result]) -> tuple[str, ...]:
    """Return the devices of some runs with their CPU threads, each once."""
    found = []
    for provenance in (result.provenance for result in results):
        device, name, threads = (provenance.get(key) for key in ("device", "device_name", "threads"))
        if device is not None:
            found.append(f"{device} ({name}, {threads} thread{'' if threads == 1 else 's'})")
    return tuple(sorted(set(found)))
