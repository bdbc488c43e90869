"""`hashbench prepare` on trees of image files: what it makes, and what it refuses."""

import json

import numpy as np
import pytest
from image_trees import register_tree, write_tree

from hashbench.datasets.base import load
from hashbench.datasets.building import prepare
from hashbench.errors import HashbenchError


@pytest.fixture
def tree(tmp_path, fresh_registry):
    """Return the data folder of the registered set `tree`: 30 JPEG files."""
    data_dir = tmp_path / "data"
    write_tree(data_dir)
    register_tree(tmp_path)
    return data_dir


def test_a_set_of_image_files_is_prepared_once_and_then_loaded(tree):
    with pytest.raises(
        HashbenchError, match=rf"tree is not prepared at 16 pixels; run `hashbench prepare tree --data-dir {tree}`"
    ):
        load("tree", data_dir=tree)
    made = prepare("tree", data_dir=tree, progress=False)
    loaded = load("tree", data_dir=tree)
    assert isinstance(loaded.store.inputs, np.memmap)
    assert loaded.store.inputs.shape == (30, 3, 16, 16)
    assert loaded.audit == made.audits["p"]
    assert json.loads((made.folder / "store.json").read_text())["integrity"] == loaded.store.integrity
