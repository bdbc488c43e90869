"""Opening what was prepared: nothing that was cut off, altered or taken away goes unnoticed."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from image_trees import register_tree, write_tree

from hashbench.datasets.catalogue import data_source, load
from hashbench.datasets.prepared import opening
from hashbench.datasets.prepared.building import prepare
from hashbench.datasets.prepared.opening import open_store
from hashbench.datasets.protocol import Sizes
from hashbench.errors import HashbenchError


@pytest.fixture
def tree(tmp_path, fresh_registry):
    """Return the data folder of the registered set `tree`, and the folder where it is prepared."""
    write_tree(tmp_path / "data")
    register_tree(tmp_path)
    return tmp_path / "data", prepare("tree", data_dir=tmp_path / "data", progress=False).folder


FILES = ["files.npy", "hashes.npy", "inputs.npy", "labels.npy", "names.json"]


def refuses(folder, reason):
    with pytest.raises(HashbenchError, match=reason) as error:
        open_store(folder)
    assert str(folder) in str(error.value)
    assert "remove that folder and run `hashbench prepare` again" in str(error.value)


def test_the_folder_holds_what_the_page_says(tree):
    data_dir, folder = tree
    found = sorted(path.name for path in folder.iterdir())
    assert [name for name in found if not name.startswith("split-")] == sorted([*FILES, opening.CHECKED, "store.json"])
    assert len(found) == len(FILES) + 4  # test and validation of the one protocol
    record = json.loads((folder / "store.json").read_text())
    assert (record["size"], record["shape"], record["official"]) == (16, [30, 3, 16, 16], None)
    assert record["filter"] == "bilinear, antialiased"
    assert record["sources"][0]["path"] == str(data_dir / "tree/list.txt")
    assert {"pillow", "jpeg", "numpy", "hashbench"} == set(record["libraries"])
    (kept,) = [split for split in record["splits"].values() if split["evaluate_on"] == "test"]
    assert kept["audit"]["sizes"] == [15, 6, 9]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_off_or_missing(tree, name):
    path = tree[1] / name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    refuses(tree[1], f"{name} holds {len(content) - 1:,} bytes instead of {len(content):,}")
    path.unlink()
    refuses(tree[1], f"{name} is missing")
    with pytest.raises(HashbenchError, match=f"{name} is missing"):
        load("tree", data_dir=tree[0])


@pytest.mark.parametrize("name", ["hashes.npy", "labels.npy", "names.json"])
def test_a_file_with_a_flipped_bit(tree, name):
    path = tree[1] / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    refuses(tree[1], f"{name} was altered")


@pytest.mark.parametrize("with_old_times", [True, False])
@pytest.mark.parametrize("at", [-1, 128, 128 + 17 * 3 * 16 * 16])
def test_a_pixel_with_a_flipped_bit(tree, at, with_old_times):
    path = tree[1] / "inputs.npy"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    if with_old_times:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    row = {-1: 29, 128: 0}.get(at, 17)
    refuses(tree[1], f"inputs.npy was altered, first in row {row}")
    with pytest.raises(HashbenchError, match=r"inputs\.npy was altered"):
        load("tree", data_dir=tree[0])
    prepare("tree", data_dir=tree[0], progress=False)  # makes it anew
    assert load("tree", data_dir=tree[0]).store.inputs.shape == (30, 3, 16, 16)


@pytest.mark.parametrize(
    "change",
    [
        (b"(30, 3, 16, 16), ", b"(30, 3, 8, 32),  "),
        (b"'fortran_order': False", b"'fortran_order': True "),
        (b"|u1", b"|i1"),
        (b"NUMPY", b"NUMPX"),
    ],
)
def test_pixels_of_another_shape_order_or_type(tree, change):
    path = tree[1] / "inputs.npy"
    path.write_bytes(path.read_bytes().replace(*change))
    refuses(tree[1], r"inputs\.npy was altered")


def test_pixels_that_did_not_change_are_read_once(tree, monkeypatch):
    def unread(*arguments, **more):
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(opening, "intact_rows", unread)
        open_store(tree[1])
        for damage in ("", "{}", "null"):
            (tree[1] / opening.CHECKED).write_text(damage)
            with pytest.raises(AssertionError):
                open_store(tree[1])
    open_store(tree[1])
    monkeypatch.setattr(opening, "intact_rows", unread)
    open_store(tree[1])


def test_a_store_that_cannot_be_written_is_checked_each_time(tree, monkeypatch):
    (tree[1] / opening.CHECKED).unlink()

    def refused(*arguments):
        raise HashbenchError("read-only")

    monkeypatch.setattr(opening, "write_note", refused)
    assert len(open_store(tree[1]).inputs) == 30


def test_a_split_with_a_flipped_bit(tree):
    for path in tree[1].glob("split-*.npy"):
        content = bytearray(path.read_bytes())
        content[-8] ^= 1
        path.write_bytes(content)
    with pytest.raises(HashbenchError, match=r"split-\w+\.npy was altered"):
        load("tree", data_dir=tree[0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[:-30], "store.json cannot be read"),
        (lambda text: "[]", "store.json cannot be read"),
        (lambda text: "{}", "store.json cannot be read"),
        (lambda text: text.replace('"size": 16', '"size": 17'), "store.json was altered"),
        (lambda text: text.replace('"schema": 1', '"schema": 2'), "another version of hashbench: schema 2"),
    ],
)
def test_a_record_that_is_torn_or_altered(tree, change, reason):
    path = tree[1] / "store.json"
    path.write_text(change(path.read_text()))
    refuses(tree[1], reason)
    with pytest.raises(HashbenchError, match=reason):
        load("tree", data_dir=tree[0])
    expected = prepare("tree", data_dir=tree[0], progress=False)  # makes it anew
    assert expected.folder == tree[1]
    assert len(load("tree", data_dir=tree[0]).store.inputs) == 30


def test_a_folder_without_its_record_is_none(tree):
    (tree[1] / "store.json").unlink()
    refuses(tree[1], "store.json cannot be read")
    assert opening.state(data_source("tree"), tree[0]) == "preparable"
    with pytest.raises(HashbenchError, match="not prepared"):
        load("tree", data_dir=tree[0])


def test_the_state_says_what_there_is_to_do(tree):
    source, (data_dir, folder) = data_source("tree"), tree
    assert opening.state(source, data_dir) == "ready"
    assert opening.state(source, data_dir.parent) == "missing"
    shutil.rmtree(folder)
    assert opening.state(source, data_dir) == "preparable"
    assert opening.state(data_source("fashion-mosaic"), data_dir) == "ready"  # ships with hashbench
    assert opening.state(data_source("cifar10"), data_dir) == "missing"
    (data_dir / "cifar-10-binary.tar.gz").touch()
    assert opening.state(data_source("cifar10"), data_dir) == "ready"  # read as it is
    assert opening.state(data_source("toy"), data_dir) == ""  # its protocols do not say


def test_a_protocol_that_changed_is_split_anew(tree):
    kept = load("tree", data_dir=tree[0])
    (stated,) = data_source("tree").protocols
    assert kept.store.kept_split(stated, "test") is not None
    assert kept.store.kept_split(dataclasses.replace(stated, train_in_database=True), "test") is None
    assert kept.store.kept_split(dataclasses.replace(stated, sizes=Sizes(12, 6, 12)), "test") is None


def test_the_inputs_are_mapped_and_cannot_be_written(tree):
    store = load("tree", data_dir=tree[0]).store
    assert isinstance(store.inputs, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.inputs[0] = 0


def test_listing_data_sets_does_not_import_torch(tmp_path):
    code = (
        "import sys; from hashbench.cli import listing; print(listing.datasets());"
        "sys.exit(any(name in sys.modules for name in ('torch', 'PIL', 'scipy')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cifar10@54k" in done.stdout
