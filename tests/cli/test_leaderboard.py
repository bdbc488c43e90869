"""`hashbench leaderboard` over real runs: what it ranks, what it refuses, and the commands that its pages give."""

import json
import re
import shlex
import shutil

import pytest

import hashbench


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Three seeds of lsh on the pictures' pixels, in seconds."""
    folder = tmp_path_factory.mktemp("finished") / "runs"
    for seed in range(3):
        hashbench.run("lsh", "fashion-mnist-10k", bits=16, seed=seed, recipe="scratch", runs_dir=folder, progress=False)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "runs")
    return tmp_path / "runs"


def test_finished_runs_are_ranked(cli, folder, tmp_path):
    output = cli("leaderboard", "runs", "--strict").output
    assert "unsupervised, resnet-small, scratch, no epochs, from pixels: 1 ranked, 1 lsh" in output
    data = json.loads((tmp_path / "site" / "leaderboard.json").read_text())
    assert data["refused"] == []
    (entry,) = data["rankings"][0]["rows"][0]["entries"]
    stored = [json.loads(path.read_text()) for path in sorted(folder.rglob("result.json"))]
    assert [run["id"] for run in entry["runs"]] == [result["id"] for result in stored]
    assert [run["value"] for run in entry["runs"]] == [result["metrics"]["mAP@all"] for result in stored]


def test_the_command_on_a_rows_page_computes_the_same_runs(cli, folder, tmp_path):
    cli("leaderboard", "runs")
    (page,) = (tmp_path / "site" / "rows").glob("*.html")
    line = re.search(r"hashbench (run .*)</pre>", page.read_text())[1]
    planned = cli(*shlex.split(line), "--dry-run").output
    assert "0 of 3 runs to compute" in planned


def changed(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda run: (run / "histograms.npz").unlink(), "measures from histograms"),
        (lambda run: (run / "histograms.npz").write_bytes(b"junk"), "histograms.npz"),
        (lambda run: changed(run / "result.json", '"mAP@all": 0.', '"mAP@all": 0.9'), "mAP@all"),
        (lambda run: changed(run / "spec.json", '"center": true', '"center": false'), "is of another run"),
        (lambda run: (run / "spec.json").unlink(), "spec.json"),
    ],
)
def test_a_run_that_its_files_contradict_is_refused(damage, reason, cli, folder, tmp_path):
    damage(min(folder.rglob("s0-*")))
    output = cli("leaderboard", "runs", "--strict", code=1).output
    assert reason in output
    data = json.loads((tmp_path / "site" / "leaderboard.json").read_text())
    assert data["rankings"] == []


def test_without_strict_a_refusal_is_a_warning(cli, folder):
    shutil.rmtree(min(folder.rglob("s0-*")))
    output = cli("leaderboard", "runs").output
    assert "lsh on fashion-mnist-10k@5k at 16 bits is refused: it has 2 seeds, and an entry needs 3." in output


def test_errors_are_one_sentence(cli, folder, tmp_path):
    assert "no folder nowhere" in cli("leaderboard", "nowhere", code=2).output
    (tmp_path / "file").write_text("mine")
    assert "file is a file" in cli("leaderboard", "runs", "-o", "file", code=2).output
    assert "no leaderboard" in cli("leaderboard", "runs", "-o", ".", code=2).output
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "runs"]
