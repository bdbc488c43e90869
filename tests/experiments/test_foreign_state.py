"""Files of a run that are another run's, or damaged: refused by name, or made anew; never taken for its own."""

import json
import shutil

import numpy as np
import pytest
import torch

import hashbench
from hashbench import datasets
from hashbench.errors import HashbenchError
from hashbench.results.finding import find_runs
from hashbench.results.runs import RunDirectory
from hashbench.storage.strict_json import document


@pytest.fixture
def settings(tmp_path):
    return {"runs_dir": tmp_path / "runs", "epochs": 3, "progress": False}


@pytest.fixture
def stopped(monkeypatch):
    """Begin a run, and end it after two of its epochs; returns its checkpoint."""

    def begin(settings, **more):
        append = RunDirectory.append_log

        def stop(self, line):
            append(self, line)
            if line.get("epoch") == 2:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(RunDirectory, "append_log", stop)
            with pytest.raises(KeyboardInterrupt):
                hashbench.run("crh", "toy", bits=16, **settings, **more)
        (checkpoint,) = settings["runs_dir"].rglob("checkpoint.pt")
        return checkpoint

    return begin


def faster(rate):
    return {"overrides": {"recipe": {"learning_rate": rate}}}


def test_a_checkpoint_of_another_run_is_not_resumed_from(settings, tmp_path, stopped):
    clean = hashbench.run("crh", "toy", bits=16, **{**settings, "runs_dir": tmp_path / "clean"})
    own = stopped(settings)
    shutil.copy(stopped({**settings, "runs_dir": tmp_path / "other"}, **faster(0.5)), own)
    result = hashbench.run("crh", "toy", bits=16, **settings)
    assert result.metrics == clean.metrics
    log = RunDirectory(result.path).read_log()
    assert {"warning": f"The checkpoint {own} belongs to another run, or to other code or data; the training starts over."} in log  # noqa: E501  # fmt: skip


@pytest.mark.parametrize("change", [
    lambda path: path.write_bytes(b""), lambda path: path.write_bytes(bytes(path.stat().st_size)),
    lambda path: path.write_bytes(path.read_bytes()[:-99]),
    lambda path: torch.save(torch.load(path, weights_only=True), path),  # as an earlier version wrote it
])  # fmt: skip
def test_a_checkpoint_that_cannot_be_known_for_its_own_is_not_resumed_from(settings, tmp_path, stopped, change):
    clean = hashbench.run("crh", "toy", bits=16, **{**settings, "runs_dir": tmp_path / "clean"})
    change(stopped(settings))
    result = hashbench.run("crh", "toy", bits=16, **settings)
    assert result.metrics == clean.metrics
    assert "the training starts over" in str(RunDirectory(result.path).read_log())


def test_a_checkpoint_of_its_own_is_resumed_from_whatever_the_spec_says(settings, stopped):
    checkpoint = stopped(settings)
    checkpoint.with_name("spec.json").write_text("{")
    result = hashbench.run("crh", "toy", bits=16, **settings)
    assert "warning" not in str(RunDirectory(result.path).read_log())


@pytest.fixture
def two(settings):
    """Two finished runs of different methods."""
    return [RunDirectory(result.path) for result in hashbench.sweep(["lsh", "itq"], ["toy"], [16], **settings)]


def test_a_result_of_another_run_is_refused_by_name_and_the_others_go_on(settings, two, cli):
    own, other = two
    mine = own.read_result()
    shutil.copy(other.result, own.result)
    arguments = ["--dataset", "toy", "--bits", 16, "--epochs", 3, "--runs-dir", settings["runs_dir"]]
    ran = cli("run", "--method", "lsh,itq", *arguments, code=2)
    assert (
        f"{own.result} is of another run (itq on toy@small, 16 bits, seed 0, id {other.read_result().id[:8]})"
        in ran.stderr
    )
    assert "itq" in ran.stdout
    assert "lsh" not in ran.stdout.split("mAP")[-1]
    results, problems = find_runs([settings["runs_dir"]])
    assert [result.coords["method"] for result in results] == ["itq"]
    assert len(problems) == 1
    shutil.copy(other.spec, own.spec)  # now the folder agrees with itself, and not with the cell
    assert len(find_runs([settings["runs_dir"]])[0]) == 2
    assert "is of another run" in cli("run", "--method", "lsh", *arguments, code=2).stderr
    cli("run", "--method", "lsh", *arguments, "--rerun", "all")
    assert RunDirectory(own.path).read_result().metrics == mine.metrics


