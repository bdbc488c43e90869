"""An experiment: everything that can change a number, as plain data; its identity; and the grid of a sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from hashbench import recipes
from hashbench.datasets.base import Kind
from hashbench.errors import HashbenchError, unknown
from hashbench.experiments.settings import MAX_BITS, parse_value, setting_text
from hashbench.networks.chosen import misfit
from hashbench.recipes import Recipe
from hashbench.registry import BACKBONES
from hashbench.results.result import cell_of
from hashbench.storage.strict_json import digest

ENGINE = 1  # raised only when the numbers of unchanged experiments move
IDENTITY = "identity"  # the backbone of vectors that pass through to the head
# Of a recipe, where the inputs are no images:
NO_IMAGES = {"pretrained": False, "augment": "none", "fixed_views": 0, "size": 0}


@dataclass(frozen=True)
class Data:
    """What an experiment states of its data set: names, contents by hash, and shapes."""

    dataset: str
    protocol: str
    integrity: str  # sha256 of the images and labels
    split_sha256: str
    evaluated: str  # "test" or "validation"
    shape: tuple[int, ...]  # (channels, height, width), or (width,) of vectors
    num_classes: int
    multi_label: bool
    num_train: int

    @property
    def name(self) -> str:
        """The data set and protocol as they are typed: `cifar10@54k`."""
        return f"{self.dataset}@{self.protocol}"


MAX_RUNS = 50_000  # of a sweep: planning them takes half a minute
MAX_SEED = 1 << 63


@dataclass(frozen=True)
class Experiment:
    """One run, fully resolved: the same identity gives the same numbers."""

    method: str
    method_version: int
    fields: Mapping[str, Any]  # every field of the method
    data: Data
    recipe: Recipe
    weights: str | None  # file name of the pretrained weights, which carries the start of their sha256
    inputs: Literal["images", "features", "pixels", "vectors", "text"]  # what the method learns from
    bits: int
    seed: int
    lengths: tuple[int, ...] = ()  # code lengths that one training serves, ascending; () where each has its own
    backbone: Mapping[str, Any] = field(default_factory=dict)  # what its name leaves open: version, width, source
    start: Mapping[str, str] | None = None  # the run whose weights the training begins with: its id, its cell's
    tuned: Mapping[str, Any] | None = None  # the study behind its settings: its id, trials, settings, and those before
    world: int = 1  # devices that share a batch, where each sees only its own pairs or batch statistics; else 1

    @property
    def training_bits(self) -> int:
        """The code length that is trained: the longest of those that the training serves."""
        return self.lengths[-1] if self.lengths else self.bits

    @property
    def network_size(self) -> int:
        """Pixels to which the loader resizes what the network sees; 0 where it sees the inputs as they are."""
        return self.recipe.size if self.inputs == "images" else 0

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that can change a number, as plain data, not to be changed; its sha256 is the run's id."""
        recipe = dataclasses.asdict(self.recipe)
        del recipe["name"], recipe["summary"]
        for later in ("compile", "hidden", "fixed_views"):  # came later than the first runs, which keep their identity
            if not recipe[later]:
                del recipe[later]
        return {
            "engine": ENGINE,
            "method": {"name": self.method, "version": self.method_version, "fields": dict(self.fields)},
            "data": dataclasses.asdict(self.data),
            "recipe": recipe,
            "weights": self.weights,
            "inputs": self.inputs,
            "bits": self.bits,
            "seed": self.seed,
            **({"lengths": list(self.lengths)} if self.lengths else {}),
            **({"backbone": dict(self.backbone)} if self.backbone else {}),
            **({"start": dict(self.start)} if self.start else {}),
            **({"tuned": dict(self.tuned)} if self.tuned else {}),
            **({"world": self.world} if self.world > 1 else {}),
        }

    @cached_property
    def id(self) -> str:
        """The sha256 of the identity's canonical JSON, hex."""
        return digest(self.identity)

    @cached_property
    def cell(self) -> str:
        """What runs that differ in nothing but the seed, and what it decides, have in common, 64 hex digits."""
        return cell_of(self.identity)

    @classmethod
    def from_identity(cls, identity: Mapping[str, Any]) -> Experiment:
        """Return the experiment that a run's spec.json describes; its recipe has values but no name.

        Raises HashbenchError where the identity is none of an experiment.
        """
        if identity.get("inputs") == "pairs":
            raise HashbenchError(
                "The run learned from pairs of users and items, so it has no network to load or to measure again; its "
                "codes are in codes.npz (`hashbench export`), the names of users and items beside them."
            )
        try:
            recipe = {**identity["recipe"], "betas": tuple(identity["recipe"]["betas"])}
            return cls(
                method=identity["method"]["name"],
                method_version=identity["method"]["version"],
                fields=identity["method"]["fields"],
                data=Data(**{**identity["data"], "shape": tuple(identity["data"]["shape"])}),
                recipe=Recipe(name="", summary="", **recipe),
                weights=identity["weights"],
                inputs=identity["inputs"],
                bits=identity["bits"],
                seed=identity["seed"],
                lengths=tuple(identity.get("lengths", ())),
                backbone=identity.get("backbone", {}),
                start=identity.get("start"),
                tuned=identity.get("tuned"),
                world=identity.get("world", 1),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise HashbenchError(
                f"spec.json describes no experiment ({type(error).__name__}: {error}); copy it anew, or run again."
            ) from error


def resolve_recipe(
    name: str | None,
    *,
    data: Data,
    kind: Kind,
    paper: Mapping[str, Any],
    settings: Mapping[str, str],
    backbone: str | None,
    epochs: int | None,
) -> Recipe:
    """Return the recipe by name (default: by the images' size) with what the command line overrides.

    What a recipe says of images does not hold for data of another `kind`, and is set aside; raises HashbenchError where
    such a value was given, or a backbone that is not for the kind.
    """
    known = {field.name for field in dataclasses.fields(Recipe)} - {"name", "summary"}
    for key in settings:
        if key not in known:
            raise unknown("recipe field", key, known, hint="`hashbench list recipes` shows the recipes.")
    given = {key: parse_value(Recipe, key, text) for key, text in settings.items()}
    if backbone is not None:
        given["backbone"] = backbone
    if epochs is not None:
        given["epochs"] = epochs
    recipe = recipes.load(name or default_recipe(data), paper=paper, overrides=given, multi_label=data.multi_label)
    if recipe.views != 1:  # a field that old specs have
        raise HashbenchError(
            f"recipe.views={recipe.views} is not possible: how many views of an image a method trains on is its own "
            f"`views` to say; leave the setting out."
        )
    if "backbone" in given and (reason := misfit(recipe.backbone, kind)):
        raise HashbenchError(f"{data.name}: {reason}")
    if kind != "images":
        recipe = _without_images(recipe, given, data, kind)
    return dataclasses.replace(recipe, backbone=BACKBONES.name_of(recipe.backbone))  # its present name, in every id


def _without_images(recipe: Recipe, given: Mapping[str, Any], data: Data, kind: Kind) -> Recipe:
    """Return a recipe for inputs that are no images; its backbone stays where it takes them and is to be trained."""
    for key, value in NO_IMAGES.items():
        if given.get(key, value) != value:
            raise HashbenchError(
                f"recipe.{key}={setting_text(given[key])} does not apply to {data.name}, whose inputs are {kind}, "
                f"not images; leave it out."
            )
    changed: dict[str, Any] = dict(NO_IMAGES)
    if recipe.backbone != IDENTITY and not recipe.train_backbone:
        if "backbone" in given:
            raise HashbenchError(
                f"The backbone '{recipe.backbone}' has no pretrained weights for {kind}, and the recipe "
                f"'{recipe.name}' does not train it; use --recipe scratch, or leave --backbone out."
            )
        changed["backbone"] = IDENTITY
    elif "backbone" not in given and not _fits(recipe.backbone, kind):
        changed["backbone"] = IDENTITY
    return dataclasses.replace(recipe, **changed)


def _fits(backbone: str, kind: Kind) -> bool:
    try:
        return misfit(backbone, kind) is None
    except HashbenchError:  # nobody asked for it, and it is not to be had
        return False


def default_recipe(data: Data) -> str:
    """Return the recipe of a data set that names none: `scratch` for small images and vectors, else `finetune`."""
    return "scratch" if len(data.shape) == 1 or max(data.shape[1:]) <= 64 else "finetune"


def recipe_label(recipe: Recipe, *, paper: Mapping[str, Any], multi_label: bool) -> str:
    """Return a recipe's name with its changes, `scratch(epochs=5)`.

    Backbone and fixed views are coordinates of their own.
    """
    plain = recipes.load(recipe.name, paper=paper, multi_label=multi_label)
    changed = [
        f"{field.name}={getattr(recipe, field.name)}"
        for field in dataclasses.fields(Recipe)
        if field.name not in ("backbone", "fixed_views") and getattr(recipe, field.name) != getattr(plain, field.name)
    ]
    return f"{recipe.name}({', '.join(changed)})" if changed else recipe.name


def grid(
    methods: Sequence[str], datasets: Sequence[str], bits: Sequence[int], seeds: int, *, first_seed: int = 0
) -> list[tuple[str, str, int, int]]:
    """Return the runs (dataset, method, bits, seed) of a sweep in their order.

    Raises HashbenchError for impossible code lengths, before anything is trained, for no seeds, and for more runs than
    are planned at a time.
    """
    if seeds < 1:
        raise HashbenchError(f"--seeds {seeds} is not possible; give 1 or more.")
    for length in bits:
        if not 1 <= length <= MAX_BITS:
            raise HashbenchError(f"{length} bits are not possible; a code has 1 to {MAX_BITS:,} bits.")
    runs = len(datasets) * len(methods) * len(bits) * seeds
    if runs > MAX_RUNS:
        raise HashbenchError(
            f"This sweep has {runs:,} runs, and {MAX_RUNS:,} are planned at a time; give fewer seeds, code lengths, "
            f"methods or data sets in one command."
        )
    if first_seed + seeds > MAX_SEED:
        raise HashbenchError(f"The seed {first_seed + seeds - 1} is not possible; give 0 to {MAX_SEED - 1}.")
    chosen = range(first_seed, first_seed + seeds)
    return [(d, m, b, s) for d in datasets for m in methods for b in bits for s in chosen]
