"""Conditions on some of the queries, and attacks made on another run: who is measured, what is seen, what is stated."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from retrained import retrain

import hashbench
from hashbench import datasets
from hashbench.cli import main
from hashbench.errors import HashbenchError
from hashbench.evaluation.conditions.contract import as_identity, as_text, places_of
from hashbench.evaluation.encoding import encode_under
from hashbench.experiments.reevaluation import Evaluator, parse_condition
from hashbench.experiments.repetition import check_model
from hashbench.results.runs import RunDirectory

TOY = {"backbone": "toy-backbone", "progress": False, "epochs": 6, "device": "cpu"}
PGD = "pgd(eps=64/255, step=16/255"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs of two methods and two code lengths."""
    folder = tmp_path_factory.mktemp("runs")
    hashbench.sweep(["csq", "dpsh"], ["toy"], [8, 16], runs_dir=folder, **TOY)
    return folder


@pytest.fixture
def runs(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def folder_of(runs, method, bits=16):
    (found,) = (runs / "toy@small" / method / f"{bits}b").iterdir()
    return found


def verified(path, *options):
    return CliRunner().invoke(main, ["verify", str(path), *options]).output


def test_some_queries_are_measured_as_they_are_among_all(runs):
    run = folder_of(runs, "csq")
    for condition in ("noise(sigma=0.3", PGD):
        whole = hashbench.evaluate_run(run, under=f"{condition})")
        some = hashbench.evaluate_run(run, under=f"{condition}, queries=6)")
        places = places_of({"fields": {"queries": 6}}, datasets.load("toy").split.sha256, 15)
        assert len(places) == 6
        for name in ("codes", "histograms"):
            every, few = (RunDirectory(one.path).read_arrays(name) for one in (whole, some))
            part = "query" if name == "codes" else "r"
            assert np.array_equal(every[part][places], few[part])
        assert some.counts["queries"] == 6
        assert some.condition.endswith("queries=6)")
        assert some.coords["cell"] != whole.coords["cell"]
        flipped = RunDirectory(run).read_codes()["query"][places] != RunDirectory(some.path).read_codes()["query"]
        assert some.diagnostics["changed_codes"] == flipped.any(axis=1).mean()
    assert "5 runs: 5 as stored" in verified(run, "--model")


def test_the_choice_is_of_the_split_alone_and_grows_with_the_limit():
    few, more = (places_of({"fields": {"queries": number}}, "ab", 100) for number in (10, 40))
    assert set(few) < set(more)
    assert few != places_of({"fields": {"queries": 10}}, "cd", 100)
    assert few != list(range(10))
    assert places_of({"fields": {}}, "ab", 100) == range(100)


def test_without_a_limit_identity_and_text_are_as_before():
    plain, limited = parse_condition("noise(sigma=0.1)"), parse_condition("noise(sigma=0.1, queries=5)")
    assert as_identity(plain)["fields"] == {"sigma": 0.1}
    assert as_text(as_identity(limited)) == "noise(sigma=0.1, queries=5)"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("noise(queries=0)", r"noise\(queries=0\) is not possible; give 1 or more"),
        ("noise(queries=16)", "queries=16 is not possible; give 1 to 15"),
        ("neighbours(k=5, queries=5)", "neighbours measures every query; leave queries out"),
        ("pgd(surrogate=nowhere)", "There is no nowhere/result.json"),
    ],
)
def test_limits_and_surrogates_that_cannot_be_are_refused(text, sentence, runs):
    with pytest.raises(HashbenchError, match=sentence):
        hashbench.evaluate_run(folder_of(runs, "csq"), under=text)


def test_an_attack_on_another_run_sees_that_run_alone(runs):
    """The attacked images are those of the attack on the other run, and the run encodes them."""
    run, other = folder_of(runs, "csq"), folder_of(runs, "dpsh", 8)
    white_box = hashbench.evaluate_run(run, under=f"{PGD})")
    found = hashbench.evaluate_run(run, under=f"{PGD}, surrogate={other})")
    dataset, model, surrogate = datasets.load("toy"), hashbench.load(run), hashbench.load(other)
    seen = []

    class Seen(type(parse_condition("pgd"))):
        def apply(self, queries):
            seen.append(super().apply(queries))
            return seen[-1]

    theirs = RunDirectory(other).read_codes(8)["database"]
    encode_under(Seen(eps=64 / 255, step=16 / 255), surrogate, dataset, theirs)
    expected = np.packbits(model.encode(torch.cat(seen)), axis=1)
    assert np.array_equal(RunDirectory(found.path).read_codes(16)["query"], expected)
    assert white_box.metrics["mAP@all"] < found.metrics["mAP@all"]
    of = RunDirectory(other).read_result().id
    assert found.provenance["surrogate"]["id"] == of
    assert f"surrogate={of[:8]}" in found.condition
    assert RunDirectory(found.path).surrogate(found).path.samefile(other)
    assert [*check_model(found, Evaluator(device="cpu"), 15)] == []
    assert "differences" in verified(run)
    assert ", 0 with differences" in verified(run)


