"""Where numba, hypothesis and scikit-learn are not installed, runs and evaluation work all the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BLOCKED = """
import sys
for name in ("numba", "hypothesis", "sklearn", "numba.core"):
    sys.modules[name] = None
sys.path.insert(0, {tests!r})
import toy_dataset
from hashbench.cli import main
main({arguments!r})
"""
ARGUMENTS = ["run", "--method", "crh,itq", "--dataset", "toy", "--bits", "16", "--epochs", "1", "--runs-dir"]


@pytest.mark.slow
def test_a_run_and_its_evaluation_go_through(tmp_path):
    import numpy as np

    def blocked(arguments: list[str]) -> str:
        code = BLOCKED.format(tests=str(Path(__file__).parent), arguments=arguments)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ran = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    assert "crh" in blocked([*ARGUMENTS, "runs"])
    random = np.random.default_rng(0)
    for name, count in (("q", 5), ("d", 300)):
        np.save(tmp_path / f"{name}.npy", random.random((count, 20)) < 0.5)
        np.save(tmp_path / f"{name}l.npy", random.integers(0, 3, count))
    files = ["evaluate", "q.npy", "d.npy", "ql.npy", "dl.npy"]
    without = blocked(files)
    with_numba = subprocess.run(
        [sys.executable, "-m", "hashbench", *files], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert without == with_numba.stdout
