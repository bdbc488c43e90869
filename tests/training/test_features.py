"""Cached features: whatever lies in the cache, a run gets the features of its images."""

import dataclasses
import functools
import os
import random
import time

import numpy as np
import pytest
import torch
import toy_dataset

from hashbench import datasets, recipes
from hashbench.storage.cache import cache_root
from hashbench.storage.files import RESUMED_WITHIN, exclusive
from hashbench.storage.notes import read_note, write_note
from hashbench.training import features as module
from hashbench.training.features import features

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_A_TIME", 40)


def recipe(size=0):
    found = recipes.load("frozen", overrides={"backbone": "toy-backbone"}, multi_label=False)
    return dataclasses.replace(found, size=size)


@functools.cache
def store():
    return datasets.load("toy").store


def get(size=0):
    return np.array(features(store(), recipe(size), weights="w", device=CPU, progress=False))


@pytest.fixture
def expected():
    """The features, computed without the module; they are in the cache then."""
    images = torch.from_numpy(store().inputs).float() / 255
    wanted = toy_dataset.ToyBackbone((1, 12, 12))(images).detach().numpy()
    np.testing.assert_allclose(get(), wanted, rtol=1e-5, atol=1e-6)
    return get()


def kept(suffix):
    (path,) = (cache_root() / "features").glob("*.npy")
    return path.with_suffix(suffix)


def zeros(dtype=np.float32, shape=(150, 16)):
    def write(path):
        with path.open("wb") as file:
            np.save(file, np.zeros(shape, dtype))

    return write


def changed(change):
    def write(path):
        path.write_bytes(change(path.read_bytes()))

    return write


