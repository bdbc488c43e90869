"""Every set of image files and own data, the whole way: prepared, loaded, trained on, evaluated."""

import numpy as np
import pytest
import replicas

import hashbench
from hashbench.datasets import cars
from hashbench.datasets.base import load
from hashbench.datasets.building import prepare
from hashbench.registry import DATASETS

PROTOCOLS = sorted({*replicas.SIZES, "cars@unseen", "cub200@unseen", "nabirds@unseen"})
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


@pytest.mark.parametrize("name", PROTOCOLS)
def test_prepared_loaded_trained_evaluated(tmp_path, replica, name):
    data = replica(name.partition("@")[0])
    made = prepare(name, data_dir=data, size=SIZE, progress=False)
    assert not made.problems
    loaded = load(name, data_dir=data, size=SIZE)
    assert loaded.store.inputs.shape[1:] == (3, SIZE, SIZE)
    assert loaded.store.names is not None
    assert made.audits[loaded.protocol.name] == loaded.audit
    result = hashbench.run(
        "crh", name, bits=16, data_dir=data, data_size=SIZE, epochs=2, backbone="toy-backbone", progress=False,
        runs_dir=tmp_path / "runs",
    )  # fmt: skip
    sizes = loaded.audit.sizes
    assert (result.counts["train"], result.counts["queries"], result.counts["database"]) == sizes
    measure = loaded.protocol.measures[0]
    assert 0 < result.metrics[measure] <= 1


@pytest.mark.parametrize("method", ["csq", "dpn", "shc", "classifier", "itq"])
def test_every_method_trains_where_classes_are_missing_from_train(tmp_path, replica, method):
    data = replica("cub200")
    prepare("cub200@unseen", data_dir=data, size=SIZE, progress=False)
    result = hashbench.run(
        method, "cub200@unseen", bits=16, data_dir=data, data_size=SIZE, epochs=2, backbone="toy-backbone",
        progress=False, runs_dir=tmp_path / "runs",
    )  # fmt: skip
    assert np.isfinite(result.metrics["mAP@all"])
