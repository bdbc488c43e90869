"""Tiny replicas of the official releases, in their exact layout, and data sets that live for one test."""

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from image_trees import register_tree, write_tree

from hashbench.datasets.base import Store
from hashbench.datasets.catalogue import data_source
from hashbench.datasets.files.releases import Archive, OfficialFile, Release, data_root
from hashbench.datasets.prepared import building
from hashbench.datasets.prepared.opening import state
from hashbench.registry import DATASETS

USERS_DATA = os.environ.get("HASHBENCH_DATA")
NOWHERE = "http://127.0.0.1:9/"  # the discard port: refused at once


@pytest.fixture(autouse=True)
def _data_of_the_user(monkeypatch, request):
    """Let tests of real data, and no others, see the user's data folder; those of sets that it lacks are skipped."""
    if (real := request.node.get_closest_marker("real")) is None:
        return
    if USERS_DATA:
        monkeypatch.setenv("HASHBENCH_DATA", USERS_DATA)
    for name in real.args:
        if state(data_source(name), None) == "missing":
            pytest.skip(f"{name} is not in {data_root()}")


@pytest.fixture
def fresh_registry(monkeypatch):
    """Forget after the test what it registered."""
    monkeypatch.setattr(DATASETS, "_local", dict(DATASETS._local))
    monkeypatch.setattr(DATASETS, "_loaded", dict(DATASETS._loaded))


def official(name: str, content: bytes) -> OfficialFile:
    return OfficialFile(name, len(content), hashlib.md5(content).hexdigest())


def pack(folder: str, files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo(folder))  # official archives hold files that nobody reads, too
        for name, content in {**files, "readme.html": b"<html>"}.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def cifar() -> Callable[..., SimpleNamespace]:
    """Return a maker of CIFAR replicas: release, file contents, packed archive, labels and pixels."""

    def make(*, num_classes: int = 4, each: int = 6, label_bytes: int = 1, url: str = NOWHERE) -> SimpleNamespace:
        chance = np.random.default_rng(1)
        numbers = np.tile(np.arange(num_classes, dtype=np.uint8), each)
        pixels = chance.integers(0, 256, (len(numbers), 3, 32, 32), dtype=np.uint8)
        other = np.full((len(numbers), label_bytes - 1), 99, np.uint8)
        records = np.concatenate([other, numbers[:, None], pixels.reshape(len(numbers), -1)], axis=1)
        cut = len(records) // 3 * 2
        files = {"train.bin": records[:cut].tobytes(), "test.bin": records[cut:].tobytes()}
        packed = pack("cifar-binary", files)
        release = Release(
            title="CIFAR",
            folder="cifar-binary",
            files=tuple(official(name, content) for name, content in files.items()),
            url=url,
            archive=Archive("cifar-binary.tar.gz", hashlib.md5(packed).hexdigest()),
        )
        return SimpleNamespace(release=release, files=files, packed=packed, numbers=numbers, pixels=pixels, cut=cut)

    return make


@pytest.fixture
def idx() -> Callable[..., SimpleNamespace]:
    """Return a maker of Fashion-MNIST replicas: four gzipped IDX files."""

    def make(*, num_train: int = 12, num_test: int = 8, url: str = NOWHERE) -> SimpleNamespace:
        chance = np.random.default_rng(2)
        pixels = chance.integers(0, 256, (num_train + num_test, 28, 28), dtype=np.uint8)
        numbers = (np.arange(num_train + num_test) % 10).astype(np.uint8)
        files = {}
        for part, cut in (("train", slice(0, num_train)), ("t10k", slice(num_train, None))):
            for name, array in (
                (f"{part}-images-idx3-ubyte", pixels[cut]),
                (f"{part}-labels-idx1-ubyte", numbers[cut]),
            ):
                header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
                files[name] = header + array.tobytes()
        release = Release(
            title="Fashion-MNIST",
            folder="fashion-mnist",
            files=tuple(official(name, content) for name, content in files.items()),
            url=url,
            hint="a Debian package has it",
        )
        packed = {f"{name}.gz": gzip.compress(content) for name, content in files.items()}
        return SimpleNamespace(release=release, files=files, packed=packed, numbers=numbers, pixels=pixels)

    return make


@pytest.fixture
def write() -> Callable[[Path, dict[str, bytes]], Path]:
    """Return a function that puts files into a folder."""

    def put(folder: Path, files: dict[str, bytes]) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder

    return put


@pytest.fixture
def make_store() -> Callable[..., Store]:
    """Return a maker of stores of random pictures: `labels` (N, C), or `each` pictures of each of `classes` classes."""

    def make(*, labels=None, classes: int = 4, each: int = 10, seed: int = 0, **fields) -> Store:
        if labels is None:
            labels = np.eye(classes, dtype=np.uint8)[np.tile(np.arange(classes), each)]
        labels = np.asarray(labels, np.uint8)
        chance = np.random.default_rng(seed)
        inputs = fields.pop("inputs", None)
        if inputs is None:
            inputs = chance.integers(0, 256, (len(labels), 1, 4, 4), dtype=np.uint8)
        return Store("toy", inputs, labels, tuple(f"class {number}" for number in range(labels.shape[1])), **fields)

    return make


@pytest.fixture
def tree(tmp_path, fresh_registry, monkeypatch):
    """Return the data folder of the registered set `tree`: 30 JPEG files, written four rows at a time."""
    data_dir = tmp_path / "data"
    write_tree(data_dir)
    register_tree(tmp_path)
    monkeypatch.setattr(building, "CHUNK_BYTES", 4 * 3 * 16 * 16)
    return data_dir
