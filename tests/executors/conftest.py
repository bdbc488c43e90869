import os
import sys
from pathlib import Path

import numpy as np
import pytest

from hashbench import runner
from hashbench.planning import Settings, plan
from hashbench.results.store import RunDirectory

TESTS = Path(__file__).parents[1]
METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"


@pytest.fixture
def toy_plugin(tmp_path, monkeypatch):
    """Make the toy and the methods below known to worker processes: as a plug-in, for they share no memory with us."""
    site = tmp_path / "site"
    metadata = site / "toy-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(METADATA.format(name="toy"))
    (metadata / "entry_points.txt").write_text(
        "[hashbench.datasets]\ntoy = toy_dataset:toy\n\n[hashbench.backbones]\ntoy-backbone = toy_dataset:toy_backbone\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(TESTS), str(TESTS.parent), *sys.path[1:]]))
    monkeypatch.syspath_prepend(site)
    return site


@pytest.fixture
def planned(tmp_path, toy_plugin):
    """Return a function that plans a sweep of the toy below one folder of the test."""

    def make(methods=("crh", "csq"), *, name="runs", bits=(16,), seeds=2, **settings):
        shared = Settings(**{"runs_dir": tmp_path / name, "epochs": 3, "progress": False, **settings})
        return plan([*methods], ["toy"], [*bits], seeds=seeds, settings=shared)

    return make


def numbers(results):
    """All that runs state and keep but for times and circumstances, by method, bits and seed."""
    found = {}
    for result in results:
        kept = RunDirectory(result.path).read_arrays("codes") | RunDirectory(result.path).read_arrays("histograms")
        place = tuple(result.coords[name] for name in ("method", "bits", "seed"))
        found[place] = (result.id, result.metrics, result.bounds, {name: a.tobytes() for name, a in kept.items()})
    assert all(np.isfinite(metrics["mAP@all"]) for _, metrics, _, _ in found.values())
    return found


@pytest.fixture
def in_process(planned):
    """The sweep in this process, which every executor must repeat to the bit."""
    outcome = runner.execute(planned(name="in-process"))
    outcome.raise_first_failure()
    return numbers(outcome.results)
