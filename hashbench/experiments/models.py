"""What an experiment trains: its task, its method and its model, new or as a run has kept it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hashbench.datasets.loading.loader import steps_per_epoch
from hashbench.errors import HashbenchError
from hashbench.experiments.experiment import Experiment
from hashbench.methods.contract import DeepMethod, Method, Task
from hashbench.methods.wrapping import classes_of, construct
from hashbench.networks.model import Model, make_backbone
from hashbench.recipes import Recipe
from hashbench.registry import METHODS


def task_of(experiment: Experiment, device: torch.device) -> Task:
    """Return the task that an experiment sets its method: its training's, which may serve other code lengths too."""
    data, recipe = experiment.data, experiment.recipe
    return Task(
        num_classes=data.num_classes,
        bits=experiment.training_bits,
        multi_label=data.multi_label,
        inputs=experiment.inputs,
        num_train=data.num_train,
        epochs=recipe.epochs,
        steps_per_epoch=steps_per_epoch(data.num_train, recipe.batch_size),
        device=device,
        seed=experiment.seed,
        dataset=data.dataset,
        lengths=experiment.lengths,
    )


def make_method(experiment: Experiment) -> Method:
    """Return a fresh method with the experiment's fields; raises HashbenchError when it cannot be loaded."""
    return construct(METHODS.get(experiment.method), experiment.fields)


def augments_of(cls: type[Method], recipe: Recipe) -> tuple[str, ...]:
    """Return the augmentation of each view of an image that a method trains on."""
    if not issubclass(cls, DeepMethod):
        return ("none",)
    return tuple(name or recipe.augment for name in cls.view_augments or ("",) * cls.views)


def new_model(
    experiment: Experiment,
    device: torch.device,
    *,
    width: int,
    prepared: dict[str, Tensor],
    start: Mapping[str, Any] | None = None,
) -> Model:
    """Return the experiment's model untrained; `width` is that of inputs that are no images.

    `start` is the state of the model that its training begins with; raises HashbenchError where it does not fit.
    """
    try:
        return Model(
            make_method(experiment),
            task_of(experiment, device),
            experiment.recipe,
            experiment.data.shape,
            width=width,
            prepared=prepared,
            start=start,
        )
    except (RuntimeError, KeyError) as error:
        if start is None:
            raise
        reason = " ".join(str(error).split())
        raise HashbenchError(f"The run to start from does not fit {experiment.method}: {reason:.300}") from error


def load_model(experiment: Experiment, path: Path, device: torch.device, *, of: str | None = None) -> Model:
    """Return the trained model of an experiment from its training's model.pt, giving codes of the experiment's length.

    Raises HashbenchError when the file is damaged, does not fit, or is that of another training than `of`, an id.
    """
    task = task_of(experiment, device)
    model = Model.load(path, make_method(experiment), task, experiment.recipe, experiment.data.shape, of=of)
    model.bits = experiment.bits
    return model


def depends_on_world(cls: type[DeepMethod], experiment: Experiment, device: torch.device) -> bool:
    """Return whether the number of ranks that share a batch changes the numbers.

    It does where samples are compared, where a sample may have no label (the loss is a mean over those that have
    one), and for batch norm on the CPU, for which torch has no synchronised one.
    """
    classes = [one for one in classes_of(cls, experiment.fields) if issubclass(one, DeepMethod)]
    if not all(one.per_sample for one in classes) or experiment.data.multi_label:
        return True
    if device.type == "cuda":
        return False
    if experiment.recipe.hidden:
        return True  # its batch norm
    if experiment.inputs in ("features", "pixels"):
        return False
    task = task_of(experiment, device)
    backbone = make_backbone(task, experiment.recipe, experiment.data.shape, 0, pretrained=False)
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in backbone.modules())
