"""verify: what it finds, what it says that it could not check, and its exit codes; what compare marks of the same."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import hashbench
from hashbench.cli import verify
from hashbench.registry import METHODS
from hashbench.results.runs import RunDirectory
from hashbench.storage.strict_json import digest, document

NOT_ASKED = "Not checked in any: that model.pt gives these codes (--model)."


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two methods of two seeds, 12 bits, which do not fill their bytes."""
    runs = tmp_path_factory.mktemp("swept") / "runs"
    hashbench.sweep(["crh", "lsh"], ["toy"], [12], seeds=2, epochs=2, progress=False, runs_dir=runs)
    return runs


@pytest.fixture
def runs(swept, cli, tmp_path):
    """A copy of them, in the empty folder where commands run."""
    subprocess.run(["cp", "-r", swept, tmp_path / "runs"], check=True)
    return Path("runs")


@pytest.fixture
def run(runs):
    return RunDirectory(next(runs.glob("toy@small/crh/12b/s0-*")))


def changed(path, change):
    """Change a JSON file in place."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(document(data))


def test_what_is_untouched_is_as_stored(cli, runs):
    assert cli("verify").stdout == f"4 runs: 4 as stored, 0 with differences. {NOT_ASKED}\n"
    assert cli("verify", "--strict").stdout == cli("verify", *runs.glob("toy*/*")).stdout
    said = cli("verify", *runs.glob("*/crh/12b/s1-*"), "--model", "--rerun", "1").stdout
    assert re.fullmatch(r"Run again, .*: [0-9a-f]{8}\.\n1 run: 1 as stored, 0 with differences\.\n", said)


def test_results_from_before_the_distances_of_classes_are_as_stored(cli, run):
    for name in ("inter_distance_min", "intra_distance_max", "separation"):
        changed(run.result, lambda data, name=name: data["code_stats"].pop(name))
    assert "4 runs: 4 as stored, 0 with differences" in cli("verify").stdout
    assert cli("show", run.path).exit_code == 0


# Whatever is changed is found


def _flip(run):
    codes = run.read_arrays("codes")
    codes["database"][3, 0] ^= 128
    run.write_arrays("codes", **codes)


def _of_histograms(change):
    return lambda run: run.write_arrays("histograms", **change(run.read_arrays("histograms")))


def _in(file, *keys, value):
    def change(run):
        def put(data):
            for key in keys[:-1]:
                data = data[key]
            data[keys[-1]] = value

        changed(run.path / file, put)

    return change


def _without(*keys):
    def change(run):
        def remove(data):
            for key in keys[:-1]:
                data = data[key]
            del data[keys[-1]]

        changed(run.result, remove)

    return change


def _other_seed(run):
    return RunDirectory(next(run.path.parent.glob("s1-*")))


def _swap_codes(run):
    mine, other = run.read_arrays("codes"), _other_seed(run).read_arrays("codes")
    run.write_arrays("codes", **other)
    _other_seed(run).write_arrays("codes", **mine)


def _bits_everywhere(run):
    _in("result.json", "coords", "bits", value=16)(run)
    _in("spec.json", "identity", "bits", value=16)(run)


def _mean_and_histograms(run):
    """Change measures together with the histograms: only codes and labels tell."""
    counts = run.read_arrays("histograms")
    counts["r"] = counts["r"][::-1].copy()
    run.write_arrays("histograms", **counts)
    again = hashbench.metrics.evaluate_histograms(
        hashbench.metrics.Histograms.from_arrays(counts),
        [hashbench.metrics.parse(name) for name in (*run.read_result().metrics, *run.read_result().curves)],
    )
    changed(run.result, lambda data: data.update(metrics=again.metrics, bounds=again.bounds, curves=again.curves))


DRIFTS = {
    "a measure": (_in("result.json", "metrics", "mAP@all", value=0.5), r"histograms: mAP@all is 0.5 in the result"),
    "a bound": (_in("result.json", "bounds", "mAP@all", value=[0.1, 0.2]), "from histograms: mAP@all is [0.1, 0.2]"),
    "no bound": (_without("bounds", "mAP@all"), "measures from histograms: mAP@all is None in the result"),
    "a bound of nothing": (_in("result.json", "bounds", "mAP@7", value=[0.1, 0.2]), "mAP@7 has bounds without a mea"),
    "the measure left out": (_without("metrics", "mAP@all"), "the result lacks mAP@all, the data set's own measure"),
    "a curve": (_in("result.json", "curves", "PR", "y", 2, value=0.123), "measures from histograms: PR is"),
    "the tie rule": (_in("result.json", "ties", value="optimistic"), "measures from histograms: mAP@all is"),
    "a count": (_in("result.json", "counts", "queries", value=14), "queries is 14 in the result and 15"),
    "the training images": (_in("result.json", "counts", "train", value=9), "identity: train is 9 in the result"),
    "a statistic": (_in("result.json", "code_stats", "bit_balance", value=0.1), "statistics from codes: bit_balance"),
    "a distance of classes": (
        _in("result.json", "code_stats", "separation", value=9.0),
        "histograms from codes and labels: separation is 9 in the result",
    ),
    "a code": (_flip, "histograms from codes: the distances of 15 of 15 queries differ"),
    "codes of two runs": (_swap_codes, "histograms from codes: the distances of"),
    "the relevance": (_of_histograms(lambda of: of | {"r": of["r"][::-1]}), "from codes and labels: the relevant item"),
    "histograms": (_of_histograms(lambda of: of | {"n": of["n"][::-1]}), "measures from histograms: "),
    "measures with histograms": (_mean_and_histograms, "histograms from codes and labels: the relevant items of"),
    "coordinates": (_in("result.json", "coords", "seed", value=1), "identity: seed is 1 in the result and 0 in spec"),
    "the bits": (_in("result.json", "coords", "bits", value=16), "identity: bits is 16 in the result and 12 in spec"),
    "the bits everywhere": (_bits_everywhere, "is of another run (crh on toy@small, 16 bits"),
    "a field": (_in("result.json", "coords", "fields", value={"heads": 1}), "identity: heads is 1 in the result"),
    "the backbone": (_in("result.json", "coords", "backbone", value="vgg16"), "identity: backbone is 'vgg16'"),
    "the recipe": (_in("result.json", "coords", "recipe", value="scratch(epochs=90)"), "and epochs is 2 in spec.json"),
    "the epochs": (_in("result.json", "epoch", "of", value=90), "identity: of is 90 in the result and 2 in spec.json"),
    "the split": (_in("result.json", "provenance", "split_sha256", value="0"), "identity: split_sha256 is '0' in the"),
    "the id": (
        _in("result.json", "id", value="0" * 64),
        "is of another run (crh on toy@small, 12 bits, seed 0, id 00000000)",
    ),
    "the folder": (lambda run: run.path.rename(run.path.with_name("s0-00000000")), "the folder is called s0-00000000"),
    "a damaged file": (lambda run: run.histograms.write_bytes(b"PK"), "histograms.npz cannot be read: "),
    "a damaged spec": (lambda run: run.spec.write_text("{"), "spec.json cannot be read: "),
    "a damaged result": (lambda run: run.result.write_text('{"schema": 1'), "result.json cannot be read: "),
    "a file of other arrays": (lambda run: run.write_arrays("histograms", x=np.ones(2)), "does not fit together (KeyE"),
    "the spec": (_in("spec.json", "identity", "bits", value=13), "than the folder, whose id is"),
    "a spec of another kind": (
        _in("spec.json", "identity", value=[]),
        "the key 'identity' is missing or holds no object",
    ),
    "a prefix": (_in("result.json", "provenance", "prefix_of", value={"id": "0", "path": ".."}), "do not agree on wh"),
}


@pytest.mark.parametrize("what", DRIFTS)
def test_what_has_drifted_is_found(cli, run, what):
    change, sentence = DRIFTS[what]
    change(run)
    said = cli("verify", code=1).stdout
    assert sentence in said
    assert said.count("cannot be read") <= 1  # however many checks need the file
    assert re.search(r"4 runs: [23] as stored, [12] with differences", said)


def test_an_evaluation_under_a_condition_is_found_too(cli, run):
    cli("evaluate-run", run.path, "--under", "noise")
    under = RunDirectory(next(run.path.glob("under/*")))
    assert "5 as stored" in cli("verify", "runs", "--model").stdout
    for keys, value in ((("diagnostics", "flipped_bits"), 9.0), (("provenance", "weights"), "other.pth")):
        before = under.result.read_text()
        _in("result.json", *keys, value=value)(under)
        assert keys[1] in cli("verify", code=1).stdout
        under.result.write_text(before)


# What could not be checked


GONE = {
    "the codes": (lambda run: run.codes.unlink(), "histograms from codes: there is no codes.npz"),
    "the histograms": (lambda run: run.histograms.unlink(), "measures from histograms: there is no histograms.npz"),
    "the spec": (lambda run: run.spec.unlink(), "identity: there is no spec.json"),
    "a seed": (lambda run: shutil.rmtree(run.path), "missing: 1 planned run without a result (toy@small/crh/12b/s0-"),
    "a result": (lambda run: run.result.unlink(), "missing: 1 planned run without a result (toy@small/crh/12b/s0-"),
    "the method's source": (
        _in("result.json", "provenance", "source_sha256", value="0" * 64),
        "source: the method's source has changed since the run",
    ),
    "the source's sha256": (_without("provenance", "source_sha256"), "source: the result does not state the source"),
}


@pytest.mark.parametrize("what", GONE)
def test_what_could_not_be_checked_is_said(cli, run, what):
    change, sentence = GONE[what]
    change(run)
    said = cli("verify", code=3).stdout
    assert sentence in said
    assert "0 with differences" in said
    strict = "missing" in sentence or "has changed" in sentence
    assert cli("verify", "--strict", code=1 if strict else 3).stdout == said


def test_a_difference_outweighs_what_could_not_be_checked(cli, run):
    run.codes.unlink()
    _in("result.json", "metrics", "mAP@all", value=0.5)(_other_seed(run))
    said = cli("verify", code=1).stdout
    assert f"not checked in 1 of 4 runs: histograms from codes: there is no codes.npz ({run.path})" in said
    assert "4 runs: 2 as stored, 1 with differences, 1 not wholly checked." in said


def test_data_that_are_not_the_official_files_are_said_and_strict_refuses_them(cli, run):
    _in("result.json", "provenance", "data_official", value=False)(run)
    assert "data that are not the official files: in 1 of 4 runs" in cli("verify").stdout
    cli("verify", "--strict", code=1)


def test_other_data_are_not_taken_for_the_runs(cli, run, monkeypatch):
    from hashbench.datasets import Store
    from hashbench.registry import DATASETS

    source = DATASETS.get("toy")

    def relabelled(data_dir):
        store = source.read(data_dir)
        return Store(store.name, store.inputs, store.labels[::-1].copy(), store.classes)

    import dataclasses

    monkeypatch.setitem(DATASETS._loaded, "toy", dataclasses.replace(source, read=relabelled))
    said = cli("verify", code=3).stdout
    assert "not checked in 4 of 4 runs: histograms from codes and labels: toy@small is here, but with other" in said


def test_own_data_are_named_again(cli, tmp_path):
    (tmp_path / "far").mkdir()
    random = np.random.default_rng(0)
    np.savez("far/mine.npz", features=random.normal(size=(60, 8)).astype("f4"), labels=np.arange(60) % 3)
    hashbench.run("lsh", "arrays:far/mine.npz", bits=8, progress=False)
    said = cli("verify", code=3).stdout
    assert "not checked in 1 of 1 run: histograms from codes and labels: There is no " in said
    assert " Name own data with --dataset." in said
    for spelled in ("arrays:far/mine.npz", "arrays:far/mine.npz@auto", str(tmp_path / "far/mine.npz")):
        given = spelled if ":" in spelled else f"arrays:{spelled}"
        assert "1 run: 1 as stored" in cli("verify", "--dataset", given, "--model", "--rerun", 1).stdout
    assert "There is no" in cli("verify", "--dataset", "arrays:gone.npz", code=2).stderr


def test_a_method_of_a_file_is_named_again(cli, fresh_methods):
    Path("mine.py").write_text(
        "import hashbench\n\n"
        "@hashbench.method('mine')\nclass Mine(hashbench.DeepMethod):\n"
        "    def loss(self, out, batch):\n        return {'small': (out**2).mean()}\n"
    )
    cli("run", "--method", "mine.py:Mine", "--dataset", "toy", "--bits", "12", "--epochs", "1")
    METHODS._local.clear()
    METHODS._loaded.pop("mine")
    assert "source: the method 'mine' is not installed here" in cli("verify", code=3).stdout
    assert "1 as stored" in cli("verify", "--method", "mine.py:Mine", "--model", "--rerun", 1).stdout
    with open("mine.py", "a") as file:
        file.write("# another\n")
    METHODS._local.clear()
    METHODS._loaded.pop("mine")
    assert "source: the method's source has changed" in cli("verify", "--method", "mine.py:Mine", code=3).stdout


@pytest.mark.slow
def test_processes_say_what_one_says(cli, fresh_methods, monkeypatch):
    """Also of a damaged run, of own data and of a method of a file, which each process has to know anew."""
    random = np.random.default_rng(0)
    np.savez("own.npz", features=random.normal(size=(60, 8)).astype("f4"), labels=np.arange(60) % 3)
    Path("own.py").write_text(
        "import hashbench\n\n"
        "@hashbench.method('own')\nclass Own(hashbench.DeepMethod):\n"
        "    def loss(self, out, batch):\n        return {'small': (out**2).mean()}\n"
    )
    grid = "--method lsh,own.py:Own --dataset arrays:own.npz --bits 16 --seeds 2 --epochs 1"
    cli("run", *grid.split())
    _flip(RunDirectory(next(Path("runs").glob("*/lsh/16b/s1-*"))))
    asked = ("verify", "--dataset", "arrays:own.npz", "--method", "own.py:Own")
    alone = cli(*asked, code=1).stdout
    monkeypatch.setattr(verify, "ENOUGH", 1)
    assert cli(*asked, code=1).stdout == alone
    assert "4 runs: 3 as stored, 1 with differences." in alone
    assert "source: the method 'own' is not installed here" in cli(*asked[:3], code=1).stdout


# --model and --rerun


def _unstated(run):
    """Take the sha256 of the weights out of the result, as one from before there were any lacks it."""
    changed(run.result, lambda data: data["provenance"]["files"].pop("model.pt", None))


def _weights(change):
    def put(run):
        state = torch.load(run.model, weights_only=True)
        change(state["network"])
        torch.save(state, run.model)
        _unstated(run)

    return put


def test_the_model_of_another_run_is_found(cli, run):
    shutil.copy(_other_seed(run).model, run.model)
    assert "files: model.pt is not the file that the result was stored with" in cli("verify", run.path, code=1).stdout
    _unstated(run)
    said = cli("verify", "--model", run.path, code=3).stdout  # the folder is no number of queries
    assert "codes from model.pt: " in said
    assert "belongs to" in said or "another run" in said


def test_a_model_that_is_gone_is_not_checked(cli, run):
    run.model.unlink()
    assert "not checked in 1 of 4 runs: codes from model.pt: There is no" in cli("verify", "--model", code=3).stdout
    assert "--model 0 encodes no query" in cli("verify", "--model", 0, code=2).stderr


def test_bits_whose_outputs_lie_near_zero_are_not_decided(cli, run):
    """Move one query's output over zero by a rounding, then by more: the one is not decided, the other differs."""
    from hashbench.datasets.catalogue import load

    images = load("toy").store.inputs[load("toy").split.query]
    shutil.copy(run.model, "kept.pt")
    outputs = hashbench.load(run.path).outputs(torch.from_numpy(images)).detach()
    lowest = torch.where(outputs >= 0, outputs, torch.inf).topk(2, dim=0, largest=False).values  # of the ones
    bit = int((lowest[1] - lowest[0]).nan_to_num(0, posinf=0).argmax())
    row = int((outputs[:, bit] == lowest[0, bit]).nonzero()[0, 0])
    for distance, code in ((1e-6, 3), (1e-3, 1)):
        shift = -float(outputs[row, bit]) - distance

        def move(network, shift=shift):
            name = [key for key in network if key.endswith("bias")][-1]
            network[name][bit] += shift

        _weights(move)(run)
        again = hashbench.load(run.path).outputs(torch.from_numpy(images)).detach()
        assert int(((again >= 0) != (outputs >= 0)).sum()) == 1
        said = cli("verify", run.path, "--model", code=code).stdout
        assert "1 bit of 1 of 15 queries differ from those by model.pt" in said
        assert f"query {row} bit {bit}: {float(again[row, bit]):.1e}" in said
        shutil.copy("kept.pt", run.model)


