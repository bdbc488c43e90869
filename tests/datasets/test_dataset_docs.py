"""The examples of the documentation run as they are written, and its tables name what there is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hashbench.datasets.base import data_source
from hashbench.registry import DATASETS

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/adding-a-dataset.md").read_text()
SETS = (ROOT / "docs/datasets.md").read_text()


def run(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_the_example_of_the_guide_prints_what_the_guide_says(tmp_path):
    for name, content in re.findall(r"`([\w./]+)`:\n\n```\w+\n(.*?)```", GUIDE, re.DOTALL):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    run(tmp_path, "make_glyphs.py")
    (printed,) = re.findall(r"```text\n(.*?)```", GUIDE, re.DOTALL)
    assert run(tmp_path, "look.py") == printed


def test_the_code_of_the_page_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", SETS, re.DOTALL)
    printed = run(tmp_path, "-c", code)
    assert "cifar10@59k\nfashion-mnist-10k@5k" in printed


@pytest.mark.parametrize("name", [name for name, entry in DATASETS.entries().items() if entry.builtin])
def test_the_page_states_every_protocol_with_its_sizes_and_licence(name):
    rows = SETS.partition(f"\n| `{name}` | `")[2]
    for protocol in data_source(name).protocols:
        row = next(row for row in f"| `{rows}".splitlines() if f"| `{protocol.name}`" in row)
        assert all(f" {size:,}" in row for size in protocol.sizes)
        assert ("| yes |" in row) == protocol.train_in_database
        for alias in protocol.aliases:
            assert f"`{alias}`" in row
    (licence,) = re.findall(rf"\n\| (?:`[\w-]+`, )?`{name}`(?:, `[\w-]+`)? \| ([^|]*?) \|[^|]*\|[^|]*\|\n", SETS)[-1:]
    assert licence.split(";")[0] == data_source(name).protocols[0].licence.split(";")[0]
