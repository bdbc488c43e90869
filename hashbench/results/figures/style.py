"""The one style of all figures: colours, panels, captions, files. Each method keeps its colour in every figure."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from hashbench.errors import HashbenchError
from hashbench.results.result import Result
from hashbench.results.tables.blocks import Block, blocks, differences
from hashbench.results.tables.escaping import plain
from hashbench.storage.files import make_folder, replacing

FORMATS = ("png", "svg", "pdf")
PAPER = "#ffffff"
INK = "#222222"
GREY = "#666666"  # captions and notes
GRID = "#e6e6e6"
STYLE: Any = {
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "errorbar.capsize": 2.5,
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "savefig.dpi": 200,
    "text.parse_math": False,  # a plug-in may have a $ in its name
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "hashbench",  # the same figure is the same file
}
# Paul Tol's "muted" scheme, told apart with every common colour blindness (https://personal.sron.nl/~pault/).
COLOURS = ("#332288", "#cc6677", "#117733", "#88ccee", "#ddcc77", "#aa4499", "#44aa99", "#882255", "#999933")
COLOURS_ON_DARK = (
    *("#9f94ff", "#e5899a", "#4fbf76", "#88ccee", "#ddcc77", "#d581ca", "#55c2b2", "#d96a9c", "#bfbf55"),
)
_POINTS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")  # one a colour, where single points are drawn
_MARKERS = ("", "o", "s", "^")  # a second round through the colours is told apart by markers on curves
_DASHES = ("-", "--", ":", "-.")  # variants of one method share its colour ...
_LATER_DASHES = ((0, (6, 1, 1, 1, 1, 1)), (0, (3, 2)), (0, (1, 2.5)), (0, (8, 2, 2, 2)))  # ... four of them; then these
_STEP = 4  # places to the next colour of a method with more variants: every colour comes before one comes again
_FILLS = ("full", "none", "left", "right")  # ... and, where points stand alone, its marker
# Methods that often share a figure get colours far apart; a name that is not here gets one by its hash.
_KNOWN = ("crh", "csq", "dpn", "shc", "itq", "lsh", "classifier", "hashnet", "dpsh")

_LETTER = 0.065  # inches that a letter of the legend takes
_NARROW = 3.6  # inches of a figure on the page of a telephone


def the_block(results: Iterable[Result]) -> Block:
    """Return the one block that `results` are; raises HashbenchError where they may not share a figure."""
    found = blocks(results)
    if not found:
        raise HashbenchError("There are no results to draw; name finished runs.")
    if len(found) > 1:
        described = [
            ", ".join(filter(None, (b.name, b.describe(), d))) for b, d in zip(found, differences(found), strict=True)
        ]
        raise HashbenchError(
            f"These results do not belong into one figure: {described[0]} against {described[1]}; plot them apart."
        )
    return found[0]


def styles(labels: Iterable[str], *, points: bool = False) -> dict[str, dict[str, Any]]:
    """Return how each row label is drawn: its method's colour, and dashes for the method's variants in turn.

    From a method's fifth variant on, colour and dashes are others. With `points`, each method has a marker of its own
    at every point; else curves are told apart by colour and dash.
    """
    found: dict[str, dict[str, Any]] = {}
    for label, (turn, place) in _variants(labels).items():
        own, marker = _colour_and_marker(_method(label))
        dashes = _DASHES if COLOURS[place] == own else _LATER_DASHES
        found[label] = {"color": COLOURS[place], "linestyle": dashes[turn]}
        if points:
            found[label] |= {"marker": marker or _POINTS[COLOURS.index(own)], "fillstyle": _FILLS[turn]}
        else:
            found[label] |= {"marker": marker, "markevery": 0.12}
    return found


def colour_of(label: str, among: Iterable[str] = ()) -> int:
    """Return the place in COLOURS of a row label that shares a figure with the labels `among`."""
    return _variants({label, *among})[label][1]


def _variants(labels: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return for each label which of its method's dashes it has, and the place of its colour."""
    counted: dict[str, int] = {}
    found = {}
    for label in sorted(labels):  # a method without changed fields comes first, and is solid
        variant = counted[_method(label)] = counted.get(_method(label), -1) + 1
        own = COLOURS.index(_colour_and_marker(_method(label))[0])
        found[label] = (variant % len(_DASHES), (own + _STEP * (variant // len(_DASHES))) % len(COLOURS))
    return found


def _method(label: str) -> str:
    return label.split(" ", 1)[0]


def _colour_and_marker(method: str) -> tuple[str, str]:
    """Return the colour and marker of a method, the same in every figure whatever else is drawn."""
    if method in _KNOWN:
        return COLOURS[_KNOWN.index(method)], _MARKERS[0]
    place = int.from_bytes(hashlib.sha256(method.encode()).digest()[:4], "big")
    marked = _MARKERS[1:]
    return COLOURS[place % len(COLOURS)], marked[place // len(COLOURS) % len(marked)]


@contextmanager
def sheet(
    *groups: int, labels: Iterable[str], columns: int | None = None, width: float = 2.6, share_y: bool = True
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure with panels of `width` inches, and room beside them for a legend of `labels`.

    Each of the `groups` of so many panels starts a row of its own; all panels come in one list.
    """
    columns = min(columns or max(groups), max(groups))
    rows_of = [-(-number // columns) for number in groups]
    legend = 0.7 + _LETTER * max(map(len, labels), default=0)
    with rc_context(STYLE):
        figure = Figure(figsize=(0.5 + width * columns + legend, 0.5 + 2.7 * sum(rows_of)), layout="constrained")
        grid = iter(figure.subplots(sum(rows_of), columns, sharey=share_y, squeeze=False).flat)
        panels = []
        for number, rows in zip(groups, rows_of, strict=True):
            places = [next(grid) for _ in range(rows * columns)]
            panels += places[:number]
            for spine in chain.from_iterable(panel.spines.values() for panel in places):
                spine.set_in_layout(False)  # labels of ticks reach beyond it
            for spare in places[number:]:
                spare.set_visible(False)
        yield figure, panels


def finish(figure: Figure, panels: Sequence[Axes], *, title: str, caption: str) -> None:
    """Add title, conditions and one legend for all panels."""
    figure.suptitle(title, fontsize=10)
    wrapped = textwrap.fill(caption, int(figure.get_figwidth() / 0.06), break_on_hyphens=False)
    figure.supxlabel(wrapped, fontsize=7, color=GREY)
    handles = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize=8)
    for text in _texts(figure):  # a plug-in's name may hold what no SVG may
        text.set_text("\n".join(map(plain, text.get_text().split("\n"))))


def _texts(figure: Figure) -> Iterator[Text]:
    """Yield all texts but those of ticks, which are numbers and would be made for it."""
    yield from figure.texts
    for axes in figure.axes:
        yield from (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)
    for legend in figure.legends:
        yield from (legend.get_title(), *legend.get_texts())


def stack(figure: Figure) -> bool:
    """Put the panels of a finished figure below each other, for a narrow page; False where it has only one."""
    panels = [axes for axes in figure.axes if axes.get_visible()]
    if len(panels) < 2:
        return False
    label = next((axes.get_ylabel() for axes in panels if axes.get_ylabel()), "")
    with rc_context(STYLE):
        places = GridSpec(len(panels), 1, figure=figure)
        for row, axes in enumerate(panels):
            axes.set_subplotspec(places[row, 0])
            axes.tick_params(labelleft=True, labelbottom=True)
            axes.set_ylabel(axes.get_ylabel() or label)
        caption = figure.get_supxlabel()
        below = textwrap.fill(" ".join(caption.split("\n")), int(_NARROW / 0.06), break_on_hyphens=False)
        title = textwrap.fill(" ".join(figure.get_suptitle().split("\n")), int(_NARROW / 0.085), break_on_hyphens=False)
        figure.suptitle(title, fontsize=10)
        lines = below.count("\n") + 1
        for legend in [*figure.legends]:
            texts = [textwrap.fill(text.get_text(), 48, break_on_hyphens=False) for text in legend.texts]
            lines += sum(text.count("\n") + 1 for text in texts)
            legend.remove()
            figure.supxlabel("")  # the caption stands above the legend: both below would lie on each other
            handles = [handle for handle in legend.legend_handles if handle is not None]
            figure.legend(handles, texts, loc="outside lower left", fontsize=8, alignment="left",
                          title=below, title_fontproperties={"size": 7}).get_title().set_color(GREY)  # fmt: skip
        if figure.get_supxlabel():
            figure.supxlabel(below, fontsize=7, color=GREY)
        figure.set_size_inches(_NARROW, 0.7 + 2.6 * len(panels) + 0.17 * lines)
    return True


def bits_axis(axes: Axes, bits: Sequence[int]) -> None:
    """Make x the code length: doublings at one distance, ticks at the lengths that occur and nowhere else."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(bits, [str(length) for length in bits])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.08)
    axes.set_xlabel("bits")


def log_ticks(axis: Axis) -> None:
    """Write the decades of a log axis as plain numbers: powers would need the math text that names must not start."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 50 * low else (1.0,), numticks=6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(LogLocator(subs=(2.0, 5.0), numticks=20))  # of all ten, ticks would be most of the work
    axis.set_minor_formatter(NullFormatter())


def save(figure: Figure, path: Path | str) -> None:
    """Write `figure` as png, svg or pdf by the ending of `path`; raises HashbenchError where that is impossible."""
    path = Path(path)
    ending = ending_of(path)
    make_folder(path.parent)
    with replacing(path) as file:
        write(figure, file, ending)


def ending_of(path: Path) -> str:
    """Return the format that a path's ending names; raises HashbenchError for one that is none."""
    ending = path.suffix.lstrip(".").lower()
    if ending not in FORMATS:
        raise HashbenchError(f"A figure cannot be saved as '{path.name}'; end the name in .png, .svg or .pdf.")
    return ending


def write(figure: Figure, file: BinaryIO, ending: str) -> None:
    """Write `figure` to an open file in one of FORMATS, without a date: the same figure gives the same bytes."""
    undated: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending, {})
    with rc_context(STYLE):
        figure.draw_without_rendering()  # a second layout, before matplotlib 3.11, can differ from the first
        figure.savefig(file, format=ending, metadata=undated)
