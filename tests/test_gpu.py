"""Whole runs on a GPU; needs one: pytest -m gpu."""

import numpy as np
import pytest
import scipy.sparse
import torch
from click.testing import CliRunner

import hashbench
from hashbench.cli import main
from hashbench.datasets import catalogue as datasets
from hashbench.datasets.loading.loader import inference_batches
from hashbench.results.runs import RunDirectory

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


def test_the_same_weights_give_the_same_codes_but_for_outputs_at_zero(tmp_path):
    """float32 on both devices: outputs agree to 1e-3, so only bits whose output lies nearer to zero may flip."""
    result = hashbench.run("csq", "toy", bits=64, device="cuda", epochs=8, runs_dir=tmp_path, progress=False)
    images = torch.from_numpy(datasets.load("toy").store.inputs).float() / 255
    outputs = {}
    for device in ("cuda", "cpu"):
        network = hashbench.load(result.path, device=device).network.eval()
        with torch.inference_mode():
            outputs[device] = network(images.to(device)).cpu()
    torch.testing.assert_close(outputs["cuda"], outputs["cpu"], atol=1e-3, rtol=1e-3)
    flipped = (outputs["cuda"] >= 0) != (outputs["cpu"] >= 0)
    assert (outputs["cpu"][flipped].abs() < 1e-3).all()
    assert flipped.float().mean() < 0.01


def test_results_do_not_depend_on_the_loader_tier(tmp_path, monkeypatch):
    """Convolutions on a GPU are not bit for bit the same twice; the batches are, so the losses are to 1e-3."""
    losses = {}
    for tier in ("resident", "streamed"):
        monkeypatch.setenv("HASHBENCH_LOADER", tier)
        result = hashbench.run("crh", "toy", bits=16, device="cuda", epochs=3, runs_dir=tmp_path / tier, progress=False)
        losses[tier] = [line["loss"]["center"] for line in RunDirectory(result.path).read_log()]
    assert losses["streamed"] == pytest.approx(losses["resident"], rel=1e-3)


def test_a_device_that_is_not_there(tmp_path):
    device = f"cuda:{torch.cuda.device_count()}"
    command = ["run", "--method", "crh", "--dataset", "toy", "--device", device, "--runs-dir", str(tmp_path)]
    ran = CliRunner().invoke(main, command)
    assert ran.exit_code == 2
    assert ran.output.count("\n") == 1
    assert f"The device '{device}' is not there" in ran.output


def test_sparse_rows_become_dense_on_the_gpu():
    rows = scipy.sparse.random(3000, 500, 0.02, format="csr", dtype=np.float32, random_state=0)
    index = np.random.default_rng(0).permutation(3000)[:2001]
    found = [*inference_batches(rows, batch_size=128, device="cuda", index=index)]
    assert {batch.device.type for batch in found} == {"cuda"}
    assert torch.equal(torch.cat(found).cpu(), torch.from_numpy(rows.toarray()[index]))
