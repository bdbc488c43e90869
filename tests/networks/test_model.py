"""Inputs of a loaded model: arrays in every form give the same codes, and other pixels are refused."""

import numpy as np
import pytest
import torch

import hashbench
from hashbench.errors import HashbenchError
from hashbench.networks.model import _refuse_other_pixels

BYTES = np.random.default_rng(0).integers(0, 256, (3, 1, 12, 12), np.uint8)
UNIT = BYTES / np.float32(255)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    small, runs = {"recipe": {"backbone": "toy-backbone"}}, tmp_path_factory.mktemp("runs")
    return hashbench.load(hashbench.run("crh", "toy", bits=16, epochs=1, overrides=small, progress=False,
                                        runs_dir=runs).path)  # fmt: skip


@pytest.mark.parametrize(
    "images",
    [
        UNIT,
        BYTES[:, :, ::-1].copy()[:, :, ::-1],
        UNIT.astype(">f4"),
        UNIT.astype(np.float64),
        torch.from_numpy(UNIT),
        [*BYTES],
        np.where(UNIT == 1, np.float32(1.001), UNIT),
    ],
    ids=["floats", "negative strides", "big-endian", "float64", "tensor", "list", "rounding"],
)
def test_images_in_every_form_give_the_same_codes(model, images):
    assert np.array_equal(model.encode(images), model.encode(BYTES))


OTHER = {
    "int64": (BYTES.astype(np.int64), "images are of type int64; give uint8"),
    "uint16": (BYTES.astype(np.uint16), "images are of type uint16"),
    "bool": (BYTES > 100, "images are of type bool"),
    "floats to 255": (BYTES.astype(np.float32), r"values from 0 to 255; .*floats in \[0, 1\]"),
    "signs": (2 * UNIT - 1, "values from -1 to 1;"),
    "NaN": (np.where(UNIT > 0.5, np.nan, UNIT), "images hold NaN;"),
    "infinite": (np.where(UNIT > 0.5, np.inf, UNIT), "to inf;"),
}


@pytest.mark.parametrize(("images", "sentence"), OTHER.values(), ids=OTHER)
def test_other_pixels_are_refused(model, images, sentence):
    for take in (model.encode, lambda given: model.encode(given, real=True), lambda given: model.outputs(
        torch.as_tensor(given))):  # fmt: skip
        with pytest.raises(HashbenchError, match=sentence):
            take(images)


def test_vectors_may_hold_any_number():
    for vectors in (torch.full((2, 5), -300), torch.tensor([[0.0, 1e9]])):
        _refuse_other_pixels(vectors)


@pytest.mark.parametrize("images", [None, "photo.png", [[1], [1, 2]], np.array([None])])
def test_what_is_no_array_of_numbers_is_one_sentence(model, images):
    with pytest.raises(HashbenchError, match="no array of numbers; give a tensor or an array of numpy"):
        model.encode(images)


@pytest.mark.parametrize("size", [0, -1, 2.5, None])
def test_a_batch_size_that_none_can_have_is_one_sentence(model, size):
    with pytest.raises(HashbenchError, match=f"cannot be encoded {size} at a time; give 1 or more"):
        model.encode(BYTES, batch_size=size)
