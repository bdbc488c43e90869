"""plot and report as commands: on a small sweep, and what they say when they cannot."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hashbench.cli import main
from hashbench.errors import HashbenchError
from hashbench.results.figures import KINDS
from hashbench.results.finding import find_runs


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "runs"
    sweep = ("run", "--method", "crh,lsh", "--epochs", "2", "--bits", "12", "--quiet", "--runs-dir", folder)
    call(*sweep, "--dataset", "toy", "--seeds", "2", "--eval-every", "1")
    call(*sweep, "--dataset", "toy@searched")
    call("search-cost", folder / "toy@small")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_a_sweep_is_drawn(runs, tmp_path, kind):
    folder = runs / "toy@small"
    if KINDS[kind].across:
        folder = Path(shutil.copytree(folder / "crh", tmp_path / "runs" / "crh"))
        call("evaluate-run", folder, "--under", "noise(sigma=0.1),noise(sigma=0.3)")
    said = call("plot", kind, folder, "-o", tmp_path / "new" / "it.svg").stdout
    assert said.startswith(f"{tmp_path / 'new' / 'it.svg'}: toy@small, backbone resnet-small")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["it.svg"]


def test_several_data_sets_give_a_file_each(runs, tmp_path):
    call("plot", "bits", runs, "-o", tmp_path / "it.svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["it-toy@searched.svg", "it-toy@small.svg"]
    call("plot", "bits", runs / "toy@small", "-o", tmp_path / "alone.svg")
    assert (tmp_path / "alone.svg").read_bytes() == (tmp_path / "it-toy@small.svg").read_bytes()


def test_rows_data_sets_and_bits_are_chosen_as_in_compare(runs, tmp_path):
    call("plot", "bits", runs / "toy@small" / "crh", "-o", tmp_path / "folder.svg")
    call("plot", "bits", runs, "--method", "crh ()", "--dataset", "toy@small", "-o", tmp_path / "named.svg")
    assert (tmp_path / "folder.svg").read_bytes() == (tmp_path / "named.svg").read_bytes()
    assert "Unknown code length '16'" in call("plot", "bits", runs, "--bits", "16", code=2).stderr
    chosen = ("--method", "lsh", "--dataset", "toy@searched", "--queries", "0")
    said = call("report", runs, *chosen, "-o", tmp_path / "report.html").stdout
    assert "1 run," in said
    text = (tmp_path / "report.html").read_text()
    assert "toy@searched" in text
    assert "toy@small" not in text


def test_a_run_named_twice_counts_once(runs, tmp_path):
    folder = runs / "toy@small"
    call("plot", "bits", folder, "-o", tmp_path / "once.svg")
    copied = tmp_path / "copy"
    shutil.copytree(folder, copied)
    call("plot", "bits", folder, copied, "-o", tmp_path / "twice.svg")
    assert (tmp_path / "once.svg").read_bytes() == (tmp_path / "twice.svg").read_bytes()


def test_kinds_are_listed_where_people_look():
    shown = call("plot", "--help").stdout
    assert [kind for kind in KINDS if f"  {kind} " not in shown] == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("pr", "-o", "a.jpg"), "end the name in .png, .svg or .pdf"),
        (("pr", "--measure", "mAP@all"), "shows no measure; bits and robustness and seconds and candidates do"),
        (("bits", "--measure", "mAP@x"), "Unknown measure 'mAP@x'"),
        (("circles",), "'circles' is not one of"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(runs, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    kind, *options = arguments
    assert sentence in call("plot", kind, runs, *options, code=2).stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("plot", "pr"), ("report",)])
def test_without_runs_nothing_is_written(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    assert "There is no folder runs" in call(*command, code=2).stderr
    (tmp_path / "runs").mkdir()
    assert "no readable finished run below runs" in call(*command, code=2).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_the_report_of_a_sweep_shows_its_numbers_and_images(runs, tmp_path):
    call("report", runs / "toy@small", "-o", tmp_path / "r.html", "--queries", "2")
    text = (tmp_path / "r.html").read_text()
    results = find_runs([runs / "toy@small"])[0]
    crh = [result.metrics["mAP@all"] for result in results if result.coords["method"] == "crh"]
    assert f">{np.mean(crh):.4f}</a>" in text
    assert text.count("<figure id=") == sum(not kind.across for kind in KINDS.values())  # nothing is under a condition
    assert text.count('<article class="query">') == 2
    assert all(result.id in text for result in results)


@pytest.fixture
def _one_kind(monkeypatch):
    monkeypatch.setattr("hashbench.results.report.KINDS", {"pr": KINDS["pr"]})


@pytest.mark.usefixtures("_one_kind")
def test_a_report_without_queries_reads_no_data(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("hashbench.datasets.catalogue.load", None)
    call("report", runs, "-o", tmp_path / "r.html", "--queries", "0")
    text = (tmp_path / "r.html").read_text()
    assert "toy@searched" in text
    assert "What a search returns" not in text


@pytest.mark.usefixtures("_one_kind")
def test_the_report_says_why_there_are_no_images(runs, tmp_path, monkeypatch):
    def gone(name, **settings):
        raise HashbenchError(f"{name} is not here.")

    monkeypatch.setattr("hashbench.datasets.catalogue.load", gone)
    call("report", runs, "-o", tmp_path / "r.html")
    assert "No images are shown: toy@small is not here." in (tmp_path / "r.html").read_text()


def test_commands_that_draw_import_no_torch(runs, tmp_path):
    code = (
        "import sys; from hashbench.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: print([m for m in ('torch', 'numba', 'matplotlib.pyplot') if m in sys.modules])"
    )
    arguments = ["plot", "centers", str(runs / "toy@small"), "-o", str(tmp_path / "c.svg")]
    said = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"


@pytest.mark.usefixtures("_one_kind")
def test_the_commands_of_the_page_work(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs / "toy@small", tmp_path / "runs" / "toy@small")
    page = (Path(__file__).parents[2] / "docs" / "figures.md").read_text()
    commands = re.findall(r"^    hashbench (.*)$", page, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["plot", "plot", "report", "run", "plot", "report"]
    for command in commands:
        call(*shlex.split(command.replace("fashion-mnist-10k", "toy")))
    drawn = {"training-toy@small.png", "training-toy@small-2.png"}  # the page's run trains longer, so two blocks
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "pr.png", "bits.svg", "report.html", *drawn}
