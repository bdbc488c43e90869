"""From an experiment to a run directory: what is stored, what is reused, what survives."""

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from toy_dataset import ToyBackbone, toy

import hashbench
from hashbench.datasets import catalogue as datasets
from hashbench.datasets.files.decoding import decode
from hashbench.datasets.prepared.building import prepare
from hashbench.errors import HashbenchError
from hashbench.experiments import execution, runner
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan
from hashbench.methods.contract import DeepMethod, Method, method
from hashbench.metrics import evaluate_histograms, histograms, pack
from hashbench.metrics.histograms import Histograms
from hashbench.results.runs import RunDirectory
from hashbench.storage.cache import cache_root
from hashbench.training import preparation


@pytest.fixture
def settings(tmp_path):
    return {"runs_dir": tmp_path / "runs", "epochs": 8, "progress": False}


def test_a_run_leaves_what_the_docs_say(settings):
    result = hashbench.run("crh", "toy", bits=16, **settings)
    assert result.path.relative_to(settings["runs_dir"]).parts[:3] == ("toy@small", "crh", "16b")
    assert result.path.name == f"s0-{result.id[:8]}"
    found = {path.name for path in result.path.iterdir()}
    arrays = {"histograms.npz", "codes.npz", "names.json.gz", "centers.npz"}
    assert found == {"spec.json", "result.json", *arrays, "model.pt", "log.jsonl"}
    assert result.metrics["mAP@all"] > 0.8  # chance is 1/3: the toy is easy
    low, high = result.bounds["mAP@all"]
    assert low <= result.metrics["mAP@all"] <= high
    assert result.epoch == {"kept": "last", "of": 8}
    assert result.counts["queries"] == 15
    assert result.counts["database"] == 75
    assert {"source_sha256", "split_sha256", "git", "libraries", "argv", "device"} <= set(result.provenance)
    spec = json.loads((result.path / "spec.json").read_text())
    assert spec["identity"]["method"]["fields"]["margin"] == 0.2


def test_a_run_names_the_rows_of_its_codes(settings, tmp_path):
    result = hashbench.run("lsh", "toy", bits=16, **settings)
    names = json.loads(gzip.decompress((result.path / "names.json.gz").read_bytes()))
    inputs, model = toy.read(None).inputs, hashbench.load(result.path)
    codes = RunDirectory(result.path).read_codes()
    assert names["rows"] == "positions"
    for part in ("query", "database"):
        assert np.array_equal(pack(model.encode(inputs[names[part]])), codes[part])
    others = [hashbench.run("lsh", "toy", bits=bits, **settings) for bits in (24, 16)]
    assert len({(other.path / "names.json.gz").stat().st_ino for other in (result, *others)}) == 1  # kept once
    hashbench.run("lsh", "toy", bits=24, **settings, rerun="all")
    assert RunDirectory(others[0].path).read_names() == names
    assert not RunDirectory(others[0].path).again.path.exists()
    searched = hashbench.run("lsh", "toy@searched", bits=16, **settings)
    assert len(RunDirectory(searched.path).read_names()["database"]) == 135


def test_a_run_on_files_names_them(settings, tmp_path):
    random = np.random.default_rng(0)
    for place in range(40):
        path = tmp_path / "pets" / "ab"[place % 2] / f"{place}\n\u00fc.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    prepare(f"folder:{tmp_path / 'pets'}", size=8, progress=False)
    settled = {**settings, "recipe": "scratch", "data_size": 8}
    result = hashbench.run("lsh", f"folder:{tmp_path / 'pets'}", bits=16, **settled)
    names, codes = RunDirectory(result.path).read_names(), RunDirectory(result.path).read_codes()
    assert names["rows"] == "files"
    model = hashbench.load(result.path)
    for part in ("query", "database"):
        assert len(names[part]) == len(codes[part]) > 0
        pixels = np.stack([decode(tmp_path / "pets" / name, 8) for name in names[part]])
        assert np.array_equal(pack(model.encode(pixels)), codes[part])


def test_measures_can_be_recomputed_from_what_is_kept(settings):
    result = hashbench.run("crh", "toy", bits=16, **settings)
    directory, data = RunDirectory(result.path), datasets.load("toy")
    stored = Histograms.from_arrays(directory.read_arrays("histograms"))
    assert evaluate_histograms(stored, ["mAP@all"]).metrics["mAP@all"] == result.metrics["mAP@all"]
    codes = directory.read_arrays("codes")
    labels = data.store.labels
    again = histograms(
        codes["query"], codes["database"], labels[data.split.query], labels[data.split.database], bits=16
    )
    assert np.array_equal(again.n, stored.n)
    assert np.array_equal(again.r, stored.r)