DAMAGES = {
    "a flipped bit": changed(lambda whole: whole[:700] + bytes([whole[700] ^ 1]) + whole[701:]),
    "torn": changed(lambda whole: whole[:-500]),
    "empty": changed(lambda whole: b""),
    "bad magic": changed(lambda whole: b"\x93NUMPX" + whole[6:]),
    "no numpy header": changed(lambda whole: whole[:10] + b"\xff" * 60 + whole[70:]),
    "an archive": changed(lambda whole: b"PK\x03\x04" + whole),
    "zeros to the end": changed(lambda whole: whole[:3000] + bytes(len(whole) - 3000)),
    "longer": changed(lambda whole: whole + b"more"),
    "zeros": zeros(),
    "another type": zeros(np.float64),
    "another shape of one size": changed(lambda whole: whole.replace(b"(150, 16), ", b"(300, 8),  ")),
    "columns before rows": changed(lambda whole: whole.replace(b"'fortran_order': False", b"'fortran_order': True ")),
    "fewer rows": zeros(shape=(75, 16)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_computed_anew_with_a_warning(expected, caplog, damage):
    DAMAGES[damage](kept(".npy"))
    assert np.array_equal(get(), expected)
    assert f"{kept('.npy')} is damaged and is computed anew." in caplog.text
    caplog.clear()
    assert np.array_equal(get(), expected)
    assert caplog.text == ""


NOTES = ["", "abc", "-4096", "99999999", "150", "null", "{}", '{"of": "a", "sha256": "b"}']


@pytest.mark.parametrize("note", NOTES)
def test_a_file_without_checksums_is_computed_anew(expected, caplog, note):
    kept(".rows").write_text(note)
    assert np.array_equal(get(), expected)
    assert "has no checksums and is computed anew" in caplog.text


@pytest.mark.parametrize("note", [*NOTES, "older than the part"])
def test_a_part_is_resumed_only_as_far_as_its_note_states_its_rows(expected, note):
    """Such as a note of all rows, left by a kill, beside a part in which only the first chunk was begun."""
    if note != "older than the part":
        kept(".rows").write_text(note)
    os.rename(kept(".npy"), kept(".npy").with_suffix(".part"))
    part = next((cache_root() / "features").glob("*.part"))
    zeros()(part)
    assert np.array_equal(get(), expected)
    assert sorted(path.suffix for path in part.parent.iterdir()) == [".lock", ".npy", ".rows"]


@pytest.mark.parametrize(("altered", "computed"), [(None, 30), (130, 30), (90, 70), (0, 150)])
def test_whole_chunks_of_a_part_are_not_computed_again(expected, monkeypatch, altered, computed):
    """Chunks of 40 rows, three of them done; a bit of row `altered` is flipped."""
    note, path = read_note(kept(".rows")), kept(".npy")
    write_note(kept(".rows"), {**note, "chunks": note["chunks"][:3]})
    os.rename(path, path.with_suffix(".part"))
    if altered is not None:
        array = np.lib.format.open_memmap(path.with_suffix(".part"), mode="r+")
        array.view(np.uint32)[altered, 3] ^= 1
        array.flush()
    seen = []
    forward = toy_dataset.ToyBackbone.forward
    monkeypatch.setattr(toy_dataset.ToyBackbone, "forward", lambda self, x: seen.append(len(x)) or forward(self, x))
    assert np.array_equal(get(), expected)
    assert sum(seen) == computed


def test_features_of_something_else_under_this_name_are_computed_anew(expected, caplog):
    own = kept(".npy")
    other = get(size=6)
    (theirs,) = set(own.parent.glob("*.npy")) - {own}
    assert not np.array_equal(other, expected)
    for suffix in (".npy", ".rows"):
        own.with_suffix(suffix).write_bytes(theirs.with_suffix(suffix).read_bytes())
    assert np.array_equal(get(), expected)
    assert "belongs to other inputs or another backbone and is computed anew" in caplog.text


def test_another_weights_file_of_a_plug_in_gives_other_features(expected, monkeypatch, tmp_path):
    weights = tmp_path / "weights"
    weights.write_bytes(b"one")
    monkeypatch.setattr(toy_dataset.toy_backbone, "weights_file", weights)
    get()
    before = set((cache_root() / "features").glob("*.npy"))
    weights.write_bytes(b"two")
    get()
    assert len(set((cache_root() / "features").glob("*.npy")) - before) == 1


def test_random_damage_never_reaches_a_run(expected):
    """Thirty random changes of the finished file, of its note, and of a part with a note."""
    chance = random.Random(0)
    path, whole, note = kept(".npy"), kept(".npy").read_bytes(), kept(".rows").read_bytes()
    for _ in range(30):
        for file in path.parent.iterdir():
            file.unlink()
        files = {path.with_suffix(chance.choice([".npy", ".part"])): whole, path.with_suffix(".rows"): note}
        hit = chance.choice([*files])
        content = files[hit]
        at, end = sorted(chance.randrange(len(content)) for _ in range(2))
        noise = chance.choice([bytes(end - at), chance.randbytes(end - at), b"", content[:10]])
        files[hit] = content[:at] + noise + content[end:]
        for file, text in files.items():
            file.write_bytes(text)
        assert np.array_equal(get(), expected)


def test_what_killed_processes_left_of_other_features_is_removed(expected):
    folder = kept(".npy").parent
    names = ["half.part", "old.part", "old.rows", "young.part", "young.rows", "alone.rows", "held.part",
             ".x.rows.12-0123abcd.part", ".held.rows.12-0123abcd.part"]  # fmt: skip
    for name in names:
        (folder / name).write_bytes(b"x")
    long_ago = time.time() - RESUMED_WITHIN - 60
    os.utime(folder / "old.part", (long_ago, long_ago))
    kept(".npy").unlink()
    with exclusive(folder / "held.lock"):  # as a process that computes does
        assert np.array_equal(get(), expected)
    left = {path.name for path in folder.iterdir() if path.suffix != ".lock"}
    assert left - {kept(".npy").name, kept(".rows").name} == {
        "young.part", "young.rows", "held.part", ".held.rows.12-0123abcd.part"
    }  # fmt: skip
