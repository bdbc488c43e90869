"""The built-in attacks on runs of the toy: they find worse images than chance, and t-mAP is what loops count."""

import numpy as np
import pytest
import torch

import hashbench
from hashbench import datasets
from hashbench.errors import HashbenchError
from hashbench.evaluation import encoding
from hashbench.evaluation.conditions.attacks import CenterCodePGD, Targeted
from hashbench.experiments.reevaluation import parse_condition
from hashbench.metrics import unpack
from hashbench.results.runs import RunDirectory

FEATURES = {"recipe": "frozen", "backbone": "toy-backbone", "overrides": {"recipe": {"size": "0"}}}
FAR = "eps=32/255, step=8/255"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return hashbench.run("crh", "toy", bits=16, epochs=4, progress=False, runs_dir=tmp_path_factory.mktemp("runs"))


def evaluated(run, text):
    return hashbench.evaluate_run(run, under=text)


@pytest.mark.parametrize("name", ["pgd", "hag", "targeted"])
def test_an_attack_does_more_harm_than_noise_of_its_distance(run, name):
    found = evaluated(run, f"{name}({FAR})")
    noise = evaluated(run, "noise(sigma=32/255)")
    assert found.metrics["mAP@all"] < noise.metrics["mAP@all"] - 0.05
    assert found.coords["evaluated"].startswith(f"test, {name}(eps=32/255, step=8/255, steps=7, restarts=1")


@pytest.mark.parametrize("name", ["pgd", "hag", "targeted"])
def test_without_distance_it_is_clean_to_the_bit(run, name):
    found, clean = evaluated(run, f"{name}(eps=0)"), evaluated(run, "clean")
    assert found.metrics == clean.metrics == run.metrics
    assert found.diagnostics["changed_codes"] == 0
    assert (found.path / "codes.npz").samefile(clean.path / "codes.npz")


def test_fixed_features_are_attacked_through_the_backbone(tmp_path):
    run = hashbench.run("crh", "toy", bits=16, epochs=4, progress=False, runs_dir=tmp_path, **FEATURES)
    assert evaluated(run, f"pgd({FAR})").metrics["mAP@all"] < run.metrics["mAP@all"] - 0.05


def test_what_is_attacked_is_what_is_encoded_with_its_preprocessing(tmp_path):
    resized = {"backbone": "toy-backbone", "overrides": {"recipe": {"size": "20"}}}
    run = hashbench.run("crh", "toy", bits=16, epochs=2, progress=False, runs_dir=tmp_path, **resized)
    queries = queries_of(run, CenterCodePGD())
    model, images = queries.model, queries.images.clone().requires_grad_()
    out = model.outputs(images)
    assert np.array_equal((out >= 0).numpy(), model.encode(queries.images))
    (gradient,) = torch.autograd.grad(out[3, 5], images)
    moved = queries.images.clone()
    moved[3, 0, 6, 4] += 0.05
    slope = (model.outputs(moved)[3, 5] - out[3, 5]).item() / 0.05
    assert slope == pytest.approx(gradient[3, 0, 6, 4].item(), rel=0.02)
    assert not gradient[:3].any()


def test_each_attack_leads_to_the_code_that_it_says(run):
    queries = queries_of(run, CenterCodePGD())
    codes, labels = queries.database_codes.numpy() * 2.0 - 1, queries.database_labels.numpy()

    def center(wanted):
        shares = (labels & wanted).any(axis=1)
        return np.where(codes[shares].mean(axis=0) >= codes[~shares].mean(axis=0), 1, -1)

    own = np.where(queries.model.encode(queries.images), 1, -1)
    targets = Targeted().target_labels(queries)
    pgd, hag, targeted = (parse_condition(name).toward(queries) for name in ("pgd", "hag", "targeted"))
    assert len({*map(tuple, queries.labels.tolist())}) > 1
    assert np.array_equal(pgd, [-center(wanted) for wanted in queries.labels.numpy()])
    assert np.array_equal(hag, -own)
    assert np.array_equal(targeted, [center(wanted) for wanted in targets.numpy()])
    for name in ("pgd", "hag", "targeted"):
        moved = parse_condition(f"{name}(eps=4/255)").apply(queries)
        assert 3 / 255 < float((moved.double() - queries.images.double()).abs().max()) <= 4 / 255