def test_a_finished_run_is_loaded_not_repeated(settings, monkeypatch):
    first = hashbench.run("crh", "toy", bits=16, **settings)
    monkeypatch.setattr(execution, "compute", lambda *a, **k: pytest.fail("computed again"))
    assert hashbench.run("crh", "toy", bits=16, **settings) == first


def test_seeds_repeat_and_differ(settings, tmp_path):
    def weights(seed, runs_dir):
        result = hashbench.run("crh", "toy", bits=16, seed=seed, **{**settings, "runs_dir": runs_dir})
        state = torch.load(result.path / "model.pt", weights_only=True)
        return state["network"]["head.weight"], result.metrics

    first, again = weights(0, tmp_path / "a"), weights(0, tmp_path / "b")
    other = weights(1, tmp_path / "a")
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1]
    assert not torch.equal(first[0], other[0])


def test_whatever_is_set_has_its_own_run(settings):
    ids = {
        hashbench.run("crh", "toy", bits=16, **settings, overrides=overrides).id
        for overrides in ({}, {"crh": {"reassign": "false"}}, {"recipe": {"learning_rate": "0.01"}})
    }
    assert len(ids) == 3


def test_a_loaded_model_encodes_as_the_run_did(settings):
    result = hashbench.run("crh", "toy", bits=12, **settings)
    data = datasets.load("toy")
    codes = hashbench.load(result.path).encode(data.store.inputs[data.split.query])
    assert codes.dtype == bool
    assert np.array_equal(np.packbits(codes, axis=1), RunDirectory(result.path).read_arrays("codes")["query"])


def test_a_finetuned_model_loads_without_the_pretrained_weights(settings):
    asked = []

    @hashbench.backbone("tells-what-it-is-asked")
    def tells(shape, pretrained):
        asked.append(pretrained)
        return ToyBackbone(shape)

    tells.weights_file = Path(__file__)
    result = hashbench.run(
        "crh", "toy", bits=16, **settings, recipe="finetune", backbone="tells-what-it-is-asked",
        overrides={"recipe": {"size": "12", "precision": "fp32"}},
    )  # fmt: skip
    assert asked == [False, True]  # at first to know its width
    data = datasets.load("toy")
    codes = hashbench.load(result.path).encode(data.store.inputs[data.split.query])
    assert asked == [False, True, False]
    assert np.array_equal(np.packbits(codes, axis=1), RunDirectory(result.path).read_arrays("codes")["query"])


@pytest.fixture
def frozen(settings):
    return {**settings, "recipe": "frozen", "backbone": "toy-backbone", "overrides": {"recipe": {"size": "0"}}}


def test_frozen_features_are_computed_once_for_all_runs(frozen):
    plan(["crh"], ["toy"], [16], settings=Settings(**frozen))  # which builds one, to know its width
    before = ToyBackbone.built
    results = hashbench.sweep(["crh"], ["toy"], [16, 32], seeds=2, **frozen)
    assert ToyBackbone.built == before + 1
    assert {r.coords["inputs"] for r in results} == {"features"}
    assert all(r.metrics["mAP@all"] > 0.6 for r in results)
    data = datasets.load("toy")
    codes = hashbench.load(results[0].path).encode(data.store.inputs[data.split.query])  # images, through the backbone
    assert np.array_equal(np.packbits(codes, axis=1), RunDirectory(results[0].path).read_arrays("codes")["query"])


def test_killed_feature_computation_goes_on(frozen, monkeypatch):
    from hashbench.training import features

    monkeypatch.setattr(features, "ROWS_AT_A_TIME", 40)
    seen = []
    original = features.FixedBackbone.forward

    def dies_once(self, images):
        seen.append(len(images))
        if sum(seen) == 120 and len(seen) == 3:
            raise KeyboardInterrupt
        return original(self, images)

    monkeypatch.setattr(features.FixedBackbone, "forward", dies_once)
    with pytest.raises(KeyboardInterrupt):
        hashbench.run("crh", "toy", bits=16, **frozen)
    assert seen == [40, 40, 40]
    resumed = hashbench.run("crh", "toy", bits=16, **frozen)
    assert seen[3:] == [40, 30]  # the first 80 of 150 were kept
    monkeypatch.setattr(features.FixedBackbone, "forward", original)
    monkeypatch.setenv("HASHBENCH_CACHE", str(frozen["runs_dir"] / "cache"))
    whole = hashbench.run("crh", "toy", bits=16, **{**frozen, "runs_dir": frozen["runs_dir"] / "whole"})
    assert resumed.metrics == whole.metrics


