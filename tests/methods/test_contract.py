"""What a method may declare: each by a small method that needs it, run, killed, resumed, loaded and checked."""

import copy
import random

import contract_methods
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from toy_dataset import ToyBackbone

import hashbench
from hashbench.checks.verdict import check
from hashbench.cli import main
from hashbench.datasets import catalogue as datasets
from hashbench.errors import HashbenchError
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan
from hashbench.results.runs import RunDirectory
from hashbench.system import seeds

TRAINED = ("two-views", "twin", "memory", "features", "draws")


@pytest.fixture(autouse=True)
def _registered(fresh_methods):
    contract_methods.register()


def run(folder, method, **settings):
    given = {"bits": 16, "epochs": 3, "progress": False, "overrides": {"recipe": {"batch_size": "19"}}, **settings}
    return hashbench.run(method, "toy", runs_dir=folder, **given)


def stop_after(epoch, monkeypatch):
    """Kill whatever trains next after an epoch, when its checkpoint is there."""
    append = RunDirectory.append_log

    def dies(self, line):
        if line["epoch"] == epoch + 1:
            raise KeyboardInterrupt
        append(self, line)

    monkeypatch.setattr(RunDirectory, "append_log", dies)


def state(result):
    kept = torch.load(result.path / "model.pt", weights_only=True)
    return {f"{part}.{name}": value for part in ("method", "network") for name, value in (kept[part] or {}).items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("method", TRAINED)
def test_a_killed_run_goes_on_and_a_loaded_model_gives_the_stored_codes(method, tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", method)
    with monkeypatch.context() as patch:
        stop_after(0, patch)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", method)
    np.random.rand(), random.random(), torch.rand(1)  # another process would have drawn something else
    resumed = run(tmp_path / "killed", method)
    assert [line["epoch"] for line in RunDirectory(resumed.path).read_log()] == [0, 1, 2]
    assert resumed.id == whole.id
    assert_equal(state(resumed), state(whole))
    data = datasets.load("toy")
    codes = hashbench.load(resumed.path).encode(data.store.inputs[data.split.query])
    stored = RunDirectory(resumed.path).read_arrays("codes")["query"]
    assert np.array_equal(np.packbits(codes, axis=1), stored)


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=pytest.mark.slow if name == "memory" else ()) for name in contract_methods.CLASSES],
)
def test_keeps_the_contract(method, monkeypatch):
    lengths = (12, 16) if method == "draws" else (12,)  # it prepares something, which is to be the same for both
    monkeypatch.setattr("hashbench.checks.verdict.BITS", lengths)
    monkeypatch.setattr("hashbench.checks.method_checks.BITS", lengths)
    verdict = check(method)
    assert verdict.ok, verdict.render()


# views


def test_a_method_of_two_views_gets_them_with_its_augmentations(tmp_path, monkeypatch):
    seen = []
    step = contract_methods.TwoViews.training_step
    monkeypatch.setattr(
        contract_methods.TwoViews, "training_step", lambda *given: seen.append(given[2].views) or step(*given)
    )
    run(tmp_path, "two-views", overrides={"recipe": {"augment": "none", "batch_size": "60"}}, epochs=1)
    (views,) = seen
    assert len(views) == 2
    data = datasets.load("toy")
    images = torch.from_numpy(data.store.inputs[data.split.train]).float() / 255
    first = {tuple(image.flatten().tolist()) for image in images}
    assert {tuple(image.flatten().tolist()) for image in views[0]} == first  # the recipe's: none
    assert not first & {tuple(image.flatten().tolist()) for image in views[1]}


def test_the_number_of_views_adds_nothing_to_an_identity(tmp_path):
    settings = Settings(runs_dir=tmp_path, device="cpu")
    two, one = plan(["two-views", "crh"], ["toy"], [16], settings=settings).runs
    identities = [planned.experiment.identity for planned in (two, one)]
    assert [identity["recipe"]["views"] for identity in identities] == [1, 1]
    assert identities[0]["recipe"] == identities[1]["recipe"]


