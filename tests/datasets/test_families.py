"""Every family of image files: its official layout read right, its protocols kept, one sentence for what is wrong."""

import numpy as np
import pytest
import replicas

from hashbench.datasets.audit import audit, require
from hashbench.datasets.base import Store, data_source
from hashbench.datasets.imagefiles import ImageFiles
from hashbench.datasets.splits import split
from hashbench.errors import HashbenchError


def as_store(files: ImageFiles) -> Store:
    """Return the image files as a store of vectors, one number a picture: what splits need, without decoding."""
    inputs = np.arange(len(files.paths), dtype=np.float32)[:, None]
    return Store(files.name, inputs, files.labels, files.classes, part=files.part, names=files.paths)


def check(files: ImageFiles, replica: replicas.Replica) -> None:
    assert set(files.paths) == set(replica.labels)
    assert len(files.paths) == len(set(files.paths))
    assert files.labels.dtype == np.uint8
    for place, path in enumerate(files.paths):
        assert (files.root / path).is_file()
        assert {files.classes[label] for label in np.flatnonzero(files.labels[place])} == replica.labels[path]
        if replica.parts is not None:
            assert files.part[place] == replica.parts[path]
    assert (files.part is None) == (replica.parts is None)
    assert files.unlabelled == replica.unlabelled
    assert all(source.digest.startswith("md5:") for source in files.sources)


@pytest.mark.parametrize("name", replicas.MAKERS)
def test_a_replica_is_read_as_it_was_written(tmp_path, name):
    replica = replicas.MAKERS[name](tmp_path)
    files = data_source(name).read(tmp_path)
    assert files.name == name
    check(files, replica)


@pytest.mark.parametrize("name", replicas.MAKERS)
def test_every_protocol_of_a_replica_keeps_its_promises(tmp_path, name):
    replicas.MAKERS[name](tmp_path)
    files = data_source(name).read(tmp_path)
    store = as_store(files)
    for protocol in replicas.small(name, len(files.paths)).protocols:
        parts = split(store, protocol)
        found = audit(store, parts)
        require(found, store, protocol)
        assert not found.queries_without_relevant
        assert not set(parts.query) & {*parts.train, *parts.database}
        assert len(parts.train)


@pytest.mark.parametrize("name", replicas.MAKERS)
def test_an_incomplete_copy_is_never_taken_for_the_set(tmp_path, name):
    replicas.MAKERS[name](tmp_path)
    store = as_store(data_source(name).read(tmp_path))
    for protocol in data_source(name).protocols:
        with pytest.raises(HashbenchError, match=rf"{name} has [\d,]+ images, but {len(store.inputs)} were found"):
            protocol.require_count(len(store.inputs))


def test_cars_with_all_pictures_in_one_folder(tmp_path):
    replica = replicas.cars_as_one(tmp_path)
    check(data_source("cars").read(tmp_path), replica)


def test_imagenet_with_validation_pictures_in_class_folders(tmp_path):
    replica = replicas.imagenet100(tmp_path, folders=True)
    check(data_source("imagenet100").read(tmp_path), replica)
