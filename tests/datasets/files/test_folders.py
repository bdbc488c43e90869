"""Folders of one's own: parts in any spelling, classes, what is passed over, links, and how big images become."""

import json
import os
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from hashbench.cli import main
from hashbench.datasets.catalogue import load
from hashbench.datasets.files.folders import read_folder
from hashbench.datasets.prepared.building import prepare
from hashbench.errors import HashbenchError

CLASSES = ("cat", "dog", "owl")


def draw(path, side=8, colour=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([colour, *path.as_posix().encode()]).integers(
        0, 256, (side, side, 3), dtype=np.uint8
    )
    Image.fromarray(pixels).save(path, "PNG")
    return path


@pytest.fixture
def tree(tmp_path):
    def make(parts=("",), classes=CLASSES, each=6, name="p", side=8):
        root = tmp_path / name
        for part in parts:
            for label in classes:
                for number in range(each):
                    draw(root / part / label / f"{number}.png", side)
        return root

    return make


def parts_of(files):
    return {top: {*files.part[[path.startswith(f"{top}/") for path in files.paths]].tolist()}
            for top in sorted({path.partition("/")[0] for path in files.paths})}  # fmt: skip


@pytest.mark.parametrize(
    ("tops", "read"),
    [
        (("train", "test"), {"train": "train", "test": "test"}),
        (("Train", "TEST"), {"Train": "train", "TEST": "test"}),
        (("training", "testing"), {"training": "train", "testing": "test"}),
        (("train", "valid"), {"train": "train", "valid": "test"}),
        (("train", "validation", "gallery"), {"train": "train", "validation": "test", "gallery": "database"}),
        (("train", "val", "test"), {"train": "train", "test": "test"}),
        (("train", "query", "gallery"), {"train": "train", "query": "test", "gallery": "database"}),
        (("train", "queries", "db"), {"train": "train", "queries": "test", "db": "database"}),
        (("Training", "Val", "Query", "Database"), {"Training": "train", "Query": "test", "Database": "database"}),
    ],
)
def test_part_folders_in_any_spelling(tree, tops, read):
    root = tree(tops)
    (root / "__MACOSX" / "train" / "cat").mkdir(parents=True)
    draw(root / "__MACOSX" / "train" / "cat" / "x.png")
    draw(root / ".ipynb_checkpoints" / "cat" / "x.png")
    files = read_folder(root, name="folder:p")
    assert files.classes == CLASSES
    assert parts_of(files) == {top: {part} for top, part in read.items()}
    for path, row in zip(files.paths, files.labels, strict=True):
        assert files.classes[row.argmax()] == path.split("/")[1]
        assert row.sum() == 1
    told = " ".join(files.notes)
    roles = {"train": "training images", "test": "queries", "database": "database"}
    for top, part in read.items():
        assert f"{roles[part]} from {top}/ (18)" in told
    for top in {*tops} - read.keys():
        assert f"{top}/: its 18 images are left out" in told


@pytest.mark.parametrize(
    ("tops", "reason"),
    [
        (("train",), r"but none with queries .*; to have hashbench split it, give folder:.*/p/train\."),
        (("test",), "none with training images"),
        (("train", "gallery"), "none with queries"),
        (("query", "gallery"), "none with training images"),
        (("train", "Training", "test"), r"holds Training/ and train/, which are the same part; keep one"),
        (("train", "test", "query"), r"query/ and test/, which are the same part"),
        (("train", "test", "extra"), r"holds test/, train/ with class folders, .* beside it extra/; move"),
    ],
)  # fmt: skip
def test_parts_that_are_no_split_are_refused_by_name(tree, tops, reason):
    root = tree(tops)
    with pytest.raises(HashbenchError, match=reason):
        read_folder(root, name="folder:p")


def test_classes_that_are_called_as_parts_are_classes_beside_others(tree):
    root = tree(classes=("car", "test", "train", "tram"))
    files = read_folder(root, name="folder:p")
    assert files.classes == ("car", "test", "train", "tram")
    assert files.part is None
    assert "test/, train/: read as a class, as the other folders are" in " ".join(files.notes)


def test_parts_without_class_folders_are_refused(tmp_path):
    for part in ("train", "test"):
        draw(tmp_path / "p" / part / "1.png")
    with pytest.raises(HashbenchError, match="whose images lie in no class folders"):
        read_folder(tmp_path / "p", name="folder:p")


def test_parts_may_lack_classes_and_that_is_said(tree):
    root = tree(("train", "test"))
    shutil.rmtree(root / "train" / "owl")
    (root / "train" / "owl").mkdir()
    files = read_folder(root, name="folder:p")
    assert files.classes == CLASSES
    assert "train/ lacks class of the other parts: owl." in files.notes
    assert "No classes, since they hold no images: train/owl." in files.notes


def test_what_is_passed_over_is_counted_by_kind(tree):
    root = tree()
    (root / "empty").mkdir()
    (root / "__MACOSX" / "cat").mkdir(parents=True)
    for name in ("._0.png", ".DS_Store", "notes.txt", "a.HEIC", "b.heic", "README"):
        (root / "cat" / name).write_bytes(b"x")
    draw(root / "stray.png")
    draw(root / "cat" / "1.jfif")
    draw(root / "cat" / "deep" / "er.png")
    files = read_folder(root, name="folder:p")
    assert files.classes == CLASSES
    assert len(files.paths) == 20
    assert files.notes == (
        "No classes, since they hold no images: empty.",
        "Hidden folders passed over: __MACOSX.",
        "Files passed over: 1 beside the class folders, 2 ending in .heic, 1 ending in .txt, 2 hidden, "
        "1 without an ending.",
    )


def test_a_folder_without_class_folders_says_what_it_holds(tmp_path):
    draw(tmp_path / "flat" / "1.png")
    with pytest.raises(HashbenchError, match=r"holds no class folders with images .*, but 1 images in no folder"):
        read_folder(tmp_path / "flat", name="folder:flat")


def test_links_are_followed_where_they_are_allowed(tree, tmp_path, cache):
    shared = tree(name="shared")
    mine = tmp_path / "mine"
    (mine / "dog").mkdir(parents=True)
    (mine / "cat").symlink_to(shared / "cat")
    for path in sorted((shared / "dog").iterdir()):
        (mine / "dog" / path.name).symlink_to(path)
    with pytest.raises(HashbenchError, match=r"is a link to a folder.* --follow-links"):
        prepare(f"folder:{mine}", progress=False)
    made = prepare(f"folder:{mine}", follow_links=True, progress=False)
    assert made.store.classes == ("cat", "dog")
    assert len(made.store.inputs) == 12
    assert load(f"folder:{mine}").store.integrity == made.store.integrity  # without the flag: as it was prepared
    (shared / "cat" / "up").symlink_to(shared)
    with pytest.raises(HashbenchError, match="is a link to a folder above it"):
        prepare(f"folder:{mine / '..' / 'shared'}", follow_links=True, progress=False)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HASHBENCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(("side", "wanted"), [(8, 8), (300, 256)])
def test_images_are_never_blown_up_by_default(tree, cache, side, wanted):
    root = tree(side=side, each=5)
    said = []
    made = prepare(f"folder:{root}", progress=False, on_begin=said.append)
    assert made.store.inputs.shape[2:] == (wanted, wanted)
    size = max(15 * (3 * wanted**2 + 48) / 1e6, 0.1)
    assert said == [f"folder:p: 15 inputs at {wanted} pixels take {size:,.1f} MB in {made.folder.parent}."]
    assert load(f"folder:{root}").store.inputs.shape[2:] == (wanted, wanted)


def test_the_size_of_the_only_store_is_taken_and_of_several_the_default(tree, cache):
    root = tree()
    spelling = f"folder:{root}"
    stores = {side: prepare(spelling, size=side, progress=False).store for side in (5,)}
    assert load(spelling).store.inputs.shape[2] == 5
    stores[6] = prepare(spelling, size=6, progress=False).store
    with pytest.raises(HashbenchError, match="is prepared at 5, 6 pixels; choose with --size"):
        load(spelling)
    assert load(spelling, integrity=stores[5].integrity).store.inputs.shape[2] == 5
    prepare(spelling, progress=False)
    assert load(spelling).store.inputs.shape[2] == 8


def test_a_prepared_folder_may_be_deleted(tree, cache):
    root = tree(("train", "test"))
    spelling = f"folder:{root}"
    before = {p: load_of(spelling, p) for p in ("given", "auto")}
    shutil.rmtree(root)
    for protocol, (split, searched) in before.items():
        now = load(f"{spelling}@{protocol}")
        assert (now.split.sha256, now.protocol.train_in_database) == (split, searched)
    shutil.rmtree(prepare_root(root))
    with pytest.raises(HashbenchError, match="There is no"):
        load(spelling)


def load_of(spelling, protocol):
    prepare(spelling, progress=False)
    loaded = load(f"{spelling}@{protocol}")
    return loaded.split.sha256, loaded.protocol.train_in_database


def prepare_root(root):
    return root.parent / "cache" / "stores"


def test_broken_images_are_all_named_or_left_out(tree, cache):
    root = tree()
    for label, number in (("cat", 2), ("owl", 4)):
        (root / label / f"{number}.png").write_bytes(b"\x89PNG broken")
    (root / "dog" / "5.png").write_bytes(b"")
    spelling = f"folder:{root}"
    with pytest.raises(HashbenchError, match=r"5\.png is empty"):
        prepare(spelling, progress=False)
    (root / "dog" / "5.png").write_bytes(b"x")
    with pytest.raises(HashbenchError, match=r"3 images of .* cannot be decoded: cat/2\.png \(.*dog/5\.png .*owl/4"
                                             r"\.png .*, or leave them out with --skip-broken"):  # fmt: skip
        prepare(spelling, progress=False)
    (root / "dog" / "5.png").write_bytes(b"")
    made = prepare(spelling, skip_broken=True, progress=False)
    assert len(made.store.inputs) == 15
    record = json.loads((made.folder / "store.json").read_text())
    assert record["reading"]["skipped"] == ["cat/2.png", "dog/5.png", "owl/4.png"]
    assert "Left out, since they cannot be decoded: cat/2.png, dog/5.png, owl/4.png." in made.notes
    assert load(spelling).store.integrity == made.store.integrity
    draw(root / "cat" / "2.png")
    assert len(prepare(spelling, skip_broken=True, progress=False).store.inputs) == 16


def test_one_broken_image_is_named_as_before(tree, cache):
    root = tree()
    (root / "cat" / "2.png").write_bytes(b"x")
    with pytest.raises(HashbenchError, match=r"2\.png cannot be decoded .*, or leave it out with --skip-broken\.$"):
        prepare(f"folder:{root}", progress=False)


def test_options_for_own_data_are_refused_elsewhere(tree, cache):
    with pytest.raises(HashbenchError, match="--skip-broken is for folder: and lists: data, which fashion-mosaic"):
        prepare("fashion-mosaic", skip_broken=True, progress=False)
    with pytest.raises(HashbenchError, match="--image-root is for lists: data"):
        prepare(f"folder:{tree()}", image_root="x", progress=False)


def test_prepare_prints_classes_and_parts(tree, cache):
    root = tree(("train", "test"))
    draw(root / "train" / "dog" / "more.png")
    result = CliRunner().invoke(main, ["prepare", f"folder:{root}", "--quiet"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "Classes: cat, dog, owl, the smallest cat (12), the largest dog (13)." in result.output
    assert "Parts: queries from test/ (18), training images from train/ (19); the training images are" in result.output


def test_the_most_pixels_of_an_image_are_a_setting(tree, cache, monkeypatch):
    root = tree(each=5)
    monkeypatch.setenv("HASHBENCH_MAX_PIXELS", "63")
    with pytest.raises(HashbenchError, match="its 8 x 8 pixels are more than 63, which HASHBENCH_MAX_PIXELS raises"):
        prepare(f"folder:{root}", progress=False)
    monkeypatch.setenv("HASHBENCH_MAX_PIXELS", "64")
    assert len(prepare(f"folder:{root}", progress=False).store.inputs) == 15
    monkeypatch.setenv("HASHBENCH_MAX_PIXELS", "lots")
    with pytest.raises(HashbenchError, match="is 'lots'; give a number"):
        prepare(f"folder:{root}", size=4, progress=False)


@pytest.mark.parametrize(
    ("tops", "reason"),
    [
        (("train_set", "test_set"), "holds test_set/, train_set/, called nearly as a part"),
        (("01-Train", "02-Test"), "called nearly as a part"),
        (("train2017", "val2017"), "called nearly as a part"),
        (("pets",), "holds one folder, pets/, .* give folder:.*p/pets"),
    ],
)
def test_folders_that_are_nearly_parts_are_refused(tree, tops, reason):
    with pytest.raises(HashbenchError, match=reason):
        read_folder(tree(tops), name="folder:p")


@pytest.mark.parametrize(("first", "second"), [("cat", "Cat"), ("caf\u00e9", "cafe\u0301"), ("cat", "cat ")])
def test_classes_that_look_alike_in_two_parts_are_refused(tree, first, second):
    root = tree(("train",), classes=(first, "dog"))
    tree(("test",), classes=(second, "dog"))
    with pytest.raises(HashbenchError, match="look alike"):
        read_folder(root, name="folder:p")


def test_parts_within_classes_are_refused(tree):
    root = tree(CLASSES, classes=("train", "test"))
    with pytest.raises(HashbenchError, match="holds parts of a split in its class folders, test, train"):
        read_folder(root, name="folder:p")


def test_letters_in_both_cases_are_two_classes(tree):
    files = read_folder(tree(("train", "test"), classes=("a", "A")), name="folder:p")
    assert files.classes == ("A", "a")


def test_a_folder_is_reached_once_and_broken_links_are_named(tree):
    root = tree()
    (root / "gone").symlink_to(root / "nowhere")
    (root / "itself").symlink_to("itself")
    assert "gone is a broken link." in read_folder(root, name="folder:p").notes
    (root / "kitty").symlink_to("cat")
    with pytest.raises(HashbenchError, match=r"kitty and .*cat are one folder, by links"):
        read_folder(root, name="folder:p", follow_links=True)


def test_names_that_are_not_utf8_and_files_for_folders_are_one_sentence(tree):
    root = tree()
    with pytest.raises(HashbenchError, match=r"0\.png is a file; name the folder"):
        read_folder(root / "cat" / "0.png", name="folder:p")
    shutil.copy(root / "cat" / "0.png", os.fsencode(root / "cat") + b"/\xff.png")
    with pytest.raises(HashbenchError, match=r"'cat/\\udcff\.png', which is no name in UTF-8"):
        read_folder(root, name="folder:p")


@pytest.mark.parametrize(
    ("tops", "classes", "reason"),
    [(("",), ("cat",), "all of the database is of one class"), (("train", "test"), None, "nothing in the database")],
)
def test_splits_that_say_nothing_are_refused(tree, cache, tops, classes, reason):
    root = tree(tops, classes or CLASSES)
    for label in CLASSES if classes is None else ():
        (root / "test" / label).rename(root / "test" / f"new {label}")
    with pytest.raises(HashbenchError, match=reason):
        load(f"folder:{root}", size=prepare(f"folder:{root}", progress=False).store.inputs.shape[-1])


def test_images_alone_may_be_deleted_and_all_may_be_broken(tree, cache):
    root = tree(("i",))
    for part, numbers in {"train": range(4), "test": range(4, 6)}.items():
        lines = (f"i/{label}/{number}.png {label}" for label in CLASSES for number in numbers)
        (root / f"{part}.txt").write_text("\n".join(lines))
    made = prepare(f"lists:{root}", progress=False)
    shutil.rmtree(root / "i")
    assert load(f"lists:{root}").store.integrity == made.store.integrity
    broken = tree(name="q")
    for path in broken.rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(HashbenchError, match="None of the 18 images of folder:q can be decoded"):
        prepare(f"folder:{broken}", skip_broken=True, progress=False)
