"""Where a number comes from: which checkout a method's file belongs to, and what the rest of a result states."""

import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import hashbench
from hashbench.interop.targets import resolve_method
from hashbench.system.provenance import _checkout, provenance

ROOT = Path(__file__).parents[2]
METHOD = """
import hashbench
from hashbench.methods.contract import DeepMethod

@hashbench.method("checked-out")
class CheckedOut(DeepMethod):
    def loss(self, out, batch):
        return {"all": out.square().mean()}
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout with one committed method."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "somebody@example.org")
    (tmp_path / "checked_out.py").write_text(METHOD)
    (tmp_path / ".gitignore").write_text("ignored\n__pycache__\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    _checkout.cache_clear()
    return tmp_path


def git(folder, *arguments):
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_a_plug_ins_checkout_is_named_with_revision_and_dirtiness(checkout, fresh_methods):
    resolve_method(f"{checkout}/checked_out.py:CheckedOut")
    stated = provenance("checked-out", device=torch.device("cpu"), started=datetime.now(UTC))
    assert stated["plugin_git"] == {"revision": git(checkout, "rev-parse", "HEAD"), "dirty": False}
    (checkout / "other.py").write_text("")
    _checkout.cache_clear()
    assert _checkout(checkout / "checked_out.py")["dirty"] is True
    assert _checkout(checkout / "other.py")["dirty"] is True


def test_what_lies_in_a_checkout_but_is_ignored_by_it_has_no_revision(checkout):
    (checkout / "ignored").mkdir()
    (checkout / "ignored" / "installed.py").write_text(METHOD)
    assert _checkout(checkout / "ignored" / "installed.py") is None


def test_outside_a_checkout_there_is_no_revision(tmp_path):
    assert _checkout(tmp_path / "nowhere.py") is None


def test_a_result_states_what_made_it(tmp_path):
    stated = hashbench.run("csq", "toy", bits=16, epochs=1, progress=False, runs_dir=str(tmp_path / "runs")).provenance
    assert stated["libraries"]["torch"] == version("torch")
    assert stated["plugin"]["distribution"] == "hashbench"
    assert stated["floats"] == {"float32_matmul": "highest", "cudnn_tf32": False, "cudnn_benchmark": False}
    assert stated["threads"] == torch.get_num_threads()
    assert stated["cuda"] is None
    assert stated["system"].startswith("Linux")
    for name in ("cpu", "source_sha256", "split_sha256", "data_integrity", "argv", "started", "python"):
        assert stated[name], name


def test_every_key_of_a_result_is_described(tmp_path):
    result = hashbench.run("itq", "toy", bits=16, progress=False, runs_dir=str(tmp_path / "runs")).to_dict()
    documented = {*re.findall(r"`([\w ]+)`", (ROOT / "docs" / "results-on-disk.md").read_text())}
    parts = [result, *(result[part] for part in ("coords", "counts", "code_stats", "epoch", "time", "provenance"))]
    assert {key for part in parts for key in part} - documented == set()
