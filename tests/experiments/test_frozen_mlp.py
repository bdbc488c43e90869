"""The recipe `frozen-mlp`: one hidden layer between fixed features and the head of whatever method."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import hashbench
from hashbench import datasets, recipes
from hashbench.experiments.models import depends_on_world
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan
from hashbench.methods.contract import DeepMethod, Task
from hashbench.networks.model import Model
from hashbench.networks.network import HiddenLayer
from hashbench.registry import METHODS
from hashbench.results.runs import RunDirectory

DEEP = sorted(  # fixed features have one view, and are no images and no documents
    name
    for name, entry in METHODS.entries().items()
    if entry.builtin
    and issubclass(METHODS.get(name), DeepMethod)
    and METHODS.get(name).views == 1
    and METHODS.get(name).info.family not in ("robust", "text")
)


@pytest.fixture
def settings(tmp_path):
    return {
        "runs_dir": tmp_path / "runs", "epochs": 2, "progress": False, "device": "cpu", "recipe": "frozen-mlp",
        "backbone": "toy-backbone", "overrides": {"recipe": {"size": 0, "hidden": 24}},
    }  # fmt: skip


def test_it_is_frozen_with_a_hidden_layer_of_512():
    frozen, found = (recipes.load(name, multi_label=False) for name in ("frozen", "frozen-mlp"))
    words = {"name": "frozen", "summary": frozen.summary}
    assert found.hidden == 512
    assert dataclasses.replace(found, hidden=0, **words) == frozen


@pytest.mark.parametrize("method", DEEP)
def test_every_deep_method_trains_under_it_and_comes_back(settings, method):
    result = hashbench.run(method, "toy", bits=16, **settings)
    assert result.coords["recipe"].startswith("frozen-mlp(")
    data = datasets.load("toy")
    model = hashbench.load(result.path)
    assert isinstance(model.network.head[0], HiddenLayer)
    codes = model.encode(data.store.inputs[data.split.query])
    assert np.array_equal(np.packbits(codes, axis=1), RunDirectory(result.path).read_arrays("codes")["query"])


def make(seed=0, hidden=24, method="crh"):
    task = Task(3, 16, False, "features", 60, 2, 2, torch.device("cpu"), seed)
    recipe = recipes.load("frozen-mlp", overrides={"hidden": hidden}, multi_label=False)
    return Model(METHODS.get(method)(), task, recipe, (1, 12, 12), width=16, prepared={})


def test_the_features_are_those_that_the_head_maps():
    network = make().network.eval()
    inputs = torch.rand(5, 16)
    features = network.features(inputs)
    assert torch.equal(features, network.head[0](network.backbone(inputs)))
    assert torch.equal(network.outputs(features), network.head(network.backbone(inputs)))
    assert torch.equal(network(inputs), network.outputs(features))


def test_the_layer_lies_between_features_and_the_methods_own_head():
    network = make().network.eval()
    linear, norm, relu = network.head[0]
    assert [type(layer) for layer in (linear, norm, relu)] == [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert (linear.in_features, linear.out_features, network.head[1].in_features) == (16, 24, 24)
    x = torch.rand(5, 16)
    expected = network.head[1](torch.relu(norm(linear(x))))
    assert torch.equal(network(x), expected)


def test_its_parameters_are_optimised_with_the_heads():
    model = make()
    groups = model.method.parameter_groups(model.network, model.recipe)
    held = {
        id(parameter) for group in groups if group["lr"] == model.recipe.learning_rate for parameter in group["params"]
    }
    assert {id(parameter) for parameter in model.network.head[0].parameters()} <= held


def test_its_weights_follow_from_the_seed_alone():
    first, same, other = (make(seed).network.head[0][0].weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(make(0, method="csq").network.head[0][0].weight, first)  # whatever the method draws


def test_without_it_nothing_has_changed():
    assert not isinstance(make(hidden=0).network.head, nn.Sequential)


def test_what_shc_prepares_is_trained_with_the_layer(settings, monkeypatch):
    from hashbench.training import preparation

    built = []
    original = preparation.make_network
    monkeypatch.setattr(preparation, "make_network", lambda *a, **k: built.append(original(*a, **k)) or built[-1])
    hashbench.run("shc", "toy", bits=16, **settings)
    assert isinstance(built[0].head[0], HiddenLayer)


def test_methods_without_layers_are_skipped_with_the_reason(settings):
    made = plan(["crh", "itq", "lsh"], ["toy"], [16], settings=Settings(**settings))
    assert [run.skipped for run in made.runs] == [
        None, *["it trains no layers, so recipe.hidden=24 does not apply; use --recipe frozen."] * 2
    ]  # fmt: skip


def test_ranks_see_its_batch_norm_of_their_own_share(settings):
    (run,) = plan(["csq"], ["toy"], [16], settings=Settings(**settings)).runs
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    frozen = dataclasses.replace(run.experiment, recipe=dataclasses.replace(run.experiment.recipe, hidden=0))
    assert depends_on_world(METHODS.get("csq"), run.experiment, cpu)
    assert not depends_on_world(METHODS.get("csq"), frozen, cpu)
    assert not depends_on_world(METHODS.get("csq"), run.experiment, cuda)  # where it is synchronised
