"""`--config sweep.toml`: the flags of a command in a file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from hashbench.errors import HashbenchError, unknown

_SETTINGS = "hashbench.settings"  # where the context keeps the file's [set] table
_EXECUTOR = "hashbench.executor"  # and that of its [executor] table


def config_option(function: Any) -> Any:
    """Add `--config FILE` to a command: its keys are the command's flags, which win where both are given."""
    return click.option(
        "--config", type=click.Path(path_type=Path), metavar="FILE", is_eager=True, expose_value=False,
        callback=_read, help="TOML file with the same flags: bits = [16, 32], and tables [set], [executor].",
    )(function)  # fmt: skip


def settings_of(context: click.Context) -> tuple[str, ...]:
    """Return the `[set]` table of the command's config file as `owner.field=value` settings."""
    return tuple(context.meta.get(_SETTINGS, ()))


def executor_settings_of(context: click.Context) -> tuple[str, ...]:
    """Return the `[executor]` table of the command's config file as `key=value` settings, but for name and workers."""
    return tuple(context.meta.get(_EXECUTOR, ()))


def _read(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HashbenchError(f"{path} cannot be read ({os.strerror(error.errno or 0)}); is the path right?") from error
    except ValueError as error:  # which TOML's and Unicode's errors are
        raise HashbenchError(f"{path} is not TOML: {error}.") from error
    flags = {
        name.removeprefix("--"): option
        for option in context.command.params
        for name in option.opts
        if isinstance(option, click.Option) and name.startswith("--") and option is not parameter
    }
    given = {key.replace("_", "-"): value for key, value in table.items()}
    if isinstance(given.get("executor"), Mapping):  # executor = "local" is a flag as any other
        options = dict(given.pop("executor"))
        given |= {
            flag: options.pop(key) for flag, key in (("executor", "name"), ("workers", "workers")) if key in options
        }
        context.meta[_EXECUTOR] = [f"{key}={_text(path, f'executor.{key}', value)}" for key, value in options.items()]
    for key in given:
        if key not in flags:
            raise unknown(f"key in {path}", key, flags)
    context.meta[_SETTINGS] = _settings(path, given.pop("set", {}))
    context.default_map = {flags[key].name: _text(path, key, value) for key, value in given.items()}


def _settings(path: Path, table: Any) -> list[str]:
    if not isinstance(table, Mapping) or not all(isinstance(fields, Mapping) for fields in table.values()):
        raise HashbenchError(f"{path}: [set] holds lines like crh.heads = 1 or recipe.batch_size = 64.")
    return [
        f"{owner}.{field}={_text(path, f'{owner}.{field}', value)}"
        for owner, fields in table.items()
        for field, value in _flat(fields)
    ]


def _flat(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a [set] table, those of a method's base, `lbhash.base.margin = 0.3`, as `base.margin`."""
    for field, value in fields.items():
        if isinstance(value, Mapping):
            yield from ((f"{field}.{inner}", found) for inner, found in _flat(value))
        else:
            yield field, value


def _text(path: Path, key: str, value: Any) -> Any:
    """Return a value as it would be typed; flags that take none stay true or false."""
    if isinstance(value, list):
        return ",".join(str(_text(path, key, item)) for item in value)
    if isinstance(value, bool | int | float | str):
        return value
    raise HashbenchError(f"{path}: {key} = {value} is no flag's value; give a text, a number, true, false or a list.")
