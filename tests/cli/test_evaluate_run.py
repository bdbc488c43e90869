"""evaluate-run: finished runs under conditions, what is shown of them, and what becomes of it when it is disturbed."""

import csv
import json
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import hashbench
from hashbench.cli import main
from hashbench.errors import HashbenchError
from hashbench.registry import CONDITIONS
from hashbench.results.finding import find_runs
from hashbench.results.runs import RunDirectory
from hashbench.storage.strict_json import document

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two methods of two seeds, not yet under any condition."""
    runs = tmp_path_factory.mktemp("swept") / "runs"
    hashbench.sweep(["crh", "lsh"], ["toy"], [12], seeds=2, epochs=2, progress=False, runs_dir=runs)
    return runs


@pytest.fixture
def runs(swept, cli, tmp_path):
    """A copy of them, in the empty folder where commands run."""
    subprocess.run(["cp", "-r", swept, tmp_path / "runs"], check=True)
    return Path("runs")


@pytest.fixture
def run(runs):
    return next(runs.glob("toy@small/crh/12b/s0-*"))


def under(runs):
    return [result for result in find_runs([runs])[0] if result.condition]


# What is shown


def test_the_conditions_are_tables_beside_the_runs_and_compare_shows_them_again(cli, runs):
    before = cli("compare", runs).stdout
    shown = cli("evaluate-run", runs, "--under", "noise(sigma=0.1),jpeg(quality=30), noise").stdout
    assert shown.startswith(before.strip())
    captions = re.findall(r"test queries( under \w+\(\w+=[\d.]+\))?, ties", " ".join(shown.split()))
    assert captions == ["", " under noise(sigma=0.1)", " under jpeg(quality=30)"]
    compared = cli("compare", runs).stdout
    assert {*compared.strip().split("\n\n")} == {*shown.rpartition("Results are in")[0].strip().split("\n\n")}
    values = {}
    for result in under(runs):
        values.setdefault((result.coords["method"], result.condition), []).append(result.metrics["mAP@all"])
    for (method, _), found in values.items():
        assert re.search(rf"{method}(?: †)?(?: °)? +\*?{np.mean(found):.4f} ± 0\.\d+ \(2\)", shown)
    assert len(under(runs)) == 8
    (run, noise, jpeg) = find_runs([runs / "toy@small/crh/12b"])[0][:3]
    assert [run.condition, jpeg.condition, noise.condition] == ["", "noise(sigma=0.1)", "jpeg(quality=30)"]
    assert "under jpeg(quality=30)" in cli("show", noise.path).stdout


def test_what_is_there_is_loaded_and_the_rest_computed(cli, runs):
    cli("evaluate-run", next(runs.glob("*/crh/12b/s1-*")), "--under", "blur")
    (first,) = under(runs)
    stamp = (first.path / "result.json").stat().st_mtime_ns
    cli("evaluate-run", runs, "--under", "blur")
    assert len(under(runs)) == 4
    assert (first.path / "result.json").stat().st_mtime_ns == stamp


def test_status_export_and_verify_know_runs_from_conditions(cli, runs):
    status = cli("status", runs).stdout
    cli("evaluate-run", runs, "--under", "clean,noise")
    assert cli("status", runs).stdout == status
    assert cli("verify", runs).stdout.startswith("12 runs: 12 as stored, 0 with differences.")
    cli("export", runs, "all.csv")
    with open("all.csv", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["measure"] == "mAP@all"]
    assert sorted(line["evaluated"] for line in lines) == sorted(["test", "test, clean", "test, noise(sigma=0.1)"] * 4)
    noise = next(result for result in under(runs) if "noise" in result.condition)
    cli("export", noise.path, "codes.npz")
    stored = RunDirectory(noise.path).read_codes()
    with np.load("codes.npz") as codes:
        assert np.array_equal(np.packbits(codes["query"], axis=1), stored["query"])
        assert np.array_equal(np.packbits(codes["database"], axis=1), stored["database"])
    shown = cli("run", "--method", "crh", "--dataset", "toy", "--bits", "12", "--epochs", "2", "--dry-run").stdout
    assert "1 of 1" not in shown


def test_figures_and_the_report_of_runs_with_conditions(cli, runs):
    cli("evaluate-run", runs, "--under", "noise")
    assert len(cli("plot", "pr", runs, "-o", "pr.svg").stdout.splitlines()) == 2
    for kind in ("codes", "seconds", "training", "centers"):  # these are the runs' own
        drawn = cli("plot", kind, runs, "-o", "one.svg")
        assert len(drawn.stdout.splitlines()) == 1
        assert drawn.stderr == ""
    cli("report", runs, "-o", "report.html", "--queries", "1")
    text = Path("report.html").read_text()
    assert text.count('<article class="query">') == 1
    assert "test queries under noise(sigma=0.1)" in text
    assert "codes" not in "".join(re.findall(r"No run .*", text))  # a condition block has no such part, and no reason


def _flip(directory):
    codes = directory.read_arrays("codes")
    directory.write_arrays("codes", **{**codes, "query": codes["query"] ^ 128})


def _change(name, *keys, value):
    def change(directory):
        path = directory.path / name
        data = json.loads(path.read_text())
        inner = data
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        path.write_text(document(data))

    return change


DRIFTS = {
    "a code": (_flip, "histograms from codes: the distances of 15 of 15 queries differ"),
    "a measure": (_change("result.json", "metrics", "mAP@all", value=0.5), "mAP@all is 0.5 in the result"),
    "a statistic": (_change("result.json", "code_stats", "bit_balance", value=0.1), "statistics from codes: bit_bal"),
    "the id": (_change("result.json", "id", value="0" * 64), "than the folder, whose id is"),
    "a field": (
        _change("spec.json", "identity", "condition", "fields", "sigma", value=0.2),
        "than the folder, whose id",
    ),
    "the text": (_change("result.json", "coords", "evaluated", value="test, noise(sigma=9)"), "identity: evaluated is"),
    "the coordinates": (_change("result.json", "coords", "method", value="csq"), "identity: method is 'csq' instead"),
    "the run": (_change("spec.json", "identity", "run", value="0" * 64), "than the folder, whose id is"),
    "the folder": (lambda directory: directory.path.rename(directory.path.with_name("noise-0")), "the folder is calle"),
    "the run's codes": (lambda directory: _flip_database(directory.run), "histograms from codes: the distances of"),
}


def _flip_database(run):
    codes = run.read_arrays("codes")
    run.write_arrays("codes", **{**codes, "database": codes["database"] ^ 128})


@pytest.mark.parametrize("what", DRIFTS)
def test_verify_finds_what_has_drifted(cli, run, what):
    cli("evaluate-run", run, "--under", "noise")
    assert "2 as stored" in cli("verify", run).stdout
    change, sentence = DRIFTS[what]
    directory = RunDirectory(next(run.glob("under/*")))
    change(directory)
    said = cli("verify", *run.glob("under/*"), code=1).stdout
    assert sentence in said
    assert "0 as stored, 1 with differences" in said


def test_verify_says_what_it_could_not_check(cli, run):
    cli("evaluate-run", run, "--under", "noise")
    (folder,) = run.glob("under/*")
    (run / "codes.npz").unlink()
    said = cli("verify", folder, code=3).stdout
    assert "not checked in 1 of 1 run: histograms from codes: there is no codes.npz" in said
    assert "0 as stored, 0 with differences, 1 not wholly checked" in said


# What is refused


BAD = {
    "an unknown condition": (("runs", "--under", "noize"), "Unknown condition 'noize'. Did you mean 'noise'?"),
    "an empty place": (("runs", "--under", "noise,,blur"), "--under 'noise,,blur' has an empty name"),
    "a bad field": (("runs", "--under", "blur,noise(sigma=x)"), "'x' is not a value for sigma"),
    "no folder": (("nowhere", "--under", "noise"), "There is no folder nowhere"),
    "no run": (("empty", "--under", "noise"), "There is no finished run below empty to evaluate"),
    "a device": (("runs", "--under", "noise", "--device", "tpu"), "There is no device 'tpu'"),
    "no condition": (("runs",), "Missing option '--under'"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_is_one_sentence_and_nothing_is_computed(cli, runs, what):
    Path("empty").mkdir()
    arguments, sentence = BAD[what]
    assert sentence in " ".join(cli("evaluate-run", *arguments, code=2).stderr.split())
    assert under(runs) == []


def test_a_run_that_fails_is_named_and_the_others_go_on(cli, runs, run):
    (run / "model.pt").unlink()
    ran = cli("evaluate-run", runs, "--under", "noise,blur", code=2)
    assert f"2 of 8 failed:\n  {run} under noise(sigma=0.1): There is no {run}/model.pt; run again" in ran.stderr
    assert ran.stderr.strip().splitlines()[-1].startswith(f"Error: {run} under noise(sigma=0.1): There is no")
    assert len(under(runs)) == 6
    assert "lsh" in ran.stdout


def test_a_plugin_that_raises_is_one_sentence(cli, run, monkeypatch):
    monkeypatch.setattr(CONDITIONS, "_local", dict(CONDITIONS._local))

    @hashbench.condition("broken-here")
    class Broken(hashbench.Condition):
        def apply(self, queries):
            raise RuntimeError("no\nluck")

    assert (
        f"Error: {run} under broken-here: RuntimeError: no luck"
        in cli("evaluate-run", run, "--under", "broken-here", code=2).stderr
    )


def test_a_method_of_a_file_is_named_again(cli, fresh_methods):
    Path("mine.py").write_text(
        "import hashbench\n\n"
        "@hashbench.method('mine')\nclass Mine(hashbench.DeepMethod):\n"
        "    def loss(self, out, batch):\n        return {'small': (out**2).mean()}\n"
    )
    cli("run", "--method", "mine.py:Mine", "--dataset", "toy", "--bits", "12", "--epochs", "1")
    cli("evaluate-run", "runs", "--under", "noise", "--method", "mine.py:Mine")
    assert [result.coords["method"] for result in under("runs")] == ["mine"]
    assert (
        "was trained by 'mine', which is not crh"
        in cli("evaluate-run", "runs", "--under", "blur", "--method", "crh", code=2).stderr
    )


def test_a_source_that_has_changed_since_is_a_warning(cli, run):
    _change("result.json", "provenance", "source_sha256", value="0" * 64)(RunDirectory(run))
    told = cli("evaluate-run", run, "--under", "noise,blur").stderr
    assert told.count(f"Warning: {run}: the method's source has changed since, but not its version; --rerun stale") == 1
    (noise,) = run.glob("under/noise-*")
    assert cli("evaluate-run", run, "--under", "noise").stderr == ""
    _change("result.json", "provenance", "condition_sha256", value="0" * 64)(RunDirectory(noise))
    told = cli("evaluate-run", run, "--under", "noise").stderr
    assert f"Warning: {noise} was measured with another source of the condition, of the same version; delete" in told
    with pytest.warns(UserWarning, match="was measured with another source of the condition"):
        hashbench.evaluate_run(run, under="noise")


def test_seeds_under_two_sources_of_a_condition_are_a_warning(cli, runs, run):
    cli("evaluate-run", runs, "--under", "noise")
    assert cli("compare", runs).stderr == ""
    (noise,) = run.glob("under/*")
    _change("result.json", "provenance", "condition_sha256", value="0" * 64)(RunDirectory(noise))
    assert "averages runs of different source code of the condition" in " ".join(cli("compare", runs).stderr.split())


# What becomes of it when it is disturbed

CHILD = """
import os, signal, sys, time
sys.path.insert(0, {tests!r})
import toy_dataset, torch, hashbench
from hashbench.cli import main
from hashbench.results.runs import RunDirectory
torch.set_num_threads(1)

