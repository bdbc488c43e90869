"""Preparing that is killed, stopped, met by another process, or given what is damaged."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from image_trees import register_tree, write_tree
from prepared_cases import PREPARE, command, contents, ready, stores

from hashbench.datasets.catalogue import load
from hashbench.datasets.prepared import building, opening
from hashbench.errors import HashbenchError


def test_a_preparation_killed_at_any_moment_goes_on_and_ends_the_same(tree, tmp_path, monkeypatch):
    """Kill -9 again and again, at random moments, until it gets through; compare with one that was left alone."""
    count, chance = 300, np.random.default_rng()
    shutil.rmtree(tree)
    write_tree(tree, count=count)
    environment = {**os.environ, "HASHBENCH_CACHE": str(tmp_path / "killed")}
    arguments = command(PREPARE, tmp_path, tree, count)
    kills = 0
    whole_s = _seconds(arguments, {**environment, "HASHBENCH_CACHE": str(tmp_path / "alone")})
    while True:
        process = subprocess.Popen(arguments, env=environment)
        try:
            process.wait(timeout=chance.uniform(0.4, 1.0 + 0.1 * kills) * whole_s)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            if process.wait() == 0:  # it ended in the same moment
                break
            assert process.returncode == -signal.SIGKILL
            kills += 1
    assert process.returncode == 0
    (alone,), (killed,) = (list((tmp_path / name / "stores").glob("tree-*")) for name in ("alone", "killed"))
    assert contents(killed) == contents(alone)


def _seconds(arguments, environment):
    started = time.monotonic()
    subprocess.run(arguments, env=environment, check=True)
    return time.monotonic() - started


class Stop(BaseException):
    """A kill that a test can catch."""


@pytest.mark.parametrize("call", range(1, 60, 3))
def test_stopped_at_each_write_it_goes_on_and_ends_the_same(tree, tmp_path, monkeypatch, call):
    """Stop at the n-th time that something is made to last, which leaves on disk what a kill there would leave."""
    expected = contents(ready(tree).folder)
    monkeypatch.setenv("HASHBENCH_CACHE", str(tmp_path / "second"))
    real, calls = os.fsync, []

    def stopping(handle):
        calls.append(handle)
        if len(calls) == call:
            raise Stop
        real(handle)

    monkeypatch.setattr(os, "fsync", stopping)
    try:
        ready(tree)
    except Stop:
        assert stores() == []
    else:
        assert len(calls) < call
    monkeypatch.setattr(os, "fsync", real)
    assert contents(ready(tree).folder) == expected


def test_rows_that_are_done_are_not_decoded_again(tree, monkeypatch):
    real, decoded = building.decode, []

    def failing(path, size):
        decoded.append(path.name)
        if path.name == "00021.jpg":
            raise KeyboardInterrupt
        return real(path, size)

    monkeypatch.setattr(building, "decode", failing)
    with pytest.raises(KeyboardInterrupt):
        ready(tree)
    with pytest.raises(HashbenchError, match="not prepared"):
        load("tree", data_dir=tree)
    decoded.clear()
    monkeypatch.setattr(building, "decode", lambda path, size: decoded.append(path.name) or real(path, size))
    ready(tree)
    assert sorted(decoded) == [f"{number:05d}.jpg" for number in range(20, 30)]


def test_half_a_row_counts_for_nothing(tree, tmp_path, monkeypatch):
    expected = contents(ready(tree).folder)
    monkeypatch.setenv("HASHBENCH_CACHE", str(tmp_path / "second"))
    with monkeypatch.context() as patched:
        patched.setattr(building, "complete", None)
        with pytest.raises(TypeError):
            ready(tree)
    (build_folder,) = opening.prepared_root().glob(".tree-*.building")
    for name, cut in (("hashes.npy", 40), ("inputs.npy", 1_000), ("files.npy", 1)):
        with (build_folder / name).open("r+b") as file:
            file.truncate(os.path.getsize(build_folder / name) - cut)
    assert contents(ready(tree).folder) == expected


@pytest.mark.parametrize("name", ["inputs.npy", "hashes.npy"])
def test_a_row_that_was_altered_before_it_goes_on_is_decoded_again(tree, tmp_path, monkeypatch, name):
    expected = contents(ready(tree).folder)
    monkeypatch.setenv("HASHBENCH_CACHE", str(tmp_path / "second"))
    with monkeypatch.context() as patched:
        patched.setattr(building, "complete", None)
        with pytest.raises(TypeError):
            ready(tree)
    (build_folder,) = opening.prepared_root().glob(".tree-*.building")
    content = bytearray((build_folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (build_folder / name).write_bytes(content)
    assert contents(ready(tree).folder) == expected


def test_damaged_states_of_files_are_no_reason_to_fail(tree):
    folder = ready(tree).folder
    expected = contents(folder)
    (folder / "files.npy").write_bytes(bytes((folder / "files.npy").stat().st_size))
    assert contents(ready(tree).folder) == expected


def test_of_two_processes_one_prepares_and_the_other_waits_for_it(tree, tmp_path):
    environment = {**os.environ, "HASHBENCH_CACHE": str(tmp_path / "shared")}
    waiting = PREPARE.replace("progress=False", "progress=False, on_wait=lambda: print('waited', flush=True)")
    both = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        arguments = command(waiting, tmp_path / name, tree, 30)
        both.append(subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(said) in (["", "waited\n"], ["", ""])  # or one came when the other had finished
    assert len(list((tmp_path / "shared/stores").glob("tree-*"))) == 1


def test_it_waits_while_another_holds_the_lock(tree):
    waited = []
    made = ready(tree)
    lock = made.folder.with_name(f".{made.folder.name}.lock")
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl, sys; f = open({str(lock)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
         "print('held', flush=True); sys.stdin.read()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )  # fmt: skip
    holder.stdout.readline()

    def on_wait():
        waited.append(True)
        holder.stdin.close()

    ready(tree, on_wait=on_wait)
    assert waited == [True]
    assert holder.wait(30) == 0


def test_a_damaged_image_is_named_and_nothing_is_ready(tree):
    damaged = tree / "tree/images/c/00017.jpg"
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(HashbenchError, match=r"00017\.jpg cannot be decoded as an image"):
        ready(tree)
    assert stores() == []
    damaged.write_bytes(content)
    assert ready(tree).problems == {}


def test_missing_images_and_wrong_counts_are_found_before_anything_is_decoded(tree, monkeypatch):
    monkeypatch.setattr(building, "decode", None)
    gone = tree / "tree/images/a/00003.jpg"
    content = gone.read_bytes()
    gone.unlink()
    with pytest.raises(HashbenchError, match="1 of the 30 images of tree are missing"):
        ready(tree)
    gone.write_bytes(content)
    listing = tree / "tree/list.txt"
    lines = listing.read_text().splitlines(keepends=True)
    listing.write_text("".join(lines[:-3]))
    with pytest.raises(HashbenchError, match=r"tree@p states .*; is the data set complete\?"):
        ready(tree)
    listing.write_text("".join([*lines[:-1], lines[2]]))
    with pytest.raises(HashbenchError, match="lists an image twice"):
        ready(tree)
    assert stores() == []


def test_an_image_outside_of_the_folder_is_refused(tree):
    (tree / "secret.jpg").write_bytes((tree / "tree/images/a/00000.jpg").read_bytes())
    listing = tree / "tree/list.txt"
    listing.write_text(listing.read_text().replace("images/a/00000.jpg", "../secret.jpg"))
    with pytest.raises(HashbenchError, match="outside of its folder"):
        ready(tree)


def test_a_full_disk_is_one_sentence_and_what_was_written_is_used_again(tree, monkeypatch):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (11_000, hard))
    try:
        with pytest.raises(HashbenchError, match=r"Cannot write .*inputs\.npy: File too large; make room there"):
            ready(tree)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert stores() == []
    ready(tree)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
    with pytest.raises(HashbenchError, match=r"takes 0\.0 GB more in .*, where 0\.0 GB are free; make room"):
        ready(tree, size=64)


def test_a_cache_that_cannot_be_written_is_one_sentence(tree, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HASHBENCH_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(HashbenchError, match=r"Cannot write .*file/cache/stores"):
        ready(tree)


def test_files_that_are_not_the_official_ones_need_to_be_accepted(tmp_path, fresh_registry):
    write_tree(tmp_path / "data")
    register_tree(tmp_path, expected="md5:0")
    with pytest.raises(HashbenchError, match=r"list\.txt is not the official file of tree.*--accept-unofficial"):
        ready(tmp_path / "data")
    assert ready(tmp_path / "data", accept_unofficial=True).store.official is False
    with pytest.raises(HashbenchError, match="not the official file"):
        load("tree", data_dir=tmp_path / "data")
    assert load("tree", data_dir=tmp_path / "data", accept_unofficial=True).store.official is False


def test_a_store_larger_than_memory_is_prepared_and_loaded(tmp_path):
    """With 177 MB of pixels, and 151 MB more of memory than the libraries take."""
    count, size = 900, 256
    write_tree(tmp_path / "data", count=count)
    code = """
import resource, numpy
from hashbench.datasets.prepared.building import prepare
from hashbench.datasets.catalogue import load
image_trees.register_tree(Path(sys.argv[1]), count=int(sys.argv[3]), size=int(sys.argv[4]))
load("fashion-mnist-10k")
taken = 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1])
resource.setrlimit(resource.RLIMIT_DATA, (taken + 144 * 2**20,) * 2)
prepare("tree", data_dir=sys.argv[2], progress=False)
loaded = load("tree", data_dir=sys.argv[2])
print(loaded.store.inputs.nbytes, loaded.store.inputs[loaded.split.query].mean())
try:
    numpy.array(loaded.store.inputs)
except MemoryError:
    print("larger than memory")
"""
    arguments = command(code, tmp_path, tmp_path / "data", count, size)
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{count * 3 * size * size} ")
    assert done.stdout.endswith("larger than memory\n")