@pytest.mark.parametrize("with_spec", [True, False])
def test_a_rerun_of_another_run_does_not_take_its_place(settings, two, with_spec):
    own, other = two
    mine = own.read_result()
    shutil.copytree(other.path, own.again.path)
    if not with_spec:
        own.again.spec.unlink()
    with pytest.raises(HashbenchError, match=r"again/result.json is of another run \(itq on toy@small"), own.lock():
        pass
    assert own.read_result() == mine
    shutil.rmtree(own.again.path)
    shutil.copytree(own.path, own.again.path)
    with own.lock():
        assert not own.again.path.exists()
    assert own.read_result() == mine


def test_files_of_an_unfinished_rerun_of_another_run_are_made_anew(settings, two):
    own, other = two
    mine = own.read_result()
    shutil.copytree(other.path, own.again.path)
    own.again.result.unlink()
    own.again.write_arrays("centers", centers=np.zeros(3))
    result = hashbench.run("lsh", "toy", bits=16, **settings, rerun="all")
    assert result.metrics == mine.metrics
    assert not RunDirectory(result.path).centers.exists()


@pytest.mark.parametrize("name", ["codes", "histograms"])
def test_arrays_of_another_run_are_refused(two, name, cli):
    own, other = two
    shutil.copy(other.path / f"{name}.npz", own.path)
    with pytest.raises(HashbenchError, match=rf"{name}\.npz is not the file that this run's result was stored with"):
        own.read_arrays(name)
    assert (
        f"files: {name}.npz is not the file that the result was stored with" in cli("verify", own.path, code=1).stdout
    )


def test_weights_of_another_run_are_refused(settings, two, cli):
    own, other = two
    ours = own.model.read_bytes()
    shutil.copy(other.model, own.model)
    with pytest.raises(HashbenchError, match=r"model\.pt is not the file that this run's result was stored with"):
        hashbench.load(own.path)
    assert "files: model.pt is not the file" in cli("verify", own.path, code=1).stdout
    forget_files(own)  # as of a run from before results stated their files: the weights say whose they are
    with pytest.raises(HashbenchError, match=r"model\.pt belongs to another run, or to other code or data; copy"):
        hashbench.load(own.path)
    own.model.write_bytes(ours[:300] + bytes([ours[300] ^ 1]) + ours[301:])
    with pytest.raises(HashbenchError, match=r"model\.pt is damaged"):
        hashbench.load(own.path)


def forget_files(run):
    data = json.loads(run.result.read_text())
    data["provenance"].pop("files")
    run.result.write_text(document(data))


def test_a_run_from_before_there_were_checksums_is_read_and_verify_says_so(settings, two, cli):
    own, _ = two
    forget_files(own)
    torch.save(torch.load(own.model, weights_only=True), own.model)
    data = datasets.load("toy")
    codes = hashbench.load(own.path).encode(data.store.inputs[data.split.query])
    assert np.array_equal(np.packbits(codes, axis=1), own.read_arrays("codes")["query"])
    assert "the result is from before it stated the sha256 of the run's files" in cli("verify", own.path, code=3).stdout


def test_a_run_on_features_is_not_loaded_with_other_pretrained_weights(settings, monkeypatch, tmp_path):
    import toy_dataset

    weights = tmp_path / "weights"
    weights.write_bytes(b"one")
    monkeypatch.setattr(toy_dataset.toy_backbone, "weights_file", weights)
    given = {**settings, "recipe": "frozen", "overrides": {"recipe": {"backbone": "toy-backbone", "size": 0}}}
    result = hashbench.run("itq", "toy", bits=8, **given)
    hashbench.load(result.path)
    weights.write_bytes(b"two")
    with pytest.raises(HashbenchError, match="with the weights weights, and here 'toy-backbone' has others"):
        hashbench.load(result.path)
