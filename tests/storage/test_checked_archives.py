"""Files of several members: whole, as listed, and nothing else."""

import json
import os
import zipfile
from contextlib import suppress

import pytest

from hashbench.errors import HashbenchError
from hashbench.storage.archives import CONTENTS, Archive, write_archive

MEMBERS = {"a.json": b"{}", "run/b.bin": bytes(range(256)) * 40}


@pytest.fixture
def path(tmp_path):
    write_archive(tmp_path / "x.zip", "thing", MEMBERS, {"id": "7"})
    return tmp_path / "x.zip"


def rewritten(path, change, *, compression=zipfile.ZIP_STORED):
    """Write the archive anew, its members (name, bytes) as `change` returns them."""
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in change(members):
            archive.writestr(name, content)


def test_what_is_written_is_read(path):
    with Archive(path, "other", "thing") as archive:
        assert {name: archive.read(name) for name in archive.about["members"]} == MEMBERS
        assert archive.about["id"] == "7"
        assert "a.json" in archive
        assert "c" not in archive
        with pytest.raises(HashbenchError, match="it lacks 'c'"):
            archive.read("c")
    before = path.read_bytes()
    write_archive(path, "thing", MEMBERS, {"id": "7"})
    assert path.read_bytes() == before


def test_a_byte_that_is_another_is_noticed(path):
    content = path.read_bytes()
    for at in range(0, len(content), 37):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with suppress(HashbenchError), Archive(path, "thing") as archive:
            assert {name: archive.read(name) for name in archive.about["members"]} == MEMBERS


def grown(members):
    name, text = members[0]
    contents = json.loads(text)
    contents["members"]["a.json"]["bytes"] = 10**12
    return [(name, json.dumps(contents)), *members[1:]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda members: [*members, ("../../out", b"x")], "other members than it lists"),
        (lambda members: members[:-1], "other members than it lists"),
        (lambda members: [*members, members[-1]], "other members than it lists"),
        (lambda members: members[1:], "is no thing of hashbench; name another"),
        (lambda members: [(CONTENTS, b"{"), *members[1:]], "its list of members is damaged"),
        (lambda members: [(CONTENTS, b'{"members": {"a": 3}}'), *members[1:]], "its list of members is damaged"),
        (grown, "other sizes than it lists"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_other_members_than_listed_are_refused(path, change, reason):
    rewritten(path, change)
    with pytest.raises(HashbenchError, match=reason):
        Archive(path, "thing")


def test_compressed_ones_are_refused(path):
    rewritten(path, lambda members: members, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(HashbenchError, match="compressed or encrypted"):
        Archive(path, "thing")


def test_other_kinds_and_other_files_are_refused(path, tmp_path):
    with pytest.raises(HashbenchError, match="is no jar or box of hashbench; name another"):
        Archive(path, "jar", "box")
    with pytest.raises(HashbenchError, match="There is no"):
        Archive(tmp_path / "none", "thing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(HashbenchError, match="cannot be used"):
        Archive(tmp_path / "text", "thing")


def test_a_pipe_is_not_waited_for_and_a_folder_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "no regular file"), (tmp_path, "a folder")):
        with pytest.raises(HashbenchError, match=f"is {kind}; name a file that holds a thing"):
            Archive(path, "thing")
