"""README, the studies' pages and the committed results agree: each table is what the command above it prints.

HASHBENCH_UPDATE_PAGES=1 pytest tests/test_study.py -n 0 writes the tables of other results into the pages.
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from hashbench.cli import main

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "studies").glob("*/study.md")))


def commands(pattern):
    """Return the commands of the pages, each with its page and what stands below it."""
    return [
        pytest.param(page, command, below, id=command)
        for page in PAGES
        for command, below in re.findall(pattern, page.read_text(), re.MULTILINE)
    ]


TABLES = commands(r"^    hashbench (compare .*--format markdown)\n\n((?:(?!    |#).*\n)*)")
OWN_TABLES = commands(r"^    (python studies/\S+ (?:\w+ )?results/.*)\n\n((?:\|.*\n)+)")


def updated(page, command, below, printed):
    """Return what stands below a command; asked to update, write what it prints there, and return that.

    What it printed before are the paragraphs that begin with the same words.
    """
    if not os.environ.get("HASHBENCH_UPDATE_PAGES"):
        return below
    words, kept = {block.split()[0] for block in printed.split("\n\n")}, below
    while kept.split() and kept.split()[0] in words:
        kept = kept.partition("\n\n")[2]
    before = below.removesuffix(kept).strip() + "\n"
    text = page.read_text()
    assert text.count(f"{command}\n\n{before}") == 1
    page.write_text(text.replace(f"{command}\n\n{before}", f"{command}\n\n{printed}"))
    return printed


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(("page", "command", "below"), TABLES)
def test_a_table_is_what_its_command_prints(page, command, below):
    ran = CliRunner().invoke(main, shlex.split(command))
    assert ran.exit_code == 0, ran.output
    printed = ran.stdout.strip() + "\n"
    assert updated(page, command, below, printed).startswith(printed)


def test_the_pages_have_tables():
    assert len(TABLES) >= 9
    assert len(OWN_TABLES) >= 2


@pytest.mark.parametrize(("page", "command", "below"), OWN_TABLES)
def test_a_table_of_a_study_is_what_its_script_prints(page, command, below, monkeypatch, capsys):
    script, *arguments = command.split()[1:]
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    monkeypatch.syspath_prepend(ROOT / Path(script).parent)
    runpy.run_path(script, run_name="__main__")
    printed = capsys.readouterr().out
    assert updated(page, command, below, printed) == printed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test", "two/cifar10", "two/cifar100", "two/elsewhere"])
def test_what_is_committed_is_as_stored(name):
    ran = CliRunner().invoke(main, ["verify", f"results/{name}.zip"])
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


def test_corel5k_becomes_lists_of_the_labels_that_both_parts_have(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "studies" / "two")
    import corel5k

    repository = tmp_path / "repository"
    labels = {"train": ["1 3", "2", "3", "1 2 9", "9"], "test": ["1", "2 3", "7"]}  # 7 and 9 are in one part alone
    for part, rows in labels.items():
        (repository / f"{part}_jpeg").mkdir(parents=True)
        for number, _ in enumerate(rows):
            (repository / f"{part}_jpeg" / f"{part}{number}.jpeg").write_bytes(b"a photograph")
    (repository / "labels").mkdir()
    for part, name in (("train", "training_label"), ("test", "test_label")):
        lines = [f"{part}{number} {row}  \n" for number, row in enumerate(labels[part])]
        (repository / "labels" / name).write_text("".join(lines))
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -qm photographs"):
        subprocess.run(["git", "-C", str(repository), *command.split()], check=True)
    monkeypatch.setattr(corel5k, "QUERIES", 2)
    monkeypatch.setattr(corel5k, "TRAINED", 3)
    corel5k.main(repository, tmp_path / "lists")
    listed = {
        name: (tmp_path / "lists" / f"{name}.txt").read_text().splitlines() for name in ("test", "train", "database")
    }
    assert {name: len(lines) for name, lines in listed.items()} == {"test": 2, "train": 3, "database": 4}
    assert set(listed["train"]) < set(listed["database"])
    wanted = {
        "train0": "1 0 1",
        "train1": "0 1 0",
        "train2": "0 0 1",
        "train3": "1 1 0",
        "test0": "1 0 0",
        "test1": "0 1 1",
    }
    found = dict(line.split(" ", 1) for line in listed["test"] + listed["database"])
    assert {Path(path).stem: row for path, row in found.items()} == wanted
    assert all((tmp_path / "lists" / path).is_file() for path in found)
