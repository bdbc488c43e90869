"""Runs with backbones that are not hashbench's own: identity, staleness, files, and data that they do not take."""

import importlib
import math
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from torch import nn

import hashbench
from hashbench.datasets import Store
from hashbench.errors import HashbenchError
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan
from hashbench.networks.backbones import info_of
from hashbench.networks.chosen import identity_of, resolve_backbone
from hashbench.registry import BACKBONES
from hashbench.results.tables.comparison import Comparison

FILE = """
import torch
from torch import nn

class Net(nn.Module):
    width = {width}
    def __init__(self, shape):
        super().__init__()
        chance = torch.Generator().manual_seed({seed})
        weight = torch.randn(self.width, shape[0] * shape[1] * shape[2], generator=chance)
        self.weight = nn.Parameter(weight / weight.shape[1] ** 0.5)
    def forward(self, images):
        return images.flatten(1) @ self.weight.T
{decorator}
def net(shape, pretrained):
    return Net(shape)
"""


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    for name in ("_local", "_loaded", "_former"):
        monkeypatch.setattr(BACKBONES, name, dict(getattr(BACKBONES, name)))


@pytest.fixture
def settings(tmp_path):
    return {"runs_dir": tmp_path / "runs", "epochs": 1, "progress": False, "device": "cpu"}


@pytest.fixture
def write(tmp_path):
    """Write a file with a backbone; returns its path."""

    def write(*, width=16, seed=1, decorator="", name="mine.py"):
        path = tmp_path / name
        path.write_text(FILE.format(width=width, seed=seed, decorator=decorator))
        return path

    return write


@hashbench.dataset("toy-vectors", protocols="../toy.toml")
def toy_vectors(data_dir: Path | None) -> Store:
    labels = np.repeat(np.arange(3), 50)
    vectors = np.random.default_rng(0).normal(size=(150, 20)).astype(np.float32) + 4 * np.eye(3, 20)[labels]
    return Store("toy-vectors", vectors.astype(np.float32), np.eye(3, dtype=np.uint8)[labels], ("a", "b", "c"))


def experiment(settings, dataset="toy", method="crh", **more):
    (run,) = plan([method], [dataset], [16], settings=Settings(**{**settings, **more})).runs
    assert run.experiment is not None, run.skipped
    return run.experiment


def test_a_decorator_without_more_is_for_images():
    @hashbench.backbone("plain")
    def plain(shape, pretrained):
        raise AssertionError

    assert (info_of(plain).version, info_of(plain).takes) == (1, ("images",))
    assert info_of(lambda shape, pretrained: None).takes == ("images",)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"takes": ("pictures",)}, "one or more of images, vectors, text"),
        ({"takes": ()}, "one or more of images, vectors, text"),
        ({"version": 0}, "a whole number from 1"),
    ],
)
def test_what_a_decorator_cannot_say_is_refused(given, sentence):
    with pytest.raises(HashbenchError, match=sentence):
        hashbench.backbone("wrong", **given)


def test_a_backbone_in_a_file_trains_and_is_told_apart_by_its_contents(settings, write):
    path = write()
    result = hashbench.run("crh", "toy", bits=16, **settings, backbone=f"{path}:net")
    assert result.coords["backbone"] == "net"
    assert result.coords["backbone_is"].startswith("width 16, source ")
    assert result.provenance["backbone"]["distribution"] == str(path)
    images = np.zeros((2, 1, 12, 12), np.uint8)
    BACKBONES._local.pop("net"), BACKBONES._loaded.pop("net", None)  # as in another process
    with pytest.raises(HashbenchError, match=r"has the backbone 'net', which is not there; name it"):
        hashbench.load(result.path)
    assert hashbench.load(result.path, backbone=f"{path}:net").encode(images).shape == (2, 16)
    path.write_text(path.read_text() + "\n# other words\n")
    with pytest.raises(HashbenchError, match="from another file than this one"):
        hashbench.load(result.path, backbone=f"{path}:net")
    other = hashbench.run("crh", "toy", bits=16, **settings, backbone=f"{path}:net")
    assert other.id != result.id
    printed = Comparison.of([result, other]).render("text")
    assert printed.count("backbone net") == 2  # a table each, and what tells them apart
    assert f"backbone is {other.coords['backbone_is']}" in " ".join(printed.split())


def of_width(width):
    def flat(shape, pretrained):
        network = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width))
        network.width = width
        return network

    return flat


