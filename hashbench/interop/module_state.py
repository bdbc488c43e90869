"""State that torch modules keep in plain attributes, beside parameters and buffers: memory banks, counters, configs."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_CONSTANTS = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, torch.device,
              torch.dtype)  # fmt: skip
_PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class AttributeState:
    """The plain attributes of a module and of those inside it, as tensors and plain data that a checkpoint can hold."""

    values: dict[str, Any]  # "criterion.U" -> tensor, number, text, or lists, tuples and dicts of them
    missing: str | None = None  # the first attribute that cannot be held, as a sentence

    @classmethod
    def of(cls, module: nn.Module) -> AttributeState:
        """Return the state; functions, classes and devices are constants, which building the module sets again."""
        values, missing = {}, None
        for owner, name, path in _attributes(module):
            value = vars(owner)[name]
            if isinstance(value, _CONSTANTS):
                continue
            try:
                values[path] = _held(value)
            except TypeError as error:
                missing = missing or f"its attribute '{path}' holds a {error}, which a checkpoint cannot keep."
        return cls(values, missing)

    def restore(self, module: nn.Module, *, device: torch.device) -> None:
        """Set the attributes of a module built like the one they were taken from; new tensors go to `device`."""
        for path, value in self.values.items():
            prefix, _, name = path.rpartition(".")
            owner = module.get_submodule(prefix)
            setattr(owner, name, _restored(vars(owner).get(name), value, device))


def _attributes(module: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    for prefix, part in module.named_modules():
        if type(part).__module__.startswith("torch.nn."):
            continue  # torch's own layers keep their state in buffers
        for name in vars(part):
            if name not in _OF_EVERY_MODULE:
                yield part, name, f"{prefix}.{name}" if prefix else name


def _held(value: Any) -> Any:
    """Return `value` as a checkpoint holds it, constants inside it as None; raises TypeError naming an unfit type."""
    if isinstance(value, Tensor):
        return value.detach()
    if type(value) in _PLAIN:
        return value
    if isinstance(value, _CONSTANTS):
        return None
    if type(value) in (list, tuple):
        return type(value)(_held(item) for item in value)
    if type(value) is dict and all(type(key) in _PLAIN for key in value):
        return {key: _held(item) for key, item in value.items()}
    raise TypeError(type(value).__name__)


def _restored(present: Any, saved: Any, device: torch.device) -> Any:
    """Return `saved` in the place of `present`: where that fits in its own memory, which others may share."""
    if isinstance(present, _CONSTANTS):
        return present
    if isinstance(saved, Tensor):
        if isinstance(present, Tensor) and present.shape == saved.shape and present.dtype == saved.dtype:
            with torch.no_grad():
                return present.copy_(saved)
        return saved.to(present.device if isinstance(present, Tensor) else device)
    if isinstance(saved, list | tuple):
        items = present if isinstance(present, list | tuple) and len(present) == len(saved) else [None] * len(saved)
        return type(saved)(_restored(old, new, device) for old, new in zip(items, saved, strict=True))
    if isinstance(saved, dict):
        table = present if isinstance(present, dict) else {}
        table.update({key: _restored(table.get(key), item, device) for key, item in saved.items()})
        return table
    return saved
