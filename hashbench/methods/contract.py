"""The contract of a method: what it may know, what it is given, and the hooks that the training loop calls.

A *deep method* is a loss on the real-valued outputs of a network plus optional hooks (`DeepMethod`). Anything else
(random hyperplanes, PCA and a rotation) learns from fixed features in one call (`Method`). Both are one class in one
file under `@method`; their typed fields are the configuration, the `--set` flags and part of a run's identity.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar, dataclass_transform

import torch
from torch import Tensor, nn

from hashbench.datasets.loading.batch import Batch
from hashbench.errors import HashbenchError, unknown
from hashbench.registry import METHODS
from hashbench.system import seeds

if TYPE_CHECKING:
    from hashbench.recipes import Recipe


@dataclass(frozen=True)
class Task:
    """All that a method may know: shapes, length of training, device, and the random streams of its seed."""

    num_classes: int
    bits: int
    multi_label: bool
    inputs: str  # "images" | "features" (of a fixed backbone) | "pixels" (flattened) | "vectors" | "text" (terms)
    num_train: int
    epochs: int
    steps_per_epoch: int
    device: torch.device
    seed: int
    dataset: str = ""  # its name, for loss classes of other suites that read it; no reason to act differently

    def generator(self, *purpose: str | int) -> torch.Generator:
        """Return a fresh CPU generator for the stream (seed, purpose), for example `generator("centers")`."""
        return seeds.generator(self.seed, *purpose)


class TrainingData(Protocol):
    """The training set as `fit` and `prepare` see it; never a query, never the database."""

    @property
    def labels(self) -> Tensor | None:
        """The labels (num_train, num_classes), float multi-hot; None for unsupervised methods."""

    def batches(self, epoch: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch, in the order and with the augmentation that training would use."""

    def fresh(self) -> Iterator[Batch]:
        """Yield the training set in order, without augmentation."""

    def features(self) -> Tensor:
        """Return (num_train, width) float features of the fixed backbone, or flattened pixels where there is none."""


class Tools(Protocol):
    """What `DeepMethod.prepare` may use to train a network of its own by the experiment's recipe."""

    def train(self, outputs: int, loss: Callable[[Tensor, Batch], dict[str, Tensor]]) -> nn.Module:
        """Return the recipe's network with a linear head of `outputs`, trained with `loss` on the training set."""

    def outputs(self, network: nn.Module) -> Tensor:
        """Return the network's outputs (num_train, outputs), float32, on the training set in order, not augmented."""


@dataclass(frozen=True)
class MethodInfo:
    """What the registry shows of a method."""

    name: str
    paper: str  # "arXiv:1908.00347", a DOI, or empty
    version: int  # raised whenever the method's numbers may change
    former_names: tuple[str, ...] = ()  # by which it is found too


class Method(nn.Module):
    """A method that learns from fixed inputs in one `fit`; its state is in buffers, which are saved with the run."""

    info: ClassVar[MethodInfo]
    supervised: ClassVar[bool] = True
    #: Settings of the paper, from which `--recipe paper` is made; empty where none are published.
    paper_recipe: ClassVar[dict[str, Any]] = {}
    #: Fields that belong to these settings and differ from the defaults; `--set` goes before them.
    paper_fields: ClassVar[dict[str, Any]] = {}

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make the module ready to hold buffers before the generated `__init__` sets the fields."""
        self = super().__new__(cls)
        nn.Module.__init__(self)
        return self

    def supports(self, task: Task) -> str | None:
        """Return why this method cannot do `task`, as a sentence, or None when it can."""
        return None

    def fit(self, task: Task, data: TrainingData) -> None:
        """Learn from the training set."""
        raise TypeError(f"{type(self).__name__} must define fit(task, data), or derive from hashbench.DeepMethod.")

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the codes, bool (n, bits), of `inputs` (n, width); each row's code depends on that row alone."""
        raise TypeError(f"{type(self).__name__} must define encode(inputs), or derive from hashbench.DeepMethod.")


