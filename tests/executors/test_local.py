"""Worker processes on this machine: the numbers of one process, and nothing is lost when one of them dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from executor_cases import Calls

from hashbench.errors import HashbenchError
from hashbench.executors.base import make_executor
from hashbench.experiments import runner
from hashbench.results.runs import RunDirectory


@pytest.mark.slow
def test_two_workers_compute_what_one_process_does(planned, same_as_in_process):
    outcome = runner.execute(planned(), make_executor("local"), workers=2)
    same_as_in_process(outcome)
    workers = {RunDirectory(result.path).read_spec()["how"]["device"] for result in outcome.results}
    assert workers == {"cpu"}


@pytest.mark.slow
@pytest.mark.parametrize("rerun", ["missing", "all"])
def test_workers_at_several_lengths_of_one_training_train_once(planned, notes, rerun):
    bits, expected = (8, 16, 32), 1 + (rerun == "all")
    if rerun == "all":
        runner.execute(planned(["nested-once"], bits=bits, seeds=1)).raise_first_failure()
    outcome = runner.execute(
        planned(["nested-once"], bits=bits, seeds=1, rerun=rerun), make_executor("local"), workers=3
    )
    outcome.raise_first_failure()
    assert [result.coords["bits"] for result in outcome.results] == [*bits]
    assert notes().count("trained for (8, 16, 32)") == expected


@pytest.mark.slow
def test_failures_and_deaths_stop_no_other_cell(planned, notes):
    made = planned(["breaks", "kills", "kills-once", "crh"], seeds=1)
    heard = []
    outcome = runner.execute(
        made,
        make_executor("local"),
        workers=2,
        reporter=Calls(ended=lambda run, error: heard.append((run.method, error is None))),
    )
    assert sorted(heard) == [("breaks", False), ("crh", True), ("kills", False), ("kills-once", True)]
    assert [result.coords["method"] for result in outcome.results] == ["kills-once", "crh"]
    failed = {cell.method: cell.directory.read_failure() for cell, _ in outcome.failures}
    assert "'all' became" in failed["breaks"]
    assert "2 worker processes died of it: the last one was ended by SIGKILL" in failed["kills"]
    assert notes().count("kills") == 2
    epochs = [line for line in notes() if line.startswith("kills-once")]
    assert epochs == [f"kills-once epoch {epoch}" for epoch in (0, 1, 1, 2)]  # the second worker went on from epoch 1


@pytest.mark.slow
def test_a_cell_that_another_process_is_at_comes_last_and_is_waited_for(planned):
    made = planned(["crh"], seeds=2)
    first, second = made.runs
    order, held = [], first.directory.lock()
    held.__enter__()

    def on_done(cell, error):
        order.append((cell.seed, error))
        if cell.seed == second.seed:
            held.__exit__(None, None, None)

    outcome = runner.execute(made, make_executor("local"), workers=1, reporter=Calls(ended=on_done))
    assert order == [(1, None), (0, None)]
    assert [result.coords["seed"] for result in outcome.results] == [0, 1]


@pytest.mark.slow
def test_features_and_preparations_are_computed_once_by_workers_that_start_at_once(planned, notes):
    made = planned(
        ["prepares-once"], bits=(16, 24), seeds=1, recipe="frozen", backbone="notes-when-built",
        overrides={"recipe": {"size": "0"}},
    )  # fmt: skip
    outcome = runner.execute(made, make_executor("local"), workers=2)
    outcome.raise_first_failure()
    assert sorted(notes()) == ["built", "prepared"]
    assert sorted(result.provenance["prepared_from_cache"] for result in outcome.results) == [False, True]


def test_a_sweep_that_workers_cannot_plan_is_one_sentence(planned, monkeypatch):
    made = planned(["crh"])
    monkeypatch.setenv("HASHBENCH_CACHE", "/dev/null/cache")
    made.request.settings.overrides["nobody"] = {"field": "1"}
    with pytest.raises(HashbenchError, match=r"the sweep cannot be planned: Unknown owner of a --set 'nobody'"):
        runner.execute(made, make_executor("local"), workers=1)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_when_the_command_ends_its_workers_end_and_nothing_is_lost(tmp_path, notes, how):
    command = [sys.executable, "-m", "hashbench", "run", "--method", "slow", "--dataset", "toy", "--bits", "16",
               "--seeds", "2", "--epochs", "400", "--executor", "local", "--workers", "2"]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    checkpoints = lambda: list((tmp_path / "runs").rglob("checkpoint.pt"))  # noqa: E731
    wait_for(lambda: len(checkpoints()) == 2 or process.poll() is not None)
    os.killpg(process.pid, how) if how == signal.SIGINT else process.kill()
    _, said = process.communicate(timeout=240)  # which returns only when nobody holds the pipe any more
    assert process.returncode == (130 if how == signal.SIGINT else -how), said
    workers = {int(line.split()[-1]) for line in notes()}
    assert len(workers) == 2
    wait_for(lambda: not any(map(alive, workers)))
    assert len(checkpoints()) == 2
    assert "Traceback" not in said
    assert "leaked" not in said  # semaphores, by which Python would end a quiet command with a warning


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the children of a process")
def test_an_interrupt_while_workers_start_is_one_sentence(tmp_path, notes):
    command = [sys.executable, "-m", "hashbench", "run", "--method", "crh", "--dataset", "toy", "--bits", "16",
               "--seeds", "2", "--executor", "local", "--workers", "2"]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)

    def imports():
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return any(b"multiprocessing.forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children)

    wait_for(lambda: process.poll() is not None or imports())
    time.sleep(0.5)  # the server takes seconds to import torch
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 130, said
    assert "Interrupted." in said
    assert "Traceback" not in said


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
