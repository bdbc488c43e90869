"""Where in a method's own files something went wrong."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress

from torch import nn

from hashbench.errors import HashbenchError
from hashbench.methods import contract, pairs
from hashbench.methods.contract import Method, Registrable
from hashbench.methods.wrapping import classes_of, resolve


def own_files(cls: type[Registrable]) -> frozenset[str]:
    """Return the files of a method's class, of its base's, and of those that they derive from but the contract's."""
    classes: tuple[type, ...] = (cls,)
    if issubclass(cls, Method):
        with suppress(HashbenchError):  # its base is not to be had
            classes = classes_of(cls, resolve(cls, {}))
    modules = {one.__module__ for found in classes for one in found.__mro__ if issubclass(one, nn.Module)}
    modules -= {contract.__name__, pairs.__name__, nn.Module.__module__}
    files = (getattr(sys.modules.get(name), "__file__", None) for name in modules)
    return frozenset(file for file in files if file)


def error_text(error: Exception, cls: type[Registrable]) -> str:
    """Return an error with the line of the method's file that it passed through last."""
    files = own_files(cls)
    errors = [error, error.__cause__] if error.__cause__ else [error]
    frames = [frame for raised in errors for frame in traceback.extract_tb(raised.__traceback__)]
    places = [f" (line {frame.lineno} of {frame.filename})" for frame in frames if frame.filename in files]
    kind = "" if isinstance(error, HashbenchError) else f"{type(error).__name__}: "
    return f"{kind}{error}{places[-1] if places else ''}"