def test_two_views_share_a_table_with_one(tmp_path):
    results = [run(tmp_path, method, epochs=1) for method in ("two-views", "crh")]
    (table,) = hashbench.Comparison.of(results).tables
    assert [row.label for row in table.rows] == ["two-views", "crh"]


def test_views_of_frozen_features_are_a_skipped_run(tmp_path):
    settings = {"recipe": "frozen", "backbone": "toy-backbone", "runs_dir": tmp_path, "device": "cpu"}
    two, one = plan(["two-views", "features"], ["toy"], [16], settings=Settings(**settings)).runs
    assert "2 views of an image, and features cannot be augmented" in two.skipped
    assert one.skipped is None
    with pytest.raises(HashbenchError, match="two-views on toy@small, 16 bits, seed 0: it trains on 2 views"):
        run(tmp_path, "two-views", recipe="frozen", backbone="toy-backbone", overrides={})


def test_an_augmentation_that_was_typed_for_frozen_features_is_refused(tmp_path):
    settings = Settings(runs_dir=tmp_path, device="cpu", overrides={"recipe": {"train_backbone": "false"}})
    with pytest.raises(HashbenchError, match=r"cannot be augmented; say --set recipe\.augment=none"):
        plan(["crh"], ["toy"], [16], settings=settings)


def test_views_that_would_be_the_same_are_a_skipped_run(tmp_path, monkeypatch):
    settings = Settings(runs_dir=tmp_path, device="cpu", overrides={"recipe": {"augment": "none"}})
    (planned,) = plan(["two-views"], ["toy"], [16], settings=settings).runs
    assert planned.skipped is None  # its second view is augmented whatever the recipe says
    monkeypatch.setattr(contract_methods.TwoViews, "view_augments", ())
    (planned,) = plan(["two-views"], ["toy"], [16], settings=settings).runs
    assert planned.skipped == "its 2 views of an image would be the same without augmentation; set recipe.augment."


def test_views_of_a_recipe_are_refused(tmp_path):
    settings = Settings(runs_dir=tmp_path, device="cpu", overrides={"recipe": {"views": "2"}})
    with pytest.raises(HashbenchError, match=r"recipe.views=2 is not possible: .* its own `views` to say; leave"):
        plan(["crh"], ["toy"], [16], settings=settings)
    settings = Settings(runs_dir=tmp_path, device="cpu", overrides={"recipe": {"views": "1"}})
    assert plan(["crh"], ["toy"], [16], settings=settings).runs[0].skipped is None


# attach


class Kept(contract_methods.Twin):
    def attach(self, network, task):
        self.twin = network


class KeptHead(contract_methods.Twin):
    def attach(self, network, task):
        self.mine = network.head
        super().attach(network, task)


class KeptWeight(contract_methods.Twin):
    def attach(self, network, task):
        super().attach(network, task)
        self.weight = next(network.backbone.parameters())


class ReturnedHead(contract_methods.Twin):
    def head(self, width, task):
        self.last = super().head(width, task)
        return self.last


@pytest.mark.parametrize(
    ("base", "named"),
    [
        (Kept, "kept.twin is a part of the network (the network)"),
        (KeptHead, "kept.mine is a part of the network (head)"),
        (KeptWeight, "kept.weight is a part of the network (backbone."),
        (ReturnedHead, "kept.last is a part of the network (head)"),
    ],
)
def test_a_method_must_not_register_the_network(tmp_path, base, named):
    hashbench.method("kept")(type("Made", (base,), {}))
    with pytest.raises(HashbenchError) as caught:
        run(tmp_path, "kept", backbone="toy-backbone")
    assert named in str(caught.value)
    assert "keep copy.deepcopy(network).requires_grad_(False)" in str(caught.value)


def test_a_twin_is_neither_optimised_nor_lost(tmp_path):
    result = run(tmp_path, "twin", backbone="toy-backbone")
    kept = state(result)
    twin, network = kept["method.twin.head.weight"], kept["network.head.weight"]
    assert not torch.equal(twin, network)
    model = hashbench.load(result.path)
    assert torch.equal(model.method.twin.head.weight, twin)
    groups = model.method.parameter_groups(model.network, model.recipe)
    held = {id(parameter) for group in groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in model.network.parameters()}