@pytest.mark.parametrize("change", [{"width": 24}, {"version": 2}, {"takes": ("images", "vectors")}])
def test_another_network_of_the_same_name_is_another_run(settings, change):
    ids = []
    for given in ({}, change):
        hashbench.backbone("same", **{k: v for k, v in given.items() if k != "width"})(of_width(given.get("width", 16)))
        found = experiment(settings, backbone="same")
        ids.append(found.id)
    assert ids[0] != ids[1]
    name, value = change.popitem()
    assert found.backbone[name] == ([*value] if name == "takes" else value)
    assert Experiment.from_identity(found.identity).id == found.id


def test_a_version_of_one_is_not_said():
    hashbench.backbone("same")(of_width(16))
    assert identity_of("same", (1, 12, 12)) == {"width": 16, "takes": ["images"]}


def test_hashbenchs_own_add_nothing(settings):
    assert "backbone" not in experiment(settings).identity
    assert "backbone" not in experiment(settings, backbone="resnet18").identity
    assert "hidden" not in experiment(settings).identity["recipe"]


def test_the_file_runs_once_a_plan_and_only_where_it_is_named(settings, write, tmp_path):
    note = tmp_path / "note"
    path = write(decorator=f"open({str(note)!r}, 'a').write('x')")
    plan(["crh", "csq"], ["toy"], [16, 24], settings=Settings(**settings, backbone=f"{path}:net"))
    assert note.read_text() == "x"
    plan(["crh"], ["toy"], [16], settings=Settings(**settings, backbone="net"))
    assert note.read_text() == "x"


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("{path}", r"names a file but no factory in it; write .*mine\.py:name_of_the_factory"),
        ("{path}:nett", r"Unknown backbone 'nett'\. Did you mean 'net'"),
        ("{path}:torch", "is no factory"),
        ("nowhere.py:net", r"nowhere\.py cannot be read"),
        ("tim:resnet18", r"Unknown backbone 'tim:resnet18'"),
        ("resnet18={path}:net", "The backbone name 'resnet18' is taken"),
    ],
)
def test_targets_that_lead_nowhere_are_one_sentence(write, target, sentence):
    with pytest.raises(HashbenchError, match=sentence):
        resolve_backbone(target.format(path=write()))


def test_a_decorated_factory_keeps_its_name(write):
    path = write(decorator="import hashbench\n@hashbench.backbone('named', version=3)")
    assert resolve_backbone(f"{path}:net") == "named"
    assert identity_of("named", (1, 12, 12))["version"] == 3
    with pytest.raises(HashbenchError, match="has a name, 'named'; leave 'other=' out"):
        resolve_backbone(f"other={path}:net")


@pytest.mark.parametrize("recipe", ["scratch", "frozen"])
def test_a_changed_backbone_makes_its_runs_stale(settings, write, monkeypatch, tmp_path, recipe):
    """Also features and preparations in the cache are those of the code that computed them."""
    monkeypatch.syspath_prepend(tmp_path)
    decorator = "import hashbench\n@hashbench.backbone('installed')"
    given = {**settings, "recipe": recipe, "backbone": "installed", "overrides": {"recipe": {"size": 0}}}
    rows = ["shc"] if recipe == "scratch" else ["shc", "itq"]

    def sweep(rerun="missing"):
        return hashbench.sweep(rows, ["toy"], [16], **given, rerun=rerun)

    (tmp_path / "weights").write_bytes(b"weights")
    write(decorator=decorator, name="installed_backbone.py")
    module = importlib.import_module("installed_backbone")
    module.net.weights_file = tmp_path / "weights"
    first = sweep()
    write(decorator=decorator, name="installed_backbone.py", seed=2)
    importlib.invalidate_caches()
    del sys.modules["installed_backbone"]
    module = importlib.import_module("installed_backbone")
    module.net.weights_file = tmp_path / "weights"
    made = plan(rows, ["toy"], [16], settings=Settings(**given))
    assert {run.status.state for run in made.runs} == {"stale"}
    assert "the backbone's source has changed since" in made.runs[0].status.note
    again = sweep("stale")
    fresh = hashbench.sweep(rows, ["toy"], [16], **{**given, "runs_dir": tmp_path / "fresh"})
    for old, new, right in zip(first, again, fresh, strict=True):
        assert old.id == new.id
        assert new.code_stats == right.code_stats
        assert new.code_stats != old.code_stats
        assert new.provenance["backbone_sha256"] not in (None, old.provenance["backbone_sha256"])
        assert not (recipe == "scratch" and new.provenance["prepared_from_cache"])
    del sys.modules["installed_backbone"]


def test_vectors_are_trained_with_a_backbone_that_takes_them(settings):
    result = hashbench.run("crh", "toy-vectors", bits=16, **{**settings, "epochs": 8}, backbone="mlp")
    assert (result.coords["backbone"], result.coords["inputs"]) == ("mlp", "vectors")
    assert result.metrics["mAP@all"] > 0.8
    assert hashbench.load(result.path).network.backbone.width == 512
    plain = hashbench.run("crh", "toy-vectors", bits=16, **settings)
    assert plain.coords["backbone"] == "identity"
    assert plain.id != result.id