def test_the_sample_is_the_same_every_time_and_measures_are_compared(cli, runs):
    directories = [RunDirectory(path.parent) for path in runs.rglob("result.json")]
    first = min(directories, key=lambda each: digest(["rerun", each.read_result().id]))
    others = [each for each in directories if each.path != first.path]
    for other in others:
        _in("result.json", "metrics", "P@100", value=0.001)(other)
    assert "run again: P@100" not in cli("verify", "--rerun", 1, code=1).stdout
    _in("result.json", "metrics", "P@100", value=0.002)(first)
    assert f"{first.path}: run again: P@100 is 0.002 in the result and 0." in cli("verify", "--rerun", 1, code=1).stdout
    _in("result.json", "provenance", "threads", value=99)(first)
    assert re.search(
        r"run again: P@100 is .* \(threads 99 then and \d+ now\)", cli("verify", "--rerun", 1, code=1).stdout
    )


# compare


def test_a_row_whose_measure_contradicts_its_histograms_is_marked(cli, run):
    before = {form: cli("compare", "--format", form).stdout for form in ("text", "markdown", "html", "latex", "csv")}
    assert not any("contradicts" in text for text in before.values())
    then = run.read_result().metrics["mAP@all"]
    _in("result.json", "metrics", "mAP@all", value=0.9)(run)
    said = f"what is stored contradicts the stored histograms: crh at 12 bits, seed 0 (0.9000 stored, {then:.4f} by its"
    for form in before:
        text = " ".join(cli("compare", "--format", form).stdout.split())
        assert said in text
    assert "| crh ‡" in cli("compare", "--format", "markdown").stdout
    lines = [*csv.DictReader(io.StringIO(cli("compare", "--format", "csv").stdout))]
    assert [said in line["note"] for line in lines] == [True, False]
    run.histograms.unlink()  # nothing is there to contradict
    assert "contradicts" not in cli("compare").stdout
    run.histograms.write_bytes(b"PK")
    assert "could not be held against the histograms" in cli("compare").stderr


