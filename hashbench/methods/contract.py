"""The contract of a method: what it may know, what it is given, and the hooks that the training loop calls.

A *deep method* is a loss on the real-valued outputs of a network plus optional hooks (`DeepMethod`). Anything else
(random hyperplanes, PCA and a rotation) learns from fixed features in one call (`Method`). Both are one class in one
file under `@method`; their typed fields are the configuration, the `--set` flags and part of a run's identity.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar, dataclass_transform

import torch
from torch import Tensor, nn

from hashbench.datasets.loading.augment import augmentation
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
    lengths: tuple[int, ...] = ()  # code lengths that this training serves, ascending, `bits` the last; else (bits,)

    def __post_init__(self) -> None:
        """Take the code length for all there are, where no others are given."""
        if not self.lengths:
            object.__setattr__(self, "lengths", (self.bits,))

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

    def view_features(self) -> tuple[Tensor, ...]:
        """Return features (num_train, width), float32, of each view of the first epoch, in the training set's order.

        They are the pretrained backbone's, in evaluation mode; without one the pixels, and of vectors these themselves.
        Under a recipe with `fixed_views`, each image's is one of these.
        """


#: Where a method's equations come from: the paper or its authors' code; other code of theirs, or code with the step; a
#: third party's account; abstract or digests, and partly ourselves; no paper, for a reference row; not stated.
FIDELITIES = ("published", "sibling", "account", "reconstructed", "reference", "unstated")


#: The families of methods, in the order of lists: losses over pairs, over rankings, over single samples, towards
#: learned class vectors, towards hash centers; methods around others; projections of fixed features; and so on.
FAMILIES = (
    "pairwise", "ranking", "pointwise", "proxy", "centers", "wrappers", "shallow", "unsupervised", "text", "robust",
    "recommendation", "reference",
)  # fmt: skip


@dataclass(frozen=True)
class MethodInfo:
    """What the registry shows of a method."""

    name: str
    paper: str  # "arXiv:1908.00347", a DOI, or empty
    version: int  # raised whenever the method's numbers may change
    former_names: tuple[str, ...] = ()  # by which it is found too
    fidelity: str = "unstated"  # one of FIDELITIES
    family: str = ""  # what its loss compares, one of FAMILIES or another word
    year: int | None = None  # of the paper


class Method(nn.Module):
    """A method that learns from fixed inputs in one `fit`; its state is in buffers, which are saved with the run."""

    info: ClassVar[MethodInfo]
    supervised: ClassVar[bool] = True
    #: Whether the first bits of a code are a code: then one training, at the longest of the code lengths that a sweep
    #: asks for (`task.lengths`), serves them all.
    prefixes: ClassVar[bool] = False
    #: Settings of the paper, from which `--recipe paper` is made; empty where none are published.
    paper_recipe: ClassVar[dict[str, Any]] = {}
    #: Fields that belong to these settings and differ from the defaults; `--set` goes before them.
    paper_fields: ClassVar[dict[str, Any]] = {}
    #: Whether a published number was reproduced: the protocol, the paper's value and ours; or that it was not.
    reproduced: ClassVar[str] = "never tried"

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
    #: Whether the losses of several seeds may be computed in one call by `torch.func.vmap`, so that the seeds of a row
    #: train side by side: `loss` reads nothing but outputs, labels, index, epoch and step, its tensors, and what
    #: `setup` derived from fields and task without the seed; it changes nothing, and neither it nor the head draws.
    maps_over_seeds: ClassVar[bool] = False
    #: How many views of each training image a batch holds, augmented independently.
    views: ClassVar[int] = 1
    #: The augmentation of each view, "" for the recipe's; empty: the recipe's for all.
    view_augments: ClassVar[tuple[str, ...]] = ()
    #: Buffers (num_train, ...) in which a step writes the rows of its batch at `batch.index`, and no others; they are
    #: made whole on all ranks after `after_step`. Declared as () it says that no sample is kept.
    keeps_samples: ClassVar[tuple[str, ...]] = ()
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

    def attach(self, network: nn.Module, task: Task) -> None:
        """Take from the network, before it is trained or its saved weights are loaded, what the method needs of it.

        A copy that is kept, `self.twin = copy.deepcopy(network).requires_grad_(False)`, is saved and resumed with the
        method; the network itself, or a part of it, must not be registered.
        """

    def loss(self, out: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the named scalar terms of the loss; they are summed, and logged one by one."""
        raise TypeError(f"{type(self).__name__} must define loss(out, batch).")

    def training_step(self, network: nn.Module, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the loss terms of one step, and the outputs that `epoch_sums` receives.

        `network(x)` is `network.outputs(network.features(x))`: head and backbone, for losses that need the features.
        """
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
        """Return the optimiser's groups; default: the backbone at its scaled rate, all else at the recipe's.

        Parameters that need no gradient are in none.
        """
        backbone = network.get_submodule("backbone").parameters()
        rest = [*network.get_submodule("head").parameters(), *self.parameters()]
        rates = (recipe.learning_rate * recipe.backbone_learning_rate_scale, recipe.learning_rate)
        groups = [
            {"params": [parameter for parameter in some if parameter.requires_grad], "lr": rate}
            for some, rate in zip((backbone, rest), rates, strict=True)
        ]
        return [group for group in groups if group["params"]]

    def fit(self, task: Task, data: TrainingData) -> None:
        """Refuse: a deep method is trained by the runner."""
        raise TypeError("A deep method is trained by hashbench.run, not by fit.")

    def encode(self, inputs: Tensor) -> Tensor:
        """Refuse: a deep method's network encodes; hashbench.load(run) gives it."""
        raise TypeError("A deep method encodes through its network: hashbench.load(run).encode(images).")


def option(default: Any, help: str) -> Any:
    """Return a field of a method with a help text that `hashbench list methods --fields NAME` and the docs show."""
    return field(default=default, metadata={"help": help})


def base_method(default: str, help: str) -> Any:
    """Return the field `base` of a method around another one, a registered deep method; by default the one so called.

    In a method it is the wrapped method itself, a submodule. Hooks that the wrapping class does not define are its
    base's, but for those in `NOT_FORWARDED`.
    """
    return field(default_factory=lambda: METHODS.get(default)(), metadata={"help": help, "base": default})


class Registrable(Protocol):
    """What `@method` makes a method: `Method`, `DeepMethod` or `PairMethod`."""

    info: ClassVar[MethodInfo]


def wraps(cls: type[Registrable]) -> bool:
    """Tell whether a method is around another one: whether it has a field `base` of `base_method`."""
    return "base" in options(cls) and "base" in options(cls)["base"].metadata


def base_of(method: Method) -> DeepMethod | None:
    """Return the method that a method wraps, None where it wraps none."""
    return method.base if wraps(type(method)) else None  # type: ignore[return-value]


#: Hooks that a wrapping class has to define itself, to call its base's; all others are its base's by themselves.
NOT_FORWARDED = ("training_step", "parameter_groups")


def defines(cls: type[Method], hook: str) -> bool:
    """Tell whether a class has a hook of its own: neither the contract's default nor its base's."""
    own = getattr(cls, hook)
    return own is not getattr(DeepMethod, hook) and not hasattr(own, "forwarded")


def _forwarded(hook: str) -> Callable[..., Any]:
    @functools.wraps(getattr(DeepMethod, hook))
    def forward(self: Any, *arguments: Any, **named: Any) -> Any:
        return getattr(self.base, hook)(*arguments, **named)

    forward.forwarded = True  # type: ignore[attr-defined]
    return forward


M = TypeVar("M", bound=type[Registrable])


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field, option, base_method))
def method(
    name: str,
    *,
    paper: str = "",
    version: int = 1,
    fidelity: str = "unstated",
    family: str = "",
    year: int | None = None,
    former_names: Collection[str] = (),
) -> Callable[[M], M]:
    """Register a class as a method: annotated attributes with a default become its fields.

    An annotation without a default (`centers: Tensor`) declares a buffer, not a field. `version` must be raised
    whenever the numbers of the method may change: runs of different versions are never mixed. `fidelity`, one of
    FIDELITIES, says where its equations come from; lists and tables show it. `family`, one of FAMILIES or another word,
    is where lists show it, and `year` that of the paper. A method that was renamed is found by its `former_names`, with
    a warning; its runs get new ids, as these hold the name. Raises HashbenchError for another
    fidelity, and for declarations (`views`, ...) that nothing can follow.
    """
    if fidelity not in FIDELITIES:
        raise unknown("fidelity", fidelity, FIDELITIES)

    def decorate(cls: M) -> M:
        for attribute in inspect.get_annotations(cls):
            if attribute not in cls.__dict__:
                setattr(cls, attribute, field(init=False))
        dataclass(kw_only=True, eq=False, repr=False)(cls)  # changes the class itself
        if any("base" in found.metadata and field != "base" for field, found in options(cls).items()):
            raise HashbenchError(f"{cls.__name__} wraps a method by a field of another name; call the field base.")
        if wraps(cls):
            if not issubclass(cls, DeepMethod):
                raise HashbenchError(f"{cls.__name__} wraps a method; derive it from hashbench.DeepMethod.")
            for hook, default in vars(DeepMethod).items():
                own = hook in (*NOT_FORWARDED, "fit", "encode") or getattr(cls, hook) is not default
                if inspect.isfunction(default) and not own:
                    setattr(cls, hook, _forwarded(hook))
        _refuse_declarations(name, cls)
        cls.info = MethodInfo(name, paper, version, tuple(former_names), fidelity, family, year)
        METHODS.register(name, cls, former_names=former_names)
        return cls

    return decorate


