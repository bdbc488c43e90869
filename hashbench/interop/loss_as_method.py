"""Loss classes of other suites as methods: a torch module `Loss(config, bit)`, called as `loss(u, y, ind, config)`.

That is the shape of the loss classes of DeepHash-pytorch: u (n, bit) real outputs, y (n, C) float multi-hot labels,
ind (n,) positions in the training set, on the CPU. They run unmodified; `as_loss` (method_as_loss.py) is the inverse.
"""

from __future__ import annotations

import hashlib
import keyword
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, get_type_hints

import numpy as np
from torch import Tensor, nn

from hashbench.datasets.loading.batch import Batch
from hashbench.errors import HashbenchError
from hashbench.interop.module_state import AttributeState
from hashbench.methods.contract import DeepMethod, Task, method, option
from hashbench.registry import METHODS
from hashbench.system import seeds

#: Values that a run sets over those of the file's `get_config()`.
OVERWRITTEN = ("n_class", "num_train", "dataset", "device", "bit", "GPU")


class LossAsMethod(DeepMethod):
    """A loss class as a method: plain values of its `get_config()` are the fields, the file's sha256 is among them."""

    loss_class: ClassVar[type[nn.Module]]
    module: ClassVar[ModuleType]
    stated: ClassVar[Mapping[str, Any]]  # what the file's get_config() returned
    keys: ClassVar[Mapping[str, str]]  # field -> its key in the config
    source: str  # the sha256 of the file

    def __post_init__(self) -> None:
        """Refuse a file that has changed since the class was made from it."""
        if self.source != source_sha256(type(self).module):
            raise HashbenchError(
                f"{self.module.__file__} has changed: its sha256 no longer starts with {self.source[:12]}; "
                f"go back to that state of the file, or run again."
            )

    def setup(self, task: Task, prepared: dict[str, Tensor]) -> None:
        """Build the loss from the file's config, the fields, and the values of this run."""
        config = _copied(self.stated) | {key: getattr(self, name) for name, key in self.keys.items()}
        config |= {"n_class": task.num_classes, "num_train": task.num_train, "dataset": task.dataset,
                   "device": task.device, "bit": task.bits}  # fmt: skip
        if "GPU" in config:  # where older files of that shape state their device
            config["GPU"] = task.device.type == "cuda"
        # The shape's training scripts leave these two in the file's globals, and some loss classes read them there.
        vars(self.module).update(config=config, bit=task.bits)
        random.seed(seeds.derive(task.seed, "init", "python"))
        np.random.seed(seeds.derive(task.seed, "init", "numpy") % 2**32)
        self.config = config
        self.criterion = self._called(lambda: self.loss_class(config, task.bits), "(config, bit)")

    def loss(self, out: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the loss's one value; raises HashbenchError when it is no scalar, or cannot be computed."""
        labels, index = batch.labels, batch.index.cpu()
        value = self._called(lambda: self.criterion(out, labels, index, self.config), ".forward(u, y, ind, config)")
        if not (isinstance(value, Tensor) and value.numel() == 1):
            what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"type {type(value).__name__}"
            raise HashbenchError(f"{self.info.name} returned a loss of {what}; it must be one number, a scalar tensor.")
        return {"loss": value.reshape(())}

    def resumes(self) -> str | None:
        """Return which attribute keeps state that no checkpoint here can hold, or None."""
        return AttributeState.of(self).missing

    def get_extra_state(self) -> dict[str, Any]:
        """Return the plain attributes of the loss and its config, which are no buffers but may hold state."""
        return AttributeState.of(self).values

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Put back what get_extra_state returned."""
        AttributeState(state).restore(self, device=self.config["device"])

    def _called(self, call: Callable[[], Any], what: str) -> Any:
        try:
            return call()
        except Exception as error:
            lacks = f"; a value of the config belongs into get_config() of {self.module.__file__}"
            hint = lacks if isinstance(error, KeyError) else ""
            raise HashbenchError(f"{self.info.name}{what} raised {type(error).__name__}: {error}{hint}.") from error


#: Names that no value of a config may hide.
_RESERVED = frozenset({*dir(LossAsMethod), *vars(nn.Module()), *get_type_hints(LossAsMethod), "config", "criterion"})


def method_from_loss(name: str, loss_class: type[nn.Module], module: ModuleType) -> type[LossAsMethod]:
    """Return the method that trains with `loss_class`, registered as `name`.

    Raises HashbenchError when the module's `get_config()` fails or returns no dict, and when the name is taken.
    """
    taken = METHODS.entries().get(name)
    if taken is not None and taken.module != module.__name__:
        raise HashbenchError(
            f"The method name '{name}' is taken by {taken.module} ({taken.origin}); give this one another, for example "
            f"other={module.__file__}:{loss_class.__name__}."
        )
    stated = _stated_config(module)
    keys = {_field_name(key): key for key, value in stated.items() if _is_field(key, value)}
    fields = {field: option(stated[key], f"'{key}' of get_config()") for field, key in keys.items()}
    fields["source"] = option(source_sha256(module), "sha256 of the file; another value is refused")
    made = type(
        loss_class.__name__,
        (LossAsMethod,),
        {
            "__doc__": loss_class.__doc__,
            "__module__": module.__name__,
            "__annotations__": {"source": str, **{field: _annotation(stated[key]) for field, key in keys.items()}},
            "loss_class": loss_class,
            "module": module,
            "stated": stated,
            "keys": keys,
            **fields,
        },
    )
    return method(name)(made)


def source_sha256(module: ModuleType) -> str:
    """Return the sha256 of a module's file, hex; raises HashbenchError where it has none."""
    if module.__file__ is None:
        raise HashbenchError(f"{module.__name__} has no file; put the loss class into one.")
    try:
        return hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()
    except OSError as error:
        raise HashbenchError(f"{module.__file__} is no longer there; put the file back, or run again.") from error


def _stated_config(module: ModuleType) -> dict[str, Any]:
    get_config: Callable[[], Any] = getattr(module, "get_config", dict)
    try:
        stated = get_config()
    except Exception as error:
        raise HashbenchError(
            f"get_config() of {module.__file__} raised {type(error).__name__}: {error}; it must return a dict."
        ) from error
    if not isinstance(stated, dict):
        raise HashbenchError(f"get_config() of {module.__file__} returned {stated!r:.40}; it must return a dict.")
    return stated


def _annotation(value: Any) -> Any:
    return int | float if type(value) is int else type(value)  # "alpha": 1 may well be set to 0.5


def _field_name(key: str) -> str:
    return f"{key}_" if keyword.iskeyword(key) else key


def _is_field(key: Any, value: Any) -> bool:
    """Tell whether a value of the config can be set and hashed: plain, finite, under a name that is free."""
    if not isinstance(key, str) or not key.isidentifier() or key in OVERWRITTEN or _field_name(key) in _RESERVED:
        return False
    return type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))


def _copied(value: Any) -> Any:
    """Return a copy of nested dicts and lists, so that what one run writes into its config is not seen by the next."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value
