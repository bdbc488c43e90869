"""How long a run would take, by some of its training steps: nothing is reported, written or kept."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from hashbench.datasets.base import Dataset
from hashbench.datasets.loading.batch import Batch
from hashbench.datasets.sparse import is_sparse
from hashbench.errors import HashbenchError
from hashbench.evaluation.encoding import encode_rows
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.models import augments_of, make_method, new_model, task_of
from hashbench.experiments.phases import fixed_inputs, train_set
from hashbench.experiments.planned import PlannedRun
from hashbench.experiments.planning import Plan
from hashbench.methods.contract import DeepMethod
from hashbench.networks.model import ENCODE_BATCH, true_float32
from hashbench.networks.network import FixedBackbone, input_shape
from hashbench.registry import BACKBONES, METHODS
from hashbench.system.distributed import SINGLE
from hashbench.training.loop import time_steps
from hashbench.training.preparation import LossOnly, RecipeTools

if TYPE_CHECKING:
    from hashbench.datasets.sparse import Inputs

STEPS = 20  # of which the first 5 warm up
PASSES = 4  # batches that go through a fixed backbone


def probe(plan: Plan, run: PlannedRun) -> float:
    """Return the seconds that a run takes to prepare, train and encode, by 20 of its steps on the plan's device.

    The backbone has random weights, and a fixed one's features are random numbers: neither changes how long a step
    takes, and computing features, which all runs share, is not counted. Raises HashbenchError for a method that is
    fitted in one call, and whatever the method raises.
    """
    experiment, dataset, device = run.experiment, plan.datasets[run.dataset], plan.device
    if not (isinstance(experiment, Experiment) and isinstance(dataset, Dataset)):
        raise HashbenchError("it is fitted in one call, so there are no steps to time.")
    method = make_method(experiment)
    if not isinstance(method, DeepMethod):
        raise HashbenchError("it is fitted in one call, so there are no steps to time.")
    inputs = _inputs(experiment, dataset, device)
    features = partial(_fixed, experiment, dataset, device) if experiment.inputs == "images" else lambda: inputs
    data = train_set(experiment, dataset, inputs, _views(experiment, inputs), features, device, SINGLE)
    recipe = dataclasses.replace(experiment.recipe, pretrained=False, fixed_views=0)
    untaught = dataclasses.replace(experiment, recipe=recipe)
    task = task_of(experiment, device)
    with true_float32():
        tools = _ProbingTools(task, recipe, experiment.data.shape, data, bar=None)
        tools.pretrained = experiment.recipe.pretrained
        started = time.perf_counter()
        prepared = method.prepare(task, data, tools)
        seconds = time.perf_counter() - started + tools.left_out
        model = new_model(untaught, device, width=data.width, prepared=prepared)
        method = model.method
        assert isinstance(method, DeepMethod)
        assert model.network is not None
        step = time_steps(method, model.network, task=task, recipe=recipe, data=data, steps=STEPS)
        seconds += step * task.steps_per_epoch * task.epochs
        passes = sum(method.wants_fresh_pass(epoch) for epoch in range(task.epochs))
        encoded = len(dataset.split.query) + len(dataset.split.database) + passes * task.num_train
        return seconds + encoded * _seconds_per_code(partial(encode_rows, model, inputs, world=SINGLE), dataset)


def _inputs(experiment: Experiment, dataset: Dataset, device: torch.device) -> Inputs:
    """Return what the method learns from; random numbers in the place of features."""
    return dataset.store.inputs if experiment.inputs == "images" else _fixed(experiment, dataset, device)


def _views(experiment: Experiment, inputs: Inputs) -> dict[str, np.ndarray]:
    """Return an input in the place of the features of each fixed view, by augmentation."""
    recipe = experiment.recipe
    if not recipe.fixed_views:
        return {}
    assert not is_sparse(inputs)
    row = np.broadcast_to(inputs[:1], (recipe.fixed_views * experiment.data.num_train, inputs.shape[1]))
    return {name: row for name in augments_of(METHODS.get(experiment.method), recipe) if name != "none"}


def _fixed(experiment: Experiment, dataset: Dataset, device: torch.device) -> Inputs:
    """Return what no training changes; random numbers in the place of features."""
    if dataset.store.kind != "images" or not experiment.recipe.pretrained:
        return fixed_inputs(experiment, dataset, device, False, SINGLE)
    shape = input_shape(experiment.data.shape, experiment.recipe.size)
    width = BACKBONES.get(experiment.recipe.backbone)(shape, False).width
    return np.random.default_rng(0).standard_normal((len(dataset.store.inputs), width), dtype=np.float32)


def _seconds_per_code(encode: Callable[[np.ndarray], np.ndarray], dataset: Dataset) -> float:
    """Return the seconds for encoding one input, by one batch after another has warmed up."""
    rows = dataset.split.database[:ENCODE_BATCH]
    encode(rows)
    started = time.perf_counter()
    encode(rows)
    return (time.perf_counter() - started) / len(rows)


class _ProbingTools(RecipeTools):
    """The tools of `prepare`, which end after some steps; `left_out` are the seconds of the other steps."""

    left_out = 0.0
    pretrained = False  # whether features are a backbone's, of which the recipe here has one with random weights

    def fixed(self) -> nn.Module:
        """Return the fixed map from views to features, where it is a backbone with random weights."""
        if self.task.inputs != "images" or not self.pretrained:
            return super().fixed()
        return FixedBackbone(self._shape, self.recipe).to(self.task.device)

    @torch.no_grad()
    def view_features(self) -> tuple[Tensor, ...]:
        """Return random numbers in the place of the features, after the passes of some batches."""
        fixed, started = self.fixed(), time.perf_counter()
        batches = [*islice(self.data.batches(), PASSES)]
        widths = [[fixed(view).shape[1] for view in batch.views] for batch in batches]
        seconds = time.perf_counter() - started
        self.left_out += seconds * (self.task.steps_per_epoch / len(batches) - 1)
        return tuple(torch.rand(self.task.num_train, width, device=self.task.device) for width in widths[0])

    def train(self, outputs: int, loss: Callable[[Tensor, Batch], dict[str, Tensor]]) -> nn.Module:
        """Return a network after some steps of its training."""
        network, started = self.network(outputs), time.perf_counter()
        step = time_steps(LossOnly(loss), network, task=self.task, recipe=self.recipe, data=self.data, steps=STEPS)
        self.left_out += step * self.task.steps_per_epoch * self.task.epochs - (time.perf_counter() - started)
        return network
