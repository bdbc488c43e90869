"""Methods by target: a registered name, or a class with its module or file, whose code runs only when so named.

`thing_in_file` gives other things of files, such as backbones, by the same rules.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeGuard

from torch import nn

from hashbench.errors import HashbenchError, unknown
from hashbench.interop.loss_as_method import method_from_loss
from hashbench.methods.contract import Method
from hashbench.registry import METHODS, THIS_PROCESS, Origin

if TYPE_CHECKING:
    from hashbench.methods.pairs import PairMethod


def resolve_method(target: str) -> type[Method] | type[PairMethod]:
    """Return the method class that `target` means: a name, `package.module:Class` or `path/file.py:Class`.

    The class may be a method, or a loss class `Loss(config, bit)`, which becomes one under its own name, or under the
    one of `name=path/file.py:Class`; it is registered for this process. Raises HashbenchError where there is no such
    class, where its code does not load, and where its name is taken.
    """
    given, place = given_name(target)
    source, colon, name = place.rpartition(":")
    if not colon:
        if target.endswith(".py"):
            raise HashbenchError(f"'{target}' names a file but no class in it; write {target}:NameOfTheClass.")
        named: type[Method] | type[PairMethod] = METHODS.get(target)
        return named
    path = Path(source) if source.endswith(".py") else None
    with _import_path(path) if path else nullcontext():
        module = _execute(path) if path else _import(source)
        thing = getattr(module, name, None)
        if thing is None:
            classes = [key for key, value in vars(module).items() if isinstance(value, type)]
            raise unknown("class", name, classes, hint=f"{source} does not define it.")
        origin = Origin(str(path), "") if path else THIS_PROCESS
        cls = _as_method(thing, module, place, given)
    METHODS.register(cls.info.name, cls, origin=origin)
    return cls


def thing_in_file(path: Path, name: str, kind: str) -> Any:
    """Return what the file at `path`, which is run, calls `name`, a `kind`; raises HashbenchError where it has none."""
    with _import_path(path):
        module = _execute(path)
        if not hasattr(module, name):
            own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
            raise unknown(kind, name, own, hint=f"{path} does not define it.")
        return getattr(module, name)


def given_name(target: str) -> tuple[str | None, str]:
    """Return name and place of `name=place`; None and the target where it gives no name."""
    match = re.fullmatch(r"([\w+-]+)=(.+:.+)", target)
    return (match[1], match[2]) if match else (None, target)


def _as_method(thing: Any, module: ModuleType, place: str, given: str | None) -> type[Method] | type[PairMethod]:
    if isinstance(thing, type) and (issubclass(thing, Method) or _learns_from_pairs(thing)):
        if "info" not in vars(thing):
            raise HashbenchError(f"{place} lacks the decorator @hashbench.method(name, ...); put it above the class.")
        if given not in (None, thing.info.name):
            raise HashbenchError(f"{place} has a name, '{thing.info.name}'; leave '{given}=' out.")
        return thing
    if isinstance(thing, type) and issubclass(thing, nn.Module):
        return method_from_loss(given or thing.__name__, thing, module)
    raise HashbenchError(
        f"{place} is neither a method nor a loss; name a class under @hashbench.method, or a torch module that is "
        f"built as {place.rpartition(':')[2]}(config, bit)."
    )


def _learns_from_pairs(thing: type) -> TypeGuard[type[PairMethod]]:
    from hashbench.methods.pairs import PairMethod

    return issubclass(thing, PairMethod)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (HashbenchError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise _does_not_load(name, error) from error


def _execute(path: Path) -> ModuleType:
    """Return the module that a file makes, run anew each time, under a name of its own."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise HashbenchError(f"{path} cannot be read ({os.strerror(error.errno or 0)}); is the path right?") from error
    module = ModuleType(_module_name(path))
    module.__file__ = str(path.resolve())
    sys.modules[module.__name__] = module  # where dataclasses and typing look up a class's module
    try:
        exec(compile(source, module.__file__, "exec"), vars(module))
    except BaseException as error:
        del sys.modules[module.__name__]
        if isinstance(error, HashbenchError | KeyboardInterrupt):
            raise
        raise _does_not_load(path, error) from error
    return module


def _module_name(path: Path) -> str:
    return f"{path.stem}@{hashlib.sha256(bytes(path.resolve())).hexdigest()[:8]}"


@contextmanager
def _import_path(path: Path) -> Iterator[None]:
    """Put the folder of `path` first on the import path while that file loads, and leave the process as it was.

    The modules of the folder are removed again, so that `tools.py` of one folder is never used for that of another;
    environment variables are restored, because training scripts choose a GPU that way.
    """
    folder = path.resolve().parent
    search, environment, modules = [*sys.path], dict(os.environ), {*sys.modules, _module_name(path)}
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = search
        for variable in os.environ.keys() - environment.keys():
            del os.environ[variable]
        os.environ.update(environment)
        for name in sys.modules.keys() - modules:
            if any(folder in place.parents for place in _places(sys.modules[name])):
                del sys.modules[name]


def _places(module: ModuleType) -> list[Path]:
    """Return the file of a module, or the folders of a package without one."""
    file = getattr(module, "__file__", None)
    return [Path(file)] if file else [*map(Path, getattr(module, "__path__", []))]


def _does_not_load(source: object, error: BaseException) -> HashbenchError:
    return HashbenchError(f"{source} does not load: {type(error).__name__}: {error}")
