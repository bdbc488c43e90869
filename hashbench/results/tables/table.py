"""The table of a comparison as plain values, for every format, figure and report."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

DIGITS = 4  # of a mean, its std and a difference, where no other number is asked for
PERCENT_DIGITS = 1
MOST_DIGITS = 8
ALPHA = 0.05  # the level of every test, after Holm's correction
_MARKS = "†‡§¶"
# Words of captions and notes that another notation replaces.
COUNTED = "mean ± std (n)"
IN_UNITS = "in units of the measure"
ONE_POINT = ": +0.0100 is one point of 100 more"


def footnote_mark(place: int) -> str:
    """Return the mark of a table's footnote number `place`, from 0: †, ‡, §, ¶, ††, ..."""
    return _MARKS[place % len(_MARKS)] * (place // len(_MARKS) + 1)


@dataclass(frozen=True)
class Cell:
    """What the seeds of one method and code length gave; no values where nothing is known."""

    values: tuple[float, ...] = ()  # one a seed, in [0, 1]; the only one of a published number
    bounds: tuple[float, float] | None = None  # mean over seeds of the worst and the best order of ties
    best: bool = False  # of its column, at the printed precision
    second: bool = False  # the next best, likewise
    difference: float | None = None  # of the mean to the baseline's, in units of the measure
    p: float | None = None  # of the test against the baseline, Holm-corrected over the table; None if not tested

    @property
    def mean(self) -> float:
        """The mean over seeds; nan without values."""
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def std(self) -> float | None:
        """The sample standard deviation over seeds (n - 1); None for fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def significance(self) -> Literal["above", "below", ""]:
        """Whether it lies significantly above or below the baseline."""
        if self.p is None or self.difference is None or self.p >= ALPHA:
            return ""
        return "above" if self.difference > 0 else "below"


@dataclass(frozen=True)
class Cost:
    """Means over the runs of a row, and what its tuning took; None where nothing is known, or nothing was tuned."""

    train_s: float | None = None  # the training alone
    prepare_s: float | None = None  # the method's own stages before it, also where they came from the cache
    images_per_s: float | None = None
    peak_memory_mb: float | None = None
    tuning_trials: float | None = None  # all that were tried for the row's settings, on validation queries
    tuning_s: float | None = None  # which they took


@dataclass(frozen=True)
class Row:
    """One method, with the fields that differ from its defaults, or a published method; `mark` points to a footnote."""

    label: str
    mark: str
    cells: tuple[Cell, ...]  # one for each of the table's code lengths
    method: str = ""  # its registered name, or the paper's
    names: tuple[str, ...] = ()  # by which it may be meant, too: as blocks.further_names gives them
    cost: Cost = Cost()
    fidelity: str = ""  # where the method's equations come from, as its newest run states; "" where none does
    source: str = ""  # of published numbers, "arXiv:2507.08404, table 6"; "" for runs
    ranked: bool = True  # whether it may be the best; a reference without codes may not

    @property
    def published(self) -> bool:
        """Whether the numbers come from a paper: never marked best, and never compared."""
        return bool(self.source)


@dataclass(frozen=True)
class Table:
    """One block of results under one measure."""

    dataset: str  # with its protocol, cifar10@54k
    measure: str
    caption: str
    bits: tuple[int, ...]
    rows: tuple[Row, ...]  # the baseline first, published ones last
    notes: tuple[tuple[str, str], ...]  # footnotes: (mark or "", sentence)
    conditions: Mapping[str, Any]  # what all runs of the table share: backbone, recipe, hashes, ...
    devices: tuple[str, ...] = ()  # on which they ran
    baseline: str | None = None  # the label of the row to which `difference` and `p` refer
    test: str = ""  # behind the cells' `p`, "" where nothing was tested
    heads: tuple[str, ...] = ()  # of the columns, where they are conditions, all of one code length
    columns: tuple[str, ...] = ()  # the conditions in full

    @property
    def column_heads(self) -> tuple[str, ...]:
        """The head of each column of cells: `32 bits`, or a condition."""
        return self.heads or tuple(f"{bits} bits" for bits in self.bits)

    @property
    def title(self) -> str:
        """Data set, protocol and measure: `cifar10@54k: mAP@all`."""
        return f"{self.dataset}: {self.measure}"


@dataclass(frozen=True)
class Notation:
    """How a table writes its values: as they are, in [0, 1], or in percent, with so many decimals."""

    percent: bool = False
    digits: int = DIGITS

    def number(self, value: float) -> str:
        """Return a mean, a deviation or a bound: 0.8120, or 81.2 in percent."""
        return f"{100 * value if self.percent else value:.{self.digits}f}"

    def signed(self, difference: float) -> str:
        """Return a difference with its sign: +0.0120, −0.0120, ±0.0000."""
        text = self.number(difference)
        if not float(text):
            return f"±{0:.{self.digits}f}"
        return f"+{text}" if difference > 0 else text.replace("-", "−")


AS_MEASURED = Notation()