def test_attach_sees_the_network_that_will_be_trained_and_its_task(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        contract_methods.Twin,
        "attach",
        lambda self, network, task: seen.append((network, task.bits, copy.deepcopy(network))),
    )
    monkeypatch.setattr(contract_methods.Twin, "training_step", hashbench.DeepMethod.training_step)
    monkeypatch.setattr(contract_methods.Twin, "after_step", hashbench.DeepMethod.after_step)
    monkeypatch.setattr(contract_methods.Twin, "loss", lambda self, out, batch: {"size": out.square().mean()})
    run(tmp_path, "twin", backbone="toy-backbone")
    ((network, bits, before),) = seen
    assert bits == 16
    assert torch.equal(before.backbone.weight, ToyBackbone((1, 12, 12)).weight)
    assert not torch.equal(before.head.weight, network.head.weight)


# keeps_samples


def test_a_memory_holds_every_samples_last_row(tmp_path):
    kept = state(run(tmp_path, "memory"))
    data = datasets.load("toy")
    labels = torch.from_numpy(data.store.labels[data.split.train]) > 0
    assert torch.equal(kept["method.labels"], labels)
    assert kept["method.steps"].unique().tolist() == [8, 9, 10, 11]  # the four batches of the last epoch
    assert kept["method.outputs"].abs().sum(dim=1).min() > 0


@pytest.mark.parametrize(
    ("names", "reason"), [(("rows",), "names 'rows', which is no buffer"), (("few",), "'few', which has shape (3, 2)")]
)
def test_a_memory_that_is_none_is_told(tmp_path, names, reason):
    def setup(self, task, prepared):
        self.register_buffer("few", torch.zeros(3, 2))

    made = type("Made", (contract_methods.Features,), {"keeps_samples": names, "setup": setup})
    hashbench.method("forgetful")(made)
    with pytest.raises(HashbenchError) as caught:
        run(tmp_path, "forgetful")
    assert reason in str(caught.value)
    assert "with 60 rows (task.num_train)" in str(caught.value)


