"""A figure as part of a web page: an <svg> element whose colours are the page's, so that light and dark both work."""

from __future__ import annotations

import io
import re

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from hashbench.results.figures.style import COLOURS, COLOURS_ON_DARK, GREY, GRID, INK, PAPER, STYLE

_PAGE_COLOURS = {
    **{PAPER: "card", INK: "ink", GREY: "muted", GRID: "grid"},
    **{colour: f"c{i}" for i, colour in enumerate(COLOURS)},
}


def palette(*, dark: bool) -> str:
    """Return the CSS that defines the methods' colours on a light or a dark page, as --c0, --c1, ..."""
    return "".join(f"--c{i}:{colour};" for i, colour in enumerate(COLOURS_ON_DARK if dark else COLOURS))


def svg_element(figure: Figure, *, name: str, label: str) -> str:
    """Return `figure` as one <svg>, its ids made unique by `name`, and `label` read out in its place.

    Text stays text, in the page's font. Its colours are the CSS variables of `palette`, and --card, --ink, --muted and
    --grid.
    """
    file = io.StringIO()
    with rc_context({**STYLE, "svg.fonttype": "none", "svg.hashsalt": name}):
        FigureCanvasSVG(figure)  # in whose letters the layout is measured
        layout = figure.get_layout_engine()
        if layout is not None:
            layout.execute(figure)  # here, and not by drawing all of the figure once before it is drawn
            figure.set_layout_engine(None)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        figure.set_layout_engine(layout)
    _prolog, _tag, body = file.getvalue().partition("<svg")
    body = re.sub(r"<metadata>.*?</metadata>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r'\bstyle="[^"]*"', lambda style: _with_page_colours(style.group()), body)
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"\n +", "\n", body)
    return f'<svg role="img" aria-label="{_attribute(label)}"{body}'


def _with_page_colours(style: str) -> str:
    style = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", style)
    return re.sub("#[0-9a-f]{6}", lambda colour: _on_page(colour.group()), style)


def _on_page(colour: str) -> str:
    return f"var(--{_PAGE_COLOURS[colour]})" if colour in _PAGE_COLOURS else colour


def _attribute(text: str) -> str:
    from markupsafe import escape

    return str(escape(text))