class DeepMethod(Method):
    """A loss on the network's outputs z (n, bits) plus optional hooks; the training loop fits it, its network encodes.

    Override `loss`, and of the rest only what the method needs.
    """

    #: Whether the loss is a mean, over the labelled samples, of terms that depend on no other sample of the batch, and
    #: neither head nor method hold statistics of a batch. Then several devices may share a batch without changing the
    #: numbers; else their number is part of the run's identity, for each sees only its own samples.
    per_sample: ClassVar[bool] = False
    #: Fields that `prepare` depends on; its result is cached on these, the data, the recipe and the seed.
    prepared_by: ClassVar[tuple[str, ...]] = ()

    def prepare(self, task: Task, data: TrainingData, tools: Tools) -> dict[str, Tensor]:
        """Return what is computed before training and shared by all bit lengths; must not depend on `task.bits`."""
        return {}

    def setup(self, task: Task, prepared: dict[str, Tensor]) -> None:
        """Create buffers (centers, memory banks) and own parameters; `prepared` is what `prepare` returned."""

    def head(self, width: int, task: Task) -> nn.Module:
        """Return the layers from the backbone's features (n, width) to the outputs; default: linear to (n, bits)."""
        return nn.Linear(width, task.bits)

    def loss(self, out: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the named scalar terms of the loss; they are summed, and logged one by one."""
        raise TypeError(f"{type(self).__name__} must define loss(out, batch).")

    def training_step(self, network: nn.Module, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the loss terms of one step, and the outputs that `epoch_sums` receives."""
        out = network(batch.inputs)
        return self.loss(out, batch), out

    def after_step(self, network: nn.Module, batch: Batch) -> None:
        """Update what follows each optimiser step: momentum networks, memory banks."""

    def epoch_sums(self, out: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return this step's share of the epoch's sums, float64; they are added up over steps (and ranks)."""
        return {}

    def wants_fresh_pass(self, epoch: int) -> bool:
        """Tell whether `epoch_sums` should see a pass of its own, unaugmented, after this epoch's training."""
        return False

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Change buffers after an epoch (0-based); returns diagnostics for the log."""
        return {}

    def resumes(self) -> str | None:
        """Return why a checkpoint cannot hold this method's state, as a sentence, or None when it can."""
        return None

    def codes(self, out: Tensor) -> Tensor:
        """Return the codes, bool (n, bits), of the network's outputs; default: `out >= 0`."""
        return out >= 0

    def parameter_groups(self, network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
        """Return the optimiser's groups; default: the backbone at its scaled rate, all else at the recipe's."""
        backbone = list(network.get_submodule("backbone").parameters())
        rest = [*network.get_submodule("head").parameters(), *self.parameters()]
        scaled = recipe.learning_rate * recipe.backbone_learning_rate_scale
        groups = [{"params": backbone, "lr": scaled}, {"params": rest, "lr": recipe.learning_rate}]
        return [group for group in groups if group["params"]]

    def fit(self, task: Task, data: TrainingData) -> None:
        """Refuse: a deep method is trained by the runner."""
        raise TypeError("A deep method is trained by hashbench.run, not by fit.")

    def encode(self, inputs: Tensor) -> Tensor:
        """Refuse: a deep method's network encodes; hashbench.load(run) gives it."""
        raise TypeError("A deep method encodes through its network: hashbench.load(run).encode(images).")


def option(default: Any, help: str) -> Any:
    """Return a field of a method with a help text that `hashbench list methods` and the docs show."""
    return field(default=default, metadata={"help": help})


M = TypeVar("M", bound=type[Method])


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field, option))
def method(name: str, *, paper: str = "", version: int = 1, former_names: Collection[str] = ()) -> Callable[[M], M]:
    """Register a class as a method: annotated attributes with a default become its fields.

    An annotation without a default (`centers: Tensor`) declares a buffer, not a field. `version` must be raised
    whenever the numbers of the method may change: runs of different versions are never mixed. A method that was renamed
    is found by its `former_names`, with a warning; its runs get new ids, as these hold the name.
    """

    def decorate(cls: M) -> M:
        for attribute in inspect.get_annotations(cls):
            if attribute not in cls.__dict__:
                setattr(cls, attribute, field(init=False))
        dataclass(kw_only=True, eq=False, repr=False)(cls)  # changes the class itself
        cls.info = MethodInfo(name, paper, version, tuple(former_names))
        METHODS.register(name, cls, former_names=former_names)
        return cls

    return decorate


def options(cls: type[Method]) -> dict[str, dataclasses.Field[Any]]:
    """Return a method class's fields by name, in the order of their definition."""
    if not dataclasses.is_dataclass(cls):
        return {}
    return {f.name: f for f in dataclasses.fields(cls) if f.init}


def resolve_fields(
    method: str, options: Mapping[str, dataclasses.Field[Any]], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return every field of a method: what was given, else its default; raises HashbenchError for unknown fields."""
    for name in given:
        if name not in options:
            if not options:
                raise HashbenchError(f"The method '{method}' has no fields, so '{method}.{name}' cannot be set.")
            raise unknown(f"field of {method}", name, options, hint="`hashbench list methods` shows all.")
    return {name: given.get(name, field.default) for name, field in options.items()}
