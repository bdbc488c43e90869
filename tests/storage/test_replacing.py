"""A file takes the place of a file or of nothing: never of a folder, a pipe or a device."""

import os
import stat
from pathlib import Path

import pytest

from hashbench.errors import HashbenchError
from hashbench.storage.files import replacing


@pytest.mark.parametrize("place", [".", "..", "folder", "pipe", "link", "circle"])
def test_what_is_no_file_stays(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    os.mkdir("folder")
    os.mkfifo("pipe")
    os.symlink("pipe", "link")
    os.symlink("circle", "circle")
    before = sorted(os.listdir())
    said = r"^Cannot write .*: it is (a folder|no regular file); name a file\.$"
    with pytest.raises(HashbenchError, match=said), replacing(Path(place)) as file:
        file.write(b"content")
    assert sorted(os.listdir()) == before
    assert stat.S_ISFIFO(os.stat("link").st_mode)


def test_a_name_that_is_too_long_says_so(tmp_path):
    with (
        pytest.raises(HashbenchError, match="File name too long; name a shorter one"),
        replacing(tmp_path / ("n" * 250)),
    ):
        pass


def test_a_file_is_replaced(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with replacing(tmp_path / "a") as file:
        file.write(b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("there", [True, False])
def test_what_a_link_leads_to_is_replaced(tmp_path, monkeypatch, there):
    monkeypatch.chdir(tmp_path)
    os.mkdir("elsewhere")
    os.symlink("elsewhere/a", "link")
    os.symlink("link", "further")
    if there:
        Path("elsewhere/a").write_bytes(b"old")
    with replacing(Path("further")) as file:
        file.write(b"new")
    assert (os.readlink("further"), os.readlink("link")) == ("link", "elsewhere/a")
    assert Path("elsewhere/a").read_bytes() == b"new"
    with pytest.raises(RuntimeError), replacing(Path("link")) as file:
        raise RuntimeError
    assert os.listdir("elsewhere") == ["a"]
    assert Path("link").read_bytes() == b"new"