def test_features_that_do_not_fit_on_the_disk_are_one_sentence(frozen, monkeypatch):
    def full(*place):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full, raising=False)
        with pytest.raises(HashbenchError, match=r"Cannot write .*\.part: No space left on device; make room there"):
            hashbench.run("crh", "toy", bits=16, **frozen)
    assert hashbench.run("crh", "toy", bits=16, **frozen).coords["inputs"] == "features"


@pytest.mark.parametrize("bits", [0, 1025])
def test_lengths_that_no_code_has_are_refused_before_anything_is_trained(settings, bits):
    with pytest.raises(HashbenchError, match=f"^{bits} bits are not possible; a code has 1 to 1,024 bits"):
        hashbench.run("lsh", "toy", bits=bits, **settings)
    with pytest.raises(HashbenchError, match="The seed -1 is not possible"):
        hashbench.run("lsh", "toy", bits=16, seed=-1, **settings)
    assert not settings["runs_dir"].exists()


def test_scripts_may_give_values_for_texts(settings):
    as_values = {"crh": {"margin": 0.3, "reassign": False, "heads": None}, "recipe": {"betas": (0.5, 0.9)}}
    as_texts = {"crh": {"margin": "0.3", "reassign": "false", "heads": "none"}, "recipe": {"betas": "0.5,0.9"}}
    made = [plan(["crh"], ["toy"], [16], settings=Settings(**settings, overrides=o)) for o in (as_values, as_texts)]
    assert made[0].runs[0].experiment == made[1].runs[0].experiment
    assert made[0].runs[0].experiment.fields["margin"] == 0.3


def test_a_class_without_source_prepares_anew_each_time(settings):
    """As in a notebook, where a class may have changed under the same name."""
    home = ModuleType("a_notebook")
    cell = """
@hashbench.method("in-a-notebook")
class Mine(hashbench.DeepMethod):
    def prepare(self, task, data, tools):
        return {"offset": torch.ones(1)}
    def setup(self, task, prepared):
        self.register_buffer("offset", prepared["offset"])
    def loss(self, out, batch):
        return {"all": ((out - self.offset) ** 2).mean()}
"""
    vars(home).update(hashbench=hashbench, torch=torch)
    exec(cell, vars(home))
    for result in hashbench.sweep(["in-a-notebook"], ["toy"], [16, 24], **settings):
        assert result.provenance["prepared_from_cache"] is False


def test_validation_uses_train_alone(settings):
    result = hashbench.run("crh", "toy", bits=16, **settings, evaluate_on="validation")
    test = hashbench.run("crh", "toy", bits=16, **settings)
    assert result.coords["evaluated"] == "validation"
    assert result.counts["queries"] == 12  # a fifth of each class's 20
    assert result.counts["database"] == result.counts["train"] == 48
    assert result.id != test.id


def test_one_failing_cell_leaves_the_others_alone(settings):
    @method("breaks-at-16")
    class Breaks(DeepMethod):
        def loss(self, out, batch):
            return {"all": out.mean() * (float("inf") if out.shape[1] == 16 else 1.0)}

    made = plan(["breaks-at-16"], ["toy"], [16, 24], settings=Settings(**settings))
    outcome = runner.execute(made)
    assert [result.coords["bits"] for result in outcome.results] == [24]
    failed = RunDirectory(made.runs[0].directory.path)
    assert not failed.finished
    assert "epoch 1, step 1" in json.loads(failed.failure.read_text())["error"]
    with pytest.raises(HashbenchError, match="'all' became"):
        outcome.raise_first_failure()


def test_what_a_kill_right_after_the_result_leaves_is_removed_by_the_next_sweep(settings):
    directory = RunDirectory(hashbench.run("crh", "toy", bits=16, **settings).path)
    directory.checkpoint.write_bytes(b"left")
    hashbench.run("crh", "toy", bits=16, **settings)
    assert not directory.checkpoint.exists()


def test_what_a_method_does_not_support_is_skipped_in_a_grid_and_refused_alone(settings):
    made = plan(["crh"], ["toy"], [1, 16], settings=Settings(**settings))
    assert [cell.status.state for cell in made.runs] == ["skipped", "to do"]
    assert "cannot hold 3 classes" in made.runs[0].skipped
    with pytest.raises(HashbenchError, match="cannot hold 3 classes"):
        hashbench.run("crh", "toy", bits=1, **settings)
    assert not settings["runs_dir"].exists()


def test_a_method_that_fails_at_the_question_is_skipped_with_the_reason(settings, fresh_methods):
    @method("undecided")
    class Undecided(DeepMethod):
        def supports(self, task):
            return 1 / 0

        def loss(self, out, batch):
            return {"all": out.square().mean()}

    made = plan(["undecided", "crh"], ["toy"], [16], settings=Settings(**settings))
    assert [cell.status.state for cell in made.runs] == ["skipped", "to do"]
    assert made.runs[0].skipped == "its supports() failed: ZeroDivisionError: division by zero"


