"""Output that cannot be written, and names that no terminal or file should get as they are."""

import errno
import io
import os
import sys

import numpy as np
import pytest

from hashbench.cli import main
from hashbench.results.runs import RunDirectory


class Refusing(io.RawIOBase):
    """A stream that refuses each write with one error of the system, as a full disk or a closed pipe does."""

    def __init__(self, number):
        self.number = number

    def writable(self):
        return True

    def write(self, data):
        raise OSError(self.number, os.strerror(self.number))


@pytest.fixture
def ended(tmp_path, monkeypatch, capsys):
    """Run the command with a stdout that refuses to be written; return its exit code and stderr."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, array in {"q": rng.random((5, 8)) > 0.5, "d": rng.random((9, 8)) > 0.5}.items():
        np.save(f"{name}.npy", array)
        np.save(f"{name}_labels.npy", np.arange(len(array)) % 3)

    def call(*arguments, number, unbuffered=False):
        raw = Refusing(number)
        buffer = raw if unbuffered else io.BufferedWriter(raw)
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, "utf-8", write_through=unbuffered))
        with pytest.raises(SystemExit) as end:
            main([*map(str, arguments)])
        return end.value.code, capsys.readouterr().err

    return call


EVALUATE = ("evaluate", "q.npy", "d.npy", "q_labels.npy", "d_labels.npy")
RUN = ("run", "--method", "lsh", "--dataset", "toy", "--bits", "8", "--quiet")
COMMANDS = {
    "list": ("list", "recipes"),
    "help": ("--help",),
    "help of a command": ("compare", "--help"),
    "version": ("--version",),
    "evaluate": EVALUATE,
    "run": RUN,
    "dry run": (*RUN, "--dry-run"),
}


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("what", COMMANDS)
def test_a_full_disk_is_one_sentence(ended, what, unbuffered):
    code, said = ended(*COMMANDS[what], number=errno.ENOSPC, unbuffered=unbuffered)
    assert code == 2
    assert said.splitlines()[-1] == (
        "Error: The output cannot be written: No space left on device; make room there, or send it elsewhere."
    )


@pytest.mark.parametrize("what", COMMANDS)
def test_a_reader_who_has_enough_ends_it_quietly(ended, what):
    code, said = ended(*COMMANDS[what], number=errno.EPIPE)
    assert code == 141
    assert "Error" not in said
    assert "mAP@all" not in said


def test_the_numbers_of_evaluate_are_not_lost(ended, tmp_path):
    code, said = ended(*EVALUATE, "--per-query", "each.npz", number=errno.ENOSPC)
    assert code == 2
    assert "mAP@all" in said
    assert (tmp_path / "each.npz").is_file()


def test_a_run_says_where_its_numbers_are(ended, tmp_path):
    _, said = ended(*RUN, number=errno.ENOSPC)
    assert "Results are in runs; `hashbench compare runs` shows them again." in said
    assert len([*tmp_path.rglob("result.json")]) == 1


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_what_goes_to_a_closed_stream_goes_nowhere(ended, monkeypatch, closed):
    ended(*RUN, number=errno.ENOSPC)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    for arguments, code in ((("compare", "runs"), 0), (EVALUATE, 0), (("compare", "no-runs"), 2)):
        monkeypatch.setattr(sys, closed, None)  # as Python has it after `>&-`
        with pytest.raises(SystemExit) as end:
            main([*arguments])
        getattr(sys, closed).close()
        assert end.value.code == code


@pytest.mark.parametrize("name", ["bad\udcff", "a\x1b[2Jb", "a\nb", "x" * 5000])
def test_any_name_is_one_readable_line(cli, name):
    said = cli("compare", name, code=2).stderr
    (line,) = said.splitlines()
    assert line.startswith("Error: There is no folder")
    assert "\x1b" not in line
    assert len(line) < 600


def test_a_number_of_thousands_of_digits_is_one_sentence(cli, tmp_path):
    (tmp_path / "runs").mkdir()
    assert "--model names more queries" in cli("verify", "runs", "--model", "1" * 5000, code=2).stderr


def test_a_nul_is_refused_wherever_it_stands(cli, tmp_path):
    assert "holds a NUL" in cli("compare", "a\0b", code=2).stderr
    assert "holds a NUL" in cli("export", "runs", "--part", "a\0b", code=2).stderr


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_names_that_are_no_text_and_marks_are_shown_on_every_terminal(tmp_path, monkeypatch, make, encoding):
    run = RunDirectory(tmp_path / "runs" / "toy@a" / "crh" / "32b" / "s0-01234567")
    with run.lock():
        run.write_result(make())
    for name in ("spec.json", "FAILED.json"):
        folder = tmp_path / "runs" / f"toy@{name[:4]}" / "crh" / "8b" / "s0-01234567"
        folder.mkdir(parents=True)
        (folder / name).write_text("{}")
        (folder / "spec.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for arguments in (["status", "runs"], ["export", "runs", "bad\udcff.csv"]):
        stream = io.TextIOWrapper(io.BytesIO(), encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 0
        stream.flush()
        assert b"1" in stream.buffer.getvalue()
