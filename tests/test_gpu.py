"""Whole runs on a GPU; needs one: pytest -m gpu."""

import numpy as np
import pytest

import hashbench
from hashbench.datasets import base as datasets
from hashbench.results.store import RunDirectory

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("method", ["classifier", "crh", "csq", "dpn", "itq", "lsh", "shc"])
def test_a_run_on_the_gpu_encodes_like_its_weights_on_the_cpu(method, tmp_path):
    result = hashbench.run(method, "toy", bits=16, device="cuda", epochs=8, runs_dir=tmp_path, progress=False)
    assert result.provenance["device"].startswith("cuda")
    data = datasets.load("toy")
    stored = RunDirectory(result.path).read_arrays("codes")["query"]
    for device in ("cuda", "cpu"):
        codes = hashbench.load(result.path, device=device).encode(data.store.inputs[data.split.query])
        agree = (codes == np.unpackbits(stored, axis=1, count=16).astype(bool)).mean()
        assert agree > 0.99, device


def test_the_loader_tier_changes_no_order(tmp_path):
    """One seed means the same batches on both devices, so the first epoch's losses nearly agree."""
    losses = {}
    for device in ("cpu", "cuda"):
        result = hashbench.run(
            "crh", "toy", bits=16, device=device, epochs=2, runs_dir=tmp_path / device, progress=False
        )
        losses[device] = RunDirectory(result.path).read_log()[0]["loss"]["center"]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-3)
