"""One writer for a run: real processes, some on what they take for other machines, that stop, wake and are killed."""

import os
import platform
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from hashbench.errors import HashbenchError
from hashbench.results.runs import RunDirectory
from hashbench.storage import locks
from hashbench.storage.locks import LockLost, LockWatch, RunLocked, hold_lock, owner_of, remove_leftover
from hashbench.storage.strict_json import dumps

ELSEWHERE = """
    import os, platform, sys
    from pathlib import Path
    from hashbench.storage import locks
    from hashbench.storage.locks import RunLocked, LockLost, LockWatch, hold_lock
    folder, name = Path(sys.argv[1]), sys.argv[2]
    platform.node = lambda: name
"""


def elsewhere(code, *arguments):
    """Start a process on what it and all others take for another machine."""
    command = [sys.executable, "-c", textwrap.dedent(ELSEWHERE) + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


HOLDS = """
    with hold_lock(folder, beat=0.05) as claim:
        print("hold_lock", flush=True)
        sys.stdin.readline()
        try:
            claim.check()
            print("still mine", flush=True)
        except LockLost as error:
            print(error, flush=True)
"""


def taken(folder, watch):
    """Wait until the folder can be hold_lock; returns how long that took."""
    started = time.monotonic()
    while True:
        try:
            with hold_lock(folder, watch):
                return time.monotonic() - started
        except RunLocked:
            time.sleep(0.02)


def test_an_owner_elsewhere_is_left_alone_while_its_heart_beats(tmp_path):
    child = elsewhere(HOLDS, tmp_path, "far")
    child.stdout.readline()
    watch, until = LockWatch(expiry=1), time.monotonic() + 2
    while time.monotonic() < until:
        with pytest.raises(RunLocked, match=rf"by process {child.pid} on far;"), hold_lock(tmp_path, watch):
            pass
        time.sleep(0.05)
    assert owner_of(tmp_path).host == "far"
    assert child.communicate("go\n")[0] == "still mine\n"
    assert taken(tmp_path, watch) < 1
    assert list(tmp_path.iterdir()) == []


def test_an_owner_killed_elsewhere_is_replaced_after_patience(tmp_path):
    child = elsewhere(HOLDS, tmp_path, "far")
    child.stdout.readline()
    child.kill()
    child.communicate()
    with pytest.raises(RunLocked), hold_lock(tmp_path):  # without a watch, no lock ever expires
        pass
    assert 0.5 <= taken(tmp_path, LockWatch(expiry=0.5)) < 5
    assert owner_of(tmp_path) is None


def test_an_owner_that_wakes_after_it_was_replaced_notices(tmp_path):
    child = elsewhere(HOLDS, tmp_path, "far")
    child.stdout.readline()
    child.send_signal(signal.SIGSTOP)
    watch = LockWatch(expiry=0.5)
    taken(tmp_path, watch)
    with hold_lock(tmp_path) as claim:
        child.send_signal(signal.SIGCONT)
        said, _ = child.communicate("go\n")
        assert f"was taken over, after its lock expired, by process {os.getpid()}" in said
        claim.check()  # and it has not taken our lock away as it left
        assert owner_of(tmp_path).pid == os.getpid()


def test_whoever_was_replaced_writes_nothing(tmp_path, make):
    run = RunDirectory(tmp_path / "run")
    with run.lock() as mine:
        (run.path / "lock").unlink()
        for write in (
            lambda: mine.write_result(make()),
            lambda: mine.write_spec({}),
            lambda: mine.write_arrays("codes", query=[1]),
            lambda: mine.append_log({"epoch": 0}),
            lambda: mine.write_failure(ValueError()),
        ):
            with pytest.raises(LockLost):
                write()
    assert list(run.path.iterdir()) == []


def test_a_folder_that_was_moved_is_one_sentence(tmp_path):
    run = RunDirectory(tmp_path / "run")
    with run.lock() as mine:
        run.path.rename(tmp_path / "moved")
        with pytest.raises(HashbenchError, match=r"was moved or deleted while it was written") as error:
            mine.append_log({"epoch": 0})
    assert not isinstance(error.value, RunLocked)
    assert not run.path.exists()
    with RunDirectory(tmp_path / "moved").lock():  # its lock came along, and nobody holds it
        pass


def test_a_stopped_owner_on_this_machine_is_no_dead_one(tmp_path):
    child = elsewhere(HOLDS, tmp_path, platform.node())
    child.stdout.readline()
    child.send_signal(signal.SIGSTOP)
    watch, until = LockWatch(expiry=0.1), time.monotonic() + 1
    while time.monotonic() < until:
        with pytest.raises(RunLocked), hold_lock(tmp_path, watch):
            pass
    child.kill()
    child.communicate()
    assert taken(tmp_path, watch) < 1  # the kernel says so at once, no heartbeat is waited for


def test_a_clock_that_jumps_changes_nothing(tmp_path):
    child = elsewhere(HOLDS, tmp_path, "far")
    child.stdout.readline()
    child.send_signal(signal.SIGSTOP)
    watch = LockWatch(expiry=1)
    lock = tmp_path / "lock"
    for hours in (-1, 1):  # set back, set forward: another state, so it is watched from there on
        os.utime(lock, (0, time.time() + 3600 * hours))
        with pytest.raises(RunLocked), hold_lock(tmp_path, watch):
            pass
    child.kill()
    child.communicate()
    assert taken(tmp_path, watch) >= 0.9


@pytest.mark.parametrize("content", [b"", b"4711", b'{"host": 1', b'{"other": 1}'])
def test_a_lock_that_names_nobody_is_waited_for_too(tmp_path, content):
    (tmp_path / "lock").write_bytes(content)
    with pytest.raises(RunLocked, match="on an unknown machine"), hold_lock(tmp_path):
        pass
    assert 0.2 <= taken(tmp_path, LockWatch(expiry=0.2)) < 5


def test_without_hard_links_there_is_still_one_owner(tmp_path, monkeypatch):
    def no_links(*arguments):
        raise OSError(locks.errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with hold_lock(tmp_path) as claim:
        with pytest.raises(RunLocked, match=rf"by process {os.getpid()};"), hold_lock(tmp_path):
            pass
        claim.check()
    assert list(tmp_path.iterdir()) == []


WORKS = """
    import time
    counter, rounds = Path(sys.argv[3]), int(sys.argv[4])
    watch = LockWatch(expiry=2)
    while rounds:
        try:
            with hold_lock(folder, watch, beat=0.05) as claim:
                seen = int(counter.read_text() or 0)
                time.sleep(0.002)
                claim.check()
                part = counter.with_suffix(name)
                part.write_text(str(seen + 1))
                os.replace(part, counter)
                rounds -= 1
                print(seen + 1, flush=True)
        except RunLocked:
            time.sleep(0.001)
"""


@pytest.mark.parametrize("machines", [1, 4])
def test_no_step_is_lost_between_processes_some_of_which_are_killed(tmp_path, machines):
    """Each process adds one to a counter 30 times; a number that two of them wrote would be a step lost."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    folder = tmp_path / "run"

    def start(at):
        return elsewhere(WORKS, folder, f".machine{at % machines}", counter, 30)

    chance = random.Random(machines)
    children = [start(at) for at in range(4)]
    victims = [start(4), start(5)]
    for victim in victims:
        for _ in range(chance.randint(1, 8)):
            victim.stdout.readline()
        victim.kill()
    outputs = [child.communicate(timeout=240)[0] for child in [*children, *victims]]
    assert [child.returncode for child in children] == [0] * 4
    written = [int(number) for output in outputs for number in output.split()]
    assert len(written) == len(set(written))
    assert int(counter.read_text()) >= 120


def _lock_of(folder, **owner):
    """Write the lock of another owner, as a kill or a copy leaves it."""
    text = dumps({"host": "far", "boot": "b", "pid": 4711, "started": "2026-01-01T00:00:00+00:00"} | owner)
    (folder / "lock").write_text(text)
    return folder / "lock"


ODD_LOCKS = {
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to("lock"),
    "a link to a file": lambda path: path.symlink_to(__file__),
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("what", ODD_LOCKS)
def test_what_is_no_lock_is_one_sentence_and_waited_for_by_nobody(tmp_path, what):
    ODD_LOCKS[what](tmp_path / "lock")
    for look in (lambda: owner_of(tmp_path), lambda: taken(tmp_path, LockWatch(expiry=0))):
        with pytest.raises(HashbenchError, match=r"lock is no lock but a link, folder, pipe or device; remove it"):
            look()
    assert os.path.lexists(tmp_path / "lock")


@pytest.mark.parametrize(
    "content", [b"[" * 4000, b'{"host": [1], "boot": "", "pid": 1, "started": ""}', b'{"pid": "x"}']
)
def test_a_lock_that_says_nothing_may_be_anybodys(tmp_path, content):
    (tmp_path / "lock").write_bytes(content)
    assert str(owner_of(tmp_path)) == "an unknown process on an unknown machine"


def test_an_owner_of_before_the_last_start_has_ended(tmp_path):
    _lock_of(tmp_path, host=platform.node(), boot="of another start")
    assert owner_of(tmp_path) is None


def test_an_owner_elsewhere_that_is_silent_for_long_seems_to_have_ended(tmp_path):
    lock = _lock_of(tmp_path)
    assert owner_of(tmp_path).host == "far"
    watch = LockWatch(expiry=0.05)
    assert owner_of(tmp_path, watch).host == "far"
    time.sleep(0.1)
    assert owner_of(tmp_path, watch) is None  # it did not change while it was watched
    os.utime(lock, (time.time() - 3600,) * 2)
    assert owner_of(tmp_path) is None
    with pytest.raises(RunLocked):  # who would take the run over waits all the same: clocks may differ
        taken_at_once(tmp_path)


def taken_at_once(folder):
    with hold_lock(folder):
        pass


LEFTOVERS = {
    "of a process of this machine": ({"host": platform.node(), "boot": locks._boot()}, 0, True),
    "of before the last start": ({"host": platform.node()}, 0, True),
    "of another machine, an hour old": ({}, 3600, True),
    "of another machine, of now": ({}, 0, False),
    "of another machine, whose clock is ahead": ({}, -3600, False),
}


@pytest.mark.parametrize("what", LEFTOVERS)
def test_a_lock_left_in_a_finished_run_is_removed_where_its_owner_has_ended(tmp_path, what):
    owner, age, removed = LEFTOVERS[what]
    lock = _lock_of(tmp_path, **owner)
    os.utime(lock, (time.time() - age,) * 2)
    remove_leftover(tmp_path)
    assert lock.exists() != removed
    assert {*tmp_path.iterdir()} <= {lock}


def test_the_lock_of_a_running_process_is_left(tmp_path):
    with hold_lock(tmp_path) as held:
        remove_leftover(tmp_path)
        held.check()
