"""Notes with their own checksum, and what killed processes left in a cache folder."""

import pytest

from hashbench.storage.files import exclusive, lock_of, remove_abandoned, version_of
from hashbench.storage.notes import read_note, write_note


def test_a_note_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "note"
    assert read_note(path) is None
    write_note(path, {"rows": 3, "name": "a"})
    assert read_note(path) == {"rows": 3, "name": "a"}


def test_a_flip_of_any_byte_of_a_note_is_noticed(tmp_path):
    path = tmp_path / "note"
    write_note(path, {"rows": 4096, "chunks": [[1, "ab"]]})
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert read_note(path) is None


@pytest.mark.parametrize("text", ["", "abc", "-4096", "99999999", "null", "[]", "{}", '{"sha256": 3}', "[" * 100_000])
def test_what_is_no_note_is_none(tmp_path, text):
    (tmp_path / "note").write_text(text)
    assert read_note(tmp_path / "note") is None


def test_half_written_files_go_unless_their_writer_holds_its_lock(tmp_path):
    ours, theirs, kept = (tmp_path / name for name in (
        ".a-1.pt.4711-0123abcd.part", ".b.2.rows.4711-0123abcd.part", "c.npy"))  # fmt: skip
    for path in (ours, theirs, kept):
        path.write_bytes(b"half")
    with exclusive(lock_of(tmp_path / "b.2.npy")):
        remove_abandoned(tmp_path)
        assert not ours.exists()
        assert theirs.exists()
    remove_abandoned(tmp_path)
    assert not theirs.exists()
    assert kept.exists()


def test_a_file_that_changed_has_another_version_even_with_its_old_times(tmp_path):
    import os

    path = tmp_path / "a"
    path.write_bytes(b"abc")
    before, status = version_of(path), path.stat()
    path.write_bytes(b"abd")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert version_of(path) != before
    assert version_of(tmp_path / "nowhere") is None
