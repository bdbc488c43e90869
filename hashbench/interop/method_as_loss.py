"""Methods as loss classes for other suites: `Loss(config, bit)`, called as `loss(u, y, ind, config)`.

The shape is that of loss_as_method.py, the inverse. Such a suite has a training loop of its own, so only methods that
are a loss with sums over epochs can be used there, and the loss itself has to detect where an epoch ends.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hashbench.datasets.loading.batch import Batch
from hashbench.datasets.loading.loader import steps_per_epoch
from hashbench.errors import HashbenchError
from hashbench.interop.targets import resolve_method
from hashbench.methods.contract import DeepMethod, Task, options, resolve_fields, wraps
from hashbench.system import seeds

#: Hooks that a training loop with only a loss never calls, and what a method does there.
NOT_CALLED = {
    "prepare": "prepares on the training set",
    "attach": "keeps something of the network",
    "training_step": "has a training step of its own",
    "after_step": "acts after each optimiser step",
    "codes": "makes codes in its own way",
    "parameter_groups": "sets learning rates of its own",
}
_WIDTH = 64  # of the features that a head is made for to see its layers


class MethodAsLoss(nn.Module):
    """A method's loss for the training loop of another suite; `as_loss` makes the subclass of a method."""

    method_class: type[DeepMethod]
    fields: Mapping[str, Any]
    #: Parts of the method that a loss cannot bring into a script's network, in words.
    left_out: tuple[str, ...] = ()

    def __init__(self, config: Mapping[str, Any], bit: int):
        """Take n_class, num_train, epoch and batch_size from `config`; device, seed and multi_label where it has them.

        Samples have one label unless `multi_label` is true, whatever the data set is called.
        With `notice_epochs` false in it, epochs end by `end_epoch()` only, for samplers that draw with replacement.
        Raises HashbenchError for what is missing, and for what the method does not support.
        """
        super().__init__()
        self._num_train = _stated(config, "num_train")
        self._detects_epochs = bool(config.get("notice_epochs", True))
        self.task = task = Task(
            num_classes=_stated(config, "n_class"),
            bits=bit,
            multi_label=bool(config.get("multi_label", False)),
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
        with seeds.globals_kept():  # the script's own random streams stay as they were
            seeds.seed_globals(task.seed, "init", "method")
            self.method.setup(task, {})
        self.method.to(task.device)
        self._check_passes(task)
        self._epoch = self._step = 0
        self._values_seen = False
        self._begin_epoch()

    def forward(self, u: Tensor, y: Tensor, ind: Tensor, config: object = None) -> Tensor:
        """Return the loss, a scalar, of outputs u (n, bit) with labels y (n, n_class) multi-hot.

        `ind` (n,) are positions in the training set; one that comes again begins a new epoch. In evaluation mode and
        without gradients nothing is recorded. Raises HashbenchError for other shapes, for a position that is not in the
        training set, for labels of other values than 0 and 1, and for a sample of several labels where the config has
        no `multi_label`. On a GPU with `multi_label`, the first call alone looks at the values of y, for it would wait.
        """
        self._check_shapes(u, y, ind)
        labels = y.float() if self.method.supervised else None
        if labels is not None:
            self._check_values(labels)
        recorded = self.training and torch.is_grad_enabled()
        if recorded:
            self._record(ind)
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

    def _check_shapes(self, u: Tensor, y: Tensor, ind: Tensor) -> None:
        bits, classes = self.task.bits, self.task.num_classes
        if u.ndim != 2 or u.shape[1] != bits:
            raise HashbenchError(
                f"The outputs u have the shape {(*u.shape,)}, and the loss is for {bits} bits; give (n, {bits})."
            )
        if ind.shape != (len(u),) or ind.is_floating_point():
            kind = str(ind.dtype).removeprefix("torch.")
            raise HashbenchError(
                f"ind is {kind} of the shape {(*ind.shape,)} for {len(u)} outputs; give the position of each sample in "
                f"the training set, integers ({len(u)},)."
            )
        if self.method.supervised and y.shape != (len(u), classes):
            numbers = y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1)
            way = f", torch.nn.functional.one_hot(y.flatten(), {classes}) of class numbers" if numbers else ""
            raise HashbenchError(
                f"The labels y have the shape {(*y.shape,)} for {len(u)} outputs and config['n_class'] {classes}; give "
                f"multi-hot labels ({len(u)}, {classes}){way}."
            )

    def _check_values(self, labels: Tensor) -> None:
        """Raise HashbenchError for labels that are not multi-hot, or of several classes where samples have one."""
        if self.task.multi_label and self._values_seen and labels.device.type != "cpu":
            return
        other = ((labels != 0) & (labels != 1)).any()
        several = (labels.sum(dim=1) > 1).any() & (not self.task.multi_label)
        if other | several:  # the one place where a GPU is waited for
            if not other:
                raise HashbenchError(
                    "A sample has several labels, but the loss was built for samples of one; put 'multi_label': True "
                    "into the config."
                )
            way = "; for -1 and +1 give y > 0" if (labels.abs() == 1).all() else ""
            raise HashbenchError(f"The labels y hold other values than 0 and 1; give multi-hot labels{way}.")
        self._values_seen = True

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

    `fields` are the method's own, for example `as_loss("crh", margin=0.3)`. Of a head, one linear layer may be left
    out: the attribute `left_out` of the class and a warning state it. Raises HashbenchError for methods that are more
    than a loss with setup, epoch_sums and end_epoch.
    """
    cls = resolve_method(method)
    name = cls.info.name
    if not issubclass(cls, DeepMethod):
        raise HashbenchError(f"{name} is no loss: it is fitted in one call; train it with hashbench.")
    if wraps(cls):
        raise HashbenchError(f"{name} wraps another method, which a loss alone cannot do; train it with hashbench.")
    for hook, what in NOT_CALLED.items():
        if getattr(cls, hook) is not getattr(DeepMethod, hook):
            raise HashbenchError(f"{name} is more than a loss: it {what} ({hook}); train it with hashbench.")
    resolved = resolve_fields(name, options(cls), fields)
    left_out = _left_out(cls(**resolved))
    doc = cls.__doc__
    if left_out:
        sentence = f"As a loss, {name} leaves out {', and '.join(left_out)}."
        warnings.warn(sentence, stacklevel=2)
        doc = f"{inspect.cleandoc(doc or '')}\n\n{sentence}"
    members = {"method_class": cls, "fields": resolved, "left_out": left_out, "__doc__": doc}
    return type(f"{cls.__name__}Loss", (MethodAsLoss,), members)


def _left_out(method: DeepMethod) -> tuple[str, ...]:
    """Return the part of a method's head that a loss leaves out: none where it is torch's linear layer.

    Raises HashbenchError where the head has more than one linear layer to the code's bits.
    """
    if type(method).head is DeepMethod.head:
        return ()
    name, task = method.info.name, Task(10, 16, False, "images", 100, 1, 1, torch.device("cpu"), 0)
    try:
        own, plain = (_made(make, task) for make in (method.head, partial(DeepMethod.head, method)))
    except Exception as error:
        raise HashbenchError(
            f"{name} is more than a loss: its head cannot be made by itself ({type(error).__name__}: {error}); train "
            f"it with hashbench."
        ) from error
    layers = [layer for layer in own.modules() if not isinstance(layer, nn.Sequential)]
    if [type(layer) for layer in layers] != [nn.Linear] or layers[0].out_features != task.bits:
        kinds = ", ".join(type(layer).__name__ for layer in layers)
        raise HashbenchError(
            f"{name} is more than a loss: its head has layers of its own ({kinds}); set other fields, or train it with "
            f"hashbench."
        )
    one, other = ([*head.parameters()] for head in (own, plain))
    if len(one) == len(other) and all(map(torch.equal, one, other)):
        return ()
    bias = "" if layers[0].bias is not None else "without bias, "
    return (
        f"its head, one linear layer {bias}whose initial weights are the method's own; end the network with "
        f"criterion.method.head(width, criterion.task) to have it",
    )


def _made(make: Callable[[int, Task], nn.Module], task: Task) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make(_WIDTH, task)


def _stated(config: Mapping[str, Any], key: str) -> int:
    if key not in config:
        raise HashbenchError(f"The config lacks '{key}', which the loss has to know; put it in.")
    return int(config[key])
