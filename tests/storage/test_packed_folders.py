"""A folder in a zip file: read as a folder is, and refused where it holds what no folder of files can."""

import os
import stat
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from hashbench.errors import HashbenchError
from hashbench.storage import files, packed

CONTENTS = {"a.json": b"{}", "b/c/d.bin": bytes(range(256)), "b/e": b"", ".f/g": b"7"}


@pytest.fixture
def both(tmp_path, monkeypatch):
    """The same files as a folder and as a zip file, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name, content in CONTENTS.items():
        Path("folder", name).parent.mkdir(parents=True, exist_ok=True)
        Path("folder", name).write_bytes(content)
    write("folder.zip", CONTENTS.items())
    return Path("folder"), Path("folder.zip")


def write(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members:
            archive.writestr(member, content)
        archive.comment = packed.seal(archive)


def test_it_is_read_as_the_folder_is(both):
    folder, packed = both
    names = [*CONTENTS, "b", "b/c", "none", "b/none", "a.json/none"]
    for ask in (files.exists, files.is_file, files.is_folder):
        assert [ask(packed / name) for name in names] == [ask(folder / name) for name in names]
    assert files.is_folder(packed)
    for name, content in CONTENTS.items():
        assert files.read_note(packed / name) == content
        assert files.sha256(packed / name) == files.sha256(folder / name)
        assert files.version_of(packed / name) == files.version_of(packed)
    assert files.version_of(packed / "none") is None
    assert files.names_in(packed / "b") == ["c", "e"]
    for name in ("none", "b/none/e", "b"):
        with pytest.raises(NotADirectoryError):
            files.read_note(packed / name)
    with pytest.raises(FileNotFoundError):
        files.names_in(packed / "none")
    with pytest.raises(OSError, match="more than 9 bytes"):
        files.read_note(packed / "b/c/d.bin", 9)

    def walked(top):
        return [(place[len(str(top)) :], sorted(folders), sorted(names)) for place, folders, names in files.walk(top)]

    assert sorted(walked(packed)) == sorted(walked(folder))
    assert sorted(walked(packed / "b")) == sorted(walked(folder / "b"))
    for _, folders, _ in files.walk(packed):
        assert "d.bin" not in folders
        folders.clear()  # as run directories end a walk


def test_a_folder_that_is_called_like_a_zip_file_is_one(both):
    folder, packed = both
    packed.unlink()
    folder.rename("folder.zip")
    assert files.read_note(packed / "a.json") == b"{}"
    assert not files.exists(packed / "none")


def test_a_file_that_takes_its_place_is_read_anew(both):
    _, packed = both
    assert files.read_note(packed / "a.json") == b"{}"
    write("new.zip", [("a.json", b"[]")])
    os.replace("new.zip", packed)
    assert files.read_note(packed / "a.json") == b"[]"
    assert not files.exists(packed / "b")


def test_threads_read_it_at_once(both):
    _, packed = both
    with ThreadPoolExecutor(8) as pool:
        read = pool.map(lambda name: files.read_note(packed / name) == CONTENTS[name], [*CONTENTS] * 50)
    assert all(read)


def test_what_is_written_into_it_is_refused(both):
    _, packed = both
    with pytest.raises(HashbenchError, match=r"folder\.zip/b/x: .*; unzip that file first, and name the folder"):
        files.write_text(packed / "b" / "x", "")
    assert files.names_in(packed / "b") == ["c", "e"]


def special(name, mode):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


REFUSED = {
    "absolute": ([("/etc/x", b"")], "its '/etc/x' is no name inside a folder"),
    "upwards": ([("a/../../x", b"")], "its 'a/../../x' is no name inside a folder"),
    "backslash": ([("..\\x", b"")], "is no name inside a folder"),
    "no name": ([("a//x", b"")], "is no name inside a folder"),
    "deep": ([("a/" * 99 + "x", b"")], "is no name inside a folder"),
    "link": ([(special("a", stat.S_IFLNK | 0o777), b"/etc/passwd")], "its 'a' is a link or a device"),
    "pipe": ([(special("a", stat.S_IFIFO), b"")], "its 'a' is a link or a device"),
    "twice": ([("a", b"1"), ("a", b"2")], "it holds two files 'a'"),
    "file and folder": ([("a", b"1"), ("a/b", b"2")], "its 'a' is both a file and a folder"),
    "bomb": ([("a", bytes(2000))], "its 'a' has 2,000 bytes when it is unpacked"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", REFUSED)
def test_what_no_folder_can_hold_is_refused(both, case, monkeypatch):
    members, reason = REFUSED[case]
    monkeypatch.setattr(packed, "LARGEST", 1999)
    write("x.zip", [*members, ("good", b"1")])
    with pytest.raises(HashbenchError) as error:
        files.is_folder(Path("x.zip"))
    assert str(error.value).startswith(f"x.zip cannot be used: {reason}" if reason[:3] == "its" else "x.zip cannot be")
    assert reason in str(error.value)
    assert str(error.value).endswith("; copy it anew, or pack the runs again.")


def test_what_is_encrypted_is_refused(both):
    _, packed = both
    content = bytearray(packed.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 8] |= 1
    packed.write_bytes(content)
    with pytest.raises(HashbenchError, match="is encrypted"):
        files.is_folder(packed)


def test_damage_is_noticed_or_changes_nothing(both):
    _, packed = both
    whole = packed.read_bytes()
    for at in range(0, len(whole), 2):
        packed.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with suppress(HashbenchError):
            assert {name: files.read_note(packed / name) for name in CONTENTS} == CONTENTS
    for size in range(0, len(whole) - 85, 9):  # before its end and the seal there
        packed.write_bytes(whole[:size])
        with pytest.raises(HashbenchError, match="it is cut short, or no zip file"):
            files.is_folder(packed)
