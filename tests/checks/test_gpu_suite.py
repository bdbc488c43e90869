"""The suite itself on a CUDA device that fake tensors stand in for: loader, trainer, features, codes, counts."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hashbench.checks.fake_cuda import CUDA, FakeCuda
from hashbench.checks.gpu_pass import missing_device
from hashbench.checks.toy_runs import Case, toy
from hashbench.datasets.base import Store
from hashbench.datasets.loading import augment, loader, streaming
from hashbench.datasets.loading.loader import TrainLoader
from hashbench.evaluation import encoding
from hashbench.methods.crh import CRH
from hashbench.metrics import histograms, kernels_torch, pack
from hashbench.networks import model as models
from hashbench.registry import CONDITIONS
from hashbench.system.distributed import SINGLE
from hashbench.training import features, loop
from hashbench.training.loop import Reports, train
from hashbench.training.trainset import TrainSet

pytestmark = pytest.mark.skipif(missing_device() is not None, reason="this torch cannot stand in for a GPU")
FILES = [module.__file__ for module in (augment, encoding, features, kernels_torch, loader, loop, models, streaming)]


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let streams and events be there, and readers read in this thread: fake tensors are of one thread."""
    event = SimpleNamespace(record=lambda stream: None, synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "Event", lambda: event)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(wait_event=lambda event: None))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    monkeypatch.setattr(streaming, "read_ahead", lambda read, requests: map(read, requests))


@pytest.mark.usefixtures("streams")
@pytest.mark.parametrize("tier", ["resident", "streamed"])
def test_the_loader(tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HASHBENCH_LOADER", tier)
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (50, 3, 8, 8), np.uint8), np.eye(5)[random.integers(0, 5, 50)]
    settings = {"batch_size": 16, "seed": 0, "augment": ["pad-crop-flip", "resized-crop-flip-jitter"]}
    expected = [*TrainLoader(images, labels, device="cpu", **settings).epoch(1)]
    with FakeCuda(FILES) as device:
        served = TrainLoader(images, labels, device=CUDA, **settings)
        with device.never_waiting("an epoch"):
            found = [*served.epoch(1)]
        for batch, other in zip(found, expected, strict=True):
            tensors = [(*each.views, each.labels, each.index) for each in (batch, other)]
            for mine, theirs in zip(*tensors, strict=True):
                assert mine.device == CUDA
                torch.testing.assert_close(mine.cpu(), theirs)
    assert device.waits == []


def waits(device: FakeCuda) -> list[str]:
    """Where the device was waited for, without lines."""
    return [told.split(" (line")[0] for told in device.waits]


@pytest.fixture
def case() -> Case:
    return Case(CRH, bits=16, multi_label=False, inputs="images")


@pytest.mark.usefixtures("streams")
def test_the_trainer(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits within an epoch; once the bar shows losses, and after it the method's hook is on the host."""
    monkeypatch.setattr(loop, "CHECK_SECONDS", float("inf"))
    monkeypatch.setenv("HASHBENCH_LOADER", "resident")
    images, labels = toy(80, multi_label=False, seed=0)
    lines, epochs = [], loop._train_epoch
    with FakeCuda(FILES) as device:

        def watched(*arguments):
            with device.never_waiting("an epoch"):
                return epochs(*arguments)

        monkeypatch.setattr(loop, "_train_epoch", watched)
        model = case.new_model(CUDA)
        data = TrainSet(
            TrainLoader(images, labels, batch_size=32, seed=0, device=CUDA, channels_last=True), images, np.arange(80),
            size=0, device=CUDA, features=lambda: images, world=SINGLE,
        )  # fmt: skip
        train(model.method, model.network, task=model.task, recipe=model.recipe, data=data,
              reports=Reports(log=lines.append))  # fmt: skip
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert device.waits == []


@pytest.mark.usefixtures("streams")
def test_codes_are_brought_to_the_host_at_once(case: Case) -> None:
    images, _ = toy(50, multi_label=False, seed=0)
    with FakeCuda(FILES) as device:
        model = case.new_model(CUDA)
        with device.never_waiting("encoding"):
            codes = encoding.encode_rows(model, images, np.arange(50), SINGLE)
    assert codes.shape == (50, 2)
    assert waits(device) == ["encoding waits for the device: a tensor is copied to the CPU"]
    assert device.waited == 1


@pytest.mark.usefixtures("streams")
def test_features_are_brought_to_the_host_a_chunk_at_a_time(case: Case, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HASHBENCH_CACHE", str(tmp_path))
    images, labels = toy(50, multi_label=False, seed=0)
    store, compute = Store("toy-gpu", images, labels, tuple("abcde")), features._compute
    with FakeCuda(FILES) as device:

        def watched(*arguments):
            with device.never_waiting("computing features"):
                return compute(*arguments)

        monkeypatch.setattr(features, "_compute", watched)
        torch.manual_seed(0)
        found = features.features(store, case.experiment.recipe, weights=None, device=CUDA, batch_size=8,
                                  progress=False)  # fmt: skip
    assert found.shape == (50, 64)
    assert np.abs(found).sum() > 0
    assert waits(device) == ["computing features waits for the device: a tensor is copied to the CPU"]
    assert device.waited == 1


@pytest.mark.usefixtures("streams")
@pytest.mark.parametrize("name", ["noise", "blur", "jpeg", "occlusion", "pgd", "hag", "targeted"])
def test_a_condition(name: str, case: Case) -> None:
    """What it draws, computes on the host or attacks lies where it is needed; a batch of queries may wait."""
    images, labels = toy(50, multi_label=False, seed=0)
    part = np.arange(50)
    store, split = SimpleNamespace(inputs=images, labels=labels), SimpleNamespace(query=part[:20], database=part)
    dataset = SimpleNamespace(name="toy", kind="images", pairs=None, store=store, split=split)
    condition = CONDITIONS.get(name)(**({"restarts": 2} if name == "pgd" else {}))
    with FakeCuda(FILES):
        model = case.new_model(CUDA)
        database = encoding.encode_rows(model, images, part, SINGLE)
        codes, targets = encoding.encode_under(condition, model, dataset, database)
    assert codes.shape == (20, 2)
    assert (targets is not None) == (name == "targeted")


@pytest.mark.parametrize("several", [False, True])
def test_the_torch_kernel(several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts what the CPU counts; that `bincount` asks for the largest value is known."""
    random = np.random.default_rng(0)
    codes = pack(random.random((60, 24)) < 0.5)
    labels = random.random((60, 5)) < 0.3 if several else random.integers(0, 5, 60)
    expected = histograms(codes[:9], codes, labels[:9], labels, bits=24, gains=several).arrays()
    with FakeCuda(FILES) as device:
        counter = kernels_torch.TorchCounter(codes[:9], labels[:9], bits=24, levels=2, device="cuda:0")
        with device.never_waiting("a tile"):
            counter.add(codes, labels)
        counts = counter.counts()
    assert np.array_equal(counts.sum(axis=1), expected["n"])
    assert np.array_equal(counts[:, 1], expected["r"])
    assert {*waits(device)} == {
        "a tile waits for the device: a tensor is copied from the CPU",
        "a tile waits for the device: bincount needs values, for a number or a shape",
    }
