"""Each method's mAP on a tiny fixed task, to three digits: numbers must not move unnoticed.

When they are meant to move, raise the method's `version` (or `ENGINE` where all moved), and write the new ones with

    HASHBENCH_UPDATE_GOLDEN=1 pytest tests/test_golden.py
"""

import json
import os
from pathlib import Path

import pytest
import torch
from pair_cases import write_pairs

import hashbench
from hashbench.registry import METHODS

GOLDEN = Path(__file__).with_name("golden.json")
FIELDS = {"cimon": {"clusters": "3"}}  # the toy is smaller than its usual values want
MASK = "001000110111101111001010"  # of the dropout of torch that the values were written with, seed 0
DROPS_OUT = {"lbhash", "mish", "vdsh"}
OWN = sorted(name for name, entry in METHODS.entries().items() if entry.origin.distribution == "hashbench")


@pytest.fixture(scope="module")
def golden():
    values = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    yield values
    if os.environ.get("HASHBENCH_UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(dict(sorted(values.items())), indent=2) + "\n")


@pytest.mark.parametrize("method", OWN)
def test_map_has_not_moved(method, golden, tmp_path):
    if method in DROPS_OUT and not _drops_out_as_then():
        pytest.skip("another version of torch: it draws other dropout masks from the same seed")
    cls = METHODS.get(method)
    if cls.info.family == "recommendation":
        toy = write_pairs(tmp_path / "toy.csv")
        result = hashbench.run(method, f"pairs:{toy}@80-20", bits=16, runs_dir=tmp_path, progress=False)
        _compare(method, result, golden)
        return
    if cls.info.family == "text":
        dataset, recipe, backbone = "toy-words", "frozen", "identity"
    else:
        needs_images = getattr(cls, "views", 1) > 1 or cls.info.family == "robust"  # which fixed features are not
        dataset, recipe, backbone = "toy", "scratch" if needs_images else "frozen", "toy-backbone"
    result = hashbench.run(
        method, dataset, bits=16, recipe=recipe, backbone=backbone, epochs=10, runs_dir=tmp_path, progress=False,
        overrides={"recipe": {"size": "0", "batch_size": "16"}, method: FIELDS.get(method, {})},
    )  # fmt: skip
    _compare(method, result, golden)


def _drops_out_as_then():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kept = torch.nn.functional.dropout(torch.ones(24)) > 0
    return "".join(str(int(one)) for one in kept) == MASK


def _compare(method, result, golden):
    value = result.metrics["mAP@all"]
    if os.environ.get("HASHBENCH_UPDATE_GOLDEN"):
        golden[method] = round(value, 4)
    assert value == pytest.approx(golden[method], abs=1e-3)
