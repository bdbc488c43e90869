"""The examples of the documentation run as they are written, and its tables name what there is."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import replicas
from click.testing import CliRunner
from replicas import picture

from hashbench.cli import main
from hashbench.datasets.catalogue import data_source, track_of
from hashbench.datasets.families import cifar as reader
from hashbench.datasets.protocol import Sizes
from hashbench.registry import DATASETS

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/adding-a-dataset.md").read_text()
SETS = (ROOT / "docs/datasets.md").read_text()
PREPARING = (ROOT / "docs/preparing-data.md").read_text()

TOML = """
about = "mails"
num_classes = 3
citation = "none: an example"
licence = "MIT"
source = "https://example.org/mails"

[[protocol]]
name = "bow"
summary = "the split of the folders"
sizes = {{ {sizes} }}
train_in_database = true
rule = "given-v1"
measures = ["P@100"]
"""


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


def test_the_herbarium_of_the_guide_is_prepared(tmp_path):
    blocks = dict(re.findall(r"`([\w./]+)`:\n\n```\w+\n(.*?)```", GUIDE, re.DOTALL))
    (tmp_path / "herbarium.py").write_text(blocks["herbarium.py"])
    sizes = "train = 12, query = 6, database = 12"
    toml = re.sub(r"train = \d+, query = \d+, database = \d+", sizes, blocks["glyphs/glyphs.toml"])
    (tmp_path / "herbarium.toml").write_text(f"image_size = 16\nnum_images = 30\n{toml}")
    for number in range(30):
        picture(tmp_path / "sheets" / f"{number:04d}.jpg", number % 3)
    lines = "".join(f"{number:04d}.jpg {number % 3}\n" for number in range(30))
    (tmp_path / "sheets" / "labels.txt").write_text(lines)
    (tmp_path / "data" / "herbarium").mkdir(parents=True)
    shutil.make_archive(str(tmp_path / "data/herbarium/sheets"), "zip", tmp_path, "sheets")
    code = (
        "import herbarium; from hashbench.datasets import load, prepare; "
        "prepare('herbarium', data_dir='data', progress=False); print(load('herbarium', data_dir='data').audit.sizes)"
    )
    assert "train=12, query=6, database=12" in run(tmp_path, "-c", code)


def test_the_mails_of_the_guide_are_read(tmp_path):
    (code,) = re.findall(r"`mails.py`, with a folder.*?```python\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "mails.py").write_text(code)
    sizes = "train = 6, query = 3, database = 6"
    (tmp_path / "mails.toml").write_text(TOML.format(sizes=sizes))
    for number in range(9):
        part, name = "train" if number < 6 else "test", ("ham", "spam", "lamb")[number % 3]
        path = tmp_path / "mails" / part / name / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} {name} word{number}")
    said = run(tmp_path, "-c", "import mails; from hashbench.datasets import load; d = load('mails', data_dir='.'); "
                               "print(d.audit.sizes, d.kind, d.store.inputs.shape)")  # fmt: skip
    assert said == "Sizes(train=6, query=3, database=6) text (9, 9)\n"


@pytest.mark.slow
def test_the_commands_for_own_data_work_as_written(tmp_path):
    for hue, label in enumerate(("cat", "dog", "fish")):
        for number in range(10):
            picture(tmp_path / "data" / "pets" / label / f"{number}.jpg", hue)
    prepare, train = re.findall(r"^    hashbench (.*folder:data/pets.*)$", GUIDE, re.MULTILINE)
    assert "folder:pets: 30 inputs" in run(tmp_path, "-m", "hashbench", *prepare.replace("128", "16").split())
    train = [*train.replace("128", "16").split(), "--epochs", "1"]
    assert "16 bits" in run(tmp_path, "-m", "hashbench", *train)


@pytest.fixture
def replicas_of_the_sets(tmp_path, fresh_registry, monkeypatch, cifar, write):
    """Write replicas of CUB-200 and CIFAR-10 into the folder `data`, and scale the protocols of both to them."""
    monkeypatch.chdir(tmp_path)
    DATASETS._loaded["cub200"] = replicas.small("cub200", len(replicas.cub200(tmp_path / "data").labels))
    arrays = cifar(num_classes=10)
    write(tmp_path / "data/cifar-binary", arrays.files)
    monkeypatch.setattr(reader, "CIFAR10", arrays.release)
    real = data_source("cifar10")
    sizes = Sizes(arrays.cut, len(arrays.numbers) - arrays.cut, arrays.cut)
    protocol = dataclasses.replace(next(p for p in real.protocols if p.rule == "given-v1"), sizes=sizes)
    DATASETS._loaded["cifar10"] = dataclasses.replace(real, protocols=(protocol,))


def test_the_commands_about_preparing_work_as_written(replicas_of_the_sets):
    commands = re.findall(r"^    hashbench (.*)$", PREPARING, re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["fashion-mnist-10k", "cifar10", "cub200"]
    for command in commands:
        ran = CliRunner().invoke(main, command.split())
        assert ran.exit_code == 0, f"{command}\n{ran.output}"
        assert re.search(r"query items \(a class\) +[1-9]", ran.output)
    assert "40 inputs of 3x224x224, 4 classes" in ran.output


def test_the_code_about_preparing_prints_what_it_says(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PREPARING, re.DOTALL)
    (said,) = re.findall(r"print\(.*\)  # (.*)", code)
    assert run(tmp_path, "-c", code) == f"{said}\n"


def test_the_code_of_the_page_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", SETS, re.DOTALL)
    printed = run(tmp_path, "-c", code)
    assert "cifar10@59k\nfashion-mnist-10k@5k" in printed


@pytest.mark.parametrize(
    "name", [name for name, entry in DATASETS.entries().items() if entry.builtin and track_of(name) is None]
)
def test_the_page_states_every_protocol_with_its_sizes_and_licence(name):
    rows = SETS.partition(f"\n| `{name}` | `")[2]
    for protocol in data_source(name).protocols:
        row = next(row for row in f"| `{rows}".splitlines() if f"| `{protocol.name}`" in row)
        cells = [cell.strip() for cell in row.split("|")][-7:-4]
        for cell, size in zip(cells, protocol.sizes, strict=True):
            assert cell.split(" (")[0] == ("by rule" if size is None else f"{size:,}")
        assert row.rstrip("| ").split("| ")[-1].split(";")[0] == protocol.measures[0]
        assert ("| yes |" in row) == protocol.train_in_database
        for alias in protocol.aliases:
            assert f"`{alias}`" in row
    (licence,) = re.findall(rf"\n\| (?:`[\w-]+`, )?`{name}`(?:, `[\w-]+`)? \| ([^|]*?) \|[^|]*\|[^|]*\|\n", SETS)[-1:]
    assert licence.split(";")[0] == data_source(name).protocols[0].licence.split(";")[0]
