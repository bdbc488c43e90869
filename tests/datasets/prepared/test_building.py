"""A store in the making: the bars that show it, and what becomes of what interrupted preparations left."""

import os
import shutil
import time

import pytest
from image_trees import register_tree, write_tree

from hashbench.datasets.prepared import building, opening
from hashbench.datasets.prepared.building import prepare
from hashbench.storage.files import RESUMED_WITHIN, exclusive


@pytest.fixture
def tree(tmp_path, fresh_registry):
    """Return the data folder of the registered set `tree`."""
    write_tree(tmp_path / "data")
    register_tree(tmp_path)
    return tmp_path / "data"


def ready(data_dir, **options):
    return prepare("tree", data_dir=data_dir, progress=False, **options)


def relabel(data_dir, first=0):
    """Exchange the labels of two images of the list, which makes it another data set."""
    listing = data_dir / "tree/list.txt"
    lines = listing.read_text().splitlines()
    one, other = lines[first], lines[first + 1]
    lines[first : first + 2] = [f"{one[:-1]}{other[-1]}", f"{other[:-1]}{one[-1]}"]
    listing.write_text("\n".join(lines))


def interrupted(data_dir, monkeypatch, **options):
    """Begin to prepare the tree, and return the folder that is left of it."""
    before = build_folders()
    with monkeypatch.context() as patched:
        patched.setattr(building, "complete", None)
        with pytest.raises(TypeError):
            ready(data_dir, **options)
    (left,) = build_folders() - before
    return left


def build_folders():
    return set(opening.prepared_root().glob(".tree-*.building"))


@pytest.mark.parametrize("was_ready", [False, True])
def test_what_was_left_of_older_files_is_removed(tree, monkeypatch, was_ready):
    listing = tree / "tree/list.txt"
    original = listing.read_text()
    if was_ready:
        ready(tree)
    relabel(tree)
    interrupted(tree, monkeypatch)
    listing.write_text(original)
    made = ready(tree)
    assert build_folders() == set()
    assert [path for path in opening.prepared_root().iterdir() if path.is_dir()] == [made.folder]


def test_what_is_of_another_process_data_folder_or_size_stays(tree, tmp_path, monkeypatch):
    original = (tree / "tree/list.txt").read_text()
    other = shutil.copytree(tree, tmp_path / "other")
    relabel(other)
    kept = {interrupted(other, monkeypatch), interrupted(tree, monkeypatch, size=20)}
    relabel(tree, first=3)
    under_way = interrupted(tree, monkeypatch)
    (tree / "tree/list.txt").write_text(original)
    with exclusive(under_way.with_suffix(".lock")):
        ready(tree)
    assert build_folders() == {*kept, under_way}
    ready(tree)
    assert build_folders() == kept


def test_what_nobody_went_on_with_for_long_is_removed(tree, monkeypatch):
    old, young = interrupted(tree, monkeypatch, size=20), interrupted(tree, monkeypatch, size=24)
    long_ago = time.time() - RESUMED_WITHIN - 60
    for path in (*old.iterdir(), old):
        os.utime(path, (long_ago, long_ago))
    with exclusive(old.with_suffix(".lock")):  # a process that builds it runs
        ready(tree)
    assert build_folders() == {old, young}
    ready(tree, size=28)
    assert build_folders() == {young}


def test_a_set_whose_name_begins_like_another_one_s_folders_is_left_alone(tree, tmp_path):
    """Both lie in one data folder, so that only their names tell them apart."""
    write_tree(tree, name="tree-16-oaks")
    register_tree(tmp_path, name="tree-16-oaks")
    oaks = prepare("tree-16-oaks", data_dir=tree, progress=False).folder
    ready(tree)
    assert oaks.is_dir()


def test_bars_show_checks_rows_and_splits(tree, capsys):
    prepare("tree", data_dir=tree)
    said = capsys.readouterr().err
    for bar in ("tree: checking protocols: ", "tree at 16 pixels: ", "tree: splits: "):
        assert bar in said
    ready(tree, size=20)
    assert capsys.readouterr().err == ""
