"""What the tests of a search share: a trained run."""

import pytest

import hashbench


@pytest.fixture(scope="package")
def run(tmp_path_factory):
    """A trained run of 12 bits on grey images of 12 x 12 pixels."""
    runs, small = tmp_path_factory.mktemp("runs"), {"recipe": {"backbone": "toy-backbone"}}
    return hashbench.run("crh", "toy", bits=12, epochs=1, overrides=small, progress=False, runs_dir=runs).path
