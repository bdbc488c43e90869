"""A search index against distances computed one by one; what is added, kept, noticed and refused."""

import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from retrained import retrain

import hashbench
from hashbench.errors import HashbenchError
from hashbench.evaluation import folders
from hashbench.registry import METHODS
from hashbench.results.bundle import write_bundle
from hashbench.results.runs import RunDirectory
from hashbench.search.contents import read_contents
from hashbench.storage.archives import Archive, write_archive


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """Forty grey pictures, of which some are alike."""
    root, random = tmp_path_factory.mktemp("taken"), np.random.default_rng(0)
    for place in range(40):
        pixels = random.integers(0, 120, (12, 12), np.uint8)
        pixels[4 * (place % 3) : 4 * (place % 3) + 4] += 100
        path = root / "ab"[place % 2] / f"{place:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


@pytest.fixture
def photos(taken, tmp_path):
    return Path(shutil.copytree(taken, tmp_path / "photos"))


@pytest.fixture(scope="module")
def flat(run, taken, tmp_path_factory):
    """The flat index of these pictures, which no test changes."""
    path = tmp_path_factory.mktemp("index") / "flat.hashindex"
    hashbench.build_index(run, taken, path)
    return path


def image_of(path):
    return torch.from_numpy(np.array(Image.open(path)))[None, None]


def expected(model, root, photo, names):
    """Return distances, and sums of the photo's outputs by the bits of each name's code."""
    outputs = model.encode(image_of(photo), real=True)[0]
    codes = np.concatenate([model.encode(image_of(root / name)) for name in names])
    return (codes != (outputs >= 0)).sum(axis=1), np.array([sum(np.where(code, outputs, -outputs)) for code in codes])


@pytest.mark.parametrize("kind", ["flat", "multi-index", "hnsw"])
@pytest.mark.parametrize("rerank", [False, True])
def test_the_nearest_are_those_of_distances_computed_one_by_one(run, taken, flat, tmp_path, kind, rerank):
    if kind == "hnsw":
        pytest.importorskip("faiss")
    path = Path(shutil.copy(flat, tmp_path))
    hashbench.build_index(path, taken, path, kind=kind)
    index = hashbench.open_index(path)
    names = sorted(str(path.relative_to(taken)) for path in taken.rglob("*.png"))
    assert (len(index), index.kind) == (40, kind)
    photos = [taken / name for name in names[:3]]
    for photo, answer in zip(photos, index.search(photos, top=7, rerank=rerank), strict=True):
        distances, likeness = expected(index.model, taken, photo, names)
        assert [near.distance for near in answer.nearest] == sorted(distances)[:7]
        assert all(distances[names.index(near.name)] == near.distance for near in answer.nearest)
        assert (answer.photo, answer.approximate, answer.reranked) == (photo, kind == "hnsw", rerank)
        assert answer.nearest[0].path == taken / answer.nearest[0].name
        if kind == "hnsw":
            assert "approximate: nearer images may be missing" in answer.notes[0]
            continue
        keys = list(zip(distances, -likeness.round(4) if rerank else [0] * 40, names, strict=True))
        assert [near.name for near in answer.nearest] == [name for *_, name in sorted(keys)[:7]]
        last = sorted(keys)[6][:2]
        assert answer.tied == sum(key[:2] == last for key in keys)
        assert answer.tied_shown == sum(key[:2] == last for key in sorted(keys)[:7])


def test_ties_at_the_cut_are_said(run, photos, tmp_path):
    for place in range(5):
        shutil.copy(photos / "a/00.png", photos / f"same{place}.png")
    hashbench.build_index(run, photos, tmp_path / "i")
    (answer,) = hashbench.open_index(tmp_path / "i").search([photos / "a/00.png"], top=3)
    assert [near.distance for near in answer.nearest] == [0, 0, 0]
    assert answer.tied >= 6
    assert f"3 of {answer.tied} images that are equally near" in answer.notes[0]
    (every,) = hashbench.open_index(tmp_path / "i").search([photos / "a/00.png"], top=1000)
    assert len(every.nearest) == 45
    assert every.notes == ()


