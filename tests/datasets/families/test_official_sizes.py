"""The real protocols on annotation files as long as the official ones: every size comes out, without any picture."""

import json

import numpy as np
import pytest
import replicas
from replicas import write
from test_families import as_store

from hashbench.datasets.audit import audit, require
from hashbench.datasets.catalogue import data_source
from hashbench.datasets.families import imagenet
from hashbench.datasets.splits import split
from hashbench.errors import HashbenchError


def class_numbers(classes: int, total: int, *, least: int, seed: int) -> list[int]:
    """Return `total` class numbers from 1, at least `least` of each, otherwise uneven."""
    chance = np.random.default_rng(seed)
    weights = chance.uniform(0.5, 2, classes)
    extra = chance.choice(classes, total - least * classes, p=weights / weights.sum()) + 1
    return sorted([*np.repeat(np.arange(1, classes + 1), least).tolist(), *extra.tolist()])


def cars(data, monkeypatch):
    numbers = {"train": class_numbers(196, 8144, least=24, seed=1), "test": class_numbers(196, 8041, least=24, seed=2)}
    replicas.cars_annotations(data, numbers, tuple(f"Model {number}" for number in range(196)))


def birds(root, classes, train, test, *, least):
    rows = [(number, "1") for number in class_numbers(classes, train, least=least, seed=1)]
    rows += [(number, "0") for number in class_numbers(classes, test, least=least, seed=2)]
    write(root / "classes.txt", [f"{number} Bird {number}" for number in range(classes + 1)])
    write(root / "images.txt", [f"{place} {number:04d}/{place}.jpg" for place, (number, _) in enumerate(rows)])
    write(root / "image_class_labels.txt", [f"{place} {number}" for place, (number, _) in enumerate(rows)])
    write(root / "train_test_split.txt", [f"{place} {part}" for place, (_, part) in enumerate(rows)])


def cub200(data, monkeypatch):
    birds(data / "CUB_200_2011", 200, 5994, 5794, least=11)


def nabirds(data, monkeypatch):
    birds(data / "nabirds", 555, 23929, 24633, least=6)


