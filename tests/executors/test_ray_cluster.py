"""Cells as tasks of a real Ray; the loss of a node is tried by: pytest -m cluster tests/executors."""

import os
import signal

import pytest
from executor_cases import Calls

from hashbench.errors import HashbenchError
from hashbench.executors.base import make_executor
from hashbench.experiments import runner

ray = pytest.importorskip("ray")


@pytest.fixture
def quiet_ray(monkeypatch):
    """Let no test's Ray talk to its makers or to another Ray of this machine."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield
    ray.shutdown()


def test_ray_computes_what_one_process_does_and_a_failure_stops_no_other_cell(
    planned, same_as_in_process, quiet_ray, notes
):
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    same_as_in_process(runner.execute(planned(), make_executor("ray")))
    made = planned(["kills", "breaks", "crh"], name="failing", seeds=1)
    outcome = runner.execute(made, make_executor("ray", {"retries": "1"}), workers=2)
    assert [result.coords["method"] for result in outcome.results] == ["crh"]
    failed = {cell.method: cell.directory.read_failure() for cell, _ in outcome.failures}
    assert "'all' became" in failed["breaks"]
    assert "Ray gave it up (WorkerCrashedError)" in failed["kills"]
    assert notes().count("kills") == 2


def test_a_cluster_that_is_not_there_is_one_sentence(planned, quiet_ray):
    with pytest.raises(HashbenchError, match=r"There is no Ray cluster at 127\.0\.0\.1:1 to connect to"):
        runner.execute(planned(["crh"]), make_executor("ray", {"address": "127.0.0.1:1"}))


@pytest.mark.cluster
def test_the_cell_of_a_lost_node_is_run_again_from_its_checkpoint(planned, quiet_ray, notes):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    raylet = second.all_processes["raylet"][0].process.pid
    made = planned(["slow"], seeds=2, epochs=60)
    killed = []

    def kill_the_node(left):
        here = [line.split() for line in notes_or_none(notes) if int(line.split()[-1]) in offspring(raylet)]
        if len(here) >= 10 and not killed:
            killed.extend([raylet, *offspring(raylet)])
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    try:
        executor = make_executor("ray", {"address": cluster.address})
        outcome = runner.execute(made, executor, reporter=Calls(tick=kill_the_node))
        outcome.raise_first_failure()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert killed
    assert [result.coords["seed"] for result in outcome.results] == [0, 1]
    epochs = [int(line.split()[2]) for line in notes()]
    assert 120 <= len(epochs) <= 122  # each epoch of both cells once, but for the one that was cut short
    assert sorted({*epochs}) == list(range(60))


def notes_or_none(notes):
    try:
        return notes()
    except FileNotFoundError:
        return []


def offspring(pid):
    """All processes that a process has started, and those that they have."""
    found, level = set(), {pid}
    while level:
        level = {int(child) for parent in level for child in _children(parent)}
        found |= level
    return found


def _children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return file.read().split()
    except OSError:
        return []