# features


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_features_and_outputs_are_the_forward_pass_in_two(tmp_path, precision):
    result = run(tmp_path, "features", overrides={"recipe": {"precision": precision}}, epochs=1)
    model = hashbench.load(result.path)
    model.network.eval()
    images = torch.rand(5, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    features = model.network.features(images)
    assert (features.dtype, tuple(features.shape)) == (torch.float32, (5, 128))
    out = model.network.outputs(features)
    assert out.dtype == torch.float32
    assert torch.equal(out, model.network(images))
    plain = model.network.head(model.network.backbone(images))
    assert torch.equal(out, plain) == (precision == "fp32")


def test_features_go_through_a_compiled_network_too(tmp_path, monkeypatch):
    called = []

    def compile_eagerly(function):
        compiled = torch._dynamo.optimize("eager")(function)
        return lambda *given: called.append(function.__name__) or compiled(*given)

    monkeypatch.setattr(torch, "compile", compile_eagerly)
    plain, compiled = (
        run(tmp_path, "features", epochs=1, overrides={"recipe": {"compile": value}}) for value in ("false", "true")
    )
    assert called == ["features", "outputs"]
    for name, value in state(plain).items():
        torch.testing.assert_close(state(compiled)[name], value, msg=name)


# seeds


@pytest.mark.parametrize("method", ["low-rank", "draws"])
def test_whatever_draws_from_global_generators_follows_from_the_seed(method, tmp_path):
    results = []
    for at, seed in enumerate((0, 0, 1)):
        np.random.seed(at), random.seed(at), torch.manual_seed(at)
        settings = {} if method == "draws" else {"overrides": {}}
        results.append(run(tmp_path / str(at), method, seed=seed, **settings))
    assert results[0].metrics == results[1].metrics
    assert_equal(state(results[0]), state(results[1]))
    for name, value in state(results[0]).items():
        if "mean" not in name:
            assert not torch.equal(value, state(results[2])[name]) or value.ndim == 0, name


def test_every_hook_draws_in_a_stream_of_its_own(tmp_path):
    kept = state(run(tmp_path, "draws", seed=3))
    streams = {
        "method.prepared": ("prepare",),
        "method.at_setup": ("init", "method"),
        "method.attached": ("init", "attach"),
    }
    for name, purpose in streams.items():
        expected = [
            float(torch.rand((), generator=seeds.generator(3, *purpose))),
            np.random.RandomState(seeds.derive(3, *purpose, "numpy") % 2**32).rand(),
            random.Random(seeds.derive(3, *purpose, "python")).random(),
        ]
        assert kept[name].tolist() == pytest.approx(expected), name


def test_loading_a_model_draws_nothing_from_whoever_loads_it(tmp_path):
    path = run(tmp_path, "draws").path
    drawn = []
    for load in (False, True):
        np.random.seed(5), random.seed(5), torch.manual_seed(5)
        if load:
            hashbench.load(path)
        drawn.append((np.random.rand(), random.random(), float(torch.rand(()))))
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("method", ["low-rank", "draws"])
def test_check_tells_what_does_not_follow_from_the_seed(method, monkeypatch):
    monkeypatch.setattr("hashbench.checks.verdict.BITS", (12,))
    unseeded = {"low-rank": "fit", "draws": "init"}[method]
    seed_globals = seeds.seed_globals

    def forgets(seed, *purpose, rank=0):
        if purpose[0] != unseeded:
            seed_globals(seed, *purpose, rank=rank)

    monkeypatch.setattr(seeds, "seed_globals", forgets)
    lines = {line.what: line for line in check(method).lines}
    assert lines["one seed gives one result"].state == "FAILED"


# fidelity and declarations


def test_fidelity_is_stated_in_list_result_and_table(tmp_path):
    class Stated(contract_methods.Features):
        pass

    hashbench.method("stated", fidelity="sibling")(Stated)
    results = [run(tmp_path, method, epochs=1) for method in ("stated", "features", "crh")]
    stated = [result.provenance["fidelity"] for result in results]
    assert stated == ["sibling", "unstated", "account"]
    assert "fidelity" not in str(RunDirectory(results[0].path).read_spec()["identity"])
    listed = CliRunner().invoke(main, ["list", "methods"]).output
    for name, fidelity in (("stated", "sibling"), ("features", "unstated"), ("crh", "account"), ("csq", "published")):
        (line,) = (line for line in listed.splitlines() if line.split()[:1] == [name])
        assert fidelity in line
    shown = CliRunner().invoke(main, ["show", str(results[0].path)]).output
    assert any(line.split() == ["fidelity", "sibling"] for line in shown.splitlines())
    note = "Fidelity: account (crh), sibling (stated), unstated (features); ° marks what is not published."
    assert note in hashbench.compare(tmp_path).render()


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ({"views": 0}, "views is 0; give a whole number from 1"),
        ({"views": 2, "view_augments": ("", "", "")}, "3 augmentations for 2 views; name one for each"),
        ({"view_augments": ("pad-corp",)}, "Did you mean 'pad-crop'"),
        ({"keeps_samples": "rows"}, "keeps_samples is 'rows'; give a tuple"),
        ({"views": 2, "__annotations__": {"views": int}}, "'views' is a declaration, not a field"),
        ({"paper_recipe": {"views": 2}}, "no part of a recipe; write `views = 2` into the class"),
    ],
)
def test_declarations_that_nothing_can_follow_are_refused(declared, reason):
    with pytest.raises(HashbenchError, match=r"^odd: |^Unknown augmentation") as caught:
        hashbench.method("odd")(type("Odd", (hashbench.DeepMethod,), declared))
    assert reason in str(caught.value)


def test_a_fitted_method_has_no_views():
    with pytest.raises(HashbenchError, match="'views' is for methods that are trained; derive from DeepMethod"):
        hashbench.method("odd")(type("Odd", (hashbench.Method,), {"views": 2}))


def test_an_unknown_fidelity_is_refused():
    with pytest.raises(HashbenchError, match="Did you mean 'published'"):
        hashbench.method("odd", fidelity="publshed")
