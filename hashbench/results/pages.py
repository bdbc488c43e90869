"""Web pages from templates: no page loads anything from elsewhere, and all text that comes from plug-ins is escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hashbench import __version__
from hashbench.results.figures.inline import palette
from hashbench.results.tables.escaping import plain


def page(
    template: str,
    *,
    styles: Sequence[str],
    scripts: Sequence[str],
    filters: Mapping[str, Callable[..., Any]] | None = None,
    **values: Any,
) -> str:
    """Return the page of a template that extends page.html, with style sheets and scripts by name, inside it.

    Its content security policy allows these scripts by their hash, and no network. The template uses `filters` and
    `values`.
    """
    environment = Environment(
        loader=PackageLoader("hashbench.results"),
        autoescape=True,
        finalize=lambda value: plain(value) if type(value) is str else value,  # not what is markup already
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= dict(filters or {})
    script = "".join(map(_file, scripts))
    colours = f":root{{{palette(dark=False)}}}@media (prefers-color-scheme:dark){{:root{{{palette(dark=True)}}}}}"
    return environment.get_template(template).render(
        version=__version__,
        style=Markup(colours + "".join(map(_file, styles))),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **values,
    )


def _file(name: str) -> str:
    return resources.files("hashbench.results").joinpath("templates", name).read_text(encoding="utf-8")
