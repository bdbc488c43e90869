"""Fixed views: methods of several views train on the features of augmented views that are drawn once."""

import dataclasses

import contract_methods
import numpy as np
import pytest
import torch
import toy_dataset

import hashbench
from hashbench import datasets, recipes
from hashbench.datasets.loading.augment import augmentation, resize, to_unit
from hashbench.datasets.loading.loader import TrainLoader
from hashbench.errors import HashbenchError
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan
from hashbench.results.runs import RunDirectory
from hashbench.results.tables.blocks import row_label
from hashbench.storage.cache import cache_root
from hashbench.system.seeds import generator
from hashbench.training import features as module
from hashbench.training.features import view_features

CPU = torch.device("cpu")
STRONG = "resized-crop-flip-jitter"
VIEWS = 3


class Alike(hashbench.DeepMethod):
    """Two views of one augmentation."""

    supervised = False
    views = 2
    view_augments = (STRONG, STRONG)

    def training_step(self, network, batch):
        first, second = (network(view) for view in batch.views)
        return {"apart": (first - second).square().mean()}, first


@pytest.fixture(autouse=True)
def _methods(fresh_methods):
    contract_methods.register()
    hashbench.method("alike")(Alike)


@pytest.fixture
def settings(tmp_path):
    return {
        "runs_dir": tmp_path / "runs", "epochs": 2, "progress": False, "device": "cpu", "recipe": "frozen",
        "backbone": "toy-backbone", "overrides": {"recipe": {"size": 8, "fixed_views": VIEWS, "batch_size": 16}},
    }  # fmt: skip


@pytest.fixture
def seen(monkeypatch):
    """The batches that the steps of `alike` and `two-views` are given."""
    batches = []
    for cls in (Alike, contract_methods.TwoViews):
        step = cls.training_step
        monkeypatch.setattr(cls, "training_step", lambda *given, step=step: batches.append(given[2]) or step(*given))
    return batches


def toy_recipe(**changed):
    found = recipes.load("frozen", overrides={"backbone": "toy-backbone"}, multi_label=False)
    return dataclasses.replace(found, size=8, fixed_views=VIEWS, **changed)


def get(augment=STRONG, index=None, **changed):
    data = datasets.load("toy")
    index = data.split.train if index is None else index
    return np.array(
        view_features(data.store, index, toy_recipe(**changed), augment=augment, engine=1, weights="w", device=CPU,
                      progress=False)
    )  # fmt: skip


def by_hand(augment=STRONG):
    """The features (VIEWS, n, width) of the views of the training images."""
    data = datasets.load("toy")
    images = torch.from_numpy(data.store.inputs[data.split.train])
    stream = generator(0, "fixed views", augment)
    drawn = augmentation(augment).draw(stream, VIEWS * len(images), height=12, width=12)
    views = augmentation(augment).apply(images.repeat(VIEWS, 1, 1, 1), drawn, size=8)
    return toy_dataset.ToyBackbone((1, 8, 8))(views).detach().unflatten(0, (VIEWS, len(images)))


def plain():
    data = datasets.load("toy")
    images = resize(to_unit(torch.from_numpy(data.store.inputs[data.split.train])), 8)
    return toy_dataset.ToyBackbone((1, 8, 8))(images).detach()


def which(view, index, of):
    """Return which of the views `of` (VIEWS, n, width) each row of a batch's `view` is."""
    gaps = (of[:, index] - view).abs().amax(dim=2)
    assert gaps.amin(dim=0).max() < 1e-4
    assert (gaps < 1e-4).sum(dim=0).max() == 1
    return gaps.argmin(dim=0)


