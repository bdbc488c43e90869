"""Sweeps that are shared and killed: each cell is computed once, and what comes out is what would have come anyway.

More kills than the suite has time for: HASHBENCH_KILLS=200 pytest tests/test_survival.py -s
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from hashbench.results.store import RunDirectory, find_runs

KILLS = int(os.environ.get("HASHBENCH_KILLS", "6"))


def swept(runs, *, processes, kills=0, seed=0):
    """Sweep in processes that are killed; returns the counts."""
    script = Path(__file__).with_name("sweeping.py")
    command = [sys.executable, script, runs, processes, kills, seed]
    done = subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The sweep by one process that nobody disturbs."""
    runs = tmp_path_factory.mktemp("undisturbed") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HASHBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        swept(runs, processes=1)
    return runs


def contents(runs):
    """All that a sweep's runs hold but for times and circumstances, by run."""
    results, problems = find_runs([runs])
    assert problems == []
    found = {}
    for result in results:
        directory = RunDirectory(result.path)
        numbers = {name: getattr(result, name) for name in ("metrics", "bounds", "curves", "counts", "code_stats")}
        log = [{**line, "seconds": None} for line in directory.read_log()]
        found[str(result.path.relative_to(runs))] = {
            "files": sorted(os.listdir(result.path)),
            "numbers": json.dumps([numbers, result.diagnostics, log]),
            "model": _leaves(torch.load(directory.model, weights_only=True)),
            **{
                f"{name}.{key}": array.tobytes()
                for name in ("codes", "histograms")
                for key, array in directory.read_arrays(name).items()
            },
        }
    return found


def _leaves(state):
    if isinstance(state, dict):
        return {key: _leaves(value) for key, value in state.items()}
    return np.asarray(state).tobytes() if isinstance(state, torch.Tensor) else state


def test_processes_that_share_a_sweep_compute_each_cell_once(tmp_path, undisturbed):
    counts = swept(tmp_path / "runs", processes=4)
    assert sorted(counts["computed"]) == sorted({*counts["computed"]})
    assert len(counts["computed"]) == 8
    assert contents(tmp_path / "runs") == contents(undisturbed)


def test_a_sweep_that_is_killed_again_and_again_ends_as_if_it_were_not(tmp_path, undisturbed):
    killed, rounds = 0, 0
    while killed < KILLS:
        runs = tmp_path / f"runs{rounds}"
        counts = swept(runs, processes=2, kills=min(10, KILLS - killed), seed=rounds)
        assert contents(runs) == contents(undisturbed)
        assert max(Counter(counts["computed"]).values()) == 1
        killed, rounds = killed + counts["killed"], rounds + 1
    print(f"{killed} processes killed in {rounds} sweeps of 8 cells")
