"""`prepare` on trees of image files and on arrays: what it makes, what it resumes and what it refuses."""

import errno
import json
import os
import shutil
from hashlib import sha256

import image_trees
import numpy as np
import pytest
from image_trees import CLASSES, write_tree
from PIL import Image
from prepared_cases import contents, ready, stores
from torch import from_numpy
from torchvision.transforms.v2.functional import resize

from hashbench.datasets.base import Store, dataset
from hashbench.datasets.catalogue import load
from hashbench.datasets.files.imagefiles import ImageFiles
from hashbench.datasets.files.releases import SourceFile
from hashbench.datasets.prepared import building, opening
from hashbench.datasets.prepared.building import prepare
from hashbench.errors import HashbenchError


def test_a_set_of_image_files_is_prepared_once_and_then_loaded(tree):
    command = f"hashbench prepare tree --data-dir {tree}"
    with pytest.raises(HashbenchError, match=f"tree is not prepared at 16 pixels; run `{command}`"):
        load("tree", data_dir=tree)
    made = ready(tree)
    loaded = load("tree", data_dir=tree)
    assert isinstance(loaded.store.inputs, np.memmap)
    assert loaded.audit == made.audits["p"]
    assert loaded.split.sha256 == load("tree", data_dir=tree).split.sha256
    assert stores() == [made.folder.name]


def test_the_store_is_what_a_plain_loop_makes_of_the_files(tree):
    ready(tree)
    loaded = load("tree", data_dir=tree)
    lines = [line.split() for line in (tree / "tree/list.txt").read_text().splitlines()]
    for row, labels, name, (path, label) in zip(
        loaded.store.inputs, loaded.store.labels, loaded.store.names, lines, strict=True
    ):
        with Image.open(tree / "tree" / path) as opened:
            pixels = from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1)
        assert np.abs(row.astype(int) - resize(pixels.float(), [16, 16], antialias=True).numpy()).max() <= 1
        assert labels.tolist() == np.eye(3, dtype=int)[int(label)].tolist()
        assert name == path
    in_memory = Store(
        "tree", np.array(loaded.store.inputs), loaded.store.labels, CLASSES, names=loaded.store.names
    )  # hashes anew
    assert loaded.store.integrity == in_memory.integrity
    assert loaded.store.input_hashes == in_memory.input_hashes
    assert loaded.store.content_hashes == in_memory.content_hashes


@pytest.mark.parametrize("evaluate_on", ["test", "validation"])
def test_what_was_kept_is_what_would_be_computed(tree, monkeypatch, evaluate_on):
    ready(tree)
    kept = load("tree", data_dir=tree, evaluate_on=evaluate_on)
    monkeypatch.setattr(opening.PreparedStore, "kept_split", lambda *_: None)
    computed = load("tree", data_dir=tree, evaluate_on=evaluate_on)
    for part in ("train", "query", "database"):
        assert (getattr(kept.split, part) == getattr(computed.split, part)).all()
    assert (kept.split.sha256, kept.audit) == (computed.split.sha256, computed.audit)


def test_loading_neither_hashes_nor_splits(tree, monkeypatch):
    ready(tree)
    for where in ("audited_split", "split", "audit"):
        monkeypatch.setattr(f"hashbench.datasets.audit.{where}", None)
    loaded = load("tree", data_dir=tree)
    assert len(loaded.store.integrity) == 64
    assert len(loaded.split.database) == 9


def test_sizes_lie_side_by_side(tree):
    ready(tree)
    ready(tree, size=20)
    assert load("tree", data_dir=tree).store.inputs.shape == (30, 3, 16, 16)
    assert load("tree", data_dir=tree, size=20).store.inputs.shape == (30, 3, 20, 20)
    assert len({load("tree", data_dir=tree, size=size).store.integrity for size in (16, 20)}) == 2
    with pytest.raises(HashbenchError, match=r"not prepared at 24 pixels; run `.* --size 24`"):
        load("tree", data_dir=tree, size=24)
    with pytest.raises(HashbenchError, match="cannot be prepared at 0 pixels"):
        ready(tree, size=0)


def test_what_is_ready_is_not_built_again(tree, monkeypatch):
    first = contents(ready(tree).folder)
    monkeypatch.setattr(building, "decode", None)
    assert contents(ready(tree).folder) == first


def test_a_changed_image_is_decoded_again_and_only_what_follows_it(tree, monkeypatch):
    before = load_after(ready(tree), tree)
    pixels = np.array(before.store.inputs)
    changed = tree / "tree" / before.store.names[12]
    Image.new("RGB", (16, 16), (9, 9, 9)).save(changed)
    decoded = []
    real = building.decode
    monkeypatch.setattr(building, "decode", lambda path, size: decoded.append(path.name) or real(path, size))
    after = load_after(ready(tree), tree)
    assert len(decoded) == 18
    assert np.abs(after.store.inputs[12].astype(int) - 9).max() <= 1
    assert after.store.integrity != before.store.integrity
    assert (before.store.inputs == pixels).all()  # who has the old store mapped keeps it
    assert len(stores()) == 1


def load_after(made, data_dir):
    assert made.problems == {}
    return load("tree", data_dir=data_dir)


def test_changed_annotations_make_another_store_which_replaces_the_first(tree):
    ready(tree)
    listing = tree / "tree/list.txt"
    lines = listing.read_text().splitlines()
    lines[0], lines[1] = lines[0].replace(" 0", " 1"), lines[1].replace(" 1", " 0")
    listing.write_text("\n".join(lines))
    with pytest.raises(HashbenchError, match="tree is not prepared at 16 pixels as its files are now; run"):
        load("tree", data_dir=tree)
    ready(tree)
    assert load("tree", data_dir=tree).store.labels[0].tolist() == [0, 1, 0]
    assert len(stores()) == 1