@pytest.mark.parametrize("augment", [STRONG, "pad-crop-flip", "flip"])
def test_features_are_the_backbones_of_the_augmented_images(augment, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_A_TIME", 40)  # a chunk begins within a view
    np.testing.assert_allclose(get(augment), by_hand(augment).flatten(0, 1), rtol=1e-4, atol=1e-5)


def test_what_they_follow_from_is_in_their_key():
    first = get()
    others = [get("pad-crop"), get(precision="bf16"), get(index=datasets.load("toy").split.query)]
    assert len([*(cache_root() / "features").glob("*.npy")]) == 4
    assert not any(np.array_equal(first, other) for other in others)
    dimmed = dataclasses.replace(toy_recipe(), fixed_views=VIEWS + 1)
    data = datasets.load("toy")
    for recipe, engine in ((dimmed, 1), (toy_recipe(), 2)):
        view_features(data.store, data.split.train, recipe, augment=STRONG, engine=engine, weights="w", device=CPU,
                      progress=False)  # fmt: skip
    assert len([*(cache_root() / "features").glob("*.npy")]) == 6


def test_a_killed_computation_goes_on(monkeypatch):
    whole = get()
    for path in (cache_root() / "features").iterdir():
        path.unlink()
    monkeypatch.setattr(module, "ROWS_AT_A_TIME", 40)
    passed = []
    forward = toy_dataset.ToyBackbone.forward

    def killed(self, images):
        if sum(passed) >= 80:
            raise KeyboardInterrupt
        passed.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(toy_dataset.ToyBackbone, "forward", killed)
    with pytest.raises(KeyboardInterrupt):
        get()
    again = []
    monkeypatch.setattr(toy_dataset.ToyBackbone, "forward", lambda self, x: again.append(len(x)) or forward(self, x))
    np.testing.assert_array_equal(get(), whole)
    assert sum(again) == len(whole) - 80


def test_two_views_of_one_augmentation_are_different_ones_drawn_anew_in_each_epoch(settings, seen):
    hashbench.run("alike", "toy", bits=8, **settings)
    of = by_hand()
    drawn = torch.cat([torch.stack([which(view, batch.index, of) for view in batch.views]) for batch in seen], dim=1)
    first, second = drawn.unflatten(1, (2, 60)).unbind(dim=1)  # epochs
    assert (drawn[0] != drawn[1]).all()
    assert set(drawn.flatten().tolist()) == {*range(VIEWS)}
    assert not torch.equal(first, second)


def test_a_view_without_augmentation_is_the_plain_features(settings, seen):
    hashbench.run("two-views", "toy", bits=8, **settings)
    for batch in seen:
        torch.testing.assert_close(batch.views[0], plain()[batch.index], rtol=1e-4, atol=1e-5)
        which(batch.views[1], batch.index, by_hand())


@pytest.mark.parametrize("method", ["cibhash", "cimon (clusters=4)", "dhd"])
def test_methods_of_several_views_train_under_it(settings, method):
    (run,) = hashbench.sweep([method], ["toy"], [8], seeds=1, **settings)
    assert run.coords["inputs"] == "features"
    assert run.coords["fixed_views"] == VIEWS
    assert "fixed_views" not in run.coords["recipe"]
    assert row_label(run).endswith(f"{VIEWS} fixed views)")


def test_runs_share_what_is_computed(settings, monkeypatch):
    plan(["alike"], ["toy"], [8], settings=Settings(**settings))  # which builds one, to know its width
    before = toy_dataset.ToyBackbone.built
    hashbench.sweep(["alike", "two-views"], ["toy"], [8], seeds=2, **settings)
    assert toy_dataset.ToyBackbone.built - before == 2  # for plain features, and for those of the views
    assert len([*(cache_root() / "features").glob("*.npy")]) == 2


def test_another_seed_draws_other_views(settings, seen):
    for seed in (0, 1):
        hashbench.run("alike", "toy", bits=8, seed=seed, **settings)
    drawn = torch.cat([which(batch.views[0], batch.index, by_hand()) for batch in seen])
    assert not torch.equal(*drawn.view(2, 2 * 60))


def test_both_tiers_and_ranks_give_the_same_views(monkeypatch):
    data = datasets.load("toy")
    index, views = data.split.train, {STRONG: get()}
    inputs = np.random.default_rng(0).normal(size=(150, 16)).astype(np.float32)
    batches = []
    for tier in ("resident", "streamed"):
        monkeypatch.setenv("HASHBENCH_LOADER", tier)
        loader = TrainLoader(inputs, None, index=index, batch_size=16, seed=0, device="cpu",
                             augment=["none", STRONG, STRONG], fixed_views=views)  # fmt: skip
        batches.append([*loader.epoch(1)])
        halves = [[*loader.epoch(1, cut)] for cut in (lambda a, b: (a, (a + b) // 2), lambda a, b: ((a + b) // 2, b))]
        for whole, *parts in zip(batches[-1], *halves, strict=True):
            for slot, view in enumerate(whole.views):
                assert torch.equal(view, torch.cat([part.views[slot] for part in parts]))
    for here, there in zip(*batches, strict=True):
        assert all(torch.equal(*pair) for pair in zip(here.views, there.views, strict=True))
        assert torch.equal(here.views[0], torch.from_numpy(inputs[index])[here.index])


def test_a_preparation_has_the_views_of_the_first_epoch(settings, seen, monkeypatch):
    given = []
    monkeypatch.setattr(Alike, "prepare", lambda self, task, data, tools: given.extend(tools.view_features()) or {})
    hashbench.run("alike", "toy", bits=8, **settings)
    for batch in seen:
        if batch.epoch == 0:
            assert torch.equal(torch.stack(given)[:, batch.index], torch.stack(batch.views))


def test_an_interrupted_run_goes_on_with_the_same_views(settings, monkeypatch):
    whole = hashbench.run("alike", "toy", bits=8, **settings)
    settings["runs_dir"] = settings["runs_dir"] / "interrupted"
    end = Alike.end_epoch

    def interrupted(self, epoch, sums):
        if epoch == 1:
            raise KeyboardInterrupt
        return end(self, epoch, sums)

    with monkeypatch.context() as patch:
        patch.setattr(Alike, "end_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            hashbench.run("alike", "toy", bits=8, **settings)
    resumed = hashbench.run("alike", "toy", bits=8, **settings)
    losses = [[line["loss"] for line in RunDirectory(one.path).read_log()] for one in (whole, resumed)]
    assert losses[0] == losses[1]


def test_queries_and_database_are_the_plain_images(settings):
    result = hashbench.run("alike", "toy", bits=8, **settings)
    data = datasets.load("toy")
    codes = hashbench.load(result.path).encode(data.store.inputs[data.split.query])
    assert np.array_equal(np.packbits(codes, axis=1), RunDirectory(result.path).read_arrays("codes")["query"])


def test_seeds_of_one_view_train_side_by_side_on_augmented_views(settings):
    settings["overrides"]["recipe"]["augment"] = "pad-crop"
    together = hashbench.sweep(["csq"], ["toy"], [8], seeds=2, **settings)
    settings["runs_dir"] = settings["runs_dir"] / "alone"
    alone = [hashbench.run("csq", "toy", bits=8, seed=seed, **settings) for seed in (0, 1)]
    assert [result.provenance["trained_beside"] for result in (*together, *alone)] == [1, 1, 0, 0]
    for one, other in zip(together, alone, strict=True):
        mine, its = (hashbench.load(result.path).network.state_dict() for result in (one, other))
        assert all(torch.equal(mine[name], its[name]) for name in mine)


def test_methods_without_augmentation_have_the_runs_of_before(settings):
    runs = []
    for views in ({}, {"fixed_views": VIEWS}):
        settings["overrides"] = {"recipe": {"size": 8, **views}}
        runs.append(plan(["crh", "itq"], ["toy"], [8], settings=Settings(**settings)).runs)
    assert "fixed_views" not in runs[0][0].experiment.identity["recipe"]
    for before, after in zip(*runs, strict=True):
        assert (before.method, before.experiment) == (after.method, after.experiment)


def test_a_table_has_rows_with_and_without_fixed_views(settings):
    results = hashbench.sweep(["alike", "csq"], ["toy"], [8], seeds=1, **settings)
    (table,) = hashbench.compare(settings["runs_dir"]).tables
    assert {"csq", f"alike ({VIEWS} fixed views)"} <= {row.label for row in table.rows}
    (run,) = plan(["alike"], ["toy"], [8], settings=Settings(**settings)).runs
    assert run.method == row_label(results[0]) == f"alike ({VIEWS} fixed views)"


def test_a_planned_row_has_all_the_words_of_its_result(settings):
    hashbench.run("alike", "toy", bits=8, **settings)
    more = {**settings, "runs_dir": settings["runs_dir"] / "more", "start_from": settings["runs_dir"]}
    (run,) = plan(["alike"], ["toy"], [8], settings=Settings(**more)).runs
    assert run.method == row_label(hashbench.run("alike", "toy", bits=8, **more))
    assert f"{VIEWS} fixed views, start=" in run.method


def test_an_identity_is_read_back(settings):
    (run,) = plan(["alike"], ["toy"], [8], settings=Settings(**settings)).runs
    assert Experiment.from_identity(run.experiment.identity).id == run.experiment.id


@pytest.mark.parametrize(
    ("recipe", "changed", "sentence"),
    [
        ("frozen", {"fixed_views": 1}, "compares 2 views of one augmentation; recipe.fixed_views=1 is too few"),
        ("frozen", {}, "features cannot be augmented; .* --set recipe.fixed_views=10"),
    ],
)
def test_too_few_views_are_a_skipped_run(settings, recipe, changed, sentence):
    settings["overrides"] = {"recipe": changed}
    with pytest.raises(HashbenchError, match=sentence):
        hashbench.run("alike", "toy", bits=8, **{**settings, "recipe": recipe})


@pytest.mark.parametrize(
    ("recipe", "changed"),
    [("scratch", {}), ("finetune", {}), ("frozen", {"train_backbone": "true"}), ("frozen", {"pretrained": "false"})],
)  # fmt: skip
def test_it_needs_a_fixed_backbone(settings, recipe, changed):
    settings["overrides"] = {"recipe": {"fixed_views": 2, **changed}}
    with pytest.raises(HashbenchError, match=r"fixed_views=\d+ needs a pretrained backbone that stays fixed"):
        plan(["alike"], ["toy"], [8], settings=Settings(**{**settings, "recipe": recipe}))


def test_it_is_probed_without_features(settings, cli):
    said = cli("run", "--method", "alike", "--dataset", "toy", "--bits", "8", "--recipe", "frozen", "--backbone",
               "toy-backbone", "--dry-run", "--probe", "--set", "recipe.size=8",
               "--set", "recipe.fixed_views=2")  # fmt: skip
    assert "(probed)" in said.stdout
    assert not [*cache_root().rglob("*.npy")]
