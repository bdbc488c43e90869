"""What the tests of a search share: a trained run."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import hashbench
from hashbench.results.runs import RunDirectory


@pytest.fixture(scope="package")
def run(tmp_path_factory):
    """A trained run of 12 bits on grey images of 12 x 12 pixels."""
    runs, small = tmp_path_factory.mktemp("runs"), {"recipe": {"backbone": "toy-backbone"}}
    return hashbench.run("crh", "toy", bits=12, epochs=1, overrides=small, progress=False, runs_dir=runs).path


@pytest.fixture
def changed(run, tmp_path):
    """The run, as if its method's file had been another then."""
    directory = RunDirectory(Path(shutil.copytree(run, tmp_path / "changed")))
    result = directory.read_result()
    directory.write_result(replace(result, provenance={**result.provenance, "source_sha256": "0" * 64}))
    return directory.path