@pytest.mark.parametrize(
    ("dataset", "given", "sentence"),
    [
        ("toy-vectors", {"backbone": "resnet34"}, r"'resnet34' takes images, not vectors"),
        ("toy", {"backbone": "mlp"}, r"'mlp' takes vectors and text, not images"),
        ("toy-vectors", {"overrides": {"recipe": {"backbone": "resnet34"}}}, r"'resnet34' takes images, not vectors"),
        (
            "toy-vectors",
            {"overrides": {"recipe": {"augment": "flip"}}},
            r"recipe\.augment=flip does not apply to toy-v",
        ),
        ("toy-vectors", {"overrides": {"recipe": {"size": 32}}}, r"recipe\.size=32 does not apply"),
        ("toy-vectors", {"overrides": {"recipe": {"pretrained": True}}}, r"recipe\.pretrained=True does not apply"),
        ("toy-vectors", {"recipe": "frozen", "backbone": "mlp"}, r"'mlp' has no pretrained weights for vectors"),
    ],
)
def test_what_does_not_apply_to_the_data_is_refused(settings, dataset, given, sentence):
    with pytest.raises(HashbenchError, match=sentence):
        plan(["crh"], [dataset], [16], settings=Settings(**settings, **given))


def test_what_a_recipe_says_of_images_is_set_aside(settings):
    nothing = {"augment": "none", "size": 0, "pretrained": False, "backbone": "identity"}
    for recipe in ("scratch", "finetune", "frozen", "paper"):
        found = experiment(settings, "toy-vectors", recipe=recipe).recipe
        assert {name: getattr(found, name) for name in nothing} == nothing
    experiment(settings, "toy-vectors", overrides={"recipe": nothing})  # which may be said


def test_a_methods_own_backbone_counts_where_it_takes_the_data(settings, fresh_methods):
    @hashbench.method("of-vectors")
    class OfVectors(hashbench.DeepMethod):
        paper_recipe: ClassVar = {"backbone": "mlp", "pretrained": False}

        def loss(self, out, batch):
            return {"all": out.square().mean()}

    assert experiment(settings, "toy-vectors", "of-vectors", recipe="paper").recipe.backbone == "mlp"
    (run,) = plan(["of-vectors"], ["toy"], [16], settings=Settings(**settings, recipe="paper")).runs
    assert "'mlp' takes vectors and text, not images" in run.skipped


def test_methods_that_train_no_layers_are_skipped_where_one_is_asked_for(settings):
    made = plan(["crh", "lsh"], ["toy-vectors"], [16], settings=Settings(**settings, backbone="mlp"))
    assert made.runs[0].skipped is None
    assert made.runs[1].skipped == "it learns from the vectors themselves, so the backbone 'mlp' does not apply."


def test_a_backbone_that_cannot_be_built_is_a_skipped_run(settings):
    @hashbench.backbone("picky")
    def picky(shape, pretrained):
        raise RuntimeError("only squares")

    (run,) = plan(["crh"], ["toy"], [16], settings=Settings(**settings, backbone="picky")).runs
    assert run.skipped == "The backbone 'picky' cannot be built for inputs of 1 x 12 x 12: RuntimeError: only squares"


@pytest.mark.parametrize(("name", "least"), [("alexnet", 63), ("vgg16", 32)])
def test_images_smaller_than_a_backbone_takes_are_a_skipped_run(settings, name, least):
    """Before a run trains, and one that fits begins."""
    said = {}
    for size in (least - 1, least):
        sized = Settings(**settings, backbone=name, overrides={"recipe": {"size": str(size)}})
        (run,) = plan(["crh"], ["toy"], [16], settings=sized).runs
        said[size] = run.skipped
    assert said[least] is None
    side = least - 1
    assert f"The backbone '{name}' cannot be built for inputs of 1 x {side} x {side}: RuntimeError" in said[side]
    assert "too small" in said[side]


def test_the_list_searches(cli):
    short = cli("list", "backbones").output
    assert "mlp" in short
    assert "vgg11" not in short
    assert cli("list", "backbones", "torchvision:vgg1[13]").output.split() == ["torchvision:vgg11", "torchvision:vgg13"]
    found = cli("list", "backbones", "resnet18").output.split()  # those of timm among them, where it is installed
    assert found[0] == "resnet18"
    assert "torchvision:resnet18" in found
    assert "No backbone is called like 'nix'" in cli("list", "backbones", "nix", code=2).output
    assert "searches backbones, not methods" in cli("list", "methods", "crh", code=2).output
