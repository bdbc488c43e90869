"""`hashbench prepare` and `hashbench list datasets`, as typed; a run on what was prepared."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hashbench.cli import main
from hashbench.datasets.prepared import building
from hashbench.registry import DATASETS

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from image_trees import register_tree, write_tree


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Return the data folder of the registered set `tree`."""
    monkeypatch.setattr(DATASETS, "_local", dict(DATASETS._local))
    monkeypatch.setattr(DATASETS, "_loaded", dict(DATASETS._loaded))
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path / "data")
    register_tree(tmp_path)
    return tmp_path / "data"


def invoke(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_prepare_prints_the_audit_and_where_the_store_lies(tree):
    ran = invoke("prepare", "tree", "--data-dir", tree)
    assert ran.exit_code == 0, ran.output
    assert "tree: 30 inputs of 3x16x16, 3 classes, checksums of the release not known, integrity" in ran.output
    (folder,) = re.findall(r"Prepared in (.*)\.", ran.output)
    assert (Path(folder) / "store.json").is_file()
    for line in (
        r"train items \(a class\) +15 \(5\)",
        r"database items \(a class\) +9 \(3\)",
        r"unlabelled items +0",
    ):
        assert re.search(line, ran.output)


def test_what_ships_with_hashbench_is_audited(tmp_path):
    ran = invoke("prepare", "fashion-mnist-10k")
    assert ran.exit_code == 0, ran.output
    assert "official files" in ran.output
    assert "It ships with hashbench and needs no preparation." in ran.output
    assert "Its reader names no files whose changes could be detected" in invoke("prepare", "toy").output
    assert re.search(r"query items \(a class\) +1,000 \(100\)", ran.output)


def test_the_command_that_the_error_names_makes_the_run_work(tree):
    """Prepare, train, evaluate; and the result carries the audit, and another size is another experiment."""
    run = ("run", "--method", "lsh", "--dataset", "tree", "--bits", "8", "--data-dir", tree, "--device", "cpu")
    refused = invoke(*run)
    assert refused.exit_code == 2
    (command,) = re.findall(r"`hashbench (.*)`", refused.output)
    assert invoke(*command.split()).exit_code == 0
    ran = invoke(*run)
    assert ran.exit_code == 0, ran.output
    (result,) = Path("runs").rglob("result.json")
    audit = json.loads(result.read_text())["provenance"]["audit"]
    assert audit["queries_without_relevant"] == 0
    assert "sizes" not in audit
    refused = invoke(*run, "--data-size", 12)
    assert "not prepared at 12 pixels" in refused.output
    assert invoke("prepare", "tree", "--data-dir", tree, "--size", 12).exit_code == 0
    assert invoke(*run, "--data-size", 12).exit_code == 0
    assert len({json.loads(path.read_text())["id"] for path in Path("runs").rglob("result.json")}) == 2


def test_the_list_says_what_is_ready_preparable_and_missing(tree):
    def states():
        listed = invoke("list", "datasets", "--data-dir", tree)
        assert listed.exit_code == 0, listed.output
        return dict(re.findall(r"^([\w-]+)@\S+ .*?  (ready|preparable|missing) ", listed.output, re.MULTILINE))

    before = states()
    assert (before["tree"], before["cifar10"], before["fashion-mnist-10k"]) == ("preparable", "missing", "ready")
    invoke("prepare", "tree", "--data-dir", tree)
    assert states()["tree"] == "ready"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["tre"], "Unknown data set 'tre'. Did you mean 'tree'?"),
        (["tree@q"], "Unknown protocol 'tree@q'."),
        (["tree", "--data-dir", "nowhere"], "The data folder nowhere does not exist"),
        (["fashion-mnist-10k", "--size", "64"], "comes as arrays of shape (1, 28, 28)"),
        (["cifar10", "--data-dir", "data"], "CIFAR-10 is not in data"),
    ],
)
def test_bad_input_is_one_sentence(tree, arguments, reason, monkeypatch):
    monkeypatch.setattr("hashbench.datasets.files.downloading.urllib.request.urlopen", _no_network)
    ran = invoke("prepare", *arguments)
    assert ran.exit_code == 2
    assert ran.output.startswith("Error: ")
    assert reason in ran.output
    assert ran.output.count("\n") == 1


def _no_network(*_, **__):
    raise OSError("no network")


def test_a_protocol_whose_promise_is_broken_is_an_error_after_the_others_were_shown(tree, tmp_path):
    toml = tmp_path / "two.toml"
    good = (tmp_path / "tree.toml").read_text().replace('found_by = ["tree/list.txt"]', "")
    wrong = good[good.index("[[protocol]]") :].replace('"p"', '"wrong"').replace("database = 9", "database = 10")
    toml.write_text(f"{good}\n{wrong}")
    import hashbench

    read = DATASETS.get("tree").read
    hashbench.dataset("two", protocols=str(toml))(read)
    ran = invoke("prepare", "two", "--data-dir", tree)
    assert ran.exit_code == 2
    assert re.search(r"train items \(a class\) +15 \(5\)", ran.output)
    assert "Error: two@wrong states 15 train, 6 query and 10 database items" in ran.output
    assert invoke("prepare", "two@p", "--data-dir", tree).exit_code == 0
    assert invoke("prepare", "two@wrong", "--data-dir", tree).exit_code == 2


def test_ctrl_c_ends_cleanly_and_the_same_command_goes_on(tree, tmp_path):
    code = f"""
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
sys.path[:0] = [{str(Path(__file__).parents[1] / "datasets")!r}]
from pathlib import Path
from image_trees import register_tree
from hashbench.datasets.prepared import building
from hashbench.cli import main
register_tree(Path({str(tmp_path)!r}))
building.CHUNK_BYTES = 4 * 3 * 16 * 16
real = building.decode
def slow(path, size):
    if path.name == "00016.jpg":
        print("half", flush=True)
        time.sleep(1)
    return real(path, size)
building.decode = slow
main(["prepare", "tree", "--data-dir", {str(tree)!r}])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said.strip().endswith("Interrupted. What was finished is kept; the same command goes on from here.")
    assert "Traceback" not in said
    assert [path.name for path in (Path(os.environ["HASHBENCH_CACHE"]) / "stores").glob("tree-*")] == []
    assert invoke("prepare", "tree", "--data-dir", tree).exit_code == 0
    assert building.CHUNK_BYTES > 1_000
