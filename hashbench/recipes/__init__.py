"""Training recipes: everything about training that all methods share, as named TOML files beside this one.

A recipe belongs to the experiment, not to the method, so that methods are compared under the same training. Every value
can be overridden (`--set recipe.learning_rate=0.01`) and stands in the run's identity.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from hashbench.errors import HashbenchError, unknown

PAPER = "paper"
PAPER_BASE = {"size": 224, "augment": "resized-crop-flip"}  # the field's usual ones; papers rarely state them

_LIMITS = {  # beyond which a typing mistake would train for ever, or ask for memory that no machine has
    "epochs": (1, 1_000_000),
    "batch_size": (1, 10_000_000),
    "views": (1, 1_000),
    "fixed_views": (0, 1_000),
    "size": (0, 10_000),
    "hidden": (0, 1_000_000),
}


@dataclass(frozen=True)
class Recipe:
    """All resolved training settings; sizes are in pixels, `epochs` counts passes over the training set."""

    name: str
    summary: str
    backbone: str
    pretrained: bool = True
    train_backbone: bool = True  # false: features are computed once and only the head is trained
    hidden: int = 0  # width of a hidden layer between backbone and head (batch norm, ReLU), trained with it; 0: none
    size: int = 0  # height and width of the network's input in pixels; 0: the images' own
    epochs: int = 30
    batch_size: int = 128
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    learning_rate: float = 1e-3
    backbone_learning_rate_scale: float = 1.0
    final_learning_rate: float = 0.0
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    warmup_epochs: float = 0.0
    step_epochs: int = 0  # with schedule = "step": epochs between steps
    step_factor: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)  # adam and adamw
    momentum: float = 0.9  # sgd and rmsprop
    nesterov: bool = False
    weight_decay: float = 0.0
    gradient_clip: float = 0.0  # largest norm of the gradient; 0: not clipped
    augment: str = "none"
    views: int = 1
    fixed_views: int = 0  # of a backbone that stays fixed: views of each training image that are drawn once; 0: none
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False  # the network through torch.compile: the same up to the last digits, which training magnifies

    def __post_init__(self) -> None:
        """Refuse settings that no training can have; raises HashbenchError."""
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise HashbenchError(
                    f"Recipe '{self.name}': {name}={value:.6g} is not possible; give {least} to {most:,}."
                )
        rates = ("learning_rate", "final_learning_rate", "backbone_learning_rate_scale", "weight_decay")
        for name in (*rates, "gradient_clip", "warmup_epochs", "step_factor"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise HashbenchError(f"Recipe '{self.name}': {name}={value} is not possible; give 0 or more.")
        for name, values in (("betas", self.betas), ("momentum", (self.momentum,))):
            if not all(0 <= value < 1 for value in values):
                shown = ",".join(map(str, values))
                raise HashbenchError(f"Recipe '{self.name}': {name}={shown} is not possible; give 0 to below 1.")
        if self.schedule == "step" and self.step_epochs < 1:
            raise HashbenchError(f"Recipe '{self.name}': schedule=step needs step_epochs, the epochs between steps.")
        if self.fixed_views and (self.train_backbone or not self.pretrained):
            raise HashbenchError(
                f"Recipe '{self.name}': fixed_views={self.fixed_views} needs a pretrained backbone that stays fixed; "
                f"use --recipe frozen, or leave it out."
            )

    def learning_rate_factor(self, step: int, steps_per_epoch: int) -> float:
        """Return what the learning rates are multiplied with at a step of the whole run (0-based)."""
        warmup = self.warmup_epochs * steps_per_epoch
        if step < warmup:
            return (step + 1) / warmup
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "step":
            return float(self.step_factor ** (step // steps_per_epoch // self.step_epochs))
        done = (step - warmup) / max(self.epochs * steps_per_epoch - warmup, 1)
        last = self.final_learning_rate / self.learning_rate if self.learning_rate else 1.0
        return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def names() -> list[str]:
    """Return the names of the recipes that come with hashbench, `paper` among them."""
    return sorted([*_tables(), PAPER])


def summary(name: str) -> str:
    """Return the one-line summary of a recipe."""
    if name == PAPER:
        return "Each method's own published settings, to reproduce published numbers; methods then differ in recipe."
    return str(_tables()[name]["summary"])


def load(
    name: str, *, paper: Mapping[str, Any] | None = None, overrides: Mapping[str, Any] | None = None, multi_label: bool
) -> Recipe:
    """Return a recipe by name with `overrides`; raises HashbenchError for unknown names, fields and values.

    `paper` is the method's own `paper_recipe`, from which the recipe `paper` is made; a value in it may depend on the
    labels: {"single-label": 300, "multi-label": 30}.
    """
    if name not in names():
        raise unknown("recipe", name, names(), hint="`hashbench list recipes` shows all.")
    values: dict[str, Any]
    if name == PAPER:
        if not paper:
            raise HashbenchError("This method states no published settings; use --recipe scratch, frozen or finetune.")
        kind = "multi-label" if multi_label else "single-label"
        chosen = {key: value[kind] if isinstance(value, Mapping) else value for key, value in paper.items()}
        values = {"summary": summary(PAPER), **PAPER_BASE, **chosen}
    else:
        values = dict(_tables()[name])
    values |= {"name": name, **(overrides or {})}
    known = {field.name for field in dataclasses.fields(Recipe)}
    for key in values:
        if key not in known:
            raise unknown("recipe field", key, known - {"name", "summary"}, hint="`hashbench list recipes` shows all.")
    if "betas" in values:
        values["betas"] = tuple(values["betas"])
    return Recipe(**values)


@cache
def _tables() -> dict[str, dict[str, Any]]:
    """Return what the recipes of the package say, by name; a large sweep asks for each run."""
    found = [file for file in files(__name__).iterdir() if file.name.endswith(".toml")]
    return {file.name.removesuffix(".toml"): tomllib.loads(file.read_text(encoding="utf-8")) for file in found}
