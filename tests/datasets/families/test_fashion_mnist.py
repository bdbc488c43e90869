import numpy as np
import pytest

from hashbench.datasets.base import Store
from hashbench.datasets.catalogue import load
from hashbench.datasets.families import fashion_mnist
from hashbench.datasets.families.fashion_mnist import CLASSES, FASHION_MNIST, MOSAIC_PARTS, make_mosaics, read_idx
from hashbench.errors import HashbenchError


@pytest.fixture(scope="module")
def embedded():
    return load("fashion-mnist-10k")


@pytest.fixture(scope="module")
def mosaics():
    return load("fashion-mosaic")


def test_the_embedded_set_is_the_10_000_test_pictures(embedded):
    store = embedded.store
    assert store.inputs.shape == (10_000, 1, 28, 28)
    assert store.labels.sum(axis=0).tolist() == [1_000] * 10
    assert store.official is True
    assert store.integrity.startswith("7205b96a")
    assert embedded.split.sha256.startswith("5c03a415"), "a split is never changed: give the rule a new version"
    assert embedded.split.sha256 == embedded.protocol.split_sha256
    assert embedded.audit.sizes == (4_000, 1_000, 5_000)
    assert set(embedded.audit.query_per_class) == {100}


def test_a_damaged_embedded_file_is_named(tmp_path, monkeypatch):
    for content in (b"junk", None):
        path = tmp_path / "fashion_mnist_10k.npz"
        path.write_bytes(content) if content else path.unlink()
        monkeypatch.setattr(fashion_mnist, "EMBEDDED", path)
        with pytest.raises(
            HashbenchError, match=r"fashion_mnist_10k\.npz is missing or damaged.*install hashbench again"
        ):
            load("fashion-mnist-10k")


def test_the_licence_lies_beside_the_data():
    text = (fashion_mnist.EMBEDDED.parent / "LICENSE.fashion-mnist").read_text()
    assert "Copyright (c) 2017 Zalando SE" in text
    assert "Permission is hereby granted" in text


def test_mosaics_have_one_to_four_pictures_and_their_labels(mosaics, embedded):
    store = mosaics.store
    assert store.inputs.shape == (6_500, 1, 28, 28)
    assert store.multi_label
    assert mosaics.split.sha256 == mosaics.protocol.split_sha256
    assert set(store.labels.sum(axis=1).tolist()) == {1, 2, 3, 4}
    halves = embedded.store.inputs[:, 0].reshape(10_000, 14, 2, 14, 2).astype(float).mean(axis=(2, 4))
    classes_of = {}
    for tile, label in zip(np.floor(halves + 0.5).astype(np.uint8), embedded.store.labels, strict=True):
        classes_of.setdefault(tile.tobytes(), set()).add(int(label.argmax()))
    for mosaic, labels in list(zip(store.inputs[:, 0], store.labels, strict=True))[::50]:
        tiles = [mosaic[row : row + 14, column : column + 14] for row in (0, 14) for column in (0, 14)]
        seen = [classes_of[tile.tobytes()] for tile in tiles if tile.any()]
        assert all(any(labels[number] for number in classes) for classes in seen)
        assert labels.sum() <= len(seen)


def test_no_picture_is_in_two_parts_of_the_mosaics(mosaics):
    tiles = {}
    for part in ("train", "query", "database"):
        images = mosaics.store.inputs[getattr(mosaics.split, part), 0]
        cut = images.reshape(-1, 2, 14, 2, 14).transpose(0, 1, 3, 2, 4).reshape(-1, 14, 14)
        tiles[part] = {tile.tobytes() for tile in cut if tile.any()}
    assert mosaics.audit.sizes == (2_000, 500, 4_000)
    assert not tiles["train"] & tiles["query"]
    assert not tiles["train"] & tiles["database"]
    assert not tiles["query"] & tiles["database"]


def test_mosaics_do_not_depend_on_the_order_of_the_pictures(mosaics, embedded):
    order = np.random.default_rng(0).permutation(10_000)
    store = embedded.store
    images, labels, part = make_mosaics(store.inputs[order, 0], store.labels[order])
    again = Store("fashion-mosaic", images, labels, CLASSES, part=part)
    assert again.integrity == mosaics.store.integrity
    assert again.integrity.startswith("0b427aac"), "mosaics are never changed: give the rule a new version"
    assert sum(pictures for pictures, _ in MOSAIC_PARTS.values()) == 10_000


def test_full_fashion_mnist_is_read_from_gzipped_and_plain_idx_files(idx, tmp_path, write):
    replica = idx()
    stores = []
    for number, files in enumerate((replica.packed, replica.files)):
        write(tmp_path / str(number) / "fashion-mnist", files)
        stores.append(read_idx(replica.release, tmp_path / str(number), name="toy", classes=CLASSES))
    for store in stores:
        np.testing.assert_array_equal(store.inputs[:, 0], replica.pixels)
        np.testing.assert_array_equal(store.labels.argmax(axis=1), replica.numbers)
        assert store.part.tolist() == ["train"] * 12 + ["test"] * 8
        assert store.official is True


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\x08", b"\0\0\x08\x01\0\0\0", b"\0\0\x0d\x01\0\0\0\1\5", b"\0\0\x08\x01\0\0\0\5ab", b"plain text"],
)
def test_what_is_not_an_idx_file_is_named(content):
    with pytest.raises(HashbenchError, match="some-labels of Fashion-MNIST is not an IDX file"):
        fashion_mnist._parse_idx(content, "some-labels")


def test_the_official_files_are_known():
    assert [file.size for file in FASHION_MNIST.files] == [16 + 60_000 * 784, 8 + 60_000, 16 + 10_000 * 784, 8 + 10_000]


@pytest.mark.real("fashion-mnist")
def test_the_real_fashion_mnist_and_the_embedded_part_of_it(embedded):
    loaded = load("fashion-mnist")
    assert loaded.store.official is True
    assert loaded.audit.sizes == (5_000, 1_000, 64_000)
    assert loaded.split.sha256.startswith("ebc1c17b")
    test = loaded.store.part == "test"
    np.testing.assert_array_equal(loaded.store.inputs[test], embedded.store.inputs)
    np.testing.assert_array_equal(loaded.store.labels[test], embedded.store.labels)