def test_images_are_searched_like_files(flat, taken):
    index = hashbench.open_index(flat)
    (by_file,) = index.search([taken / "a/00.png"])
    (by_image,) = index.search_images(image_of(taken / "a/00.png"))
    assert by_image.nearest == by_file.nearest
    assert by_image.photo is None


def test_other_pixels_and_numbers_of_images_are_refused(flat, taken):
    index, image = hashbench.open_index(flat), image_of(taken / "a/00.png").numpy()
    for given in (image.astype(np.int64), image.astype(np.float32)):
        with pytest.raises(HashbenchError, match=r"The images .*; give uint8 from 0 to 255, or floats in \[0, 1\]"):
            index.search_images(given)
    with pytest.raises(HashbenchError, match="no array of numbers"):
        index.search_images(None)
    assert index.search_images((image / 255).astype(">f4"))[0].nearest == index.search_images(image)[0].nearest
    for top in (0, 2.5):
        with pytest.raises(HashbenchError, match=f"nearest {top} images cannot be found; give 1 or more"):
            index.search_images(image, top=top)


def test_a_single_path_is_one_photo(flat, taken):
    index, photo = hashbench.open_index(flat), taken / "a/00.png"
    assert index.search(str(photo)) == index.search(photo) == index.search([photo])
    with pytest.raises(HashbenchError, match=r"There is no photo nowhere\.png"):
        index.search("nowhere.png")


def test_more_images_are_added_and_changed_ones_encoded_anew(run, photos, tmp_path, monkeypatch):
    path, more = tmp_path / "shop.hashindex", tmp_path / "more"
    assert hashbench.build_index(run, photos, path).new == 40
    more.mkdir()
    shutil.copy(photos / "a/00.png", more / "new.png")
    added = hashbench.build_index(path, more, path)
    assert (added.images, added.new) == (41, 1)
    shutil.copy(photos / "a/02.png", photos / "a/00.png")
    (photos / "b/01.png").unlink()
    (photos / "b/99.png").write_bytes((photos / "a/04.png").read_bytes())
    again = hashbench.build_index(path, photos, path)
    assert (again.images, again.new, again.gone) == (42, 2, 1)
    index = hashbench.open_index(path)
    (answer,) = index.search([photos / "a/02.png"], top=42)
    distance = {near.path: near.distance for near in answer.nearest}
    assert distance[photos / "a/00.png"] == 0
    assert {near.path for near in answer.nearest if near.state == "gone"} == {photos / "b/01.png"}
    assert all(near.name == str(near.path) for near in answer.nearest)  # of two folders
    dropped = hashbench.build_index(path, photos, path, drop_gone=True)
    assert (dropped.images, dropped.new, dropped.gone) == (41, 0, 0)
    assert (again.dropped, dropped.dropped) == (0, 1)


@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_a_folder_that_is_gone_is_dropped_on_demand(run, photos, tmp_path, left, kind):
    if kind == "hnsw":
        pytest.importorskip("faiss")
    path, more = tmp_path / "i", tmp_path / "more"
    hashbench.build_index(run, photos, path, kind=kind)
    more.mkdir()
    shutil.copy(photos / "a/02.png", more)
    hashbench.build_index(run, more, path)
    content = path.read_bytes()
    shutil.rmtree(photos)
    if left == "an empty folder":
        photos.mkdir()
        (photos / "text.txt").touch()
    said = "holds no images .*; give" if left == "an empty folder" else "There is no folder .*, or give"
    with pytest.raises(HashbenchError, match=f"{said} --drop-gone, which drops the 40 images of it that the index"):
        hashbench.build_index(path, photos, path)
    with pytest.raises(HashbenchError, match=r"There is no folder .*nowhere; name one with images \([^)]*\)\.$"):
        hashbench.build_index(path, tmp_path / "nowhere", path, drop_gone=True)
    assert path.read_bytes() == content
    came = hashbench.build_index(path, photos, path, drop_gone=True)
    assert (came.images, came.new, came.gone, came.dropped) == (1, 0, 0, 40)
    assert len(came.notes) == (left == "an empty folder")
    (answer,) = hashbench.open_index(path).search([more / "02.png"])
    assert [(near.path, near.distance) for near in answer.nearest] == [(more / "02.png", 0)]
    content = path.read_bytes()
    shutil.rmtree(more)
    with pytest.raises(HashbenchError, match="an index holds at least one, so delete the file"):
        hashbench.build_index(path, more, path, drop_gone=True)
    assert path.read_bytes() == content