def test_cells_of_a_sweep_that_are_missing_are_named(cli, run):
    shutil.rmtree(run.path)
    text = " ".join(cli("compare").stdout.split())
    assert "the sweep is not complete: crh at 12 bits (1 of 2 seeds)." in text
    assert "crh ‡ " in text
    for lsh in Path("runs/toy@small/lsh").glob("12b/*"):
        shutil.rmtree(lsh)
    whole = "crh at 12 bits (1 of 2 seeds), lsh at 12 bits (0 of 2 seeds)."
    assert whole in " ".join(cli("compare").stdout.split())
    assert whole in " ".join(cli("compare", "runs/toy@small").stdout.split())
    assert "lsh" not in cli("compare", "--method", "crh").stdout
    assert "complete" not in cli("compare", next(Path("runs").glob("*/crh/12b/s1-*"))).stdout
    cli("report", "runs", "-o", "page.html", "--queries", 0)
    assert whole in Path("page.html").read_text()
    os.chdir("runs/toy@small/crh")
    assert "crh at 12 bits (1 of 2 seeds)." in cli("compare", ".").stdout


def test_a_sweep_of_another_recipe_is_another_tables(cli, runs):
    cli("run", "--method", "crh", "--dataset", "toy", "--bits", "12,16", "--seeds", 2, "--epochs", 1, "--quiet")
    shutil.rmtree(next(runs.glob("*/crh/16b")))  # a cell without any run belongs to the sweep that planned it
    gone = {path.name for path in runs.glob("*/crh/12b/*")}
    for path in runs.glob("*/crh/12b/s0-*"):
        if json.loads((path / "spec.json").read_text())["identity"]["recipe"]["epochs"] == 1:
            shutil.rmtree(path)
    assert len({path.name for path in runs.glob("*/crh/12b/*")}) == len(gone) - 1
    tables = cli("compare").stdout.split("toy@small: mAP@all")[1:]
    assert ["not complete" in table for table in tables] == [("epochs=1" in table) for table in tables]
    assert sorted("epochs=1" in table for table in tables) == [False, True]


