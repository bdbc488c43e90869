"""A bundle of a run: it loads like the folder, alone, and nothing else does."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hashbench
from hashbench.errors import HashbenchError
from hashbench.results.bundle import opened_run, write_bundle
from hashbench.results.runs import RunDirectory
from hashbench.storage.archives import Archive, write_archive

SMALL = {"epochs": 1, "overrides": {"recipe": {"backbone": "toy-backbone"}}, "progress": False}
IMAGES = torch.rand(9, 1, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return RunDirectory(hashbench.run("crh", "toy", bits=12, runs_dir=tmp_path_factory.mktemp("runs"), **SMALL).path)


@pytest.fixture
def bundle(run, tmp_path):
    write_bundle(run, tmp_path / "b.zip")
    return tmp_path / "b.zip"


def test_it_gives_the_codes_of_the_run(run, bundle, tmp_path):
    assert np.array_equal(hashbench.load(bundle).encode(IMAGES), hashbench.load(run.path).encode(IMAGES))
    with opened_run(bundle) as opened:
        assert opened.read_result() == run.read_result()
        assert opened.read_spec() == run.read_spec()
        folder = opened.path
    assert not folder.exists()
    with opened_run(run.path) as opened:
        assert opened.path == run.path


def test_one_training_for_several_lengths_comes_along(tmp_path):
    results = hashbench.sweep(["nhl"], ["toy"], [8, 16], runs_dir=tmp_path / "runs", **SMALL)
    short = next(result for result in results if "prefix_of" in result.provenance)
    expected = hashbench.load(short.path).encode(IMAGES)
    write_bundle(RunDirectory(short.path), tmp_path / "short.zip")
    shutil.rmtree(tmp_path / "runs")
    assert np.array_equal(hashbench.load(tmp_path / "short.zip").encode(IMAGES), expected)
    assert expected.shape == (9, 8)
    for place in ("../../../../../../outside/x", "../run", "../..", "/tmp"):
        _restate(tmp_path / "short.zip", tmp_path / "evil.zip", place)
        with pytest.raises(HashbenchError, match="the training that it names lies elsewhere"):
            hashbench.load(tmp_path / "evil.zip")


def _restate(path, target, place):
    """Write a bundle whose result names another place of its training."""
    with Archive(path, "bundle") as archive:
        members = {name: archive.read(name) for name in archive.about["members"]}
        result = json.loads(members["run/result.json"])
        result["provenance"]["prefix_of"]["path"] = place
        members["run/result.json"] = json.dumps(result).encode()
        write_archive(target, "bundle", members, {"id": archive.about["id"]})


def test_the_card_says_what_it_is(run, bundle):
    with zipfile.ZipFile(bundle) as archive:
        card = archive.read("MODEL_CARD.md").decode()
    result = run.read_result()
    assert "# crh, 12 bits, trained on toy@small" in card
    assert f"fidelity: {result.provenance['fidelity']}; its equations come from" in card
    assert result.provenance["split_sha256"] in card
    assert result.id in card
    for measure, value in result.metrics.items():
        assert f"| {measure} | {value:.4f} |" in card.replace("\\", "")


def test_weights_that_are_not_inside_are_said(tmp_path):
    features = {"recipe": "frozen", "backbone": "toy-backbone", "overrides": {"recipe": {"size": "0"}}}
    path = hashbench.run("lsh", "toy", bits=8, progress=False, runs_dir=tmp_path, **features).path
    write_bundle(RunDirectory(path), tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert "**Not in the bundle:** the weights of the fixed backbone toy" in archive.read("MODEL_CARD.md").decode()


def test_what_cannot_be_bundled_is_refused(run, tmp_path):
    copy = RunDirectory(Path(shutil.copytree(run.path, tmp_path / "copy")))
    copy.model.write_bytes(b"other")
    with pytest.raises(HashbenchError, match="is not the file that this run's result was stored with"):
        write_bundle(copy, tmp_path / "b.zip")
    os.unlink(copy.model)
    with pytest.raises(HashbenchError, match=r"model\.pt cannot be read .*run again to have it"):
        write_bundle(copy, tmp_path / "b.zip")
    with pytest.raises(HashbenchError, match="There is no"):
        write_bundle(RunDirectory(tmp_path / "nowhere"), tmp_path / "b.zip")
    again = hashbench.evaluate_run(run.path, under="noise(sigma=0.1)")
    with pytest.raises(HashbenchError, match="measured under a condition; name the run itself"):
        write_bundle(RunDirectory(again.path), tmp_path / "b.zip")
    assert not (tmp_path / "b.zip").exists()


def test_another_run_than_it_says_is_refused(bundle, tmp_path):
    with Archive(bundle, "bundle") as archive:
        members = {name: archive.read(name) for name in archive.about["members"]}
    write_archive(tmp_path / "c.zip", "bundle", members, {"id": "0" * 64})
    with pytest.raises(HashbenchError, match="it holds another run than it says"):
        hashbench.load(tmp_path / "c.zip")


def test_the_commands(run, cli):
    assert "MB; hashbench.load and `hashbench encode`" in cli("export", run.path, "new/b.zip").stdout
    Path("photos").mkdir()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save("photos/a.png")
    assert "codes of 1 image" in cli("encode", "new/b.zip", "photos").stdout
    assert "it is cut short, or no bundle" in cli("encode", "photos/a.png", "photos", code=2).stderr
