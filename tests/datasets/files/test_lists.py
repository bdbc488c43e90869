"""Lists as people write them: read, or refused with the line; and images that lie elsewhere."""

import os

import numpy as np
import pytest
from PIL import Image

from hashbench.datasets.catalogue import load
from hashbench.datasets.files.lists import read_lists
from hashbench.datasets.prepared.building import prepare
from hashbench.errors import HashbenchError

NAMES = ("cat", "dog", "owl")
PARTS = {"train": range(12), "test": range(24, 36), "database": range(12, 24)}


def hot(label):
    return [int(k == label) for k in range(3)]


LINES = {
    "blanks": lambda p, c: " ".join([p, *map(str, hot(c))]),
    "wide blanks": lambda p, c: "   ".join([p, *map(str, hot(c))]),
    "commas": lambda p, c: ",".join([p, *map(str, hot(c))]),
    "comma at the end": lambda p, c: ", ".join([p, *map(str, hot(c))]) + ",",
    "commas and blanks": lambda p, c: f"{p}, {' '.join(map(str, hot(c)))}",
    "tabs": lambda p, c: "\t".join([p, *map(str, hot(c))]),
    "semicolons": lambda p, c: ";".join([p, *map(str, hot(c))]),
    "quotes": lambda p, c: ",".join(f'"{x}"' for x in [p, *hot(c)]),
    "quoted path": lambda p, c: f'"{p}" {" ".join(map(str, hot(c)))}',
    "decimals": lambda p, c: " ".join([p, *(f"{x:.1f}" for x in hot(c))]),
    "signs": lambda p, c: " ".join([p, *(f"{2 * x - 1:+d}" for x in hot(c))]),
    "true": lambda p, c: ",".join([p, *(str(x == 1) for x in hot(c))]),
    "numbers": lambda p, c: f"{p} {c}",
    "from 1": lambda p, c: f"{p} {c + 1}",
    "decimal numbers": lambda p, c: f"{p},{c}.0",
    "identifiers": lambda p, c: f"{p} {(c + 1) * 10**17}",
    "names": lambda p, c: f"{p} {NAMES[c]}",
    "names of words": lambda p, c: f"{p},{NAMES[c]} bird",
    "dots": lambda p, c: f"./{p} {c}",
    "backslashes": lambda p, c: f"{p.replace('/', chr(92))} {c}",
}
CLASSES = {
    "from 1": ("1", "2", "3"), "names": NAMES, "names of words": tuple(f"{name} bird" for name in NAMES),
    "identifiers": tuple(str(k * 10**17) for k in (1, 2, 3)),
}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def made(line, head="", encoding="utf-8", end="\n", files=None, folder="mine", image="images/{}.png"):
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        for part, numbers in PARTS.items():
            text = head + end.join(line(image.format(i), i % 3) for i in numbers) + end
            (root / (files or {}).get(part, f"{part}.txt")).write_bytes(text.encode(encoding))
        return root

    return made


def check(files, classes=("0", "1", "2"), image="images/{}.png"):
    assert files.classes == classes
    assert files.paths == tuple(image.format(i) for part in ("train", "test", "database") for i in PARTS[part])
    assert files.labels.tolist() == [hot(int(os.path.basename(path)[:-4]) % 3) for path in files.paths]
    assert files.part.tolist() == ["train"] * 12 + ["test"] * 12 + ["database"] * 12


