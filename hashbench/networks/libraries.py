"""Backbones of other libraries by name: `torchvision:NAME`, any of its classifiers, and `timm:NAME`.

Both are built without their last layer, on the meta device too, so that their width is known before a weight is read.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import nn

from hashbench.errors import HashbenchError, unknown
from hashbench.networks.backbones import ImageBackbone, TorchvisionFactory, file_sha256, image_channels

LIBRARIES = ("timm", "torchvision")
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # of a model on the hub, the first found counts


@dataclass(frozen=True)
class TorchvisionClassifier(TorchvisionFactory):
    """Builds a classifier of torchvision without its last linear layer; its weights are torchvision's default ones."""

    @property
    def full_name(self) -> str:
        """The name as it is typed."""
        return f"torchvision:{self.name}"

    def __call__(self, shape: tuple[int, ...], pretrained: bool) -> nn.Module:
        """Return the backbone; raises HashbenchError where it cannot be had without its last layer, or at this size."""
        from torchvision.models import get_model, get_weight

        image_channels(self.full_name, shape)
        self.require_size(shape, pretrained)
        if pretrained:
            self.load_weights()  # which are checked, and lie then where torchvision looks for them
        size = {"image_size": shape[1]} if self.fixed_size else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about the initialisation of googlenet and inception
            # torchvision reads the weights itself, because for some models it changes more than the weights then.
            model = get_model(self.name, weights=get_weight(self.weights) if pretrained else None, **size)
        for name in ("aux1", "aux2", "AuxLogits"):  # outputs for training a classifier
            if getattr(model, name, None) is not None:
                setattr(model, name, None)
                model.aux_logits = False
        width = _without_last_layer(model, self.full_name)
        transforms = get_weight(self.weights).transforms()
        return ImageBackbone(model, width, tuple(transforms.mean), tuple(transforms.std))


def torchvision_factory(name: str) -> TorchvisionClassifier:
    """Return the factory of torchvision's classifier `name`; raises HashbenchError where there is none."""
    from torchvision.models import get_model_weights

    if name not in torchvision_names():
        raise _unknown("torchvision", name, torchvision_names())
    default = get_model_weights(name).DEFAULT
    fixed = default.meta["min_size"][0] if name.startswith("vit_") else 0
    return TorchvisionClassifier(name, str(default), last_layer="", fixed_size=fixed)


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classifiers."""
    from torchvision import models

    return list(models.list_models(module=models))


@dataclass(frozen=True)
class TimmFactory:
    """Builds a model of timm without its classifier; weights come from timm's cache, and are never downloaded."""

    name: str  # with the tag of its weights: `resnet18.a1_in1k`

    on_meta: ClassVar[bool] = True

    @property
    def full_name(self) -> str:
        """The name with the tag of its weights, whose statistics normalise the images even where they are not read."""
        return f"timm:{self.name}"

    def __call__(self, shape: tuple[int, ...], pretrained: bool) -> nn.Module:
        """Return the backbone; raises HashbenchError where its weights are not there or do not fit the size."""
        image_channels(self.full_name, shape)
        config, given = self._config, dict[str, Any]()
        side = config.input_size[1]
        if config.fixed_input_size and shape[1:] != tuple(config.input_size[1:]):
            if pretrained:
                raise HashbenchError(
                    f"The pretrained backbone '{self.full_name}' takes {side} pixels, not {shape[1]}; "
                    f"say --set recipe.size={side}."
                )
            given["img_size"] = shape[1:]
        if pretrained:
            given["pretrained_cfg_overlay"] = {"file": str(self.weights_file)}
        model = _timm().create_model(self.name, pretrained=pretrained, num_classes=0, **given)
        width = getattr(model, "head_hidden_size", None) or model.num_features
        return ImageBackbone(model, int(width), config.mean, config.std)

    @cached_property
    def weights_file(self) -> Path:
        """Where timm keeps the weights; raises HashbenchError where they are not there, or there are none."""
        found = self.cached_weights()
        if found is not None:
            return found
        if not (self._config.hf_hub_id or self._config.url):
            raise HashbenchError(
                f"The backbone '{self.full_name}' has no pretrained weights; train it from nothing with --recipe "
                f"scratch."
            )
        raise HashbenchError(
            f"The weights of '{self.full_name}' are not in timm's cache; where there is a network, python -c "
            f"\"import timm; timm.create_model('{self.name}', pretrained=True)\" puts them there."
        )

    @property
    def weights_name(self) -> str:
        """The model with its tag and the start of the sha256 of its weights' file, which has no name of its own.

        Raises HashbenchError where the file is damaged: a cache of the hub calls a file of weights after its sha256.
        """
        sha256, stated = file_sha256(self.weights_file), self.weights_file.resolve().name
        if re.fullmatch("[0-9a-f]{64}", stated) and sha256 != stated:
            raise HashbenchError(
                f"The weights file {self.weights_file.resolve()} is damaged: its sha256 is not its name; delete it."
            )
        return f"{self.name}-{sha256[:8]}{self.weights_file.suffix}"

    def cached_weights(self) -> Path | None:
        """Return the file of the weights in timm's cache, or None."""
        from huggingface_hub import try_to_load_from_cache

        config = self._config
        names = (config.hf_hub_filename,) if config.hf_hub_filename else WEIGHT_FILES
        for name in names if config.hf_hub_id else ():
            found = try_to_load_from_cache(config.hf_hub_id, name)
            if isinstance(found, str):
                return Path(found)
        path = Path(torch.hub.get_dir()) / "checkpoints" / str(config.url).rpartition("/")[2]
        return path if config.url and path.is_file() else None

    @property
    def _config(self) -> Any:
        return _timm().models.get_pretrained_cfg(self.name)


