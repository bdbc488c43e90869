"""Files of tensors: a change of any byte is noticed, and so is a file of something else."""

import io
import zipfile

import pytest
import torch

from hashbench.storage.tensorfiles import Unusable, load, save

STATE = {"tensors": {"a": torch.arange(12.0).reshape(3, 4), "b": torch.tensor([True, False])}, "seconds": 1.5}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "state.pt"
    save(STATE, path, of="ours")
    return path


def same(state):
    one, other = state["tensors"], STATE["tensors"]
    return {**state, "tensors": 0} == {**STATE, "tensors": 0} and all(
        torch.equal(one[key], other[key]) for key in other
    )


def test_what_was_saved_is_loaded_and_torch_and_zip_read_it_too(path):
    assert same(load(path, of="ours"))
    assert same(load(path))
    assert same(torch.load(path, weights_only=True))
    assert zipfile.ZipFile(path).testzip() is None


def test_a_flipped_byte_is_noticed(path):
    whole = path.read_bytes()
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with pytest.raises(Unusable):
            load(path, of="ours")


@pytest.mark.parametrize("change", [
    lambda whole: b"", lambda whole: b"text", lambda whole: bytes(len(whole)), lambda whole: whole[:-1],
    lambda whole: whole[1:], lambda whole: whole[: len(whole) // 2], lambda whole: whole + b"x",
    lambda whole: whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2),
])  # fmt: skip
def test_what_is_no_file_of_ours_is_unusable(path, change):
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(Unusable):
        load(path, of="ours")


def test_what_belongs_to_something_else_or_does_not_say_is_unusable(path):
    with pytest.raises(Unusable, match="belongs to another run, or to other code or data"):
        load(path, of="theirs")
    with pytest.raises(Unusable, match="belongs to another run"):
        load(path, of="theirs", unmarked=True)
    torch.save(STATE, path)  # as an earlier version wrote it
    with pytest.raises(Unusable, match="does not say what it belongs to"):
        load(path, of="ours")
    assert same(load(path, of="ours", unmarked=True))
    whole = path.read_bytes()
    at = whole.index(STATE["tensors"]["a"].numpy().tobytes())
    path.write_bytes(whole[:at] + b"\1" + whole[at + 1 :])
    assert (
        torch.load(io.BytesIO(path.read_bytes()), weights_only=True)["tensors"]["a"][0, 0] != 0
    )  # torch does not look
    with pytest.raises(Unusable, match="is damaged"):
        load(path, of="ours", unmarked=True)


def test_a_missing_file_is_missing_and_not_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere.pt")
    with pytest.raises(Unusable, match=r"cannot be read \(Is a directory\)"):
        load(tmp_path)