def test_files_that_are_others_now_are_noticed(run, photos, tmp_path):
    hashbench.build_index(run, photos, tmp_path / "i")
    (photos / "a/00.png").unlink()
    os.utime(photos / "a/02.png", ns=(1, 1))
    shutil.copy(photos / "a/04.png", tmp_path / "photo.png")
    index = hashbench.open_index(tmp_path / "i")
    (answer,) = index.search([tmp_path / "photo.png"], top=40)
    states = {near.name: near.state for near in answer.nearest}
    assert (states.pop("a/00.png"), states.pop("a/02.png")) == ("gone", "changed")
    assert {*states.values()} == {"as indexed"}
    assert answer.notes == (
        "a/00.png: the file is not there any more.",
        "a/02.png: the file has changed since it was indexed.",
    )
    shutil.rmtree(photos)
    (answer,) = index.search([tmp_path / "photo.png"], top=5)
    assert [near.state for near in answer.nearest] == ["gone"] * 5
    page = hashbench.search_page(index, [answer])
    assert page.count(">the file is not there<") == 5
    assert "5 of the images below have no thumbnail" in page


def test_an_interrupted_indexing_goes_on(run, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "BATCH", 10)
    seen, encode = [], folders.Model.encode

    def failing(self, images, **settings):
        if len(seen) >= 20:
            raise KeyboardInterrupt
        seen.extend(images)
        return encode(self, images, **settings)

    monkeypatch.setattr(folders.Model, "encode", failing)
    with pytest.raises(KeyboardInterrupt):
        hashbench.build_index(run, photos, tmp_path / "i")
    assert not (tmp_path / "i").exists()
    monkeypatch.setattr(folders.Model, "encode", encode)
    came = hashbench.build_index(run, photos, tmp_path / "i")
    assert (came.images, came.resumed) == (40, 20)
    assert not (tmp_path / ".i.encoding").exists()


def test_broken_images_are_left_out_and_listed(run, photos, tmp_path):
    (photos / "cut.png").write_bytes((photos / "a/00.png").read_bytes()[:100])
    with pytest.raises(HashbenchError, match=r"cut.png .*--skip-broken"):
        hashbench.build_index(run, photos, tmp_path / "i")
    came = hashbench.build_index(run, photos, tmp_path / "i", skip_broken=True)
    assert (came.images, [*came.skipped]) == (40, ["cut.png"])
    assert "cut.png" in came.listed.read_text()


def test_an_index_is_loaded_like_its_run(run, flat, taken):
    image = image_of(taken / "a/00.png")
    assert np.array_equal(hashbench.load(flat).encode(image), hashbench.load(run).encode(image))


def test_a_source_that_has_changed_since_the_run_is_a_warning(run, changed, photos, tmp_path, monkeypatch):
    said = "the method's source has changed since, but not its version; --rerun stale runs it again, and codes made now"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hashbench.load(run)
        hashbench.build_index(run, photos, tmp_path / "i")
    assert hashbench.open_index(tmp_path / "i").notes == ()
    with pytest.warns(UserWarning, match=f"^{changed}: {said}"):
        hashbench.load(changed)
    for named in (changed, tmp_path / "j"):  # made, then brought up to date
        with pytest.warns(UserWarning, match=f"^{named}: {said}"):
            hashbench.build_index(named, photos, tmp_path / "j")
    monkeypatch.setattr("hashbench.search.building.pillow", "1.0")
    of_source, of_versions = hashbench.open_index(tmp_path / "j").notes
    assert of_source.startswith(f"{tmp_path / 'j'}: {said}")
    assert "(here 1.0)" in of_versions
    crh = METHODS.get("crh")
    monkeypatch.setattr(crh, "info", replace(crh.info, version=99))
    with pytest.warns(UserWarning, match=r"has version 99 here, and had version \d then, and codes"):
        hashbench.load(run)