def test_restarts_begin_elsewhere_and_the_best_of_them_counts(run):
    queries = queries_of(run, CenterCodePGD())
    center = CenterCodePGD().toward(queries)
    attack = CenterCodePGD(eps=0.2, steps=0, restarts=4)
    starts = torch.stack(attack._starts(queries))
    assert len({float(start.sum()) for start in starts}) == 4
    assert float(starts.abs().max()) <= 0.2 < 1.02 * float(starts.abs().max())
    one = [parse_condition("pgd(eps=0.2, steps=0, restarts=1)").apply(queries)]

    def reached(images):
        return (queries.model.outputs(images).tanh() * center).mean(dim=1).detach()

    every = torch.stack([reached((queries.images + start).clamp(0, 1)) for start in starts])
    assert torch.equal(reached(one[0]), every[0])
    torch.testing.assert_close(reached(attack.apply(queries)), every.max(dim=0).values)


def queries_of(run, condition):
    """Return what an attack is told of all queries of a run."""
    seen = []

    class Seen(type(condition)):
        def apply(self, queries):
            seen.append(queries)
            return queries.images

    from hashbench.experiments.runner import load

    codes = RunDirectory(run.path).read_arrays("codes")["database"]
    encoding.encode_under(Seen(), load(run.path), datasets.load("toy"), codes)
    return seen[0]


def test_more_steps_and_restarts_do_not_weaken_it(run):
    queries = queries_of(run, CenterCodePGD())
    center = CenterCodePGD().toward(queries)

    def reached(text):
        images = parse_condition(text).apply(queries)
        return (queries.model.outputs(images).tanh() * center).mean(dim=1).detach()

    before = reached(f"pgd({FAR}, steps=0)")
    for steps in (1, 3, 10):
        after = reached(f"pgd({FAR}, steps={steps})")
        assert (after >= before - 1e-6).all()
        assert after.mean() > before.mean()
        before = after
    assert (reached(f"pgd({FAR}, steps=10, restarts=3)") >= before - 1e-6).all()


def test_the_squashed_objective_is_a_choice(run):
    queries = queries_of(run, CenterCodePGD())
    with_tanh, without = (parse_condition(f"pgd({FAR}, squash={how})").apply(queries) for how in ("true", "false"))
    assert not torch.equal(with_tanh, without)


def test_t_map_counts_the_target_labels(run):
    found = evaluated(run, f"targeted({FAR})")
    unmoved = evaluated(run, "targeted(eps=0)")
    assert found.diagnostics["t-mAP@all"] > unmoved.diagnostics["t-mAP@all"] + 0.05
    queries = queries_of(run, Targeted())
    targets = Targeted().target_labels(queries)
    assert not (targets & queries.labels).any()
    assert len({*map(tuple, targets.tolist())}) > 1
    queried = unpack(RunDirectory(found.path).read_arrays("codes")["query"], 16)
    database = unpack(RunDirectory(run.path).read_arrays("codes")["database"], 16)
    labels = queries.database_labels.numpy()
    total = []
    for code, wanted in zip(queried, targets.numpy(), strict=True):
        distance, relevant = (code != database).sum(axis=1), (labels & wanted).any(axis=1)
        orders = []
        for shuffle in range(300):  # ties in random order: the mean over orders is what is expected
            chance = np.random.default_rng(shuffle).random(len(database))
            ranked = relevant[np.lexsort((chance, distance))]
            orders.append((ranked.cumsum() / (1 + np.arange(len(ranked))))[ranked].mean())
        total.append(np.mean(orders))
    assert found.diagnostics["t-mAP@all"] == pytest.approx(np.mean(total), abs=0.005)


def test_the_batch_size_changes_no_target(run, monkeypatch):
    whole = Targeted().target_labels(queries_of(run, Targeted()))
    monkeypatch.setattr(encoding, "SMALL_BATCH", 4)
    assert torch.equal(Targeted().target_labels(queries_of(run, Targeted())), whole[:4])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("pgd(eps=-1)", "pgd: eps, step and steps must be 0 or more"),
        ("hag(restarts=0)", "restarts 1 or more; got .* restarts=0"),
        ("pgd(restarts=2, random_start=false)", "every restart is the same without random_start"),
    ],
)
def test_settings_without_a_meaning_are_refused(text, sentence):
    with pytest.raises(HashbenchError, match=sentence):
        parse_condition(text)


def test_what_has_no_outputs_to_attack_is_refused(tmp_path):
    run = hashbench.run("classifier", "toy", bits=16, epochs=1, progress=False, runs_dir=tmp_path)
    with pytest.raises(HashbenchError, match="The codes of 'classifier' are no signs of its network's outputs"):
        evaluated(run, "pgd")


def test_where_every_item_shares_a_class_there_is_no_target(run):
    queries = queries_of(run, Targeted())
    queries.database_labels.fill_(1)
    with pytest.raises(HashbenchError, match="a query shares a class with every item of the database"):
        Targeted().target_labels(queries)