def test_the_surrogate_counts_by_its_content_wherever_it_lies(runs, tmp_path):
    run, other = folder_of(runs, "csq"), folder_of(runs, "dpsh")
    first = hashbench.evaluate_run(run, under=f"{PGD}, surrogate={other})")
    moved = shutil.copytree(other, tmp_path / "elsewhere" / other.name)
    again = hashbench.evaluate_run(run, under=f"{PGD}, surrogate={moved})")
    assert (first.id, first.path) == (again.id, again.path)
    shutil.rmtree(other)
    with pytest.raises(HashbenchError, match=r"was measured under an attack on .*dpsh/16b/s0-\w+, which is not there"):
        [*check_model(again, Evaluator(device="cpu"), 15)]


def test_a_surrogate_of_other_weights_is_measured_with_anew(runs, tmp_path):
    """The one that is named counts, and the one that the result names where nobody names one."""
    run, other = folder_of(runs, "csq"), folder_of(runs, "dpsh")
    moved = shutil.copytree(other, tmp_path / "elsewhere" / other.name)
    first = hashbench.evaluate_run(run, under=f"{PGD}, surrogate={other})")
    stated = RunDirectory(other).read_result().files
    assert first.provenance["surrogate"]["measured_with"] == {
        name: stated[name] for name in ("codes.npz", "model.pt")
    }  # fmt: skip
    retrain(moved)
    assert hashbench.find_runs([run])[1] == []
    with pytest.warns(UserWarning, match="was measured with other codes or weights, and is measured anew"):
        second = hashbench.evaluate_run(run, under=f"{PGD}, surrogate={moved})")
    assert (first.id, first.path) == (second.id, second.path)
    assert not np.array_equal(first.metrics["mAP@all"], second.metrics["mAP@all"])
    retrain(moved)
    ((found,), (problem,)) = hashbench.find_runs([run])
    assert found.condition == ""
    told = f"{second.path} was measured with another codes.npz and model.pt than the surrogate {moved} has now"
    assert problem.startswith(told)
    with pytest.warns(UserWarning, match="is measured anew"):
        hashbench.evaluate_run(run, under=f"{PGD}, surrogate={moved})")
    shutil.rmtree(moved)  # what is not here is not compared
    assert hashbench.find_runs([run])[1] == []


def test_a_surrogate_that_is_trained_again_meanwhile_is_not_mixed_with_the_old_one(runs, monkeypatch):
    run, other = folder_of(runs, "csq"), folder_of(runs, "dpsh")

    def replaced(*arguments, **named):
        retrain(other)
        return encode_under(*arguments, **named)

    monkeypatch.setattr("hashbench.experiments.reevaluation.encode_under", replaced)
    with pytest.raises(HashbenchError, match=r"dpsh/16b/s0-\w+ was computed again meanwhile; evaluate .*csq"):
        hashbench.evaluate_run(run, under=f"{PGD}, surrogate={other})")
    assert not [*(run / "under").rglob("*.*")]


def test_what_is_no_surrogate_is_refused(runs):
    run = folder_of(runs, "csq")
    with pytest.raises(HashbenchError, match=r"The surrogate .* is the run that is attacked; name another run"):
        hashbench.evaluate_run(run, under=f"pgd(surrogate={run})")
    with pytest.raises(HashbenchError, match="'noise' is no attack, so that no surrogate changes it"):
        hashbench.evaluate_run(run, under=f"noise(surrogate={folder_of(runs, 'dpsh')})")
    other = hashbench.run("csq", "toy", bits=8, runs_dir=runs, **{**TOY, "epochs": 1}, evaluate_on="validation")
    with pytest.raises(HashbenchError, match=r"is of toy@small \(1, 12, 12\), and .* name a run on the same data"):
        hashbench.evaluate_run(run, under=f"pgd(surrogate={other.path})")


def test_a_result_that_names_another_surrogate_than_its_spec_is_found(runs):
    found = hashbench.evaluate_run(folder_of(runs, "csq"), under=f"pgd(surrogate={folder_of(runs, 'dpsh')})")
    stored = json.loads((found.path / "result.json").read_text())
    stored["provenance"]["surrogate"]["id"] = "0" * 64
    (found.path / "result.json").write_text(json.dumps(stored))
    assert "do not agree on the surrogate" in verified(folder_of(runs, "csq"))