@hashbench.condition("slow")
class Slow(hashbench.Condition):
    def apply(self, queries):
        with open("tally", "a") as file:
            file.write("x")
        time.sleep(1)
        return queries.images * 0.5
"""


def child(code, *arguments):
    text = textwrap.dedent(CHILD.format(tests=str(ROOT / "tests"))) + textwrap.dedent(code)
    text += f"\nmain({['evaluate-run', *map(str, arguments)]!r})"
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


KILLED_AT = ["write_spec", "share_arrays", "write_result"]


@pytest.mark.slow
@pytest.mark.parametrize("place", KILLED_AT)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_leaves_nothing_half_and_the_same_command_goes_on(cli, run, place, when):
    killed = child(
        f"""
        inner = RunDirectory.{place}
        def dies(*arguments):
            {"inner(*arguments)" if when == "after" else ""}
            os.kill(os.getpid(), signal.SIGKILL)
        RunDirectory.{place} = dies
        """,
        run, "--under", "blur,noise",
    )  # fmt: skip
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    results, problems = find_runs([run])
    assert problems == []
    assert len(results) == (2 if (place, when) == ("write_result", "after") else 1)
    cli("evaluate-run", run, "--under", "blur,noise")
    assert "3 runs: 3 as stored" in cli("verify", run).stdout
    for folder in run.glob("under/*"):
        assert {path.name for path in folder.iterdir()} - {"lock"} == {
            "result.json", "spec.json", "histograms.npz", "codes.npz"
        }  # fmt: skip


@pytest.mark.slow
def test_two_processes_compute_one_condition_once(cli, run):
    processes = [child("", run, "--under", "slow,noise", "--quiet") for _ in range(2)]
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert said[0] == said[1]
    assert Path("tally").read_text() == "x"
    assert len(under(run)) == 2


# The page


@pytest.mark.slow
def test_the_page_about_conditions_works_as_written(cli, monkeypatch):
    for name in ("_local", "_loaded"):
        monkeypatch.setattr(CONDITIONS, name, dict(getattr(CONDITIONS, name)))
    page = (ROOT / "docs" / "conditions.md").read_text()
    commands = re.findall(r"^    hashbench (.*)$", page, re.MULTILINE)
    assert {shlex.split(command)[0] for command in commands} == {"run", "evaluate-run", "compare", "plot", "verify"}
    for command in commands:
        arguments = shlex.split(command.replace("fashion-mnist-10k", "toy").replace("@5k", "@small"))
        arguments = [str(next(Path().glob(part))) if "*" in part else part for part in arguments]
        arguments += ["--epochs", "2"] if arguments[0] == "run" else []
        ran = CliRunner().invoke(main, arguments)
        assert ran.exit_code == 0, f"{command}\n{ran.output}"
    printed = " ".join(re.findall(r"```\n(fashion-mnist.*?)```", page, re.DOTALL)[0].split())
    assert "test queries under jpeg(quality=30)" in printed
    run = next(Path().glob("runs/*/crh/32b/s0-*"))
    (code,) = re.findall(r"^## From Python\n\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    exec(textwrap.dedent(re.sub(r'"runs/.*?"', repr(str(run)), code)))
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code, {})
    result = hashbench.evaluate_run(run, under="away(eps=8/255)")
    assert result.condition.startswith("away(eps=8/255")


def test_commands_that_need_the_run_itself_name_it(cli, runs, run):
    cli("evaluate-run", run, "--under", "noise(queries=3)")
    (measured,) = run.glob("under/noise-*")
    Path("images").mkdir()
    needing = (
        ("encode", "images"),
        ("index", "images", "-o", "a.hashindex"),
        ("export", "a.npz"),
        ("export", "a.onnx"),
    )
    for name, *rest in needing:
        said = " ".join(cli(name, measured, *rest, code=2).stderr.split())
        assert f"is a run measured under a condition; name the run itself, {run.absolute()}" in said
    with pytest.raises(HashbenchError, match="measured under a condition; name the run itself"):
        hashbench.load(measured)


def test_figures_of_conditions_leave_changed_relevance_alone(cli, runs, run):
    cli("evaluate-run", run, "--under", "neighbours(k=3)")
    said = cli("compare", run, "--conditions", code=2).stderr
    assert "None of these runs was measured under a condition that changes its queries" in said
    cli("evaluate-run", run, "--under", "noise(sigma=0.1),noise(sigma=0.2)")
    drawn = cli("plot", "robustness", run, "-o", "a.png")
    assert not drawn.stderr


def test_a_condition_beyond_the_memory_is_a_sentence(cli, run):
    said = " ".join(cli("evaluate-run", run, "--under", "blur(sigma=1e12)", code=2).stderr.split())
    assert "takes more memory than there is; choose smaller fields" in said
    assert "alloc_cpu" not in said
