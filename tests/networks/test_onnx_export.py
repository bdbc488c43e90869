"""Models as ONNX: onnxruntime gives the model's codes, and what cannot be expressed is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import hashbench
from hashbench.errors import HashbenchError
from hashbench.networks import onnx_export
from hashbench.networks.onnx_export import write_onnx

SMALL = {"epochs": 1, "overrides": {"recipe": {"backbone": "toy-backbone"}}, "progress": False}


def trained(method, tmp_path, bits=12, **settings):
    return hashbench.run(method, "toy", bits=bits, runs_dir=tmp_path / "runs", **{**SMALL, **settings}).path


def outputs_of(path, images):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    about = session.get_modelmeta().custom_metadata_map
    return dict(zip(names, session.run(None, {"images": images}), strict=True)), about


@pytest.mark.slow
def test_a_network_gives_the_same_codes(tmp_path, cli):
    """Any number of images, resized by the recipe inside."""
    pytest.importorskip("onnxscript")
    small = {"recipe": {"backbone": "toy-backbone", "size": "20"}}
    run = trained("crh", tmp_path, overrides=small)
    said = cli("export", run, "new/m.onnx").stdout
    assert "takes images (n, 1, 12, 12), float32 in [0, 1], and gives codes, packed, outputs" in said
    model = hashbench.load(run)
    for count in (1, 7):
        images = np.random.default_rng(count).random((count, 1, 12, 12), np.float32)
        found, about = outputs_of("new/m.onnx", images)
        assert np.array_equal(found["codes"], model.encode(images))
        assert np.array_equal(found["packed"], np.packbits(model.encode(images), axis=1))
        assert np.allclose(found["outputs"][:, :12], model.encode(images, real=True), atol=1e-5)
    assert about["hashbench.id"] == hashbench.find_runs([run])[0][0].id


@pytest.mark.slow
def test_a_method_without_network_gives_the_same_codes(tmp_path):
    pytest.importorskip("onnxscript")
    model = hashbench.load(trained("lsh", tmp_path))
    write_onnx(model, tmp_path / "m.onnx", {})
    images = np.random.default_rng(0).random((5, 1, 12, 12), np.float32)
    found, _ = outputs_of(tmp_path / "m.onnx", images)
    assert {*found} == {"codes", "packed"}
    assert np.array_equal(found["codes"], model.encode(images))


def test_what_would_give_other_codes_is_refused(tmp_path, monkeypatch):
    model = hashbench.load(trained("crh", tmp_path))
    monkeypatch.setattr(model, "recipe", model.recipe.__class__(**{**vars(model.recipe), "precision": "bf16"}))
    with pytest.raises(HashbenchError, match="computes in bf16, whose rounding"):
        write_onnx(model, tmp_path / "m.onnx", {})
    monkeypatch.undo()

    def refuse(*arguments, **settings):
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(HashbenchError, match=r"cannot be written as ONNX \(RuntimeError: no such operator\)"):
        write_onnx(model, tmp_path / "m.onnx", {})
    assert not (tmp_path / "m.onnx").exists()


def test_a_file_of_other_bits_or_that_does_not_run_is_refused(tmp_path):
    model = hashbench.load(trained("crh", tmp_path))
    images = torch.rand(onnx_export.CHECKED, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    outputs = model.encode(images, real=True)

    class Runtime:
        """Stands for onnxruntime, with outputs of the given shift."""

        shift = 0.0

        class InferenceSession:
            def __init__(self, content, providers):
                pass

            def get_outputs(self):
                return [type("Output", (), {"name": name}) for name in ("codes", "packed", "outputs")]

            def run(self, names, given):
                moved = outputs + Runtime.shift
                return [moved >= 0, np.packbits(moved >= 0, axis=1), moved]

    onnx_export._check(Runtime, b"", model)
    Runtime.shift = float(np.abs(outputs).max()) / 10
    with pytest.raises(HashbenchError, match="other bits on 64 random inputs"):
        onnx_export._check(Runtime, b"", model)

    def refuse(content, providers):
        raise RuntimeError("Got invalid dimensions.\nGot: 64")

    Runtime.InferenceSession = refuse
    with pytest.raises(HashbenchError, match=r"cannot run the model as ONNX \(RuntimeError: Got invalid dim"):
        onnx_export._check(Runtime, b"", model)


def test_without_the_libraries_one_sentence_says_the_way_out(tmp_path, monkeypatch):
    model = hashbench.load(trained("lsh", tmp_path))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(HashbenchError, match=r"ONNX needs onnxscript; install it with pip install 'hashbench\[onnx\]'"):
        write_onnx(model, Path("m.onnx"), {})