def test_an_index_of_another_run_or_of_folders_within_each_other_is_refused(run, photos, flat, tmp_path):
    other = hashbench.run("lsh", "toy", bits=12, progress=False, runs_dir=tmp_path / "runs").path
    path, content = Path(shutil.copy(flat, tmp_path)), flat.read_bytes()
    with pytest.raises(HashbenchError, match="cannot be compared with those of"):
        hashbench.build_index(other, photos, path)
    hashbench.build_index(run, photos, tmp_path / "i")
    with pytest.raises(HashbenchError, match="lie within each other"):
        hashbench.build_index(run, photos / "a", tmp_path / "i")
    assert path.read_bytes() == content
    hashbench.build_index(other, photos, tmp_path / "j")
    with pytest.raises(HashbenchError, match="'lsh' has no network"):
        hashbench.open_index(tmp_path / "j").search([photos / "a/00.png"], rerank=True)


@pytest.mark.parametrize("form", ["run", "bundle", "index"])
def test_a_run_that_was_trained_again_is_another_model_where_its_weights_are(run, photos, flat, tmp_path, form):
    path, content = Path(shutil.copy(flat, tmp_path)), flat.read_bytes()

    def named(trained):
        return {"run": trained, "bundle": tmp_path / f"{form}.zip", "index": tmp_path / f"{form}.hashindex"}[form]

    again = Path(shutil.copytree(run, tmp_path / "again"))
    for same in (True, False):
        if not same:
            retrain(again)
        write_bundle(RunDirectory(again), tmp_path / "bundle.zip")
        (tmp_path / "index.hashindex").unlink(missing_ok=True)
        hashbench.build_index(again, photos, tmp_path / "index.hashindex")
        if same:
            assert hashbench.build_index(named(again), photos, path).images == 80
            path.write_bytes(content)
    assert read_contents(tmp_path / "index.hashindex").run == read_contents(path).run
    with pytest.raises(
        HashbenchError,
        match=r"holds codes of the run (\w{8}) with the weights (\w{8}), which cannot be compared with those of \1 "
        r"with the weights (?!\2)\w{8}; name another file, or the run that it was made with\.",
    ):
        hashbench.build_index(named(again), photos, path)
    assert path.read_bytes() == content
    assert not (tmp_path / f".{path.name}.encoding").exists()


def test_an_index_that_was_changed_meanwhile_is_not_overwritten(run, photos, tmp_path, monkeypatch):
    path = tmp_path / "i"
    hashbench.build_index(run, photos, path)
    encode_images = folders.encode_images

    def slow(*arguments, **settings):
        path.write_bytes(path.read_bytes())  # by somebody who asks for no lock
        return encode_images(*arguments, **settings)

    monkeypatch.setattr("hashbench.search.building.encode_images", slow)
    with pytest.raises(HashbenchError, match="was changed meanwhile"):
        hashbench.build_index(run, photos, path)


def test_damaged_files_are_noticed(flat, taken, tmp_path):
    content, noticed = flat.read_bytes(), 0
    expected = hashbench.open_index(flat).search([taken / "a/00.png"])
    places = [*range(100, len(content), len(content) // 20)]
    for at in places:
        (tmp_path / "i").write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        try:
            found = hashbench.open_index(tmp_path / "i").search([taken / "a/00.png"])
        except HashbenchError:
            noticed += 1
        else:
            assert found == expected
    assert noticed > len(places) / 2  # the others are in the card, or in dates
    (tmp_path / "i").write_bytes(content[: len(content) // 2])
    with pytest.raises(HashbenchError, match="it is cut short"):
        hashbench.open_index(tmp_path / "i")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"search": "magic"}, "to be searched by 'magic'"),
        ({"images": 39}, "its parts do not fit together"),
        ({"bits": 20}, "its codes are uint8"),
        ({"folders": []}, "its names are damaged"),
        ({"versions": 3}, "its contents are damaged"),
        ({"earlier": [3]}, "its contents are damaged"),
    ],
)
def test_parts_that_do_not_fit_are_refused(flat, tmp_path, change, reason):
    with Archive(flat, "search index") as archive:
        about = {key: value for key, value in archive.about.items() if key not in ("kind", "members")}
        members = {name: archive.read(name) for name in archive.about["members"]}
    write_archive(tmp_path / "i", "search index", members, about | change)
    with pytest.raises(HashbenchError, match=reason):
        read_contents(tmp_path / "i")


