"""`--config sweep.toml`: the flags of a command in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from hashbench.errors import HashbenchError, unknown
from hashbench.storage.toml_files import read_toml

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
    table = _undotted(path, read_toml(path))
    flags = {
        name.removeprefix("--"): option
        for option in context.command.params
        for name in option.opts
        if isinstance(option, click.Option) and name.startswith("--") and option is not parameter
    }
    given = {key.replace("_", "-"): value for key, value in table.items()}
    if len(given) < len(table):
        twice = next(key for key in table if "_" in key and key.replace("_", "-") in table)
        raise HashbenchError(f"{path} gives {twice} twice, once as {twice.replace('_', '-')}; give it once.")
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
    context.default_map = {flags[key].name: _default(path, flags[key], key, value) for key, value in given.items()}


def _undotted(path: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table whose quoted keys mean what they would mean without quotes: "recipe.epochs" = 5."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        *outer, last = key.split(".")
        inner = found
        for part in outer:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise HashbenchError(f"{path} gives {part} a value and, in '{key}', fields; give it one of the two.")
        new = _undotted(path, value) if isinstance(value, Mapping) else value
        if last in inner and not (isinstance(new, dict) and isinstance(inner[last], dict)):
            raise HashbenchError(f"{path} gives {key} twice; give it once.")
        inner[last] = {**inner[last], **new} if last in inner else new
    return found


def _default(path: Path, option: click.Option, key: str, value: Any) -> Any:
    """Return what the option is given where the command line does not name it; only a flag may be true or false."""
    if isinstance(value, bool) != option.is_flag:
        wanted = "true or false" if option.is_flag else "a text, a number or a list"
        raise HashbenchError(f"{path}: {key} = {_shown(value)} is no value of this flag; give {wanted}.")
    if option.multiple and isinstance(value, list):
        return [_text(path, key, item) for item in value]
    return [_text(path, key, value)] if option.multiple else value if option.is_flag else _text(path, key, value)


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


def _text(path: Path, key: str, value: Any) -> str:
    """Return a value as it would be typed; a name with a comma in a list has quotes around it."""
    if isinstance(value, list):
        items = [_text(path, key, item) for item in value]
        return ",".join(f'"{item}"' if "," in item and '"' not in item else item for item in items)
    if isinstance(value, bool | int | float | str) and "\0" not in str(value):
        return str(value)
    raise HashbenchError(f"{path}: {key} = {_shown(value)} is no flag's value; give a text, a number, true, false or "
                         "a list.")  # fmt: skip


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value!s:.60}"