def test_touched_annotations_are_read_again_and_found_the_same(tree):
    ready(tree)
    os.utime(tree / "tree/list.txt")
    assert len(load("tree", data_dir=tree).store.inputs) == 30


def test_the_official_files_may_go_once_they_are_prepared(tree):
    ready(tree)
    shutil.rmtree(tree / "tree")
    assert len(load("tree", data_dir=tree).store.inputs) == 30


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_moved_data_folder_is_recognised_and_nothing_is_decoded_again(tree, monkeypatch, hard_links):
    def refuse(source, target):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))  # as exFAT does

    if not hard_links:
        monkeypatch.setattr(os, "link", refuse)
    ready(tree)
    moved = tree.rename(tree.with_name("moved"))
    assert len(load("tree", data_dir=moved).store.inputs) == 30
    monkeypatch.setattr(building, "decode", None)
    ready(moved)
    assert json.loads((ready(moved).folder / "store.json").read_text())["root"] == str(moved)


def test_two_data_folders_do_not_mix(tree, tmp_path):
    other = tmp_path / "other"
    write_tree(other, side=40)
    (other / "tree/list.txt").write_text((tree / "tree/list.txt").read_text().replace(" 2", " 0", 1))
    ready(tree)
    with pytest.raises(HashbenchError, match="not prepared"):
        load("tree", data_dir=other)


def arrays(tmp_path, inputs):
    """Register a set of arrays that is read from a file, and return its data folder."""
    toml = image_trees.TOML.format(name="arrays", size=16, train=15, database=9).replace("image_size = 16\n", "")
    (tmp_path / "arrays.toml").write_text(toml)
    np.save(tmp_path / "arrays.npy", inputs)
    reads = []

    def read(data_dir):
        reads.append(data_dir)
        content = (data_dir / "arrays.npy").read_bytes()
        found = np.load(data_dir / "arrays.npy")
        source = SourceFile(str(data_dir / "arrays.npy"), f"sha256:{sha256(content).hexdigest()}")
        return Store("arrays", found, np.eye(3, dtype=np.uint8)[np.arange(30) % 3], CLASSES, sources=(source,))

    dataset("arrays", protocols=str(tmp_path / "arrays.toml"))(read)
    return reads


@pytest.mark.parametrize("kind", ["images", "vectors"])
def test_arrays_are_kept_with_their_splits_and_not_read_again(tmp_path, fresh_registry, kind):
    chance = np.random.default_rng(0)
    inputs = chance.integers(0, 256, (30, 1, 4, 4), dtype=np.uint8)
    if kind == "vectors":
        inputs = chance.normal(size=(30, 7)).astype(np.float32)
    reads = arrays(tmp_path, inputs)
    read = load("arrays", data_dir=tmp_path)
    prepare("arrays", data_dir=tmp_path, progress=False)
    reads.clear()
    kept = load("arrays", data_dir=tmp_path)
    assert reads == []
    assert (kept.store.kind, kept.store.inputs.dtype) == (kind, inputs.dtype)
    assert (kept.store.inputs == inputs).all()
    assert (kept.store.integrity, kept.split.sha256, kept.audit) == (
        read.store.integrity,
        read.split.sha256,
        read.audit,
    )
    with pytest.raises(HashbenchError, match="arrays comes as arrays of shape"):
        load("arrays", data_dir=tmp_path, size=32)
    with pytest.raises(HashbenchError, match="arrays comes as arrays of shape"):
        prepare("arrays", data_dir=tmp_path, size=32, progress=False)


def test_kept_arrays_are_not_trusted_once_their_files_change(tmp_path, fresh_registry):
    inputs = np.random.default_rng(0).normal(size=(30, 7)).astype(np.float32)
    arrays(tmp_path, inputs)
    prepare("arrays", data_dir=tmp_path, progress=False)
    np.save(tmp_path / "arrays.npy", inputs + 1)
    assert (load("arrays", data_dir=tmp_path).store.inputs == inputs + 1).all()
    prepare("arrays", data_dir=tmp_path, progress=False)
    assert isinstance(load("arrays", data_dir=tmp_path).store.inputs, np.memmap)
    assert (load("arrays", data_dir=tmp_path).store.inputs == inputs + 1).all()
    assert len(stores()) == 1


def test_what_ships_with_hashbench_is_audited_and_not_kept():
    made = prepare("fashion-mnist-10k", progress=False)
    assert made.folder is None
    assert made.audits["5k"].sizes == (4_000, 1_000, 5_000)
    assert not opening.prepared_root().exists()


def test_a_reader_may_list_images_without_any_annotation_file(tmp_path, fresh_registry):
    """As folders of classes do: nothing tells that the listing changed, so it is read every time."""
    root = write_tree(tmp_path / "data")
    (tmp_path / "folders.toml").write_text(image_trees.TOML.format(name="folders", size=16, train=15, database=9))

    def read(data_dir):
        paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.jpg"))
        labels = np.eye(3, dtype=np.uint8)[[CLASSES.index(path.split("/")[1]) for path in paths]]
        return ImageFiles("folders", root, tuple(paths), labels, CLASSES)

    dataset("folders", protocols=str(tmp_path / "folders.toml"))(read)
    prepare("folders", progress=False)
    assert len(load("folders").store.inputs) == 30
    (root / "images/a/00000.jpg").rename(root / "images/b/00000.jpg")
    with pytest.raises(HashbenchError, match="not prepared"):
        load("folders")
