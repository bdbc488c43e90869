"""Every family of image files: its official layout read right, its protocols kept, one sentence for what is wrong."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import replicas

from hashbench.datasets.audit import audit, require
from hashbench.datasets.base import Store
from hashbench.datasets.catalogue import data_source
from hashbench.datasets.files import archives
from hashbench.datasets.files.archives import unpack
from hashbench.datasets.files.imagefiles import ImageFiles
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
def test_every_protocol_of_a_replica_states_its_split(tmp_path, name):
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


FOLDERS = {
    "cars": "stanford_cars",
    "coco": "coco",
    "cub200": "",
    "imagenet100": "imagenet",
    "mirflickr": "mirflickr25k",
    "nabirds": "",
    "nuswide21": "NUS-WIDE",
}


@pytest.mark.parametrize("name", replicas.MAKERS)
def test_a_set_that_is_not_there_is_one_sentence_with_what_where_and_into_which_folder(tmp_path, monkeypatch, name):
    monkeypatch.setattr(archives, "download", lambda *_, **__: pytest.fail("tests download nothing"))
    if name in ("cub200", "mirflickr", "coco"):  # those that may be downloaded
        monkeypatch.setattr(archives, "download", refused)
    with pytest.raises(HashbenchError) as error:
        data_source(name).read(tmp_path)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert str(tmp_path / FOLDERS[name]) in sentence
    assert re.search(r"https?://", sentence)
    assert re.search(r"\.(zip|tar|tgz|tar\.gz)\b", sentence)
    assert "--data-dir" in sentence
    assert [path.name for path in tmp_path.iterdir()] == []


def refused(url, target, *, check):
    raise OSError("<urlopen error [Errno 111] Connection refused>")


# file below the data folder, what becomes of its bytes (None: it goes), and what is said
DAMAGE = [
    ("cub200", "CUB_200_2011/classes.txt", None, r"classes\.txt cannot be read \(No such file"),
    ("cub200", "CUB_200_2011/images.txt", lambda b: b[: len(b) // 2], r"differ about image '\d+'"),
    ("cub200", "CUB_200_2011/images.txt", lambda b: b.replace(b"5 00", b"5\n5 00", 1), r"Line 5 .* needs two columns"),
    (
        "cub200",
        "CUB_200_2011/images.txt",
        lambda b: b.replace(b"\n5 ", b"\n4 ", 1),
        r"Line 5 .* second one of that name",
    ),
    (
        "cub200",
        "CUB_200_2011/images.txt",
        lambda b: b.replace(b" 001", b" ../1", 1),
        r"Line 1 .*not lie below the folder",
    ),
    (
        "cub200",
        "CUB_200_2011/images.txt",
        lambda b: b.replace(b" 001", b" /etc", 1),
        r"'/etc.*not lie below the folder",
    ),
    ("cub200", "CUB_200_2011/images.txt", lambda b: b.replace(b" 001", b" \xff\xfe", 1), r"images\.txt cannot be read"),
    ("cub200", "CUB_200_2011/image_class_labels.txt", lambda b: b.replace(b" 4\n", b" 9\n"), "the class 9, which"),
    ("cub200", "CUB_200_2011/train_test_split.txt", lambda b: b.replace(b" 1\n", b" 2\n"), "says '2' of image '1'"),
    ("mirflickr", "mirflickr25k/mirflickr25k_annotations_v080/sea_r1.txt", None, r"sea_r1\.txt cannot be read"),
    (
        "mirflickr",
        "mirflickr25k/mirflickr25k_annotations_v080/sea.txt",
        lambda b: b + b"81\n",
        "'81' is not the number",
    ),
    ("mirflickr", "mirflickr25k/mirflickr25k_annotations_v080/sea.txt", lambda b: b"0\n", "Line 1 .*'0' is not the"),
    ("mirflickr", "mirflickr25k/mirflickr25k_annotations_v080/sea.txt", lambda b: b"im1.jpg\n", "'im1.jpg' is not the"),
    ("mirflickr", "mirflickr25k/mirflickr/im7.jpg", None, r"lacks im7\.jpg"),
    ("coco", "coco/annotations/instances_train2014.json", None, r"instances_train2014\.json cannot be read"),
    (
        "coco",
        "coco/annotations/instances_train2014.json",
        lambda b: b[:-99],
        r"instances_train2014\.json cannot be read",
    ),
    ("coco", "coco/annotations/instances_train2014.json", lambda b: b"[]", "cannot be read"),
    (
        "coco",
        "coco/annotations/instances_train2014.json",
        lambda b: b.replace(b'"images"', b'"imgs"'),
        "lacks 'images'",
    ),
    ("coco", "coco/annotations/instances_train2014.json", lambda b: b.replace(b'"id": 13,', b'"id": 14,'), "class 13"),
    ("coco", "coco/annotations/instances_val2014.json", lambda b: b.replace(b'"person"', b'"p"'), "different classes"),
    ("coco", "coco/annotations/instances_val2014.json", lambda b: b.replace(b"COCO_", b"../"), "does not lie below"),
    ("nuswide21", "NUS-WIDE/Groundtruth/AllLabels/Labels_concept03.txt", None, "80 concepts instead of 81"),
    ("nuswide21", "NUS-WIDE/Groundtruth/AllLabels/Labels_concept61.txt", lambda b: b[:-3], "one 0 or 1 for each"),
    ("nuswide21", "NUS-WIDE/Groundtruth/AllLabels/Labels_concept61.txt", lambda b: b"2" + b[1:], "one 0 or 1 for each"),
    (
        "nuswide21",
        "NUS-WIDE/ImageList/Imagelist.txt",
        lambda b: b.replace(b"folder0", b"..", 1),
        "Line 1 .*not lie below",
    ),
    ("cars", "stanford_cars/devkit/cars_train_annos.mat", lambda b: b[:200], r"cars_train_annos\.mat cannot be read"),
    ("cars", "stanford_cars/devkit/cars_train_annos.mat", lambda b: b"text", r"cars_train_annos\.mat cannot be read"),
    ("cars", "stanford_cars/devkit/cars_train_annos.mat", None, r"cars_train_annos\.mat cannot be read"),
    (
        "cars",
        "stanford_cars/cars_test_annos_withlabels.mat",
        None,
        "which has the classes of the test pictures, is not",
    ),
    ("imagenet100", "imagenet/ILSVRC2012_devkit_t12/data/meta.mat", lambda b: b[:300], r"meta\.mat cannot be read"),
    ("imagenet100", "imagenet/ILSVRC2012_devkit_t12/data/meta.mat", None, r"meta\.mat cannot be read"),
    (
        "imagenet100",
        "imagenet/ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
        lambda b: b.replace(b"7\n", b"2000\n", 1),
        "'2000' is not the number of a class",
    ),
    (
        "imagenet100",
        "imagenet/imagenet100.txt",
        None,
        r"classes of ImageNet100 is missing: get .*thuml/HashNet .* save it as .*/imagenet/imagenet100\.txt",
    ),
    ("imagenet100", "imagenet/imagenet100.txt", lambda b: b"\xff" + b, r"imagenet100\.txt cannot be read"),
    (
        "imagenet100",
        "imagenet/imagenet100.txt",
        lambda b: b.replace(b"n00000007", b"n00000008"),
        r"imagenet100\.txt names 99 classes .* instead of 100",
    ),
    ("imagenet100", "imagenet/imagenet100.txt", lambda b: b + b"n00000101\n", "names 101 classes"),
]


@pytest.mark.parametrize(("name", "file", "damage", "reason"), DAMAGE)
def test_a_damaged_or_foreign_annotation_file_is_named(tmp_path, name, file, damage, reason):
    replicas.MAKERS[name](tmp_path)
    path = tmp_path / file
    if damage is None:
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(damage(content))
        assert path.read_bytes() != content, "the damage did nothing"
    with pytest.raises(HashbenchError, match=reason) as error:
        data_source(name).read(tmp_path)
    assert "\n" not in str(error.value)


def test_the_classes_of_imagenet_are_those_of_any_text_that_names_them(tmp_path):
    replicas.imagenet100(tmp_path)
    listed = data_source("imagenet100").read(tmp_path)
    assert Path(listed.sources[0].path).name == "imagenet100.txt"
    words = ("n0000001", "n000000011", "an00000102", "N00000103")  # almost ids
    replicas.write(tmp_path / "imagenet/imagenet100.txt", [*words, *replicas.SYNSETS], "\r\n")
    named = data_source("imagenet100").read(tmp_path)
    assert named.classes == listed.classes == replicas.SYNSETS
    assert named.paths == listed.paths
    assert named.sources[0].digest != listed.sources[0].digest


def test_a_missing_class_folder_of_imagenet_is_named(tmp_path):
    replicas.imagenet100(tmp_path, folders=True)
    (tmp_path / "imagenet/train/n00000042").rename(tmp_path / "away")
    with pytest.raises(HashbenchError, match=r"class folder .*n00000042 cannot be read .*; unpack n00000042\.tar"):
        data_source("imagenet100").read(tmp_path)


def test_the_test_annotations_of_cars_are_checked_against_the_official_ones(tmp_path):
    replicas.cars(tmp_path)
    sources = data_source("cars").read(tmp_path).sources
    assert [source.official for source in sources] == [None, False, None]


def test_archives_of_the_release_are_unpacked_where_they_lie(tmp_path):
    replica = replicas.mirflickr(tmp_path / "made")
    data = tmp_path / "data" / "mirflickr25k"
    data.mkdir(parents=True)
    for archive, folder in (("mirflickr25k", "mirflickr"), ("mirflickr25k_annotations_v080", "")):
        inner = f"{folder}/" if folder else ""  # the annotations' archive has no folder in it
        home = tmp_path / "made/mirflickr25k" / (folder or archive)
        with zipfile.ZipFile(data / f"{archive}.zip", "w") as packed:
            for path in home.iterdir():
                packed.write(path, f"{inner}{path.name}")
    with pytest.raises(
        HashbenchError, match=r"mirflickr25k\.zip is not the official archive of MIRFlickr-25k: its md5"
    ):
        data_source("mirflickr").read(tmp_path / "data")
    unpack(data / "mirflickr25k.zip", data / "mirflickr", marker="im1.jpg")
    check(data_source("mirflickr").read(tmp_path / "data"), replica)
