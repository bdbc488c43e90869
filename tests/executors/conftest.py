import os
import sys
from pathlib import Path

import pytest

from hashbench.experiments import runner
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan
from hashbench.results.runs import RunDirectory

HERE = Path(__file__).parent
ENTRY_POINTS = """
[hashbench.datasets]
toy = toy_dataset:toy

[hashbench.backbones]
notes-when-built = fateful:notes_when_built

[hashbench.methods]
breaks = fateful:Breaks
kills = fateful:Kills
kills-once = fateful:KillsOnce
slow = fateful:Slow
prepares-once = fateful:PreparesOnce
nested-once = fateful:NestedOnce
"""


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """Make the toy and fateful.py a plug-in, as which worker processes know them; returns what these note."""
    metadata = tmp_path / "site" / "toy-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    for folder in (HERE, metadata.parent):
        monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*sys.path[:2], str(HERE.parent), str(HERE.parents[1])]))
    monkeypatch.setenv("FATEFUL_NOTES", str(tmp_path / "notes"))
    return lambda: (tmp_path / "notes").read_text().splitlines()


@pytest.fixture
def planned(tmp_path, notes, fresh_methods):
    """Return a function that plans a sweep of the toy below the test's folder."""

    def make(methods=("crh", "csq"), *, name="runs", bits=(16,), seeds=2, **settings):
        shared = Settings(**{"runs_dir": tmp_path / name, "epochs": 3, "progress": False, **settings})
        return plan([*methods], ["toy"], [*bits], seeds=seeds, settings=shared)

    return make


@pytest.fixture
def same_as_in_process(planned):
    """Return a function that holds an outcome of `planned()` against that of this process, to the bit."""

    def compare(outcome):
        outcome.raise_first_failure()
        expected = runner.execute(planned(name="in-process"))
        assert numbers(outcome.results) == numbers(expected.results)

    return compare


def numbers(results):
    """All that runs state and keep but for times and circumstances."""
    found = []
    for result in results:
        directory = RunDirectory(result.path)
        arrays = directory.read_arrays("codes") | directory.read_arrays("histograms")
        kept = {name: array.tobytes() for name, array in arrays.items()}
        found.append((result.id, result.coords, result.metrics, result.bounds, result.curves, kept))
    return found