def timm_factory(name: str) -> TimmFactory:
    """Return the factory of timm's model `name`; raises HashbenchError where there is none, and without timm."""
    timm = _timm()
    model, _, tag = name.partition(".")
    if not timm.is_model(model):
        raise _unknown("timm", name, timm.list_models())
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{model}.*")]
    if tag and tag not in tags:
        raise _unknown("timm", name, [f"{model}.{each}" for each in tags])
    chosen = tag or timm.models.get_pretrained_cfg(model).tag
    return TimmFactory(f"{model}.{chosen}" if chosen else model)


def search(pattern: str) -> list[str]:
    """Return the full names that match `pattern`, `timm:resnet*`, in the libraries that are installed.

    Raises HashbenchError where it names one that is not.
    """
    asked = pattern.strip("*")
    found = []
    for library in LIBRARIES:
        try:
            names = torchvision_names() if library == "torchvision" else _timm_names()
        except HashbenchError:
            if asked.startswith(f"{library}:"):
                raise
            continue
        found += [full for full in (f"{library}:{name}" for name in names) if fnmatchcase(full, pattern)]
    return found


def _timm_names() -> list[str]:
    timm = _timm()
    return sorted({*timm.list_models(), *timm.list_pretrained()})


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError:
        raise HashbenchError(
            "Backbones of timm need the package timm; install it with pip install 'hashbench[timm]'."
        ) from None
    return timm


def _without_last_layer(model: nn.Module, name: str) -> int:
    """Take the last linear layer off a classifier, and return the width of what came before it."""
    linear = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise HashbenchError(f"The backbone '{name}' has no last linear layer that could be left off; choose another.")
    path, last = linear[-1]
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, nn.Identity())
    return last.in_features


def _unknown(library: str, name: str, known: list[str]) -> HashbenchError:
    asked, full = f"{library}:{name}", [f"{library}:{each}" for each in known]
    near = get_close_matches(asked, full, n=1)  # all of them would be a page
    return unknown("backbone", asked, near, hint=f"`hashbench list backbones '{library}:*'` shows all.")
