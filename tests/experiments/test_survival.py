"""Sweeps that are shared and killed: each cell is computed once, and what comes out is what would have come anyway.

More kills than there is usually time for: HASHBENCH_KILLS=200 pytest -m slow tests/experiments/test_survival.py -s
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

from hashbench.results.finding import find_runs
from hashbench.results.runs import RunDirectory

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sweeps")]  # all of one process: they share the sweeps
KILLS = int(os.environ.get("HASHBENCH_KILLS", "6"))
KILLS_A_SWEEP = 10
CELLS = 4

HOW = {  # processes at once, kills, stops, seed of the moments
    "undisturbed": (1, 0, 0, 0),
    "shared": (4, 0, 0, 0),
    "stopped": (3, 0, max(2, KILLS // 5), 0),
    **{
        f"killed{seed}": (2, min(KILLS_A_SWEEP, KILLS - KILLS_A_SWEEP * seed), 0, seed)
        for seed in range(-(-KILLS // KILLS_A_SWEEP))
    },
}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Do one sweep in all these ways; returns the folder in which each has its own, and the counts of each."""
    folder = tmp_path_factory.mktemp("sweeps")
    command = [sys.executable, Path(__file__).with_name("disturbed_sweeps.py"), folder, json.dumps(HOW)]
    environment = os.environ | {"HASHBENCH_CACHE": str(tmp_path_factory.mktemp("cache"))}
    done = subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return folder, json.loads(done.stdout)


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
            # Who is killed between its result and the end of its lock leaves the lock file, which then binds nobody.
            "files": sorted({*os.listdir(result.path)} - {"lock"}),
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


@pytest.mark.parametrize("name", HOW)
def test_each_cell_is_computed_once_and_as_if_nothing_had_happened(swept, name):
    folder, counts = swept
    assert contents(folder / name) == contents(folder / "undisturbed")
    assert len(contents(folder / name)) == CELLS
    assert max(Counter(counts[name]["computed"]).values()) == 1
    if counts[name]["killed"] == 0:  # who is killed right after its last write has not counted it
        assert len(counts[name]["computed"]) == CELLS


def test_they_were_killed_and_stopped(swept):
    _, counts = swept
    killed, stopped = (sum(each[what] for each in counts.values()) for what in ("killed", "stopped"))
    print(f"{killed} processes killed, {stopped} stopped for longer than the others' patience")
    assert (killed, stopped) == (KILLS, HOW["stopped"][2])
