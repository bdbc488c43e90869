"""Methods as loss classes for other suites: `Loss(config, bit)`, called as `loss(u, y, ind, config)`.

The shape is that of loss_as_method.py, the inverse. Such a suite has a training loop of its own, so only methods that
are a loss with sums over epochs can be used there, and the loss itself has to detect where an epoch ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hashbench.datasets.loading.batch import Batch
from hashbench.datasets.loading.loader import steps_per_epoch
from hashbench.errors import HashbenchError
from hashbench.interop.targets import resolve_method
from hashbench.methods.contract import DeepMethod, Task, options, resolve_fields
from hashbench.system import seeds

#: Hooks that a training loop with only a loss never calls, and what a method does there.
NOT_CALLED = {
    "prepare": "prepares on the training set",
    "head": "brings layers of its own",
    "training_step": "has a training step of its own",
    "after_step": "acts after each optimiser step",
    "codes": "makes codes in its own way",
    "parameter_groups": "sets learning rates of its own",
}
#: Data sets of DeepHash-pytorch whose images have several labels; `config["multi_label"]` says it for any other.
MULTI_LABEL = ("nuswide_21", "nuswide_21_m", "nuswide_81_m", "coco", "mirflickr", "voc2012")


class MethodAsLoss(nn.Module):
    """A method's loss for the training loop of another suite; `as_loss` makes the subclass of a method."""

    method_class: type[DeepMethod]
    fields: Mapping[str, Any]

    def __init__(self, config: Mapping[str, Any], bit: int):
        """Take n_class, num_train, epoch and batch_size from `config`; device, seed and multi_label where it has them.

        With `notice_epochs` false in it, epochs end by `end_epoch()` only, for samplers that draw with replacement.
        Raises HashbenchError for what is missing, and for what the method does not support.
        """
        super().__init__()
        self._num_train = _stated(config, "num_train")
        self._detects_epochs = bool(config.get("notice_epochs", True))
        task = Task(
            num_classes=_stated(config, "n_class"),
            bits=bit,
            multi_label=bool(config.get("multi_label", config.get("dataset") in MULTI_LABEL)),
            inputs="images",
            num_train=self._num_train,
            epochs=_stated(config, "epoch"),
            steps_per_epoch=steps_per_epoch(self._num_train, _stated(config, "batch_size")),
            device=torch.device(config.get("device", "cuda" if config.get("GPU") else "cpu")),
            seed=config.get("seed", 0),
            dataset=str(config.get("dataset", "")),
        )
        self.method = self.method_class(**self.fields)
        reason = self.method.supports(task)
        if reason is not None:
            raise HashbenchError(f"{self.method.info.name} does not support this: {reason}")
        with torch.random.fork_rng(devices=[]):  # the script's own random stream stays as it was
            torch.manual_seed(seeds.derive(task.seed, "init", "method"))
            self.method.setup(task, {})
        self.method.to(task.device)
        self._check_passes(task)
        self._epoch = self._step = 0
        self._begin_epoch()

    def forward(self, u: Tensor, y: Tensor, ind: Tensor, config: object = None) -> Tensor:
        """Return the loss, a scalar, of outputs u (n, bit) with labels y (n, C) float multi-hot.

        `ind` (n,) are positions in the training set; one that comes again begins a new epoch. In evaluation mode and
        without gradients nothing is recorded. Raises HashbenchError for a position that is not in the training set.
        """
        recorded = self.training and torch.is_grad_enabled()
        if recorded:
            self._record(ind)
        labels = y.float() if self.method.supervised else None
        batch = Batch(views=(), labels=labels, index=ind.to(u.device), epoch=self._epoch, step=self._step)
        terms = self.method.loss(u, batch)
        if recorded:
            with torch.no_grad():
                for name, share in self.method.epoch_sums(u.detach(), batch).items():
                    self._sums[name] = self._sums[name] + share if name in self._sums else share
            self._step += 1
        return torch.stack(list(terms.values())).sum()

    def end_epoch(self) -> dict[str, float]:
        """End the epoch now and return the method's diagnostics; otherwise it ends when the next one begins."""
        if not self._seen.any():
            raise HashbenchError(
                "No sample was seen since the last epoch ended; call end_epoch() once, after the epoch."
            )
        with torch.no_grad():
            diagnostics = self.method.end_epoch(self._epoch, self._sums)
        self._epoch += 1
        self._begin_epoch()
        return diagnostics

    def _record(self, ind: Tensor) -> None:
        # Only before a step's loss: what ends an epoch changes centers that the backward pass of a loss still needs.
        index = ind.detach().cpu()
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < self._num_train:
            raise HashbenchError(
                f"ind reaches from {int(index.min())} to {int(index.max())}, but config['num_train'] is "
                f"{self._num_train}; ind must be positions in the training set."
            )
        if self._detects_epochs and self._seen[index].any():
            self.end_epoch()
        self._seen[index] = True

    def _begin_epoch(self) -> None:
        self._seen = torch.zeros(self._num_train, dtype=torch.bool)
        self._sums: dict[str, Tensor] = {}

    def _check_passes(self, task: Task) -> None:
        if any(self.method.wants_fresh_pass(epoch) for epoch in range(task.epochs)):
            raise HashbenchError(
                f"{self.method.info.name} needs passes of its own over the training set with these fields, which a "
                f"loss cannot have; set other fields, or train it with hashbench."
            )


def as_loss(method: str, **fields: Any) -> type[MethodAsLoss]:
    """Return a loss class of the shape `Loss(config, bit)` that trains by `method`, a target as `resolve_method` takes.

    `fields` are the method's own, for example `as_loss("crh", margin=0.3)`. Raises HashbenchError for methods that are
    more than a loss with setup, epoch_sums and end_epoch.
    """
    cls = resolve_method(method)
    name = cls.info.name
    if not issubclass(cls, DeepMethod):
        raise HashbenchError(f"{name} is no loss: it is fitted in one call; train it with hashbench.")
    for hook, what in NOT_CALLED.items():
        if getattr(cls, hook) is not getattr(DeepMethod, hook):
            raise HashbenchError(f"{name} is more than a loss: it {what} ({hook}); train it with hashbench.")
    resolved = resolve_fields(name, options(cls), fields)
    return type(
        f"{cls.__name__}Loss", (MethodAsLoss,), {"method_class": cls, "fields": resolved, "__doc__": cls.__doc__}
    )


def _stated(config: Mapping[str, Any], key: str) -> int:
    if key not in config:
        raise HashbenchError(f"The config lacks '{key}', which the loss has to know; put it in.")
    return int(config[key])