@pytest.mark.parametrize("style", LINES)
@pytest.mark.parametrize(("encoding", "end"), [("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("utf-16", "\r\n")])
def test_every_style_gives_the_same_labels(write, style, encoding, end):
    files, searched = read_lists(write(LINES[style], encoding=encoding, end=end), name="lists:mine")
    check(files, CLASSES.get(style, ("0", "1", "2")))
    assert not searched


@pytest.mark.parametrize(
    ("head", "style", "classes"),
    [
        ("path a b c\n", "blanks", ("a", "b", "c")),
        ("filename,label\n", "decimal numbers", ("0", "1", "2")),
        ("image,class\n", "names of words", CLASSES["names of words"]),
        ("# my list\n\n", "numbers", ("0", "1", "2")),
        ("# my list\nimage;x;y;z\n# more\n", "semicolons", ("x", "y", "z")),
    ],
)
def test_headers_and_comments_are_passed_over_and_counted(write, head, style, classes):
    files, _ = read_lists(write(LINES[style], head=head), name="lists:mine")
    check(files, classes)
    passed = 3 * len([line for line in head.splitlines() if line])
    assert f"Header and comment lines passed over: {passed}." in files.notes


@pytest.mark.parametrize(
    "files",
    [
        {"test": "query.txt"},
        {"train": "Training.csv", "test": "VAL.txt", "database": "gallery.lst"},
        {"test": "validation.tsv", "database": "db.txt"},
    ],
)
def test_lists_are_found_by_what_people_call_them(write, files):
    root = write(LINES["blanks"], files=files)
    found, _ = read_lists(root, name="lists:mine")
    check(found)
    assert f"queries from {files['test']} (12)" in found.notes[0]


def test_validation_lists_are_left_out_beside_queries_and_two_for_a_part_refused(write):
    root = write(LINES["numbers"])
    (root / "val.txt").write_text("x.png 7\n")
    files, _ = read_lists(root, name="lists:mine")
    check(files)
    assert any(note.startswith("val.txt is left out") for note in files.notes)
    (root / "query.txt").write_text("x.png 7\n")
    with pytest.raises(HashbenchError, match=r"holds query\.txt and test\.txt, which list the same part; keep one"):
        read_lists(root, name="lists:mine")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "images/25.png 0 1 0 0",
            r"Line 2 of .*test\.txt .*it has 4 labels; it needs a path and then 3",
        ),
        ("images/25.png 0 1", "it has 2 labels"),
        ("images/25.png", "it has 1 labels|it needs a path"),
        ("images/25.png 0 1 2", "it has 1 labels"),
        ("images/25.png,0,1,0", "it needs a path"),
        ("images/25.png 0 -1 0", "it has a 0 where other labels are -1 and 1"),
        ("images/25.png 0 1 0\0", "NUL byte"),
    ],
)
def test_a_line_that_does_not_fit_is_shown(write, line, reason):
    root = write(LINES["blanks"])
    text = (root / "test.txt").read_text().splitlines()
    (root / "test.txt").write_text("\n".join([text[0], line, *text[2:]]) + "\n")
    with pytest.raises(HashbenchError, match=reason):
        read_lists(root, name="lists:mine")


@pytest.mark.parametrize(
    ("style", "line", "reason"),
    [
        ("numbers", "images/25.png cat", r"Line 2 of .*'images/25\.png cat': 'cat' is no class number"),
        ("numbers", "images/25.png -1", "-1 is no class number; give whole numbers from 0"),
        ("numbers", "images/25.png 0.5", "'0.5' is no class number"),
        ("numbers", "images/25.png 99999999999999999999", "below 2"),
        ("names", "images/25.png 0.5", "'0.5' is no class number and no name"),
        ("names", "images/25.png None", "'None' is no class number and no name"),
        ("names", "images/25.png cat|dog", "looks like several classes"),
        ("names", "images/25.png 0,2", "looks like several classes"),
        ("names", "images/25.png " + "9" * 5000, "no class number and no name|is no class number"),
        ("names", "images/25.png 7", "'cat' is no class number|'owl' is no class number"),
        ("commas", "images/25.png,0,1,0.5", "'0.5' is no label"),
        ("commas", "images/25.png,0,1,cat", "'cat' is no label"),
        ("commas", "images/25.png,0,1,2", "'2' is no label"),
    ],
)
def test_a_label_of_another_kind_is_shown(write, style, line, reason):
    root = write(LINES[style])
    text = (root / "test.txt").read_text().splitlines()
    (root / "test.txt").write_text("\n".join([text[0], line, *text[2:]]) + "\n")
    with pytest.raises(HashbenchError, match=reason):
        read_lists(root, name="lists:mine")


def test_lists_of_two_styles_and_without_labels_are_refused_by_name(write):
    root = write(LINES["blanks"])
    (root / "test.txt").write_text("images/24.png 1\n")
    with pytest.raises(HashbenchError, match=r"train\.txt 3 zeros and ones, test\.txt one class number"):
        read_lists(root, name="lists:mine")
    (root / "test.txt").write_text("images/24.png 0 0 0\n")
    with pytest.raises(HashbenchError, match=r"No line of .*test\.txt has a label"):
        read_lists(root, name="lists:mine")
    (root / "test.txt").write_text("# nothing\n")
    with pytest.raises(HashbenchError, match="empty but for comments"):
        read_lists(root, name="lists:mine")


@pytest.mark.parametrize("kind", ["folder", "pipe", "binary"])
def test_what_is_no_text_is_one_sentence(write, kind):
    root = write(LINES["blanks"])
    (root / "test.txt").unlink()
    if kind == "folder":
        (root / "test.txt").mkdir()
    elif kind == "pipe":
        os.mkfifo(root / "test.txt")
    else:
        (root / "test.txt").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(HashbenchError, match=r"test\.txt"):
        read_lists(root, name="lists:mine")


