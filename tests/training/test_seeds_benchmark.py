"""The benchmark of seeds side by side runs, and compares trainings that come to the same weights."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from hashbench.training.loop import train

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def seeds(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("seeds_benchmark", FOLDER / "seeds.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_it_prints_a_row_for_each_method_and_length(seeds):
    found = CliRunner().invoke(seeds.main, ["--method", "dpn", "--bits", "8,16", "--seeds", "2", "--steps", "2",
                                            "--rounds", "1"], catch_exceptions=False)  # fmt: skip
    assert found.exit_code == 0
    assert [line.split()[:2] for line in found.output.splitlines()[2:]] == [["dpn", "8"], ["dpn", "16"]]


def test_both_ways_train_the_same(seeds):
    work = seeds.Seeds.of("crh", 16, 2, 2)
    alone, together = work.trainings(), work.trainings()
    for one in alone:
        train(one.method, one.network, task=one.task, recipe=one.recipe, data=one.data, reports=seeds.Reports())
    assert seeds.train_together(together, bar=None)
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.network.head.weight, other.network.head.weight)