def test_rows_of_one_method_share_a_sweep(settings):
    """Fields of a row go before those that all rows share; runs that come out alike are one run."""
    rows = ["crh", "crh (heads=1)", "crh (solver=hungarian, heads=2)", "csq"]
    shared = Settings(**settings, overrides={"crh": {"heads": "4"}})
    made = plan(rows, ["toy"], [16], settings=shared)
    assert [cell.method for cell in made.runs] == ["crh", "crh (heads=1)", "crh (heads=2, solver=hungarian)", "csq"]
    assert [cell.experiment.fields.get("heads") for cell in made.runs] == [4, 1, 2, None]
    assert [cell.experiment.fields.get("solver") for cell in made.runs] == ["greedy", "greedy", "hungarian", None]
    again = plan(["crh (heads=4)"], ["toy"], [16], settings=Settings(**settings))
    assert again.runs[0].experiment == made.runs[0].experiment
    with pytest.raises(HashbenchError, match=r"Unknown field of crh 'head'\. Did you mean 'heads'\?"):
        plan(["crh (head=1)"], ["toy"], [16], settings=Settings(**settings))


def test_methods_that_only_fit_see_features_and_no_labels_they_must_not(settings):
    seen = {}

    @method("mean-threshold")
    class MeanThreshold(Method):
        supervised = False

        def fit(self, task, data):
            seen["labels"], seen["inputs"] = data.labels, task.inputs
            self.register_buffer("mean", data.features().mean(dim=0)[: task.bits])

        def encode(self, inputs):
            return inputs[:, : len(self.mean)] >= self.mean

    result = hashbench.run("mean-threshold", "toy", bits=16, **settings)
    assert seen == {"labels": None, "inputs": "pixels"}
    assert result.epoch["of"] == 0
    data = datasets.load("toy")
    codes = hashbench.load(result.path).encode(data.store.inputs[data.split.query])
    assert np.array_equal(np.packbits(codes, axis=1), RunDirectory(result.path).read_arrays("codes")["query"])


def test_a_preparation_is_done_once_for_all_bit_lengths(settings, monkeypatch):
    calls = []

    @method("prepares")
    class Prepares(DeepMethod):
        temperature: float = 1.0
        prepared_by = ("temperature",)

        def prepare(self, task, data, tools):
            calls.append(task.bits)
            network = tools.train(task.num_classes, lambda out, batch: {"ce": (out - batch.labels).square().mean()})
            return {"scores": tools.outputs(network) / self.temperature}

        def setup(self, task, prepared):
            self.register_buffer("scores", prepared["scores"])

        def loss(self, out, batch):
            return {"all": out.square().mean()}

    results = hashbench.sweep(["prepares"], ["toy"], [16, 32], **settings)
    assert len(calls) == 1
    assert [r.provenance["prepared_from_cache"] for r in results] == [False, True]
    assert results[0].time["prepare"] == results[1].time["prepare"] > 0
    hashbench.run("prepares", "toy", bits=16, **settings, overrides={"prepares": {"temperature": "2"}})
    assert len(calls) == 2

    for kept in (cache_root() / "prepared").glob("prepares-*.pt"):
        kept.write_bytes(kept.read_bytes()[:-100])
    again = hashbench.sweep(["prepares"], ["toy"], [16], **{**settings, "runs_dir": settings["runs_dir"] / "again"})
    assert len(calls) == 3  # a damaged file is no preparation
    assert again[0].metrics == results[0].metrics
    assert hashbench.load(results[0].path).encode(toy.read(None).inputs[:2]).shape == (2, 16)
    assert preparation.cache_root().joinpath("prepared").is_dir()


KILLED = """
import sys
sys.path.insert(0, {tests!r})
import toy_dataset, hashbench
hashbench.run("crh", "toy", bits=16, runs_dir={runs!r}, epochs=40, progress=False)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_if_it_never_died(tmp_path, settings):
    runs = tmp_path / "killed"
    code = KILLED.format(tests=str(Path(__file__).parents[1]), runs=str(runs))
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not list(runs.rglob("checkpoint.pt")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert not list(runs.rglob("result.json"))
    resumed = hashbench.run("crh", "toy", bits=16, runs_dir=runs, epochs=40, progress=False)
    whole = hashbench.run("crh", "toy", bits=16, runs_dir=tmp_path / "whole", epochs=40, progress=False)
    assert [line["epoch"] for line in RunDirectory(resumed.path).read_log()] == list(range(40))
    assert resumed.metrics == whole.metrics
    stored, expected = (RunDirectory(r.path).read_arrays("codes") for r in (resumed, whole))
    assert all(np.array_equal(stored[name], expected[name]) for name in expected)
