"""Any text, such as a plug-in's name, escaped for each format: it prints as it is, on one line."""

from __future__ import annotations

import html as standard_html
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LATEX = {
    **{character: "\\" + character for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "|": r"\textbar{}",
    "<": "$<$",
    ">": "$>$",
    '"': "''",  # a shorthand of babel in German and other languages
    "[": "{[}",  # behind a \\ these two would be its options
    "*": "{*}",
    "±": r"$\pm$",
    "−": "$-$",
    "—": "---",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "†": r"\textsuperscript{\dag}",
    "‡": r"\textsuperscript{\ddag}",
    "§": r"\textsuperscript{\S}",
    "¶": r"\textsuperscript{\P}",
    "°": r"$^\circ$",
}
# Grave, acute, circumflex, tilde, macron, breve, dot, diaeresis, ring, double acute, caron: every LaTeX has these.
_ACCENTS = set("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c")


def plain(text: str) -> str:
    """Return `text` without what moves a terminal's cursor or turns the reading direction."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else " " for letter in text)


def markdown(text: str) -> str:
    """Return `text` for CommonMark and GitHub's tables and formulas."""
    return re.sub(r"([\\|`*_~<>&$\[\]])", r"\\\1", plain(text))


def latex(text: str) -> str:
    """Return `text` for LaTeX with any engine; a character that pdflatex may not know becomes its number, [U+03BB]."""
    return "".join(_LATEX.get(c) or (c if _known_to_latex(c) else f"{{[}}U+{ord(c):04X}]") for c in plain(text))


def html(text: str) -> str:
    """Return `text` for HTML, between tags or in quotes."""
    return standard_html.escape(plain(text))


def csv(text: str) -> str:
    """Return `text` so that no spreadsheet reads it as a formula (the quotes are the csv module's).

    Some trim what is invisible before they look, and take the wide and small forms of a sign for the sign itself. A
    number stays one.
    """
    text = text.replace("\r", "\n")  # which the csv module quotes, whatever its lines end with
    seen = text.lstrip("".join({character for character in text if unicodedata.category(character)[0] in "CMZ"}))
    formula = unicodedata.normalize("NFKC", seen[:1]) in ("=", "+", "-", "@") and not _NUMBER.fullmatch(text)
    return "'" + text if formula or text.startswith(("\t", "\n")) else text


def csv_line(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the names and values of a line of csv, its texts as `csv` gives them."""
    return {csv(name): csv(value) if isinstance(value, str) else value for name, value in record.items()}


def _known_to_latex(character: str) -> bool:
    if character.isascii():
        return True
    parts = unicodedata.normalize("NFD", character)
    return character <= "\u017f" and parts[0].isascii() and len(parts) > 1 and _ACCENTS.issuperset(parts[1:])
