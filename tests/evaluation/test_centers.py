"""What a run keeps of its classes: packed centers, and their similarity against an independent computation."""

import numpy as np
import pytest
import torch
from torch import nn

import hashbench
from hashbench.evaluation.centers import IMAGES_PER_CLASS, class_centers, class_similarity
from hashbench.results.runs import RunDirectory


def test_similarity_is_the_cosine_of_centered_class_means():
    random = np.random.default_rng(0)
    inputs = random.integers(0, 255, (60, 1, 3, 3), dtype=np.uint8)
    labels = np.eye(4, dtype=np.uint8)[random.integers(0, 3, 60)]  # nobody is of class 3
    index = random.permutation(60)[:40]
    found = class_similarity(inputs, labels, index)
    means = np.array([inputs[[i for i in index if labels[i, c]]].mean(axis=0).ravel() for c in range(3)])
    means -= means.mean(axis=0)
    for a in range(3):
        for b in range(3):
            cosine = means[a] @ means[b] / np.linalg.norm(means[a]) / np.linalg.norm(means[b])
            assert found[a, b] == pytest.approx(cosine, abs=1e-5)
    assert np.isnan(found[3]).all()
    assert np.isnan(found[:, 3]).all()


def test_only_the_first_images_of_a_class_are_read():
    inputs = np.ones((IMAGES_PER_CLASS + 5, 2), np.float32)
    inputs[:, 1] = np.arange(len(inputs))
    labels = np.zeros((len(inputs), 2), np.uint8)
    labels[:, 0] = 1
    changed = inputs.copy()
    changed[IMAGES_PER_CLASS:] = 7
    labels[0, 1] = 1
    assert np.array_equal(*(class_similarity(x, labels, np.arange(len(x))) for x in (inputs, changed)))


@pytest.mark.parametrize("method", ["crh", "csq", "dpn", "shc"])
def test_a_run_keeps_the_centers_of_its_method(tmp_path, method):
    result = hashbench.run(method, "toy", bits=20, epochs=1, runs_dir=tmp_path, progress=False)
    kept = RunDirectory(result.path).read_arrays("centers")
    centers = torch.load(result.path / "model.pt", weights_only=True)["method"]["centers"]
    assert (np.unpackbits(kept["centers"], axis=1, count=20) == (centers.numpy() > 0)).all()
    assert kept["similarity"].shape == (3, 3)


def test_methods_without_centers_keep_none(tmp_path):
    result = hashbench.run("lsh", "toy", bits=20, runs_dir=tmp_path, progress=False)
    assert not RunDirectory(result.path).centers.exists()


def test_a_buffer_of_that_name_and_another_shape_is_no_center():
    class Clusters(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("centers", torch.zeros(7, 20))

    model = hashbench.methods.contract.Task(3, 20, False, "vectors", 1, 1, 1, torch.device("cpu"), 0)
    labels = np.eye(3, dtype=np.uint8)
    assert class_centers(Clusters(), model, inputs=labels, labels=labels, index=np.arange(3)) == {}
