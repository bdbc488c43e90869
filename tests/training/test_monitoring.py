"""--eval-every: measures in the log that leave no trace in the training."""

import random
from dataclasses import replace

import numpy as np
import torch

import hashbench
from hashbench.datasets import catalogue as datasets
from hashbench.results.runs import RunDirectory
from hashbench.training.monitoring import monitor_every


def run(tmp_path, **settings):
    return hashbench.run("crh", "toy", bits=16, epochs=4, runs_dir=tmp_path, progress=False, **settings)


def test_looking_changes_no_number(tmp_path):
    plain, looked = run(tmp_path / "plain"), run(tmp_path / "looked", eval_every=1)
    assert looked.id == plain.id
    assert looked.metrics == plain.metrics
    states = [torch.load(result.path / "model.pt", weights_only=True)["network"] for result in (plain, looked)]
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
    logs = [RunDirectory(result.path).read_log() for result in (plain, looked)]
    assert [line["loss"] for line in logs[0]] == [line["loss"] for line in logs[1]]


def test_every_nth_epoch_is_measured_and_the_last_is_the_result(tmp_path):
    result = run(tmp_path, eval_every=2)
    log = RunDirectory(result.path).read_log()
    assert ["measures" in line for line in log] == [False, True, False, True]
    assert log[-1]["measures"] == {"mAP@all": result.metrics["mAP@all"]}
    assert log[1]["measures"] != log[3]["measures"]


def test_modes_and_streams_of_chance_are_put_back(tmp_path):
    dataset = datasets.load("toy")
    model = hashbench.load(run(tmp_path).path)
    model.network.train()
    model.network.head.eval()

    def encode(index):  # like a method that draws at random while it encodes
        model.network.eval()
        torch.rand(1), np.random.rand(), random.random()
        return np.zeros((len(index), 2), np.uint8)

    monitor = monitor_every(1, model, dataset, encode)
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert monitor(0)["mAP@all"] > 0
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
    assert (model.network.training, model.network.head.training) == (True, False)


def test_measures_by_shared_labels_are_seen_too(tmp_path):
    dataset = datasets.load("toy")
    graded = replace(dataset, protocol=replace(dataset.protocol, measures=("nDCG@100",), multi_label=True))
    model = hashbench.load(run(tmp_path).path)
    monitor = monitor_every(1, model, graded, lambda index: np.zeros((len(index), 2), np.uint8))
    assert 0 < monitor(0)["nDCG@100"] < 1
