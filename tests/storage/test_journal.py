"""The journal: whatever becomes of its file, what is read from it is what was written, for the same subject."""

import json

import pytest

from hashbench.errors import HashbenchError
from hashbench.storage.journal import Journal

ENTRIES = [["a", 1], {"b\n": [None, 2.5]}, "\udcff\u00fc"]
SUBJECT = {"run": "3f", "bits": 8}


@pytest.fixture
def path(tmp_path):
    with Journal(tmp_path / "rows", SUBJECT) as journal:
        assert journal.entries == []
        for entry in ENTRIES:
            journal.append(entry)
    return tmp_path / "rows"


def test_entries_are_read_back_and_continued(path):
    with Journal(path, SUBJECT) as journal:
        assert journal.entries == ENTRIES
        journal.append("more")
    with Journal(path, SUBJECT) as journal:
        assert journal.entries == [*ENTRIES, "more"]


def test_a_file_cut_anywhere_keeps_its_whole_lines(path):
    content = path.read_bytes()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        whole = content[:length].count(b"\n")
        with Journal(path, SUBJECT) as journal:
            assert journal.entries == ENTRIES[:whole]
            journal.append("more")
        with Journal(path, SUBJECT) as journal:
            assert journal.entries == [*ENTRIES[:whole], "more"]


def test_a_byte_changed_anywhere_ends_what_is_read(path):
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with Journal(path, SUBJECT) as journal:
            assert journal.entries == ENTRIES[: content[:place].count(b"\n")]


def test_lines_that_were_moved_removed_or_belong_to_another_subject_are_not_read(path, tmp_path):
    first, second, third = path.read_bytes().splitlines(keepends=True)
    for lines, kept in (((second, third), 0), ((first, third), 1), ((first, second, second), 2), ((third, first), 0)):
        path.write_bytes(b"".join(lines))
        with Journal(path, SUBJECT) as journal:
            assert journal.entries == ENTRIES[:kept]
    for other in ({**SUBJECT, "bits": 16}, {}, {"bits": 8, "run": "3"}):
        path.write_bytes(b"".join((first, second, third)))
        with Journal(path, other) as journal:
            assert journal.entries == []


@pytest.mark.parametrize("content", [b"", b"\n", b"0" * 64 + b" 1\n", json.dumps(ENTRIES).encode(), bytes(range(256))])
def test_another_file_is_begun_anew(tmp_path, content):
    (tmp_path / "rows").write_bytes(content)
    with Journal(tmp_path / "rows", SUBJECT) as journal:
        assert journal.entries == []
    assert (tmp_path / "rows").read_bytes() == b""


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(HashbenchError, match=r"Cannot write .*missing/rows"):
        Journal(tmp_path / "missing" / "rows", SUBJECT)
