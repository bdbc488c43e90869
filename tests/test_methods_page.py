"""docs/methods.md is what the registry says of our methods. To write it anew after a change:

HASHBENCH_UPDATE_PAGES=1 pytest tests/test_methods_page.py
"""

import inspect
import os
import re
import sys
from pathlib import Path

from hashbench.methods import PairMethod
from hashbench.methods.contract import FAMILIES, DeepMethod, options, wraps
from hashbench.registry import METHODS

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"
OPENING = """# Methods

<!-- Made from the registry by tests/test_methods_page.py; a change belongs in the method's file. -->

All methods of hashbench by family. *Fidelity* says where a method's equations come from
([what the words mean](adding-a-method.md#what-a-method-declares)), *reproduced* whether a number that its paper printed
was reached here: where nothing else stands there, nobody has tried. *Needs* is what a method asks for besides images or
features with labels. `hashbench list methods --fields NAME` shows one method in the terminal, and `--recipe paper`
trains each by the settings of its paper, where these are given ([how to](reproducing-a-paper.md)).
"""
TITLES = {
    "pairwise": "Losses over pairs of samples",
    "ranking": "Losses over rankings",
    "pointwise": "Losses of single samples",
    "proxy": "Learned class vectors",
    "centers": "Hash centers",
    "wrappers": "Around other methods",
    "unsupervised": "Without labels",
    "text": "Documents, without labels",
    "robust": "Against adversarial images",
    "shallow": "Projections of fixed features",
    "recommendation": "Users and items, from pairs",
    "reference": "Rows for reference",
}


def needs(cls):
    """Return what a method needs besides labelled images or features, in words."""
    found = []
    if issubclass(cls, PairMethod):
        return "pairs"
    if not cls.supervised:
        found.append("no labels")
    if issubclass(cls, DeepMethod):
        if cls.views > 1:
            found.append(f"{cls.views} views")
        if cls.keeps_samples:
            found.append("a memory of the training set")
        if cls.attach is not DeepMethod.attach:
            found.append("a copy of the network")
        if cls.prepare is not DeepMethod.prepare and not wraps(cls):
            found.append("a preparation")
        if wraps(cls):
            found.append("a base method")
        if cls.prefixes:
            found.append("one training for all lengths")
    else:
        found.append("fixed features")
    return ", ".join(found)


def citation(cls):
    """Return the first sentence of a method's module, which names the paper."""
    return inspect.cleandoc(sys.modules[cls.__module__].__doc__).partition("\n\n")[0].replace("\n", " ")


def link(paper):
    kind, _, number = paper.partition(":")
    address = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}.get(kind)
    return f"[{paper}]({address}{number})" if address else paper


def one_line(text):
    return " ".join(str(text).split()).replace("|", "\\|")


def described(name, cls):
    """Return a method's section: the paper, its docstring, its fields and the recipe of its paper."""
    docstring = inspect.cleandoc(cls.__doc__).replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;")
    yield from ("", f"### {name}", "", one_line(citation(cls)).replace("_", "\\_"), "", docstring)
    if options(cls):
        yield from ("", "| field | default | what it is |", "| --- | --- | --- |")
        for field, found in options(cls).items():
            default = str(found.metadata.get("base", found.default)).lower()
            yield f"| `{field}` | `{default}` | {one_line(found.metadata.get('help', '')).replace('<', '&lt;')} |"
    for title, settings in (
        ("Recipe of the paper", getattr(cls, "paper_recipe", {})),
        ("With it", getattr(cls, "paper_fields", {})),
    ):
        if settings:
            yield from ("", f"{title}: {', '.join(f'`{key}={value}`' for key, value in settings.items())}.")


def page():
    """Return the page as the registry has it."""
    own = [name for name, entry in METHODS.entries().items() if entry.origin.distribution == "hashbench"]
    lines = [OPENING]
    for family in FAMILIES:
        members = {name: METHODS.get(name) for name in own if METHODS.get(name).info.family == family}
        if not members:
            continue
        lines += [
            f"## {TITLES[family]}",
            "",
            "| method | paper | year | fidelity | reproduced | needs |",
            "| --- " * 6 + "|",
        ]
        for name, cls in members.items():
            info = cls.info
            cells = [f"[`{name}`](#{name})", link(info.paper), info.year or "", info.fidelity]
            cells += [cls.reproduced, needs(cls)]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        for name, cls in members.items():
            lines += described(name, cls)
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def test_the_page_is_what_the_registry_says():
    if os.environ.get("HASHBENCH_UPDATE_PAGES"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page()


def test_the_model_card_names_the_methods_that_are_not_from_a_paper():
    own = [name for name, entry in METHODS.entries().items() if entry.origin.distribution == "hashbench"]
    card = (PAGE.parent / "model-card.md").read_text()
    for fidelity in ("account", "sibling", "reconstructed"):
        (named,) = re.findall(rf"^\| {fidelity}: .* \| (.*) \|$", card, re.MULTILINE)
        assert named.split(", ") == sorted(name for name in own if METHODS.get(name).info.fidelity == fidelity)
