import numpy as np
import pytest

import hashbench
from hashbench.datasets.catalogue import find_protocol, load
from hashbench.datasets.families.cifar import CIFAR10, CIFAR10_CLASSES, CIFAR100, CIFAR100_CLASSES, read_binary
from hashbench.datasets.prepared.building import prepare
from hashbench.errors import HashbenchError

CLASSES = ("a", "b", "c", "d")


@pytest.mark.parametrize("label_bytes", [1, 2], ids=["one label, as in CIFAR-10", "two labels, as in CIFAR-100"])
def test_records_are_labels_then_three_colour_planes(cifar, tmp_path, write, label_bytes):
    replica = cifar(label_bytes=label_bytes)
    write(tmp_path / "cifar-binary", replica.files)
    store = read_binary(replica.release, tmp_path, name="toy", classes=CLASSES, label_bytes=label_bytes)
    np.testing.assert_array_equal(store.inputs, replica.pixels)
    np.testing.assert_array_equal(store.labels.argmax(axis=1), replica.numbers)
    assert store.part.tolist() == ["train"] * replica.cut + ["test"] * (len(replica.numbers) - replica.cut)
    assert store.official is True


def test_folder_and_archive_hold_the_same_data(cifar, tmp_path, write):
    replica = cifar()
    stores = []
    for layout, files in (("cifar-binary", replica.files), (".", {"cifar-binary.tar.gz": replica.packed})):
        root = tmp_path / str(len(stores))
        write(root / layout, files)
        stores.append(read_binary(replica.release, root, name="toy", classes=CLASSES, label_bytes=1))
    assert stores[0].integrity == stores[1].integrity
    np.testing.assert_array_equal(stores[0].inputs, stores[1].inputs)


def test_labels_that_no_class_has_are_refused(cifar, tmp_path, write):
    replica = cifar()
    write(tmp_path, replica.files)
    with pytest.raises(HashbenchError, match="toy has labels from 0 to 3, but its 2 classes"):
        read_binary(replica.release, tmp_path, name="toy", classes=CLASSES[:2], label_bytes=1)


@pytest.mark.parametrize(
    ("release", "classes", "label_bytes"), [(CIFAR10, CIFAR10_CLASSES, 1), (CIFAR100, CIFAR100_CLASSES, 2)]
)
def test_the_releases_are_60_000_records(release, classes, label_bytes):
    assert sum(file.size for file in release.files) == 60_000 * (label_bytes + 3072)
    assert list(classes) == sorted(set(classes))
    assert len(classes) in (10, 100)
    assert len({file.md5 for file in release.files}) == len(release.files)


@pytest.mark.real("cifar10")
@pytest.mark.parametrize(
    ("name", "split_sha256"),
    [
        ("cifar10@54k", "1430be5a"),
        ("cifar10@59k", "cc082de1"),
        ("cifar10@50k", "acc98f23"),
        ("cifar10@unsup", "cfb63e60"),
    ],
)
def test_the_real_cifar10(name, split_sha256):
    loaded = load(name)
    assert loaded.store.official is True
    assert loaded.store.integrity.startswith("6ac7fd25")
    assert loaded.split.sha256.startswith(split_sha256)
    assert loaded.split.sha256 == loaded.protocol.split_sha256
    assert loaded.audit.sizes == find_protocol(name).sizes
    assert loaded.audit.queries_without_relevant == loaded.audit.unlabelled == 0


@pytest.mark.real("cifar100")
def test_the_real_cifar100():
    loaded = load("cifar100", accept_unofficial=True)  # known copies of it are real but ordered otherwise
    assert loaded.store.integrity.startswith("a52ba3cd")
    assert loaded.split.sha256.startswith("79a96d99")
    assert loaded.split.sha256 == loaded.protocol.split_sha256
    assert set(loaded.audit.train_per_class) == {100}
    assert set(loaded.audit.query_per_class) == {50}
    assert set(loaded.audit.database_per_class) == {450}


@pytest.mark.real("cifar10", "cifar100")
def test_the_audits_of_the_real_cifars_prepared():
    """As docs/preparing-data.md states them; run with HASHBENCH_DATA=... pytest -m real tests/datasets."""
    ten = prepare("cifar10", progress=False)
    assert ten.problems == {}
    assert {"54k", "59k", "50k", "unsup"} <= ten.audits.keys()
    for found in ten.audits.values():
        assert (found.copies, found.unlabelled, found.queries_without_relevant) == (0, 0, 0)
    hundred = prepare("cifar100", accept_unofficial=True, progress=False)
    assert hundred.problems == {}
    found = hundred.audits["45k"]
    assert (found.copies, found.copies_with_other_labels) == (2 * 26, 2 * 17)
    assert (found.queries_copied_in_database, found.queries_copied_in_train) == (0, 0)
    assert load("cifar100", accept_unofficial=True).split.sha256.startswith("79a96d99")


@pytest.mark.real("cifar10", "cifar100")
@pytest.mark.parametrize(("name", "classes"), [("cifar10@54k", 10), ("cifar100@45k", 100)])
def test_the_real_cifars_are_trained_on_and_evaluated(name, classes, tmp_path):
    prepare(name, accept_unofficial=True, progress=False)
    result = hashbench.run(
        "crh", name, bits=32, accept_unofficial=True, epochs=2, backbone="toy-backbone", progress=False,
        runs_dir=tmp_path,
    )  # fmt: skip
    sizes = find_protocol(name).sizes
    assert (result.counts["train"], result.counts["queries"], result.counts["database"]) == sizes
    assert result.metrics["mAP@all"] > 1.2 / classes  # what random codes give is 1 / classes
