"""Every set of image files and own data, the whole way: prepared, loaded, trained on, evaluated."""

import dataclasses
import hashlib

import numpy as np
import pytest
import replicas

import hashbench
from hashbench.datasets.catalogue import load
from hashbench.datasets.families import cars, cifar, fashion_mnist
from hashbench.datasets.files.releases import OfficialFile
from hashbench.datasets.prepared.building import prepare
from hashbench.registry import DATASETS

PROTOCOLS = sorted({*replicas.SIZES, "cars@unseen", "cub200@unseen", "nabirds@unseen"})
OF_FILES = [name for name in PROTOCOLS if name.partition("@")[0] in replicas.MAKERS]
OF_ARRAYS = [name for name in PROTOCOLS if name not in OF_FILES]
SIZE = 12  # pixels


@pytest.fixture
def replica(tmp_path, fresh_registry, monkeypatch):
    """Return a function that writes a replica, scales the protocols of its set to it, and returns the data folder."""

    monkeypatch.setattr(cars, "MD5", {})  # a replica is not the official file

    def make(name):
        data = tmp_path / "data"
        data.mkdir()
        made = replicas.MAKERS[name](data)
        DATASETS._loaded[name] = replicas.small(name, len(made.labels))
        return data

    return make


@pytest.mark.parametrize("name", OF_FILES)
def test_prepared_loaded_trained_evaluated(tmp_path, replica, name):
    data = replica(name.partition("@")[0])
    made = prepare(name, data_dir=data, size=SIZE, progress=False)
    assert not made.problems
    loaded = load(name, data_dir=data, size=SIZE)
    assert loaded.store.inputs.shape[1:] == (3, SIZE, SIZE)
    assert loaded.store.names is not None
    assert made.audits[loaded.protocol.name] == loaded.audit
    assert_trains(loaded, data_dir=data, data_size=SIZE, runs_dir=tmp_path / "runs")


def assert_trains(loaded, **settings):
    result = hashbench.run("crh", loaded.name, bits=16, epochs=2, backbone="toy-backbone", progress=False, **settings)
    sizes = loaded.audit.sizes
    assert (result.counts["train"], result.counts["queries"], result.counts["database"]) == sizes
    measure = loaded.protocol.measures[0]
    assert 0 < result.metrics[measure] <= 1


@pytest.fixture
def array_replica(tmp_path, fresh_registry, monkeypatch, idx, write):
    """Return a function that writes CIFAR or Fashion-MNIST under their official names, and returns the data folder."""

    def make(name):
        module, real = {
            "cifar10": (cifar, "CIFAR10"),
            "cifar100": (cifar, "CIFAR100"),
            "fashion-mnist": (fashion_mnist, "FASHION_MNIST"),
        }[name]
        release = getattr(module, real)
        if name == "fashion-mnist":
            made = idx(num_train=100, num_test=20)
            files, packed = made.files, made.packed
        else:
            classes, each, label_bytes = (10, 12, 1) if name == "cifar10" else (100, 6, 2)
            packed = files = replicas.cifar_files(release, classes=classes, each=each, label_bytes=label_bytes)
        write(tmp_path / "data" / release.folder, packed)
        small = [(file.name, files[file.name]) for file in release.files]
        known = tuple(OfficialFile(file, len(content), hashlib.md5(content).hexdigest()) for file, content in small)
        monkeypatch.setattr(module, real, dataclasses.replace(release, files=known))
        DATASETS._loaded[name] = replicas.small(name, 600 if name == "cifar100" else 120)
        return tmp_path / "data"

    return make


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_arrays_prepared_loaded_trained_evaluated(tmp_path, array_replica, name):
    data = array_replica(name.partition("@")[0])
    made = prepare(name, data_dir=data, progress=False)
    assert made.problems == {}
    assert made.store.official is True
    loaded = load(name, data_dir=data)
    assert (loaded.audit.sizes, loaded.audit) == (replicas.SIZES[name], made.audits[loaded.protocol.name])
    assert_trains(loaded, data_dir=data, runs_dir=tmp_path / "runs")


@pytest.mark.parametrize("name", ["fashion-mnist-10k@5k", "fashion-mnist-10k@unseen", "fashion-mosaic@4k"])
def test_what_ships_with_hashbench_is_trained_on_and_evaluated(tmp_path, name):
    assert_trains(load(name), runs_dir=tmp_path / "runs")


@pytest.mark.parametrize("method", ["csq", "dpn", "shc", "classifier", "itq"])
def test_every_method_trains_where_classes_are_missing_from_train(tmp_path, replica, method):
    data = replica("cub200")
    prepare("cub200@unseen", data_dir=data, size=SIZE, progress=False)
    result = hashbench.run(
        method, "cub200@unseen", bits=16, data_dir=data, data_size=SIZE, epochs=2, backbone="toy-backbone",
        progress=False, runs_dir=tmp_path / "runs",
    )  # fmt: skip
    assert np.isfinite(result.metrics["mAP@all"])
