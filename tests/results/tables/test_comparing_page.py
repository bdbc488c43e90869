"""docs/comparing.md: its commands run as written, on runs with the names of its sweep."""

import re
import shlex
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hashbench.cli import main
from hashbench.metrics.histograms import Histograms
from hashbench.results.tables.published import read_published

PAGE = (Path(__file__).parents[3] / "docs" / "comparing.md").read_text()
COMMANDS = re.findall(r"^    hashbench (compare.*)$", PAGE, re.MULTILINE)
SWEEP = {"csq": 0.53, "dpn": 0.45, "crh": 0.55}


@pytest.fixture
def sweep(tmp_path, make, stored, monkeypatch):
    """Runs as the page's own, few queries each, and a second data set with published numbers."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    n = np.full((8, 33), 40)
    for method, value in SWEEP.items():
        hist = Histograms(n, rng.binomial(n, value))
        for bits, seed in product((16, 32), range(4)):
            coords = {"method": method, "bits": bits, "seed": seed, "dataset": "fashion-mosaic", "protocol": "4k"}
            stored(make(value + rng.normal(0, 0.01), **coords), **hist.arrays())
    for method, bits in product(("csq", "shc"), (32, 64)):
        stored(make(method=method, bits=bits, dataset="cifar100", protocol="45k"), **hist.arrays())
    return tmp_path / "runs"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page(sweep, command):
    ran = CliRunner().invoke(main, shlex.split(command))
    assert ran.exit_code == 0, ran.output
    assert ("cifar100" if "--published" in command else "fashion-mosaic") in ran.stdout
    if "--published" in command:
        assert "CSQ, published" in ran.stdout
        assert "neither ranked nor tested" in " ".join(ran.stdout.split())


def test_the_page_has_the_commands_and_the_columns():
    assert len(COMMANDS) >= 10
    columns = re.search(r"^    (source,.*)$", PAGE, re.MULTILINE).group(1).split(",")
    assert columns == list(read_published()[0].__dataclass_fields__)


def test_the_python_of_the_page(sweep, capsys):
    code = re.search(r"^    from hashbench import compare\n(?:(?:    .*)?\n)+", PAGE, re.MULTILINE).group(0)
    exec("\n".join(line[4:] for line in code.splitlines()), {})
    assert "fashion-mosaic@4k: P@H<=2 dpn" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--baseline chr", "Unknown baseline 'chr'. Did you mean 'crh'?"),
        ("--test queries", "--test queries has nothing to test against; name a row with --baseline."),
        ("--method cqs", "Unknown method 'cqs'. Did you mean 'csq'?"),
        ("--method csq,,dpn", "--method 'csq,,dpn' has an empty name"),
        ("--dataset fashion-mosaik", "Unknown data set 'fashion-mosaik'. Did you mean 'fashion-mosaic"),
        ("--bits 16,x", "--bits '16,x': 'x' is not a number of bits"),
        ("--bits 48", "Unknown code length '48'."),
        ("--published-from none.csv", "none.csv cannot be read"),
    ],
)
def test_a_mistake_is_one_sentence(sweep, options, message):
    ran = CliRunner().invoke(main, ["compare", *shlex.split(options)])
    assert ran.exit_code == 2
    assert ran.stderr.startswith(f"Error: {message}") or message in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