def test_a_note_of_an_older_version_is_no_obstacle_and_a_damaged_one_is_named(cli, run):
    (note,) = Path("runs/.sweeps").glob("*.json")
    changed(note, lambda data: data.pop("cells"))
    shutil.rmtree(run.path)
    assert "missing: 1 planned run" in cli("verify", code=3).stdout
    assert "complete" not in cli("compare").stdout
    for damaged in ('{"runs": {"../../x/y/12b/z": 1}}', "[", '{"runs": 3}', '{"runs": {}, "cells": {"a": 1}}'):
        note.write_text(damaged)
        found = cli("verify", "runs", "runs/toy@small", code=3).stdout
        assert "3 runs: 3 as stored" in found
        assert found.count(f"not checked: {note.absolute()} cannot be read") == 1
        assert f"{note} cannot be read" in cli("compare").stderr.replace(f"{Path.cwd()}/", "")
        cli("verify", "--strict", code=1)


def test_the_outputs_of_a_method_with_its_own_codes_are_not_taken_for_its_bits(cli, fresh_methods):
    @hashbench.method("inverted")
    class Inverted(hashbench.DeepMethod):
        def loss(self, out, batch):
            return {"small": (out**2).mean()}

        def codes(self, out):
            return out < 0

    path = RunDirectory(hashbench.run("inverted", "toy", bits=12, epochs=1, progress=False).path)
    assert "1 as stored" in cli("verify", "--model").stdout
    _weights(lambda network: [value.neg_() for key, value in network.items() if "head" in key])(path)
    assert "how near zero its outputs are is not known" in cli("verify", "--model", code=1).stdout
    assert isinstance(hashbench.load(path.path).network, nn.Module)
