"""The streamed tier: the same tensors as the resident one, in bounded memory, and no thread outlives its use."""

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from hashbench.datasets.loading import streaming
from hashbench.datasets.loading.augment import AUGMENTATIONS
from hashbench.datasets.loading.loader import TrainLoader, inference_batches
from hashbench.datasets.loading.streaming import OVERRIDE, read_ahead

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (60, 3, 16, 16), dtype=np.uint8)
VECTORS = RANDOM.normal(size=(60, 7)).astype(np.float32)
INDEX = RANDOM.permutation(60)[:41]
LABELS = np.eye(5, dtype=np.uint8)[INDEX % 5]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("hashbench-reader")]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert readers() == []


@pytest.fixture
def made(monkeypatch):
    """Return a function that makes a loader of a tier."""

    def make(tier, inputs=IMAGES, **settings):
        monkeypatch.setenv(OVERRIDE, tier)
        return TrainLoader(inputs, LABELS, **{"index": INDEX, "batch_size": 9, "seed": 3, "device": "cpu", **settings})

    return make


def assert_same(ours, theirs):
    count = 0
    for one, other in zip(ours, theirs, strict=True):
        count += 1
        for a, b in zip([*one.views, one.labels, one.index], [*other.views, other.labels, other.index], strict=True):
            assert torch.equal(a, b)
            assert (a.dtype, a.stride(), a.device) == (b.dtype, b.stride(), b.device)
        assert (one.epoch, one.step) == (other.epoch, other.step)
    assert count > 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_both_tiers_give_the_same_images_bit_for_bit(augment, device, made, tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    settings = {"augment": [augment] * 2, "size": 24, "channels_last": True, "device": device}
    loaders = [made("resident", **settings), made("streamed", mapped, **settings)]
    assert [loader.tier for loader in loaders] == ["resident", "streamed"]
    for epoch in (0, 4):  # 4: as after a checkpoint, without the epochs before it
        assert_same(*(loader.epoch(epoch) for loader in loaders))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch_size", [8, 10, 20, 41])  # 41 samples: a last batch of one joins the one before
def test_both_tiers_give_the_same_vectors(batch_size, device, made):
    loaders = [made(tier, VECTORS, batch_size=batch_size, device=device) for tier in ("resident", "streamed")]
    batches = [list(loader.epoch(1)) for loader in loaders]
    assert_same([*batches[0], batches[0][0]], [*batches[1], batches[1][0]])
    expected = torch.from_numpy(VECTORS[INDEX])
    for batch in batches[1]:
        assert torch.equal(batch.inputs.cpu(), expected[batch.index.cpu()])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rows", [1, 9, 20, 1000])  # of 41, in batches of 9
def test_however_many_batches_are_read_at_a_time_they_are_the_same(rows, device, made, monkeypatch):
    monkeypatch.setattr(streaming, "READ_BYTES", rows * IMAGES[0].nbytes)
    loaders = [made(tier, device=device) for tier in ("streamed", "resident")]
    real, reads = streaming.read_ahead, []
    monkeypatch.setattr(
        streaming,
        "read_ahead",
        lambda read, groups: real(lambda group: reads.append(len(group)) or read(group), groups),
    )
    assert_same(*(loader.epoch(2) for loader in loaders))
    assert sorted(reads) == {1: [1] * 5, 9: [1] * 5, 20: [1, 2, 2], 1000: [5]}[rows]


def test_tensors_are_streamed_too(made):
    assert_same(made("streamed", torch.from_numpy(IMAGES)).epoch(0), made("resident").epoch(0))


def test_batches_may_be_kept(made):
    kept = [batch.inputs for batch in made("streamed", VECTORS, batch_size=2).epoch(0)]
    for values, batch in zip(kept, made("resident", VECTORS, batch_size=2).epoch(0), strict=True):
        assert torch.equal(values, batch.inputs)


def test_results_come_in_order_and_are_computed_before_they_are_asked_for():
    done = []

    def read(number):
        time.sleep(0.02 if number == 0 else 0)
        done.append(number)
        return number

    numbers = read_ahead(read, range(20))
    assert next(numbers) == 0
    for thread in readers():
        assert thread.is_alive()
    while len(done) < streaming.AHEAD + 1:  # nobody asks, and yet
        time.sleep(0.001)
    assert max(done) == streaming.AHEAD
    assert list(numbers) == list(range(1, 20))


def test_what_goes_wrong_in_a_reader_is_raised_in_its_turn():
    def read(number):
        if number == 3:
            raise OSError("the disk is gone")
        return number

    numbers = read_ahead(read, range(9))
    assert [next(numbers) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(numbers)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_no_reader_survives_a_loop_that_ends_early(error, made):
    def loop():
        for number, _ in enumerate(made("streamed").epoch(0)):
            if number == 1:
                assert readers()
                raise error

    with pytest.raises(error):
        loop()
    assert next(inference_batches(IMAGES, batch_size=2, device="cpu")).shape == (2, 3, 16, 16)


CTRL_C = """
import numpy as np
from hashbench.datasets.loading.loader import TrainLoader
loader = TrainLoader(np.zeros((4000, 64), np.float32), None, batch_size=2, seed=0, device="cpu")
for epoch in range(10**9):
    for batch in loader.epoch(epoch):
        if epoch == 1 and batch.step == loader.steps_per_epoch + 5:
            print("going", flush=True)
"""


def test_ctrl_c_ends_the_process(monkeypatch):
    monkeypatch.setenv(OVERRIDE, "streamed")
    process = subprocess.Popen(
        [sys.executable, "-c", CTRL_C], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "going\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=240)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in said
    assert process.returncode != 0


CAPPED = """
import resource, sys, numpy as np, torch
from hashbench.datasets.loading.loader import TrainLoader, inference_batches

torch.set_num_threads(1)
path, cap = sys.argv[1], int(sys.argv[2])
images = np.load(path, mmap_mode="r")
labels = np.eye(2, dtype=np.uint8)[np.arange(len(images)) % 2]
weight = torch.zeros(images[0].size, 2, requires_grad=True)
list(torch.ones(64, 64) @ torch.ones(64, 64))  # what the libraries take for themselves is not counted
used = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (used + cap, used + cap))  # what is mapped from a file does not count
index = np.arange(len(images))[::-1]
loader = TrainLoader(images, labels, index=index, batch_size=16, seed=0, device="cpu", augment="pad-crop-flip")
seen = torch.zeros(len(images))
for batch in loader.epoch(0):
    loss = torch.nn.functional.cross_entropy(batch.inputs.flatten(1) @ weight, batch.labels)
    loss.backward()
    seen[batch.index] += 1
assert (seen == 1).all() and weight.grad.abs().sum() > 0
assert sum(len(b) for b in inference_batches(images, batch_size=16, device="cpu")) == len(images)
print(loader.tier)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("tier", "fits"), [("streamed", True), ("resident", False)])
def test_a_store_larger_than_memory_is_trained_from(tier, fits, tmp_path, monkeypatch):
    size, cap = 200 * 2**20, 120 * 2**20
    count = size // (3 * 128 * 128)
    images = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, (count, 3, 128, 128))  # sparse on disk
    images[::50] = 7
    del images
    monkeypatch.setenv(OVERRIDE, tier)
    ran = subprocess.run(
        [sys.executable, "-c", CAPPED, str(tmp_path / "images.npy"), str(cap)], capture_output=True, text=True
    )
    assert (ran.returncode == 0) is fits, ran.stderr
    assert "streamed" in ran.stdout if fits else "memory" in ran.stderr.lower()
