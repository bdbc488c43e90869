"""The hooks of a method as the runner calls them, on a CUDA device that is not there: what they leave elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hashbench.checks.fake_cuda import CUDA, FakeCuda
from hashbench.checks.places import own_files
from hashbench.datasets.loading.batch import Batch
from hashbench.errors import HashbenchError
from hashbench.experiments.models import make_method, task_of
from hashbench.methods.contract import DeepMethod
from hashbench.networks.model import Model
from hashbench.training.preparation import RecipeTools, compute_prepared
from hashbench.training.trainset import TrainSet

if TYPE_CHECKING:
    from hashbench.checks.toy_runs import Case

STEPS = 2  # of each epoch: what a first step leaves behind meets what a second one brings


@dataclass(frozen=True)
class GpuPass:
    """What a pass over all hooks found."""

    missing: str | None = None  # why there was none
    error: Exception | None = None  # what ended it
    waits: tuple[str, ...] = ()  # where a step waited for the device


@cache
def missing_device() -> str | None:
    """Return why torch cannot stand in for a CUDA device, or None."""
    try:
        with FakeCuda(()):
            torch.ones(1, device=CUDA).contiguous()[torch.ones(1).to(CUDA) > 0].cpu()
    except Exception:  # a build without CUDA, or a version whose fake tensors ask for a driver
        return f"torch {torch.__version__} cannot take the place of a GPU here; a newer build with CUDA can."
    return None


def gpu_pass(case: Case) -> GpuPass:
    """Call the hooks of a case's method in the order of a run, on toy data."""
    if (missing := missing_device()) is not None:
        return GpuPass(missing)
    device, error = FakeCuda(own_files(case.cls)), None
    try:
        with device:
            (_deep_pass if case.deep else _fitted_pass)(case, device)
    except Exception as raised:
        error = raised
    return GpuPass(None, error, tuple(device.waits))


def _fitted_pass(case: Case, device: FakeCuda) -> None:
    model = case.new_model(CUDA)
    model.fit(_Moved(case.data()))
    _encode(model, case, device, "encode")


def _deep_pass(case: Case, device: FakeCuda) -> None:
    data = _Moved(case.data())
    method = make_method(case.experiment)
    assert isinstance(method, DeepMethod)
    case = replace(case, prepared=compute_prepared(method, _Tools(case, data, device)))
    model = case.new_model(CUDA)
    method, network = model.method, model.network
    assert isinstance(method, DeepMethod)
    assert network is not None
    for epoch in range(model.task.epochs):
        network.train()
        method.train()
        sums: dict[str, Tensor] = {}
        for batch in islice(data.batches(epoch), STEPS):
            with device.never_waiting("a training step"):
                terms, out = method.training_step(network, batch)
            _check_terms(terms)
            with torch.no_grad():
                with device.never_waiting("after_step"):
                    method.after_step(network, batch)
                with device.never_waiting("epoch_sums"):
                    _add(sums, method.epoch_sums(out.detach(), batch))
        with torch.no_grad():
            if method.wants_fresh_pass(epoch):
                network.eval()
                sums = {}
                for batch in data.fresh():
                    with device.never_waiting("epoch_sums"):
                        _add(sums, method.epoch_sums(network(batch.inputs), batch))
            method.end_epoch(epoch, sums)
    _encode(model, case, device, "codes")


def _encode(model: Model, case: Case, device: FakeCuda, hook: str) -> None:
    queries = case.queries.to(CUDA)
    with device.never_waiting(hook):
        model.codes(queries)


def _check_terms(terms: dict[str, Tensor]) -> None:
    for name, term in terms.items():
        if term.device.type != CUDA.type:
            raise HashbenchError(f"the loss term '{name}' lies on the {term.device}; make it on the outputs' device.")


def _add(sums: dict[str, Tensor], more: dict[str, Tensor]) -> None:
    for name, value in more.items():
        sums[name] = sums[name] + value if name in sums else value


class _Moved:
    """The training set of toy data, moved to the device."""

    def __init__(self, data: TrainSet):
        self._data = data

    @property
    def labels(self) -> Tensor | None:
        return None if self._data.labels is None else self._data.labels.to(CUDA)

    @property
    def width(self) -> int:
        return self._data.width

    def batches(self, epoch: int = 0) -> Iterator[Batch]:
        return map(_moved, self._data.batches(epoch))

    def fresh(self) -> Iterator[Batch]:
        return map(_moved, self._data.fresh())

    def features(self) -> Tensor:
        return self._data.features().to(CUDA)


def _moved(batch: Batch) -> Batch:
    views = tuple(view.to(CUDA) for view in batch.views)
    labels = None if batch.labels is None else batch.labels.to(CUDA)
    return replace(batch, views=views, labels=labels, index=batch.index.to(CUDA))


class _Tools(RecipeTools):
    """The tools of `prepare`, without the optimiser: gradients need a GPU that is there."""

    def __init__(self, case: Case, data: _Moved, device: FakeCuda):
        experiment = case.experiment
        shape, task = experiment.data.shape, task_of(experiment, CUDA)
        super().__init__(task, experiment.recipe, shape, data, bar=None)  # type: ignore[arg-type]
        self._device = device

    def train(self, outputs: int, loss: Callable[[Tensor, Batch], dict[str, Tensor]]) -> nn.Module:
        """Return a network after the losses of some steps."""
        network = self.network(outputs)
        for batch in islice(self.data.batches(), STEPS):
            with self._device.never_waiting("a training step of prepare"):
                terms = loss(network(batch.inputs), batch)
            _check_terms(terms)
        return network
