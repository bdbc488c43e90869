"""What all tests share. Folders mirror the rooms; that of baselines/ has another name, or Python would import it."""

import signal
import sys
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # the toys are small: two threads would mostly wait for each other

sys.path.insert(0, str(Path(__file__).parent))

import result_cases  # noqa: E402
import toy_dataset  # noqa: E402, F401  (registers the toy data set and backbone)
from click.testing import CliRunner  # noqa: E402

from hashbench.cli import main  # noqa: E402
from hashbench.registry import METHODS  # noqa: E402

# A shell without job control starts `pytest &` with SIGINT ignored, and whatever a test starts inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def no_bytecode_of_what_tests_write():
    """A module written again within a second, as long as before, would be taken for its bytecode."""
    sys.dont_write_bytecode = True


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Keep every test away from the user's cache, data and each other."""
    monkeypatch.setenv("HASHBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("HASHBENCH_DATA", raising=False)  # tests/datasets gives it back to those marked `real`
    monkeypatch.delenv("HASHBENCH_ACCEPT_UNOFFICIAL", raising=False)


@pytest.fixture
def fresh_methods(monkeypatch):
    """Forget after the test what methods it registered."""
    monkeypatch.setattr(METHODS, "_local", dict(METHODS._local))
    monkeypatch.setattr(METHODS, "_loaded", dict(METHODS._loaded))
    monkeypatch.setattr(METHODS, "_former", dict(METHODS._former))


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Run the command in an empty folder; returns its result."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, code=0):
        result = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return call


@pytest.fixture
def make():
    """Return a function that makes up a result."""
    return result_cases.make
