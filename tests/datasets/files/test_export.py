"""Exported splits: the lists and pictures of a suite that reads `path 0 1 0 ...`, and the pixels come back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from hashbench.cli import main
from hashbench.datasets.base import Store
from hashbench.datasets.catalogue import load
from hashbench.datasets.files.export import export_split
from hashbench.errors import HashbenchError


def read(folder: Path, name: str) -> list[tuple[np.ndarray, list[int]]]:
    """Read a list as HashNet's descendants do: path and labels with spaces between them, below one folder."""
    rows = [line.split() for line in (folder / name).read_text().splitlines()]
    return [(np.array(Image.open(f"{folder}/{path}").convert("RGB")), [*map(int, labels)]) for path, *labels in rows]


@pytest.mark.parametrize("channels", [1, 3])
def test_lists_and_pixels_come_back(tmp_path, channels):
    toy = load("toy@searched")
    if channels == 3:
        inputs = np.random.default_rng(0).integers(0, 256, (len(toy.store.inputs), 3, 5, 4), dtype=np.uint8)
        toy = replace(toy, store=replace(toy.store, inputs=inputs))
    assert export_split(toy, tmp_path / "lists") == 150
    for part, name in (("train", "train.txt"), ("query", "test.txt"), ("database", "database.txt")):
        index = getattr(toy.split, part)
        found = read(tmp_path / "lists", name)
        assert len(found) == len(index)
        for (pixels, labels), position in zip(found, index, strict=True):
            assert labels == toy.store.labels[position].tolist()
            expected = np.broadcast_to(toy.store.inputs[position], (3, *pixels.shape[:2]))
            assert np.array_equal(pixels.transpose(2, 0, 1), expected)


def test_only_images_of_the_split_are_written(tmp_path):
    toy = load("toy")
    shrunk = replace(toy, split=replace(toy.split, database=toy.split.database[:5], train=toy.split.train[:3]))
    assert export_split(shrunk, tmp_path) == 15 + 5 + 3
    assert len([*(tmp_path / "images").iterdir()]) == 23


def test_vectors_are_refused(tmp_path):
    toy = load("toy")
    vectors = Store("toy", np.zeros((150, 4), np.float32), toy.store.labels, toy.store.classes)
    with pytest.raises(HashbenchError, match="only images can be exported"):
        export_split(replace(toy, store=vectors), tmp_path)
    assert not [*tmp_path.iterdir()]


def test_on_the_command_line(tmp_path):
    ran = CliRunner().invoke(main, ["export-split", "toy", str(tmp_path / "out")])
    assert ran.exit_code == 0, ran.output
    assert "train.txt, test.txt, database.txt and 150 images" in ran.output
    (tmp_path / "file").write_text("")
    refused = CliRunner().invoke(main, ["export-split", "toy", str(tmp_path / "file")])
    assert refused.exit_code == 2
    assert "Cannot write" in refused.stderr
