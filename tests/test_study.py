"""README, the studies' pages and the committed results agree: each table is what the command above it prints."""

import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from hashbench.cli import main

ROOT = Path(__file__).parents[1]
STUDIES = sorted((ROOT / "studies").glob("*/study.md"))
TABLES = [
    found
    for page in (ROOT / "README.md", *STUDIES)
    for found in re.findall(
        r"^    hashbench (compare .*--format markdown)\n\n((?:(?!    |#).*\n)*)", page.read_text(), re.MULTILINE
    )
]
OWN_TABLES = [
    found
    for page in (ROOT / "README.md", *STUDIES)
    for found in re.findall(
        r"^    (python studies/\S+ (?:\w+ )?results/.*)\n\n((?:\|.*\n)+)", page.read_text(), re.MULTILINE
    )
]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(("command", "below"), TABLES, ids=[command for command, _ in TABLES])
def test_a_table_is_what_its_command_prints(command, below):
    ran = CliRunner().invoke(main, shlex.split(command))
    assert ran.exit_code == 0, ran.output
    assert below.startswith(ran.stdout.strip() + "\n")


def test_the_pages_have_tables():
    assert len(TABLES) >= 9
    assert len(OWN_TABLES) >= 2


@pytest.mark.parametrize(("command", "below"), OWN_TABLES, ids=[command for command, _ in OWN_TABLES])
def test_a_table_of_a_study_is_what_its_script_prints(command, below, monkeypatch, capsys):
    script, *arguments = command.split()[1:]
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    monkeypatch.syspath_prepend(ROOT / Path(script).parent)
    runpy.run_path(script, run_name="__main__")
    assert below == capsys.readouterr().out


def test_what_is_committed_is_as_stored():
    ran = CliRunner().invoke(main, ["verify", "results/test.zip"])
    assert ran.exit_code == 3, ran.output  # codes, and histograms of most, are not committed
    assert ", 0 with differences, " in ran.output


SWEEPS = [path for path in sorted((ROOT / "studies").rglob("*.toml")) if "method" in tomllib.loads(path.read_text())]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_every_row_of_a_sweep_names_fields_that_exist(path):
    from hashbench.experiments.settings import parse_row, parse_value
    from hashbench.methods.contract import options
    from hashbench.registry import METHODS

    for row in tomllib.loads(path.read_text())["method"]:
        name, fields = parse_row(row)
        assert fields.keys() <= options(METHODS.get(name)).keys()
        for field, text in fields.items():
            parse_value(METHODS.get(name), field, text)