def test_class_names_in_a_file_may_be_numbered_from_0_or_1(write):
    root = write(LINES["from 1"])
    (root / "classes.txt").write_text("sun\nmoon\nstar\n")
    files, _ = read_lists(root, name="lists:mine")
    check(files, ("sun", "moon", "star"))
    assert "class numbers 1 to 3, 1 for the first class of classes.txt" in files.notes[1]
    write(LINES["numbers"])
    check(read_lists(root, name="lists:mine")[0], ("sun", "moon", "star"))
    write(LINES["identifiers"])
    with pytest.raises(HashbenchError, match="names 3 classes, but the lists have class numbers"):
        read_lists(root, name="lists:mine")
    write(LINES["names"])
    with pytest.raises(HashbenchError, match=r"Line 1 of .*its class 'cat' is not in classes\.txt"):
        read_lists(root, name="lists:mine")


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        ("sun\n\nmoon\nstar\n", "Line 2 of .*it is blank"),
        ("2 sun\n1 moon\n0 star\n", "another order than that of its lines"),
        ("sun 1\nmoon 0\nstar 2\n", "another order than that of its lines"),
    ],
)
def test_class_names_in_no_clear_order_are_refused(write, classes, reason):
    root = write(LINES["numbers"])
    (root / "Classes.TXT").write_text(classes)
    with pytest.raises(HashbenchError, match=reason):
        read_lists(root, name="lists:mine")


def test_names_that_look_alike_and_headers_that_do_not_fit_are_refused(write):
    root = write(LINES["names"])
    (root / "test.txt").write_text((root / "test.txt").read_text().replace("cat", "Cat"))
    with pytest.raises(HashbenchError, match="look alike, 'Cat' and 'cat'"):
        read_lists(root, name="lists:mine")
    root = write(LINES["blanks"], head="path a b c d\n", folder="other")
    with pytest.raises(HashbenchError, match="names 4 classes in its header, but has labels for 3"):
        read_lists(root, name="lists:other")


@pytest.fixture
def shared(tmp_path, monkeypatch):
    monkeypatch.setenv("HASHBENCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "shared" / "images"
    folder.mkdir(parents=True)
    for i in range(36):
        pixels = np.random.default_rng(i).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    folder.chmod(0o555)
    folder.parent.chmod(0o555)
    yield folder.parent
    folder.parent.chmod(0o755)
    folder.chmod(0o755)


def test_images_elsewhere_are_named_alike_however_they_are_reached(write, shared, tmp_path):
    spellings = {
        "root": prepare(f"lists:{write(LINES['blanks'])}", image_root=shared, progress=False),
        "absolute": prepare(
            f"lists:{write(LINES['blanks'], folder='mine2', image=f'{shared}/images/{{}}.png')}",
            progress=False,
        ),
    }
    linked = write(LINES["blanks"], folder="linked")
    (linked / "images").symlink_to(shared / "images")
    with pytest.raises(HashbenchError, match=r"outside of .*--follow-links"):
        prepare(f"lists:{linked}", progress=False)
    spellings["linked"] = prepare(f"lists:{linked}", follow_links=True, progress=False)
    assert len({made.store.integrity for made in spellings.values()}) == 1
    assert spellings["root"].store.names[0] == "images/0.png"
    assert spellings["absolute"].store.names[0] == "0.png"  # below the folder that all share
    assert load(f"lists:{tmp_path / 'mine'}").split.sha256 == load(f"lists:{linked}").split.sha256  # without a flag


@pytest.mark.parametrize("image", ["../shared/images/{}.png", "{shared}/images/../../x/{}.png"])
def test_paths_that_leave_the_root_are_refused_with_the_way_out(write, shared, image):
    root = write(LINES["blanks"], image=image.replace("{shared}", str(shared)))
    if image.startswith(".."):
        with pytest.raises(HashbenchError, match=r"does not lie below .*; name the folder .* with --image-root"):
            read_lists(root, name="lists:mine")
    with pytest.raises(HashbenchError, match="does not lie below the folder of the images"):
        read_lists(root, name="lists:mine", image_root=shared / "images")
    with pytest.raises(HashbenchError, match=r"The folder of the images, .*nowhere, is not there"):
        read_lists(root, name="lists:mine", image_root=shared / "nowhere")
