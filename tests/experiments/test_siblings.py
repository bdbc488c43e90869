"""Runs that differ in their seed alone are trained side by side, and are in their folders what they would be alone."""

import json

import numpy as np
import pytest
import torch

import hashbench
from hashbench.errors import HashbenchError
from hashbench.executors.serial import Serial
from hashbench.experiments import siblings
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan
from hashbench.experiments.runner import execute
from hashbench.training.loop import Training


def planned(folder, *, method="dpn", seeds=3, bits=(8,), **changes):
    given = {
        "runs_dir": folder, "epochs": 3, "progress": False, "device": "cpu", "recipe": "frozen",
        "backbone": "toy-backbone", "overrides": {"recipe": {"size": 0, "learning_rate": 0.1, "batch_size": 16}},
    }  # fmt: skip
    return plan([method], ["toy"], [*bits], seeds=seeds, settings=Settings(**given | changes))


def results(outcome):
    outcome.raise_first_failure()
    return outcome.results


def log(result):
    lines = (result.path / "log.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": 0} for line in lines]


def beside(found):
    return [result.provenance["trained_beside"] for result in found]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The runs of three seeds, each trained alone."""
    found = results(execute(planned(tmp_path_factory.mktemp("alone"), bits=(8, 12)), Serial(together=1)))
    assert beside(found) == [0] * 6
    return found


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.id, one.coords, one.metrics, one.ties) == (other.id, other.coords, other.metrics, other.ties)
        assert (one.diagnostics, one.code_stats, log(one)) == (other.diagnostics, other.code_stats, log(other))
        assert {path.name for path in one.path.iterdir()} == {path.name for path in other.path.iterdir()}
        for name in ("codes", "histograms", "centers"):
            mine, theirs = (np.load(result.path / f"{name}.npz") for result in (one, other))
            assert mine.files == theirs.files
            assert all(np.array_equal(mine[array], theirs[array]) for array in mine)
        mine, theirs = (torch.load(result.path / "model.pt", weights_only=True) for result in (one, other))
        for name, weights in theirs["network"].items():
            assert torch.equal(mine["network"][name], weights)


def test_they_are_what_they_are_alone(alone, tmp_path):
    found = results(execute(planned(tmp_path, bits=(8, 12))))
    assert_same(found, alone)
    assert beside(found) == [2] * 6
    assert all(0 < result.time["train"] < result.time["total"] for result in found)


def test_no_more_are_trained_at_once_than_asked_for(alone, tmp_path):
    found = results(execute(planned(tmp_path), Serial(together=2)))
    assert_same(found, alone[:3])
    assert beside(found) == [1, 1, 0]


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_sweep_that_was_killed_goes_on_where_each_was(alone, tmp_path, monkeypatch, epoch):
    report = Training.report

    def killed(self, at, *arguments, **named):
        if at == epoch and self.task.seed == 1:
            raise KeyboardInterrupt
        report(self, at, *arguments, **named)

    monkeypatch.setattr(Training, "report", killed)
    with pytest.raises(KeyboardInterrupt):
        execute(planned(tmp_path))
    monkeypatch.undo()
    assert not [*tmp_path.rglob("result.json")]
    assert_same(results(execute(planned(tmp_path))), alone[:3])


def test_what_is_finished_is_not_trained_again(alone, tmp_path, monkeypatch):
    results(execute(planned(tmp_path, seeds=1)))
    trained = []
    report = Training.report
    monkeypatch.setattr(
        Training, "report", lambda self, *a, **k: (trained.append(self.task.seed), report(self, *a, **k))
    )
    found = results(execute(planned(tmp_path)))
    assert_same(found, alone[:3])
    assert sorted({*trained}) == [1, 2]
    assert beside(found) == [0, 1, 1]


def test_a_seed_that_another_process_has_is_left_to_it(alone, tmp_path):
    made = planned(tmp_path)
    first, second, third = made.runs
    with second.directory.lock(), third.directory.lock() as locked:
        siblings.train_with_siblings(made, first, locked, None, at_most=3)  # of another process's view of the third
        assert not second.directory.checkpoint.exists()
    assert_same(results(execute(made)), alone[:3])


def test_a_seed_that_fails_fails_alone(tmp_path, fresh_methods):
    @hashbench.method("of-one-seed")
    class OfOneSeed(hashbench.DeepMethod):
        maps_over_seeds = True

        def setup(self, task, prepared):
            bad = float("nan") if task.seed == 1 else 1.0
            self.register_buffer("factor", torch.full((), bad))

        def loss(self, out, batch):
            return {"size": self.factor * (out.abs() - 1).square().mean()}

    outcome = execute(planned(tmp_path, method="of-one-seed"))
    assert [result.coords["seed"] for result in outcome.results] == [0, 2]
    ((run, error),) = outcome.failures
    assert run.seed == 1
    assert isinstance(error, HashbenchError)
    assert "became nan in epoch 1" in str(error)


@pytest.mark.parametrize(
    ("how", "changes"),
    [
        ("with measures in the log", {"eval_every": 1}),
        ("anew", {"rerun": "all"}),
        ("a method that does not say so", {"method": "dsh"}),
        ("images", {"recipe": "scratch", "overrides": {"recipe": {"batch_size": 16}}, "epochs": 1}),
    ],
)
def test_they_are_trained_one_by_one(tmp_path, how, changes):
    assert beside(results(execute(planned(tmp_path, seeds=2, **changes)))) == [0, 0], how
