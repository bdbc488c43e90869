"""The epoch loop for gradient-trained methods: schedule, precision, clipping, the method's hooks, checkpoints."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from hashbench.datasets.loading.batch import Batch
from hashbench.errors import HashbenchError
from hashbench.methods.contract import DeepMethod, Task, TrainingData
from hashbench.networks.network import HashNetwork
from hashbench.recipes import Recipe
from hashbench.storage.tensorfiles import Unusable, load, save
from hashbench.system import seeds
from hashbench.system.distributed import SINGLE, World

Monitor = Callable[[int], dict[str, float] | None]  # from an epoch, 0-based, to measures after it, None without any
_LOG = logging.getLogger(__name__)
CHECK_SECONDS = 1.0  # how often the losses are brought to the host: for the progress bar, and to stop when not finite


@dataclass
class TrainingProgress:
    """How far a training has come: what its checkpoint holds beside weights, and what the runner reports."""

    epochs_done: int = 0
    seconds: float = 0.0
    images: int = 0
    diagnostics: dict[str, float] = field(default_factory=dict)  # of the last epoch
    beside: int = 0  # trainings of other seeds that went on at the same time, with which the seconds are shared

    @property
    def images_per_s(self) -> float | None:
        """Images trained on per second of training; None where there was no training in epochs."""
        return self.images / self.seconds if self.images else None


@dataclass(frozen=True)
class Reports:
    """Outputs of a training: a line per epoch, measures in some of them, a checkpoint after each, a progress bar."""

    log: Callable[[dict[str, Any]], None] = lambda line: None
    checkpoint: Path | None = None
    of: str | None = None  # what the checkpoint belongs to; one of something else is not resumed from
    bar: str | None = None  # the progress bar's title; None: no bar
    monitor: Monitor = lambda epoch: None  # for the log alone


def train(
    method: DeepMethod,
    network: HashNetwork,
    *,
    task: Task,
    recipe: Recipe,
    data: TrainingData,
    reports: Reports,
    world: World = SINGLE,
) -> TrainingProgress:
    """Train `network` and `method` by `recipe`, resuming from the checkpoint where there is one.

    Everything random in an epoch follows from (seed, epoch), so a resumed training equals an uninterrupted one. Raises
    HashbenchError naming epoch, step and term when a loss is not finite. Of a `world`, each rank is given its share of
    every batch; all take the step of the whole batch's mean.
    """
    if not world.is_single and task.device.type == "cuda":
        for module in (network, method):  # a method may keep a twin of the network
            nn.SyncBatchNorm.convert_sync_batchnorm(module)  # there is none for the CPU
    training = Training(method, network, task, recipe, data, reports, world)
    stepped = network.compiled() if recipe.compile else network
    world.broadcast_in_place([*_state(network), *_state(method)])
    with progress_bar([training], reports.bar) as bar:
        for epoch in range(training.progress.epochs_done, recipe.epochs):
            started = time.perf_counter()
            seeds.seed_globals(task.seed, "epoch", epoch, rank=world.rank)  # so that no state of theirs need be saved
            losses = Losses(epoch, bar, world)
            sums = _train_epoch(
                method, network, stepped, training.optimizer, data.batches(epoch), task, recipe, losses, world
            )
            world.broadcast_in_place(network.buffers())
            means = losses.means()
            diagnostics = training.end_epoch(epoch, sums)
            training.report(epoch, means, diagnostics, seconds=time.perf_counter() - started)
    return training.progress


class Training:
    """A training on its way: what is trained, with its optimiser, and how far it has come; resumed where it can be."""

    def __init__(
        self,
        method: DeepMethod,
        network: HashNetwork,
        task: Task,
        recipe: Recipe,
        data: TrainingData,
        reports: Reports,
        world: World = SINGLE,
    ):
        """Begin, or go on from the checkpoint; raises HashbenchError where that does not fit."""
        self.method, self.network, self.task, self.recipe, self.data = method, network, task, recipe, data
        self.optimizer = make_optimizer(method.parameter_groups(network, recipe), recipe)
        self.progress = _resume(reports, method, network, self.optimizer, world)
        self.world = world
        self._reports, self._warned = reports, False

    @torch.no_grad()
    def end_epoch(self, epoch: int, sums: Sums) -> dict[str, float]:
        """Let the method end an epoch on its `sums`, or on those of the fresh pass it asks for; returns diagnostics."""
        method, network, world = self.method, self.network, self.world
        if method.wants_fresh_pass(epoch):
            network.eval()
            sums = Sums(world)
            seen = []
            for batch in self.data.fresh():
                sums.add(method.epoch_sums(network(batch.inputs), batch), batch)
                seen.append(batch.index)
            _gather_samples(method, torch.cat(seen), self.task.num_train, world)
        diagnostics = method.end_epoch(epoch, world.all_reduced(sums.total))
        world.broadcast_in_place(method.buffers())  # what a rank drew, or took of its own share, is rank 0's now
        return diagnostics

    def report(
        self, epoch: int, losses: dict[str, float], diagnostics: dict[str, float], *, seconds: float, beside: int = 0
    ) -> None:
        """Count an epoch that took `seconds` as done, log it, and keep a checkpoint of all epochs but the last.

        Where trainings of other seeds went on `beside` it, the last epoch is kept, too: the run goes on from there.
        """
        progress, reports = self.progress, self._reports
        progress.diagnostics = diagnostics
        progress.epochs_done = epoch + 1
        progress.images += self.task.num_train
        progress.seconds += seconds
        progress.beside = max(progress.beside, beside)
        measures = reports.monitor(epoch)  # after the clock was read: monitoring is no part of training
        reports.log(
            {
                "epoch": epoch,
                "loss": losses,
                "diagnostics": progress.diagnostics,
                "learning_rate": self.optimizer.param_groups[-1]["lr"],
                "seconds": progress.seconds,
                **({} if measures is None else {"measures": measures}),
            }
        )
        if reports.checkpoint is None or (progress.epochs_done == self.recipe.epochs and not beside):
            return
        reason = self.method.resumes()
        if reason is None:
            _save(reports.checkpoint, reports.of, progress, self.method, self.network, self.optimizer)
        elif not self._warned:
            self._warned = True
            _warn(f"{self.method.info.name} cannot resume, an interrupted run starts over: {reason}", reports)


def progress_bar(trainings: Sequence[Training], title: str | None) -> tqdm:
    """Return the bar over all images that the trainings see, those before now counted; None for a title: no bar."""
    total = sum(training.recipe.epochs * training.task.num_train for training in trainings)
    return tqdm(total=total, initial=sum(training.progress.images for training in trainings), unit="img",
                unit_scale=True, desc=title, disable=title is None, leave=False, dynamic_ncols=True)  # fmt: skip


def time_steps(
    method: DeepMethod, network: HashNetwork, *, task: Task, recipe: Recipe, data: TrainingData, steps: int
) -> float:
    """Return the seconds of a training step: the mean over `steps`, without the first quarter, which warms up.

    The epochs' first batches are taken as a training takes them; no epoch is ended, and nothing is reported.
    """
    optimizer = make_optimizer(method.parameter_groups(network, recipe), recipe)
    stepped = network.compiled() if recipe.compile else network
    batches = chain.from_iterable(data.batches(epoch) for epoch in count())
    started, timed = 0.0, steps - steps // 4
    for share in (steps - timed, timed):
        started = time.perf_counter()
        seeds.seed_globals(task.seed, "epoch", 0)
        losses = Losses(0, tqdm(disable=True), SINGLE)
        _train_epoch(method, network, stepped, optimizer, islice(batches, share), task, recipe, losses, SINGLE)
        losses.means()
        if task.device.type == "cuda":
            torch.cuda.synchronize(task.device)
    return (time.perf_counter() - started) / timed


def _warn(sentence: str, reports: Reports) -> None:
    """Log a warning, in the run's log as well."""
    _LOG.warning(sentence)
    reports.log({"warning": sentence})


