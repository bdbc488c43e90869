"""Any text, such as a plug-in's name, escaped for each format: it prints as it is, on one line."""

from __future__ import annotations

import html as standard_html
import re
import unicodedata

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
}
# Grave, acute, circumflex, tilde, macron, breve, dot, diaeresis, ring, double acute, caron: every LaTeX has these.
_ACCENTS = set("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c")


def plain(text: str) -> str:
    """Return `text` without what moves a terminal's cursor or turns the reading direction."""
    return "".join(character if character.isprintable() else " " for character in text)


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
    """Return `text` so that no spreadsheet reads it as a formula (the quotes are the csv module's)."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _known_to_latex(character: str) -> bool:
    if character.isascii():
        return True
    parts = unicodedata.normalize("NFD", character)
    return character <= "\u017f" and parts[0].isascii() and len(parts) > 1 and _ACCENTS.issuperset(parts[1:])