def _refuse_declarations(name: str, cls: type[Registrable]) -> None:
    """Raise HashbenchError for declarations of a class that nothing could follow."""
    for declared in ("views", "view_augments", "keeps_samples"):
        if declared in options(cls):
            raise HashbenchError(
                f"{name}: '{declared}' is a declaration, not a field; write it without annotation, or as a ClassVar."
            )
        if hasattr(cls, declared) and not issubclass(cls, DeepMethod):
            raise HashbenchError(f"{name}: '{declared}' is for methods that are trained; derive from DeepMethod.")
    if issubclass(cls, Method) and cls.paper_recipe.get("views", 1) != 1:
        raise HashbenchError(f"{name}: the number of views is no part of a recipe; write `views = 2` into the class.")
    if not issubclass(cls, DeepMethod):
        return
    for declared in ("view_augments", "keeps_samples"):
        if not isinstance(getattr(cls, declared), tuple):
            raise HashbenchError(f"{name}: {declared} is {getattr(cls, declared)!r}; give a tuple of names.")
    if type(cls.views) is not int or cls.views < 1:
        raise HashbenchError(f"{name}: views is {cls.views!r}; give a whole number from 1.")
    if len(cls.view_augments) not in (0, cls.views):
        raise HashbenchError(
            f"{name}: view_augments names {len(cls.view_augments)} augmentations for {cls.views} views; name one for "
            f"each, '' for the recipe's."
        )
    for augment in filter(None, cls.view_augments):
        augmentation(augment)


def options(cls: type[Registrable]) -> dict[str, dataclasses.Field[Any]]:
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
            raise unknown(
                f"field of {method}", name, options, hint=f"`hashbench list methods --fields {method}` shows all."
            )
    return {name: given.get(name, field.default) for name, field in options.items()}
