"""Encoding a folder: what is encoded, what is passed over, what is refused, and what an interruption leaves."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hashbench
from hashbench.errors import HashbenchError
from hashbench.evaluation import folders
from hashbench.evaluation.folders import encode_folder
from hashbench.metrics import unpack
from hashbench.storage.locks import RunLocked, hold_lock

RUN = "3f9a2c71"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of 12 bits for grey images of 12 x 12 pixels."""
    runs = tmp_path_factory.mktemp("runs")
    return hashbench.load(hashbench.run("lsh", "toy", bits=12, runs_dir=runs, progress=False).path)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Twelve images in folders, of several sizes and kinds."""
    monkeypatch.setattr(folders, "BATCH", 4)
    random = np.random.default_rng(0)
    for place in range(12):
        pixels = random.integers(0, 256, (20 + place, 30, 3), np.uint8)
        path = tmp_path / "photos" / "ab"[place % 2] / f"{place}.{('png', 'JPG')[place % 3 > 0]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


def encoded(model, photos, name="codes.npz", **settings):
    """Encode, and return what came of it with the arrays of the file."""
    output = photos.parent / name
    came = encode_folder(model, photos, output, **{"run": RUN, **settings})
    with np.load(output, allow_pickle=False) as stored:
        return came, {key: stored[key] for key in stored.files}


def watched(monkeypatch, *, fail_at=None, error=KeyboardInterrupt):
    """Count the images that are encoded from here on; the batch after so many raises."""
    seen = []

    def encode(self, images, **settings):
        if fail_at is not None and len(seen) >= fail_at:
            raise error
        seen.extend(images)
        return ENCODE(self, images, **settings)

    monkeypatch.setattr("hashbench.networks.model.Model.encode", encode)
    return seen


ENCODE = folders.Model.encode


def test_each_row_is_the_code_of_its_file(model, photos):
    came, stored = encoded(model, photos)
    assert (came.images, came.resumed, came.skipped, came.notes) == (12, 0, {}, ())
    assert stored["files"].tolist() == sorted(str(path.relative_to(photos)) for path in photos.rglob("*.*"))
    for name, code in zip(stored["files"], stored["codes"], strict=True):
        grey = torch.from_numpy(np.array(Image.open(photos / name).convert("L")))[None, None] / 255
        small = torch.nn.functional.interpolate(grey, (12, 12), mode="bilinear", antialias=True)
        assert np.array_equal(unpack(code[None], 12), model.encode(small))
    assert sorted(os.listdir(photos.parent)) == ["codes.npz", "photos"]


def test_what_is_hidden_or_no_image_is_passed_over_and_counted(model, photos):
    _, plain = encoded(model, photos)
    hidden = ("a/._0.png", ".DS_Store", "a/.hidden.jpg", "__MACOSX/a/0.png", ".thumbnails/0.jpg", "@eaDir/0.jpg")
    for name in (*hidden, "list.TXT", "READ"):
        (photos / name).parent.mkdir(exist_ok=True, parents=True)
        (photos / name).write_bytes(b"mac")
    (photos / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(photos / "pipe.png")
    came, stored = encoded(model, photos)
    (note,) = came.notes
    assert note == (
        "Files passed over: 1 ending in .txt, 3 hidden, 1 linked to nothing, 1 of another kind (pipes, devices), 1 "
        "without an ending."
    )
    assert all(np.array_equal(stored[key], plain[key]) for key in plain)


def test_links_to_folders_are_refused_or_followed(model, photos, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(photos / "a/0.png", tmp_path / "elsewhere")
    (photos / "c").symlink_to(tmp_path / "elsewhere")
    for skip in (False, True):
        with pytest.raises(
            HashbenchError, match=r"photos/c is a link to a folder, which is not followed.*--follow-links"
        ):
            encoded(model, photos, skip_broken=skip)
    _, stored = encoded(model, photos, follow_links=True)
    codes = dict(zip(stored["files"].tolist(), stored["codes"].tolist(), strict=True))
    assert len(codes) == 13
    assert codes["c/0.png"] == codes["a/0.png"]


def broken_files(photos):
    """Put one of each broken thing into the folder; returns what is said of each."""
    whole = (photos / "a/0.png").read_bytes()
    (photos / "a/cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "b/text.jpg").write_text("no image")
    (photos / "b/empty.png").touch()
    (photos / "b/there.png").symlink_to(photos / "a/0.png")  # a whole image, wherever it lies
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(photos / "a/deep.png")
    return {
        "a/cut.png": "truncated",
        "a/deep.png": "instead of 8 bits a channel",
        "b/text.jpg": "cannot identify image file 'it'",
        "b/empty.png": "is empty",
    }


def test_broken_files_are_named_before_anything_is_encoded(model, photos, monkeypatch):
    expected = broken_files(photos)
    seen = watched(monkeypatch)
    with pytest.raises(HashbenchError, match=r"3 images below .* cannot be decoded: .*--skip-broken") as refused:
        encoded(model, photos)
    for name, reason in expected.items():
        assert (f"{name} (" in str(refused.value) and reason in str(refused.value)) == (name != "a/cut.png")
    assert not seen  # the cut one alone begins like an image
    assert os.listdir(photos.parent) == ["photos"]


def test_broken_files_are_left_out_and_listed(model, photos):
    _, plain = encoded(model, photos)
    expected = broken_files(photos)
    came, stored = encoded(model, photos, skip_broken=True)
    assert came.images == 13
    assert stored["files"].tolist() == sorted([*plain["files"], "b/there.png"], key=lambda name: name.split("/"))
    of = dict(zip(stored["files"].tolist(), stored["codes"].tolist(), strict=True))
    assert [of[name] for name in plain["files"].tolist()] == plain["codes"].tolist()
    assert of["b/there.png"] == of["a/0.png"]
    listed = {line["file"]: line["reason"] for line in map(json.loads, came.listed.read_text().splitlines())}
    assert listed.keys() == expected.keys()
    assert all(expected[name] in reason for name, reason in listed.items())
    for name in expected:
        (photos / name).unlink()
    assert encoded(model, photos)[0].images == 13
    assert not came.listed.exists()  # it would be about other codes


def test_an_image_that_is_cut_costs_no_work(model, photos, monkeypatch):
    whole = (photos / "a/0.png").read_bytes()
    (photos / "a/0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HashbenchError, match=r"1 image below .* a/0.png \(.* 11 others are kept"):
        encoded(model, photos)
    assert not (photos.parent / "codes.npz").exists()
    seen = watched(monkeypatch)
    (photos / "a/0.png").write_bytes(whole)
    came, _ = encoded(model, photos)
    assert (came.images, came.resumed, len(seen)) == (12, 11, 1)


def test_the_names_in_an_error_are_bounded(model, photos):
    for place in range(30):
        (photos / f"{place:02}.png").write_bytes(b"no image")
    with pytest.raises(HashbenchError, match=r"30 images .*09\.png \([^)]*\) and 20 more; put"):
        encoded(model, photos)


@pytest.mark.parametrize("done", [0, 4, 8])
@pytest.mark.parametrize("error", [KeyboardInterrupt, torch.OutOfMemoryError("CUDA out of memory")])
def test_an_interrupted_encoding_goes_on(model, photos, monkeypatch, done, error):
    _, plain = encoded(model, photos, "plain.npz")
    watched(monkeypatch, fail_at=done, error=error)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else HashbenchError):
        encoded(model, photos)
    assert not (photos.parent / "codes.npz").exists()
    seen = watched(monkeypatch)
    came, stored = encoded(model, photos)
    assert (came.resumed, len(seen)) == (done, 12 - done)
    assert all(np.array_equal(stored[key], plain[key]) for key in plain)
    assert {path.name for path in photos.parent.iterdir()} == {"codes.npz", "plain.npz", "photos"}


def _changed_file(photos):
    Image.fromarray(np.full((9, 9, 3), 200, np.uint8)).save(photos / "a/0.png")


def _touched_file(photos):
    os.utime(photos / "a/0.png", ns=(1, 1))


def _swapped_files(photos):
    (photos / "a/0.png").rename(photos / "spare")
    (photos / "a/10.JPG").rename(photos / "a/0.png")
    (photos / "spare").rename(photos / "a/10.JPG")


def _removed_and_added_files(photos):
    (photos / "a/10.JPG").rename(photos / "a/00.JPG")


CHANGES = {
    "nothing": (lambda photos: None, {}, 8),
    "a file": (_changed_file, {}, 7),
    "its time": (_touched_file, {}, 7),
    "two files": (_swapped_files, {}, 6),
    "names": (_removed_and_added_files, {}, 7),
    "the run": (lambda photos: None, {"run": "other"}, 0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_rows_of_what_has_changed_are_encoded_anew(model, photos, monkeypatch, change):
    watched(monkeypatch, fail_at=8)
    with pytest.raises(KeyboardInterrupt):
        encoded(model, photos)
    do, settings, kept = CHANGES[change]
    do(photos)
    monkeypatch.setattr(folders.Model, "encode", ENCODE)
    came, stored = encoded(model, photos, **settings)
    assert came.resumed == kept
    _, plain = encoded(model, photos, "plain.npz")
    assert all(np.array_equal(stored[key], plain[key]) for key in plain)


def test_rows_of_other_weights_or_of_a_copy_of_the_folder_are_not_taken(model, photos, monkeypatch):
    watched(monkeypatch, fail_at=8)
    with pytest.raises(KeyboardInterrupt):
        encoded(model, photos)
    monkeypatch.setattr(folders.Model, "encode", ENCODE)
    unfinished = photos.parent / ".codes.npz.encoding"
    kept = shutil.copytree(unfinished, photos.parent / "kept")
    shutil.copytree(photos, photos.parent / "photos2")  # with the same times
    assert encode_folder(model, photos.parent / "photos2", photos.parent / "codes.npz", run=RUN).resumed == 0
    shutil.copytree(kept, unfinished)
    planes = model.method.planes.clone()
    try:
        model.method.planes[0, 0] += 1
        assert encoded(model, photos)[0].resumed == 0
    finally:
        model.method.planes.copy_(planes)
    for what in ("source_sha256", "torch.__version__"):  # the method's file, or what computes
        shutil.copytree(kept, unfinished)
        with monkeypatch.context() as patch:
            patch.setattr(f"hashbench.evaluation.folders.{what}", "2.0" if "torch" in what else lambda *of: "0" * 64)
            assert encoded(model, photos)[0].resumed == 0
    shutil.copytree(kept, unfinished)
    assert encoded(model, photos)[0].resumed == 8


def test_two_processes_do_not_write_one_file(model, photos):
    with hold_lock(photos.parent / ".codes.npz.encoding"), pytest.raises(RunLocked, match="is being written by"):
        encoded(model, photos)


@pytest.mark.parametrize(
    ("name", "reason"), [("codes.npy", "not as .npy"), ("codes.faiss", "not as .faiss"), ("photos", "it is a folder")]
)
def test_a_name_for_something_else_is_refused_at_once(model, photos, monkeypatch, name, reason):
    seen = watched(monkeypatch)
    with pytest.raises(HashbenchError, match=reason):
        encoded(model, photos, name)
    assert not seen


def test_a_folder_without_images(model, photos, tmp_path):
    with pytest.raises(HashbenchError, match="There is no folder"):
        encoded(model, tmp_path / "nowhere")
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / ".a.png").touch()
    with pytest.raises(HashbenchError, match=r"holds no images .* Files passed over: 1 hidden"):
        encoded(model, tmp_path / "none")
    (tmp_path / "none" / "a.png").touch()
    with pytest.raises(HashbenchError, match=r"No image below .* can be decoded: a.png \(is empty\)"):
        encoded(model, tmp_path / "none", skip_broken=True)


@pytest.mark.parametrize(("shape", "what"), [((20,), "vectors"), ((4, 12, 12), "images of 4 channels")])
def test_a_run_on_what_is_no_picture_is_refused(model, photos, monkeypatch, shape, what):
    monkeypatch.setattr(model, "shape", shape)
    with pytest.raises(HashbenchError, match=f"This run takes {what}"):
        encoded(model, photos)


def test_an_image_larger_than_memory_is_a_broken_one(model, photos, monkeypatch):
    def read(path, mode):
        if path.name == "0.png":
            raise MemoryError
        return Image.open(path).convert(mode)

    monkeypatch.setattr(folders, "read_picture", read)
    came, _ = encoded(model, photos, skip_broken=True)
    assert came.skipped == {"a/0.png": "its pixels do not fit in memory"}


def test_names_that_are_no_text(model, photos):
    odd = os.fsdecode(b"\xff\xfe =1+1\n.png")
    (photos / "a/0.png").rename(Path(os.fspath(photos), odd))
    (photos / os.fsdecode(b"\xff.png")).write_bytes(b"no image")
    came, stored = encoded(model, photos, skip_broken=True)
    assert odd in stored["files"].tolist()
    assert [json.loads(line)["file"] for line in came.listed.read_text().splitlines()] == [os.fsdecode(b"\xff.png")]
