"""What an experiment trains: its task, its method and its model, new or as a run has kept it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from hashbench.datasets.loading.loader import steps_per_epoch
from hashbench.experiments.experiment import Experiment
from hashbench.methods.contract import DeepMethod, Method, Task
from hashbench.networks.model import Model, make_backbone
from hashbench.registry import METHODS


def task_of(experiment: Experiment, device: torch.device) -> Task:
    """Return the task that an experiment sets its method."""
    data, recipe = experiment.data, experiment.recipe
    return Task(
        num_classes=data.num_classes,
        bits=experiment.bits,
        multi_label=data.multi_label,
        inputs=experiment.inputs,
        num_train=data.num_train,
        epochs=recipe.epochs,
        steps_per_epoch=steps_per_epoch(data.num_train, recipe.batch_size),
        device=device,
        seed=experiment.seed,
        dataset=data.dataset,
    )


def make_method(experiment: Experiment) -> Method:
    """Return a fresh method with the experiment's fields; raises HashbenchError when it cannot be loaded."""
    made: Method = METHODS.get(experiment.method)(**experiment.fields)
    return made


def new_model(experiment: Experiment, device: torch.device, *, width: int, prepared: dict[str, Tensor]) -> Model:
    """Return the experiment's model untrained; `width` is that of inputs that are no images."""
    return Model(
        make_method(experiment),
        task_of(experiment, device),
        experiment.recipe,
        experiment.data.shape,
        width=width,
        prepared=prepared,
    )


def load_model(experiment: Experiment, path: Path, device: torch.device) -> Model:
    """Return the trained model of an experiment from its model.pt; raises HashbenchError when it does not fit."""
    task = task_of(experiment, device)
    return Model.load(path, make_method(experiment), task, experiment.recipe, experiment.data.shape)


def depends_on_world(cls: type[DeepMethod], experiment: Experiment, device: torch.device) -> bool:
    """Return whether the number of ranks that share a batch changes the numbers.

    It does where samples are compared, where a sample may have no label (the loss is a mean over those that have
    one), and for batch norm on the CPU, for which torch has no synchronised one.
    """
    if not cls.per_sample or experiment.data.multi_label:
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
