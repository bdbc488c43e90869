"""Settings as they are typed: values by the type of their field, `owner.field=value`, rows of a table, code lengths."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from typing import Any, Literal, Union, get_args, get_origin

from hashbench.errors import HashbenchError

MAX_BITS = 1024
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse_value(owner: type, field: str, text: str) -> Any:
    """Return `text` as the type that `owner.field` is annotated with; raises HashbenchError when it is not one."""
    annotation = typing.get_type_hints(owner)[field]
    try:
        return _parse(annotation, text.strip())
    except (ValueError, ZeroDivisionError) as error:
        raise HashbenchError(f"'{text}' is not a value for {field}, which takes {_describe(annotation)}.") from error


def setting_text(value: Any) -> str:
    """Return the text that `parse_value` reads as `value`, as it is typed in --set."""
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def parse_settings(settings: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return `owner.field=value` settings as {owner: {field: value}}; raises HashbenchError for other forms."""
    parsed: dict[str, dict[str, str]] = {}
    for setting in settings:
        target, equals, value = setting.partition("=")
        owner, dot, field = target.strip().partition(".")
        if not (equals and dot and owner and field):
            raise HashbenchError(f"--set '{setting}' is not of the form method.field=value or recipe.field=value.")
        parsed.setdefault(owner, {})[field] = value
    return parsed


def parse_row(
    text: str, *, what: str = "row of a table", example: str = "crh (heads=1, reassign=false)"
) -> tuple[str, dict[str, str]]:
    """Return a row of a table, `crh (heads=1, reassign=false)`, as the method's name and its fields' texts.

    A name without parentheses, or with nothing in them, has no fields. Raises HashbenchError where they hold anything
    but field=value, or a field twice; it says `what` the text is not, with an `example`.
    """
    match = re.fullmatch(r"(.*\S)\s*\((.*)\)", text)
    if match is None:
        return text, {}
    fields = {}
    for setting in match[2].split(",") if match[2].strip() else ():
        field, equals, value = map(str.strip, setting.partition("="))
        if not (field and equals and value):
            raise HashbenchError(f"'{text}' is no {what}; write for example '{example}'.")
        if field in fields:
            raise HashbenchError(f"'{text}' gives {field} twice; give it once.")
        fields[field] = value
    return match[1], fields


def parse_bits(text: str) -> list[int]:
    """Return the code lengths of a list like `16,32,64`; raises HashbenchError naming the part that is not one."""
    lengths = []
    for part in text.split(","):
        try:
            bits = int(part)
        except ValueError:
            what = f"'{part.strip()}'" if part.strip() else "an empty value"
            raise HashbenchError(
                f"--bits '{text}': {what} is not a number of bits; write for example 16,32,64."
            ) from None
        if not 1 <= bits <= MAX_BITS:
            raise HashbenchError(f"--bits '{text}': {bits} is not possible; a code has 1 to {MAX_BITS:,} bits.")
        lengths.append(bits)
    return list(dict.fromkeys(lengths))


def _parse(annotation: Any, text: str) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        if type(None) in arguments and text.lower() in ("none", "null"):
            return None
        for argument in arguments:
            with suppress(ValueError):
                return _parse(argument, text)
        raise ValueError(text)
    if origin is Literal:
        if text not in arguments:
            raise ValueError(text)
        return text
    if origin is tuple:
        parts = text.split(",")
        if len(parts) != len(arguments):
            raise ValueError(text)
        return tuple(_parse(a, part) for a, part in zip(arguments, parts, strict=True))
    if annotation is bool:
        if text.lower() not in _TRUTH:
            raise ValueError(text)
        return _TRUTH[text.lower()]
    if annotation in (int, float, str):
        value = float(Fraction(text)) if annotation is float and "/" in text else annotation(text)
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(text)
        return value
    raise ValueError(f"{annotation} cannot be given on the command line")


def _describe(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if a is type(None) else _describe(a) for a in arguments)
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is tuple:
        return f"{len(arguments)} values with commas between them"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return names.get(annotation, str(annotation))