def test_questions_that_cannot_be_answered(flat, taken, tmp_path):
    index = hashbench.open_index(flat)
    with pytest.raises(HashbenchError, match="There is no photo"):
        index.search([taken])
    with pytest.raises(HashbenchError, match="give 1 or more"):
        index.search([taken / "a/00.png"], top=0)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(HashbenchError, match=r"text\.png cannot be decoded"):
        index.search([tmp_path / "text.png"])
    assert index.search([]) == []
    with pytest.raises(HashbenchError, match="Unknown kind of index 'flatt'"):
        hashbench.build_index(flat, taken, tmp_path / "i", kind="flatt")


def test_versions_that_differ_are_said(flat, monkeypatch):
    assert hashbench.open_index(flat).notes == ()
    monkeypatch.setattr("hashbench.search.building.pillow", "1.0")
    (note,) = hashbench.open_index(flat).notes
    assert "(here 1.0): a photo's code may differ" in note


def test_versions_of_images_that_an_update_keeps_stay_said(run, photos, tmp_path, monkeypatch):
    def notes_of_update(pillow, folder=photos, **settings):
        monkeypatch.setattr("hashbench.search.building.pillow", pillow)
        hashbench.build_index(run, folder, tmp_path / "i", **settings)
        return " ".join(hashbench.open_index(tmp_path / "i").notes)

    (tmp_path / "more").mkdir()
    shutil.copy(photos / "a/00.png", tmp_path / "more")
    assert notes_of_update("1.0") == ""
    assert "in part written with pillow 1.0 (here 2.0): a photo's code may differ" in notes_of_update("2.0")
    assert "in part written with pillow 1.0, 2.0 (here 3.0):" in notes_of_update("3.0", tmp_path / "more")
    assert "in part written with pillow 2.0, 3.0 (here 1.0):" in notes_of_update("1.0")
    monkeypatch.setattr("hashbench.search.building.pillow", "4.0")
    assert (
        "The index was written with pillow 2.0, 3.0, 1.0 (here 4.0):" in hashbench.open_index(tmp_path / "i").notes[0]
    )
    for path in photos.rglob("*.png"):
        os.utime(path, ns=(2, 2))
    assert "pillow 2.0, 3.0, 1.0 (here 4.0)" in notes_of_update("4.0")  # of the other folder
    (tmp_path / "more/00.png").unlink()
    shutil.copy(photos / "a/04.png", tmp_path / "more")
    assert "in part written" in notes_of_update("4.0", tmp_path / "more", drop_gone=True)
    shutil.rmtree(tmp_path / "more")
    assert "in part written" in notes_of_update("4.0", tmp_path / "more", drop_gone=True)
    for path in photos.rglob("*.png"):
        os.utime(path, ns=(3, 3))
    assert notes_of_update("4.0") == ""  # all were encoded anew


def test_an_index_from_before_earlier_versions_were_kept_is_read(flat, photos, tmp_path, monkeypatch):
    with Archive(flat, "search index") as archive:
        about = {key: value for key, value in archive.about.items() if key not in ("kind", "members", "earlier")}
        members = {name: archive.read(name) for name in archive.about["members"]}
    write_archive(tmp_path / "i", "search index", members, about)
    assert hashbench.open_index(tmp_path / "i").notes == ()
    monkeypatch.setattr("hashbench.search.building.pillow", "1.0")
    hashbench.build_index(tmp_path / "i", photos, tmp_path / "i")
    assert "in part written with pillow" in hashbench.open_index(tmp_path / "i").notes[0]