def coco(data, monkeypatch):
    """Write 82,783 and 40,504 pictures, of which 702 and 367 show nothing."""
    root = data / "coco"
    chance = np.random.default_rng(0)
    categories = [{"id": number + number // 9, "name": f"thing {number}"} for number in range(1, 81)]
    for part, count, empty, first in (("train2014", 82_783, 702, 9), ("val2014", 40_504, 367, 42)):
        numbers = range(first, first + count)
        things = chance.integers(0, 80, (count, 2)).tolist()
        images = [{"id": number, "file_name": f"COCO_{part}_{number:012d}.jpg"} for number in numbers]
        annotations = [
            {"image_id": number, "category_id": categories[thing]["id"]}
            for number, shown in zip(numbers, things[empty:], strict=False)
            for thing in shown
        ]
        (root / part).mkdir(parents=True)
        (root / part / images[0]["file_name"]).touch()
        (root / "annotations").mkdir(exist_ok=True)
        table = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(table))


def nuswide21(data, monkeypatch):
    """Write 269,648 pictures under 81 concepts, 195,834 of them under the 21 most frequent."""
    root = data / "NUS-WIDE"
    total, labelled = 269_648, 195_834
    write(root / "ImageList" / "Imagelist.txt", [f"actor\\{number:06d}_{number}.jpg" for number in range(total)])
    chance = np.random.default_rng(0)
    (root / "Flickr").mkdir()
    (root / "Groundtruth" / "AllLabels").mkdir(parents=True)
    for concept in range(81):
        shown = np.zeros(total, bool)
        if concept % 3 == 0 and concept < 63:
            shown[:labelled] = chance.random(labelled) < 0.05
            shown[concept // 3 : labelled : 21] = True  # so that none of them is without
        else:
            shown[:] = chance.random(total) < 0.01
        lines = np.where(shown, b"1\n", b"0\n").tobytes()
        (root / "Groundtruth" / "AllLabels" / f"Labels_c{concept:02d}.txt").write_bytes(lines)


def mirflickr(data, monkeypatch):
    """Write 25,000 pictures, 419 of them without a label."""
    root = data / "mirflickr25k"
    (root / "mirflickr").mkdir(parents=True)
    for number in range(1, 25_001):
        (root / "mirflickr" / f"im{number}.jpg").touch()
    for place, label in enumerate(replicas.MIRFLICKR_LABELS):
        numbers = range(420 + place, 25_001, 38)
        write(root / "mirflickr25k_annotations_v080" / f"{label}.txt", [str(number) for number in numbers])


def imagenet100(data, monkeypatch):
    """Write the ground truth of 50,000 validation pictures of 1,000 classes; the train folders are told, not made."""
    root = data / "imagenet"
    (root / "train").mkdir(parents=True)
    (root / "val").mkdir()
    replicas.imagenet_classes(root)
    numbers = class_numbers(100, 128_503, least=732, seed=1)  # no class of ILSVRC2012 has fewer
    sizes = dict(zip(replicas.SYNSETS, np.bincount(numbers)[1:].tolist(), strict=True))
    others = [f"n9{number:07d}" for number in range(900)]
    truth = [number for _ in range(50) for number in range(1, 1001)]
    devkit = root / "ILSVRC2012_devkit_t12" / "data"
    write(devkit / "ILSVRC2012_validation_ground_truth.txt", [str(number) for number in truth])
    table = replicas._struct(ILSVRC2012_ID=list(range(1, 1001)), WNID=[*others, *replicas.SYNSETS])
    replicas.savemat(devkit / "meta.mat", {"synsets": table.reshape(-1, 1)})
    monkeypatch.setattr(
        imagenet,
        "_images",
        lambda folder: [f"{folder.name}_{place}.JPEG" for place in range(sizes[folder.name])],
    )


def check_cars_b(sizes, found):
    """Thirty train and ten query pictures of each class, but nine queries of the two smallest ones."""
    assert set(found.train_per_class) == {30}
    assert sorted(found.query_per_class)[:3] == [9, 9, 10]
    nines = np.flatnonzero(np.array(found.query_per_class) == 9)
    assert sizes[nines].max() <= np.delete(sizes, nines).min()


MAKERS = [cars, coco, cub200, imagenet100, mirflickr, nabirds, nuswide21]


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_annotations_of_the_official_length_give_the_protocols_sizes(tmp_path, monkeypatch, make):
    make(tmp_path, monkeypatch)
    files = data_source(make.__name__).read(tmp_path)
    store = as_store(files)
    for protocol in data_source(make.__name__).protocols:
        found = audit(store, split(store, protocol))
        require(found, store, protocol)
        assert not found.queries_without_relevant
        if protocol.name == "unseen":
            unseen = np.count_nonzero(found.query_per_class)
            assert unseen == -(-protocol.num_classes // 4)
            assert not any(np.minimum(found.train_per_class, found.database_per_class))
        if make is mirflickr:
            assert found.unlabelled == 419
        if protocol.full_name == "cars@b":
            check_cars_b(store.labels.sum(axis=0, dtype=int), found)
    dropped = {"coco": 702 + 367, "nuswide21": 269_648 - 195_834}
    assert files.unlabelled == dropped.get(make.__name__, 0)


def test_one_picture_too_few_is_an_error(tmp_path, monkeypatch):
    cub200(tmp_path, monkeypatch)
    root = tmp_path / "CUB_200_2011"
    for file in ("images.txt", "image_class_labels.txt", "train_test_split.txt"):
        write(root / file, (root / file).read_text().splitlines()[:-1])
    store = as_store(data_source("cub200").read(tmp_path))
    for protocol in data_source("cub200").protocols:
        with pytest.raises(HashbenchError, match="cub200 has 11,788 images, but 11,787 were found"):
            split(store, protocol)
