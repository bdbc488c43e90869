"""Data of one's own: folders, lists and arrays, named without their place, split as they say or by our rule."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from replicas import picture

import hashbench
from hashbench.datasets import one_hot
from hashbench.datasets.catalogue import find, find_protocol, load, own_name
from hashbench.datasets.families.user_data import own_source
from hashbench.datasets.prepared.building import prepare
from hashbench.errors import HashbenchError

SIZE = 12


@pytest.fixture
def pets(tmp_path):
    """Return a folder of three classes with ten pictures each; of the parts that are asked for, where they are."""

    def make(name="pets", parts=(), each=10):
        root = tmp_path / name
        for hue, label in enumerate(("cat", "dog", "fish")):
            for number in range(each):
                for part in parts or ("",):
                    picture(root / part / label / f"{part or 'p'}{number}.{('jpg', 'PNG')[number % 2]}", hue)
        (root / "Thumbs.db").write_bytes(b"not a picture")
        return root

    return make


@pytest.fixture
def lists(tmp_path):
    """Return a function that writes pictures and lists of them, `{file: [(path, labels)]}`, into a folder."""

    def make(tables, name="shots", end="\n", pictures=True):
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        for file, rows in tables.items():
            (root / file).write_bytes("".join(f"{path} {labels}{end}" for path, labels in rows).encode())
            for path, _ in rows if pictures else ():
                picture(root / path, 1)
        return root

    return make


PUBLISHED = {
    "train.txt": [("images/a.jpg", "1 0 0"), ("images/b.jpg", "0 1 1")],
    "test.txt": [("images/q.jpg", "0 1 0")],
    "database.txt": [("images/a.jpg", "1 0 0"), ("images/b.jpg", "0 1 1"), ("images/my c.jpg", "0 1 0")],
}


def test_a_class_folder_tree_is_a_data_set(pets):
    source = own_source(f"folder:{pets()}")
    files = source.read(None)
    assert (source.name, files.classes, len(files.paths), files.part) == (
        "folder:pets",
        ("cat", "dog", "fish"),
        30,
        None,
    )
    assert files.paths == tuple(sorted(files.paths))
    for path, labels in zip(files.paths, files.labels, strict=True):
        assert files.classes[labels.argmax()] == path.partition("/")[0]
    assert [protocol.full_name for protocol in source.protocols] == ["folder:pets@auto"]


@pytest.mark.parametrize(("classes", "offered"), [(4, False), (5, True)])
def test_classes_are_unseen_where_two_or_more_of_them_are(tmp_path, classes, offered):
    images = np.random.default_rng(0).integers(0, 256, (10 * classes, 6, 6), dtype=np.uint8)
    spelling = arrays(tmp_path / "mine.npz", images=images, labels=np.arange(len(images)) % classes)
    if offered:
        assert np.count_nonzero(load(f"{spelling}@unseen").audit.query_per_class) == 2
    else:
        with pytest.raises(HashbenchError, match=r"Unknown protocol 'arrays:.*@unseen'.*one label, of five classes or"):
            load(f"{spelling}@unseen")


@pytest.mark.parametrize(
    ("parts", "sizes", "searched"),
    [
        (("train", "test"), (30, 30, 30), True),
        (("train", "val"), (30, 30, 30), True),
        (("train", "query", "database"), (30, 30, 30), False),
    ],
)
def test_part_folders_give_the_split(pets, parts, sizes, searched):
    spelling = f"folder:{pets(parts=parts)}"
    prepare(spelling, size=SIZE, progress=False)
    loaded = load(spelling, size=SIZE)
    assert loaded.name == "folder:pets@given"
    assert loaded.audit.sizes == sizes
    assert loaded.protocol.train_in_database == searched
    assert {loaded.store.names[image].partition("/")[0] for image in loaded.split.query} == {parts[1]}
    assert load(f"{spelling}@auto", size=SIZE).protocol.name == "auto"


def test_links_to_folders_and_trees_without_classes_are_refused(pets, tmp_path):
    (tmp_path / "flat").mkdir()
    picture(tmp_path / "flat" / "p.jpg", 0)
    with pytest.raises(HashbenchError, match="flat holds no class folders with images"):
        own_source(f"folder:{tmp_path / 'flat'}")
    root = pets()
    (root / "more").symlink_to(tmp_path / "flat")
    with pytest.raises(HashbenchError, match="more is a link to a folder"):
        own_source(f"folder:{root}")
    (root / "more").unlink()
    (root / "cat" / "sub").symlink_to(root / "dog")
    with pytest.raises(HashbenchError, match="sub is a link to a folder"):
        own_source(f"folder:{root}")


def test_a_picture_that_is_a_link_out_of_the_folder_is_refused(pets, tmp_path):
    root = pets()
    picture(tmp_path / "elsewhere.jpg", 0)
    (root / "cat" / "x.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    with pytest.raises(HashbenchError, match="outside of"):
        prepare(f"folder:{root}", size=SIZE, progress=False)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_published_lists_are_used_as_they_are(lists, end):
    source, protocol = find(f"lists:{lists(PUBLISHED, end=end)}")
    files = source.read(None)
    assert protocol.full_name == "lists:shots@given"
    assert (protocol.train_in_database, protocol.multi_label, protocol.num_classes) == (True, True, 3)
    assert dict(zip(files.paths, files.part.tolist(), strict=True)) == {
        "images/a.jpg": "train", "images/b.jpg": "train", "images/q.jpg": "test", "images/my c.jpg": "database",
    }  # fmt: skip
    assert files.labels.tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 0], [0, 1, 0]]
    assert files.classes == ("0", "1", "2")


def test_lists_may_name_classes_hold_numbers_lack_a_database_and_say_absolute_paths(lists):
    root = lists({"train.txt": [("x/a.jpg", "0"), ("x/b.jpg", "2")], "test.txt": [("x/q.jpg", "1")]})
    (root / "train.txt").write_text(f"{root}/x/a.jpg 0\n./x/b.jpg\t2\n".replace("\t", " "))
    (root / "classes.txt").write_text("sun\nmoon\nstar\n")
    source, protocol = find(f"lists:{root}")
    files = source.read(None)
    assert files.paths == ("x/a.jpg", "x/b.jpg", "x/q.jpg")
    assert files.classes == ("sun", "moon", "star")
    assert files.labels.argmax(axis=1).tolist() == [0, 2, 1]
    assert protocol.train_in_database


def changed(file, rows):
    return {**PUBLISHED, file: rows}


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ({"train.txt": PUBLISHED["train.txt"]}, r"lacks test\.txt; put lists"),
        (changed("train.txt", []), r"train\.txt is empty"),
        (changed("test.txt", [("../q.jpg", "0 1 0")]), r"Line 1 of .*test\.txt .*'\.\./q\.jpg' does not lie below"),
        (changed("test.txt", [("C:\\q.jpg", "0 1 0")]), "does not lie below"),
        (changed("test.txt", [("q.jpg", "0 1")]), "different labels a line: train.txt 3 zeros and ones, test.txt 2"),
        (changed("train.txt", [("images/a.jpg", "1 0 0"), ("b.jpg", "1 0")]), r"Line 2 of .*a path and then 3 zeros"),
        (changed("train.txt", [("images/a.jpg", "1 0 0"), ("b.jpg", "1 0 2")]), "a path and then 3 zeros and ones"),
        (
            changed("train.txt", [("images/a.jpg", "0 1 0")]),
            r"train\.txt and database\.txt .* label images/a\.jpg diff",
        ),
        (changed("train.txt", [("images/q.jpg", "0 1 0")]), r"1 images of test\.txt in .* are in train\.txt, too"),
        (changed("test.txt", [("images/my c.jpg", "0 1 0")]), r"are in database\.txt, too"),
        (changed("train.txt", [*PUBLISHED["train.txt"], ("n.jpg", "0 1 0")]), "2 of the 3 images of train.txt"),
        (changed("test.txt", [("q.jpg", "0 1 0")] * 2), r"Line 2 of .*test\.txt .* q\.jpg is listed twice"),
    ],
)
def test_lists_that_are_not_in_order_are_refused_with_the_place(lists, tables, reason):
    root = lists(tables, pictures=False)
    with pytest.raises(HashbenchError, match=reason):
        own_source(f"lists:{root}")


def test_a_picture_that_a_list_names_and_nobody_has_is_missing(lists):
    root = lists(PUBLISHED)
    (root / "images" / "q.jpg").unlink()
    with pytest.raises(HashbenchError, match=r"1 of the 4 images of lists:shots are missing"):
        prepare(f"lists:{root}", size=SIZE, progress=False)


def arrays(path, **given):
    np.savez(path, **given)
    return f"arrays:{path}"


@pytest.mark.parametrize("shape", [(40, 3, 9, 8), (40, 9, 8, 3), (40, 9, 8)])
def test_images_in_arrays_come_in_any_order_of_axes(tmp_path, shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    loaded = load(arrays(tmp_path / "mine.npz", images=images, labels=np.arange(40) % 4))
    assert loaded.name == "arrays:mine@auto"
    planes = {3: images, 1: images[:, None]}[3 if len(shape) == 4 else 1]
    expected = planes.transpose(0, 3, 1, 2) if planes.shape[3] == 3 else planes
    np.testing.assert_array_equal(loaded.store.inputs, expected)
    assert loaded.audit.sizes == (16, 4, 20)


@pytest.mark.parametrize(
    ("shape", "channels_first"),
    [
        ((4, 8, 8, 4), (4, 4, 8, 8)),
        ((4, 64, 64, 13), (4, 13, 64, 64)),
        ((4, 13, 8, 64), None),
        ((4, 2, 8, 9), (4, 2, 8, 9)),
    ],
)
def test_channels_of_any_number_are_the_shortest_axis(tmp_path, shape, channels_first):
    spelling = arrays(tmp_path / "mine.npz", images=np.zeros(shape, np.uint8), labels=np.arange(4) % 2)
    if channels_first is None:
        with pytest.raises(HashbenchError, match="where the channels cannot be told"):
            own_source(spelling)
    else:
        assert own_source(spelling).read(None).inputs.shape == channels_first


def test_prepare_prints_classes_and_parts_of_arrays(tmp_path, monkeypatch):
    monkeypatch.setenv("HASHBENCH_CACHE", str(tmp_path / "cache"))
    part = ["train"] * 8 + ["test"] * 4
    made = prepare(
        arrays(tmp_path / "mine.npz", features=np.eye(12), labels=np.arange(12) % 2, part=part), progress=False
    )
    assert made.notes == ("Classes: 0, 1, the smallest 0 (6), the largest 0 (6).", "Parts: test (4), train (8).")


def test_features_with_several_labels_and_a_split_of_their_own(tmp_path):
    chance = np.random.default_rng(0)
    part = np.array(["train", "query", "database", "database"] * 10)
    labels = chance.integers(0, 2, (40, 3)) | np.eye(3, dtype=int)[np.arange(40) % 3]
    spelling = arrays(
        tmp_path / "f.npz", features=chance.normal(size=(40, 5)), labels=labels, part=part, classes=[*"abc"]
    )
    loaded = load(spelling)
    assert (loaded.name, loaded.kind, loaded.multi_label) == ("arrays:f@given", "vectors", True)
    assert loaded.store.classes == ("a", "b", "c")
    assert loaded.audit.sizes == (10, 10, 20)
    assert load(f"{spelling}@auto").audit.sizes == (16, 4, 20)
    with pytest.raises(HashbenchError, match="Unknown protocol"):
        load(f"{spelling}@unseen")  # of several labels no class is unseen


FEATURES = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
FOUR = np.arange(40) % 4
WORDS = np.array(["cat", "dog", "ox", "zebra"])


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (FOUR * 10**17, ("0", "100000000000000000", "200000000000000000", "300000000000000000")),
        (FOUR * 2 * 10**9, ("0", "2000000000", "4000000000", "6000000000")),
        (FOUR * 1.0 + 1, ("1", "2", "3", "4")),
        (FOUR[:, None] + 3, ("3", "4", "5", "6")),
        (WORDS[FOUR], tuple(WORDS)),
        (WORDS[FOUR].astype("S"), tuple(WORDS)),
        (np.eye(4)[FOUR], ("0", "1", "2", "3")),
    ],
)
def test_classes_are_those_that_occur(tmp_path, labels, classes):
    store = own_source(arrays(tmp_path / "mine.npz", features=FEATURES, labels=labels)).read(None)
    assert store.classes == classes
    assert store.labels.tolist() == np.eye(4)[FOUR].tolist()


def test_named_labels_take_the_columns_of_the_given_classes(tmp_path):
    spelling = arrays(tmp_path / "mine.npz", features=FEATURES, labels=WORDS[FOUR], classes=WORDS[::-1])
    store = own_source(spelling).read(None)
    assert store.classes == tuple(WORDS[::-1])
    assert store.labels.argmax(axis=1).tolist() == (3 - FOUR).tolist()


def test_the_memory_of_labels_follows_the_classes_that_occur():
    numbers = np.arange(20_000) % 3
    tracemalloc.start()
    labels = one_hot(numbers, tuple(map(str, range(30_000)))[:3000], name="many")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert labels.sum(axis=1).tolist() == [1] * 20_000
    assert labels[:, :3].argmax(axis=1).tolist() == numbers.tolist()
    assert peak < 20_000 * 3000 + 2**21  # N x C, and nothing of C x C
    with pytest.raises(HashbenchError, match=r"huge has 3,000 inputs of .* classes, whose labels do not fit"):
        one_hot(np.zeros(3000, int), range(10**14), name="huge")


def test_arrays_in_other_files_are_the_same_data(tmp_path):
    import torch
    from scipy import io, sparse

    expected = own_source(arrays(tmp_path / "mine.npz", features=FEATURES, labels=WORDS[FOUR])).read(None)
    io.savemat(tmp_path / "mine.mat", {"features": FEATURES, "labels": WORDS[FOUR].astype(object)})
    torch.save({"features": torch.tensor(FEATURES), "labels": WORDS[FOUR].tolist()}, tmp_path / "mine.pt")
    (tmp_path / "folder").mkdir()
    np.savetxt(tmp_path / "folder" / "features.csv", FEATURES, delimiter=",")
    (tmp_path / "folder" / "labels.txt").write_text("label\n" + "\n".join(WORDS[FOUR]))
    for name in ("mine.mat", "mine.pt", "folder"):
        source = own_source(f"arrays:{tmp_path / name}")
        assert source.name == f"arrays:{name.partition('.')[0]}"
        assert source.read(None).content_hashes == expected.content_hashes
        assert source.read(None).classes == expected.classes
    assert [file.path for file in source.read(None).sources] == [
        str(tmp_path / "folder" / name) for name in ("features.csv", "labels.txt")
    ]
    io.savemat(tmp_path / "sparse.mat", {"features": sparse.csc_array(np.maximum(FEATURES, 0)), "labels": FOUR + 1})
    store = own_source(f"arrays:{tmp_path / 'sparse.mat'}").read(None)
    assert store.kind == "text"
    assert store.inputs.toarray().tolist() == np.maximum(FEATURES, 0).tolist()


def test_arrays_beside_those_that_are_used_are_not_looked_at(tmp_path):
    spelling = arrays(tmp_path / "mine.npz", features=FEATURES, labels=FOUR, extra=np.array([{}], object))
    assert own_source(spelling).read(None).classes == ("0", "1", "2", "3")


IMAGES = np.zeros((4, 1, 8, 8), np.uint8)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"images": IMAGES}, "holds images; give 'labels' and either"),
        ({"images": IMAGES, "features": IMAGES, "labels": [0, 1, 0, 1]}, "either 'images' or 'features'"),
        ({"images": IMAGES, "labels": [0, 1, 0]}, "holds 4 images, but labels of shape"),
        (
            {"images": IMAGES, "labels": [0, 1, 0, -1]},
            r"The labels in .*mine\.npz hold the class number -1, either a class or no label",
        ),
        ({"images": IMAGES, "labels": [0.5, 1, 0, 1]}, "hold fractions"),
        ({"images": IMAGES, "labels": [*"abab"], "classes": [*"ac"]}, "is 'b', which is not among its 2 classes"),
        ({"images": IMAGES, "labels": [[0], [1], [0], [1]]}, "one column of 0 and 1.*a column for each class[.]$"),
        ({"images": IMAGES, "labels": [0, 1, 0, 1], "classes": ["a"]}, "has labels from 0 to 1, but its 1 classes"),
        ({"images": IMAGES, "labels": [[2, 1]] * 4}, "other values than 0 and 1"),
        ({"images": IMAGES.astype(float), "labels": [0, 1, 0, 1]}, "give images as uint8"),
        ({"features": np.full((4, 2), np.nan), "labels": [0, 1, 0, 1]}, "NaN"),
        ({"images": IMAGES, "labels": [0, 1, 0, 1], "part": [*"abcd"]}, "says 'a'; known: train"),
        ({"images": IMAGES, "labels": np.array([{}, 1, 2, 3], object)}, "cannot be read"),
        ({"images": IMAGES[:0], "labels": np.zeros(0, int)}, "images in .* are empty, shape [(]0, 1, 8, 8[)]"),
        ({"images": IMAGES[:, :, :0], "labels": [0, 1, 0, 1]}, "images in .* are empty"),
        ({"features": np.zeros((4, 0)), "labels": [0, 1, 0, 1]}, "features in .* are empty"),
        ({"features": np.zeros((4, 2), complex), "labels": [0, 1, 0, 1]}, "features in .* type complex128"),
        ({"features": np.full((4, 2), "a"), "labels": [0, 1, 0, 1]}, "give images as uint8"),
        ({"images": IMAGES, "labels": [True, False] * 2}, "one truth value each.*astype[(]int[)][.]$"),
        ({"images": np.zeros((4, 8, 3, 8), np.uint8), "labels": [0, 1, 0, 1]}, "where the channels cannot be told"),
        ({"images": IMAGES, "labels": [*"ab", "0|1", "a"]}, "looks like several classes"),
        ({"images": IMAGES, "labels": [*"ab", "None", "a"]}, "'None', which stands for no label"),
        ({"images": IMAGES, "labels": 5}, "labels in .* a single"),
        ({"images": IMAGES, "labels": [0, 1, 0, 1], "classes": ["a", "a"]}, "Of the 2 classes of .* one name"),
        ({"images": IMAGES, "labels": [0, 1, 0, 1], "part": [0, 1, 0, 1]}, "part in .* is numbers; give words"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, given, reason):
    with pytest.raises(HashbenchError, match=reason):
        own_source(arrays(tmp_path / "mine.npz", **given))


def test_a_file_that_is_no_npz_and_a_path_that_is_not_there(tmp_path):
    (tmp_path / "mine.npz").write_bytes(b"PK\3\4 truncated")
    with pytest.raises(HashbenchError, match=r"mine\.npz cannot be read"):
        own_source(f"arrays:{tmp_path / 'mine.npz'}")
    for name in ("folder:nowhere", "folder:", "lists:nowhere@given"):
        with pytest.raises(HashbenchError, match="There is no"):
            find_protocol(name, data_dir=tmp_path)


def test_a_path_without_its_kind_says_how_to_ask(pets):
    root = pets()
    with pytest.raises(HashbenchError, match=rf"Unknown data set '{root}'.* Own data are folder:{root}, lists:{root}"):
        find_protocol(str(root))


def test_a_split_without_queries_is_refused(tmp_path):
    part = np.array(["train", "database"] * 2)
    with pytest.raises(HashbenchError, match=r"needs items of every part, but arrays:mine gives 2 train, 0 query"):
        load(arrays(tmp_path / "mine.npz", images=IMAGES, labels=[0, 1, 0, 1], part=part))
    with pytest.raises(HashbenchError, match="0 query"):
        load(arrays(tmp_path / "mine.npz", images=IMAGES, labels=[0, 1, 0, 1]))


def test_names_are_parted_at_a_protocol_and_nowhere_else():
    assert own_name("folder:/data/a@b") == ("folder:/data/a@b", "")
    assert own_name("folder:/data/a@b@unseen") == ("folder:/data/a@b", "unseen")
    assert own_name("folder:/data/a@auto-draw2") == ("folder:/data/a", "auto-draw2")
    assert own_name("folder:/data/a@b-draw2") == ("folder:/data/a@b-draw2", "")


def test_no_path_of_this_machine_enters_an_experiment_or_its_place(pets, tmp_path, monkeypatch):
    root = pets()
    prepare(f"folder:{root}", size=SIZE, progress=False)
    settings = dict(
        bits=16, data_size=SIZE, epochs=1, backbone="toy-backbone", progress=False, runs_dir=tmp_path / "runs"
    )
    first = hashbench.run("crh", f"folder:{root}", **settings)
    assert first.path.relative_to(tmp_path / "runs").parts[0] == "folder_pets@auto"
    assert str(tmp_path) not in (first.path / "spec.json").read_text().replace(str(tmp_path / "runs"), "")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    root.rename(moved / "pets")
    monkeypatch.chdir(moved)
    prepare("folder:pets", size=SIZE, progress=False)
    assert hashbench.run("crh", "folder:pets", **settings).id == first.id
    assert hashbench.run("crh", "folder:pets", data_dir=moved, **settings).id == first.id


def test_a_replaced_picture_of_the_same_name_is_noticed(pets):
    root = pets()
    spelling = f"folder:{root}"
    before = prepare(spelling, size=SIZE, progress=False).store.integrity
    assert load(spelling, size=SIZE).store.integrity == before
    picture(root / "cat" / "p0.jpg", 7)
    with pytest.raises(
        HashbenchError,
        match=rf"not prepared at 12 pixels as its files are now; run `hashbench prepare {spelling} --size 12`",
    ):
        load(spelling, size=SIZE)
    assert prepare(spelling, size=SIZE, progress=False).store.integrity != before


def test_namesakes_keep_their_own_stores_and_never_share_a_table(pets, tmp_path):
    one, other = pets("a/pets"), pets("b/pets", each=12)
    for root in (one, other):
        prepare(f"folder:{root}", size=SIZE, progress=False)
    sizes = [len(load(f"folder:{root}", size=SIZE).store.inputs) for root in (one, other)]
    assert sizes == [30, 36]
    with pytest.raises(HashbenchError, match="are both called folder:pets@auto; rename the folder of one"):
        hashbench.sweep(["lsh"], [f"folder:{one}", f"folder:{other}"], [16], data_size=SIZE, runs_dir=tmp_path)


def test_the_command_line_takes_own_data(pets):
    root = pets()
    for command in (
        ["prepare", f"folder:{root}", "--size", "12"],
        ["prepare", f"folder:{root}@auto", "--size", "12"],
    ):
        done = subprocess.run([sys.executable, "-m", "hashbench", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "folder:pets: 30 inputs" in done.stdout


def test_own_data_have_other_draws(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, features=np.random.default_rng(0).normal(size=(120, 3)), labels=np.arange(120) % 3)
    first, second = (load(f"arrays:{path}{protocol}").split for protocol in ("@auto", "@auto-draw2"))
    assert len(first.query) == len(second.query)
    assert {*first.query.tolist()} != {*second.query.tolist()}
    with pytest.raises(HashbenchError, match="'given' needs data with a split of their own"):
        load(f"arrays:{path}@given-draw2")