def _train_epoch(
    method: DeepMethod,
    network: HashNetwork,
    stepped: HashNetwork,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Batch],
    task: Task,
    recipe: Recipe,
    losses: Losses,
    world: World,
) -> Sums:
    """Take one optimiser step for each batch; nothing in here waits for the device but the bar, once a second.

    `stepped` is the network as training steps see it, compiled where the recipe says so.
    """
    for module in (network, stepped, method):
        module.train()
    sums = Sums(world)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for batch in batches:
        factor = recipe.learning_rate_factor(batch.step, task.steps_per_epoch)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        terms, out = method.training_step(stepped, batch)
        loss = _total(terms)
        if world.is_single:
            loss.backward()
        else:  # weighted before, not after: a synchronised batch norm mixes the ranks' gradients on the way back
            (loss * world.weight(len(batch.index), batch.whole)).backward()
            world.all_reduce_gradients(parameters)
        if recipe.gradient_clip:
            nn.utils.clip_grad_norm_(parameters, recipe.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            method.after_step(network, batch)
            _gather_samples(method, batch.index, batch.whole, world)
            sums.add(method.epoch_sums(out.detach(), batch), batch)
        losses.add(batch, [*terms], torch.stack([term.detach() for term in terms.values()]))
    return sums


def _total(terms: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of a step's loss terms; raises HashbenchError for what is none."""
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.ndim:
            found = f"has the shape {tuple(term.shape)}" if isinstance(term, Tensor) else f"is {term!r:.40}"
            raise HashbenchError(f"its loss term '{name}' {found}; return one number as a tensor, such as a mean.")
    loss = torch.stack(list(terms.values())).sum() if terms else torch.zeros(())
    if not loss.requires_grad:
        what = f"none of its loss terms ({', '.join(terms)}) has a gradient" if terms else "its loss has no terms"
        raise HashbenchError(f"{what}; `hashbench check` says what a method has to return.")
    return loss


def _gather_samples(method: DeepMethod, index: Tensor, whole: int, world: World) -> None:
    """Give every rank the rows that the others have written, at their shares of `whole` samples, in `keeps_samples`."""
    if world.is_single or not method.keeps_samples:
        return
    everywhere = world.all_gather_share(index, whole)
    for name in method.keeps_samples:
        buffer = method.get_buffer(name)
        buffer[everywhere] = world.all_gather_share(buffer[index], whole)


class Sums:
    """The sums that a method collects over an epoch, by name, on the device."""

    def __init__(self, world: World) -> None:
        self.total: dict[str, Tensor] = {}
        self._world = world

    def add(self, more: dict[str, Tensor], batch: Batch) -> None:
        """Add one step's sums; a batch that every rank has seen whole counts on rank 0."""
        counts = self._world.is_main or not self._world.replicates(batch.whole)
        for name, value in more.items():
            value = value if counts else torch.zeros_like(value)
            self.total[name] = self.total[name] + value if name in self.total else value


class Losses:
    """The loss terms of an epoch, kept on the device and brought to the host about once a second."""

    def __init__(self, epoch: int, bar: tqdm, world: World):
        self._epoch, self._bar, self._world = epoch, bar, world
        self._names: list[str] = []
        self._pending: list[Tensor] = []
        self._known: list[np.ndarray] = []
        self._sizes: list[int] = []
        self._weights: list[float] = []
        self._checked = time.monotonic()

    def add(self, batch: Batch, names: list[str], values: Tensor) -> None:
        """Add the terms of one step, `values` (T,); show and check what was added about once a second."""
        if self._names not in ([], names):
            raise HashbenchError(
                f"The loss terms changed within epoch {self._epoch + 1} from {self._names} to {names}; "
                f"return the same names in every step, a term that is not due as 0."
            )
        self._names = names
        self._pending.append(values)
        self._sizes.append(batch.whole or len(batch.index))
        self._weights.append(self._sizes[-1] * self._world.weight(len(batch.index), self._sizes[-1]))
        if time.monotonic() - self._checked > CHECK_SECONDS:
            self._to_host()

    def means(self) -> dict[str, float]:
        """Return each term's mean over the epoch's samples; raises HashbenchError when one was not finite."""
        self._to_host()
        known = np.stack(self._known)
        if self._world.is_single:
            mean = np.average(known, axis=0, weights=self._sizes)
        else:
            total = torch.from_numpy(np.array(self._weights) @ known)
            self._world.all_reduce(total)
            mean = total.numpy() / sum(self._sizes)
            self._check(mean, "")
        return dict(zip(self._names, map(float, mean), strict=True))

    def _to_host(self) -> None:
        first = len(self._known)
        self._known += list(torch.stack(self._pending).double().cpu().numpy()) if self._pending else []
        self._pending.clear()
        if self._world.is_single:  # several ranks all check the epoch's means, so that they stop together
            for step in range(first, len(self._known)):
                self._check(self._known[step], f", step {step + 1}")
        self._bar.update(sum(self._sizes[first:]))
        self._bar.set_postfix({n: f"{v:.4f}" for n, v in zip(self._names, self._known[-1], strict=True)}, refresh=False)
        self._checked = time.monotonic()

    def _check(self, values: np.ndarray, where: str) -> None:
        for name, value in zip(self._names, values, strict=True):
            if not np.isfinite(value):
                raise HashbenchError(
                    f"The loss term '{name}' became {value} in epoch {self._epoch + 1}{where}; "
                    f"a lower --set recipe.learning_rate or a recipe.gradient_clip usually helps."
                )


def make_optimizer(groups: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser of parameter groups, whose rates without schedule are their `initial_lr`."""
    common: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True, **common)
    elif recipe.optimizer == "rmsprop":
        optimizer = torch.optim.RMSprop(groups, momentum=recipe.momentum, **common)
    elif recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(groups, betas=recipe.betas, fused=True, **common)
    else:
        optimizer = torch.optim.Adam(groups, betas=recipe.betas, fused=True, **common)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def _state(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _save(
    path: Path, of: str | None, progress: TrainingProgress, method: nn.Module, network: nn.Module, optimizer: Any
) -> None:
    state = {
        "progress": vars(progress),
        "method": method.state_dict(),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    save(state, path, of=of)


def _resume(reports: Reports, method: nn.Module, network: nn.Module, optimizer: Any, world: World) -> TrainingProgress:
    state = world.broadcast(_read_checkpoint(reports))
    if state is None:
        return TrainingProgress()
    try:
        network.load_state_dict(state["network"])
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
        return TrainingProgress(**state["progress"])
    except Exception as error:
        raise HashbenchError(
            f"The checkpoint {reports.checkpoint} does not fit ({type(error).__name__}); delete it to start over."
        ) from error


def _read_checkpoint(reports: Reports) -> Any:
    """Return what a checkpoint holds; None without one, and, with a warning, where it is damaged or another's."""
    path = reports.checkpoint
    if path is None or not path.is_file():
        return None
    try:
        return load(path, of=reports.of)
    except Unusable as error:
        _warn(f"The checkpoint {path} {error}; the training starts over.", reports)
        return None
