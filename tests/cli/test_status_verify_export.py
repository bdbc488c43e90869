"""status, verify, export and --config: what is said about a sweep and what is given away of it."""

import csv
import gzip
import itertools
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import hashbench
from hashbench.metrics import unpack
from hashbench.results.runs import RunDirectory
from hashbench.storage.strict_json import document


@pytest.fixture
def run(cli):
    """A finished run of 12 bits, which do not fill their bytes."""
    return RunDirectory(hashbench.run("crh", "toy", bits=12, epochs=2, progress=False).path)


def changed(path, change):
    """Change a JSON file in place."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(document(data))


# status

TOY = ("run", "--method", "crh", "--dataset", "toy", "--epochs", "4", "--quiet")


def test_status_tells_what_is_done_running_failed_and_to_do(cli, tmp_path):
    cli(*TOY, "--bits", "16,24", "--seeds", "2")
    folders = {path.parent.name: RunDirectory(path.parent) for path in tmp_path.rglob("24b/*/result.json")}
    first, second = folders.values()
    for directory in (first, second):
        directory.result.unlink()
    first.write_failure(ValueError("boom"))
    log = second.read_log()
    second.log.unlink()
    for line in log[:2]:
        second.append_log({**line, "seconds": 30.0 * (line["epoch"] + 1)})
    (tmp_path / "runs/toy@small/crh/16b").rename(tmp_path / "elsewhere")
    with second.lock():
        shown = cli("status").stdout
    lines = [line.split() for line in shown.splitlines()]
    assert ["runs", "running", "failed", "to", "do"] in lines
    assert ["toy@small/crh/16b", "—", "—", "2"] in lines
    assert ["toy@small/crh/24b", "1", "1", "—"] in lines
    assert re.search(r"24b/s\d-\w+: epoch 3 of 4, 2 images/s, about 60 s left, by process \d+ since", shown)
    assert "ValueError: boom" in shown
    assert "interrupted" in cli("status").stdout
    assert not [line for line in cli("status", "runs/toy@small").stdout.splitlines() if "16b" in line]


def test_status_of_a_folder_without_runs(cli):
    Path("runs").mkdir()
    assert cli("status", "--watch").stdout.startswith("There is no run below runs yet")


def test_status_watches_until_nothing_runs(cli, run, monkeypatch):
    shown = []
    run.again.path.mkdir()  # the run is run again
    lock = run.lock()
    lock.__enter__()

    def sleep(seconds):
        shown.append(seconds)
        if len(shown) == 2:
            lock.__exit__(None, None, None)

    monkeypatch.setattr("time.sleep", sleep)
    ran = cli("status", "--watch", "--every", "7")
    assert shown == [7.0, 7.0]
    assert ran.stdout.count("toy@small/crh/12b") > 3


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "1e300"])
def test_a_time_that_no_clock_waits_is_refused_before_anything_is_shown(cli, run, seconds):
    with run.lock():
        refused = cli("status", "--watch", "--every", seconds, code=2)
    assert "is not possible; give 0.1 to 86,400 seconds." in refused.stderr
    assert not refused.stdout


LEFT = {
    "before a reboot": {"host": platform.node(), "boot": "of another start"},
    "a copy, or another machine": {"host": "far", "boot": "b"},
}


@pytest.mark.parametrize("what", LEFT)
def test_a_finished_run_is_finished_whatever_lock_is_left_in_it(cli, run, monkeypatch, what):
    lock = run.path / "lock"
    lock.write_text(document({"pid": 4711, "started": "2026-01-01T00:00:00+00:00", **LEFT[what]}))
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it watches a finished run"))
    assert re.search(r"all +1\n$", cli("status", "--watch").stdout)
    os.utime(lock, (time.time() - 3600,) * 2)
    cli("run", "--method", "crh", "--dataset", "toy", "--bits", "12", "--epochs", "2", "--quiet")
    assert not lock.exists()  # loading the run removes what a killed process left


def test_status_watches_no_lock_for_ever(cli, run, monkeypatch):
    run.result.unlink()
    lock = {"host": "far", "boot": "b", "pid": 4711, "started": "2026-01-01T00:00:00+00:00"}
    (run.path / "lock").write_text(document(lock))
    clock = itertools.count(0, 20.0)
    monkeypatch.setattr("hashbench.storage.locks.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    shown = cli("status", "--watch").stdout
    assert shown.count("by process 4711 on far since 2026-01-01") == 3  # of 60 seconds without a heartbeat
    assert "interrupted" in shown.rpartition("runs")[2]


ODD_LOCKS = {"a pipe": os.mkfifo, "a folder": Path.mkdir, "a link to nothing": lambda path: path.symlink_to("nowhere")}


@pytest.mark.parametrize("what", ODD_LOCKS)
def test_an_odd_lock_fails_its_run_alone(cli, run, what):
    run.result.unlink()
    ODD_LOCKS[what](run.path / "lock")
    assert re.search(r"failed:\n  toy@small/crh/12b/s0-\w+: .*lock is no lock", cli("status").stdout)
    said = cli(*TOY[:-3], "--epochs", "2", "--bits", "12,16", "--quiet", code=2).stderr
    assert "lock is no lock but a link, folder, pipe or device; remove it" in said.splitlines()[-1]
    assert len([*Path("runs").rglob("16b/*/result.json")]) == 1


def test_what_the_record_of_a_sweep_cannot_say_is_named(cli, run):
    (Path("runs") / ".sweeps" / "0123456789abcdef.json").write_text("[[[[")
    ran = cli("status")
    assert "Warning: runs/.sweeps/0123456789abcdef.json cannot be read" in ran.stderr
    assert "toy@small/crh/12b" in ran.stdout


@pytest.mark.parametrize("command", ["status", "verify", "export"])
def test_what_looks_at_results_imports_no_torch(cli, run, command):
    arguments = {"status": [], "verify": [], "export": ["runs", "all.csv"]}[command]
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from hashbench.cli import main
try:
    main({[command, *arguments]!r}, standalone_mode=False)
except SystemExit as ended:  # verify knows no toy data in this process
    assert ended.code == 3
sys.exit(9 if "torch" in sys.modules else 0)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


# export


def test_the_long_csv_holds_every_measure_of_every_run(cli, run):
    other = hashbench.run("lsh", "toy", bits=16, epochs=2, progress=False)
    cli("export", "runs", "all.csv")
    with open("all.csv", newline="") as file:
        lines = [*csv.DictReader(file)]
    stored = {(r.id, name): value for r in (run.read_result(), other) for name, value in r.metrics.items()}
    assert {(line["id"], line["measure"]): float(line["value"]) for line in lines} == stored
    assert {line["method"] for line in lines} == {"crh", "lsh"}


def test_the_long_csv_holds_no_formula_of_a_spreadsheet(cli, run):
    changed(run.result, lambda data: data["coords"].update(method="=HYPERLINK(1)"))
    cli("export", "runs", "all.csv")
    with open("all.csv", newline="") as file:
        assert {line["method"] for line in csv.DictReader(file)} == {"'=HYPERLINK(1)"}


def test_codes_that_are_other_arrays(cli, run):
    changed(run.result, lambda data: data["provenance"].pop("files"))  # which would tell it before
    run.write_arrays("codes", words=np.zeros(3))
    assert "codes.npz does not hold the codes of a run" in cli("export", run.path, "new/codes.npz", code=2).stderr
    assert not Path("new").exists()


def test_codes_for_numpy(cli, run):
    kept = {name: unpack(packed, 12) for name, packed in run.read_arrays("codes").items()}
    cli("export", run.path, "codes.npz")
    with np.load("codes.npz", allow_pickle=False) as stored:
        assert {*stored.files} == {"query", "database"}
        assert all(np.array_equal(stored[name], codes) for name, codes in kept.items())
    names = run.read_names()
    both = {part: names[part] for part in ("query", "database")}
    assert json.loads(Path("codes.npz.names.json").read_text()) == both
    said = cli("export", run.path, "codes.npy", "--part", "query").stdout
    assert np.array_equal(np.load("codes.npy"), kept["query"])
    assert "codes.npy.names.json: which of the data set's positions each row is" in said
    assert json.loads(Path("codes.npy.names.json").read_text()) == names["query"]


def test_codes_of_a_run_from_before_it_kept_names(cli, run):
    cli("export", run.path, "codes.npy")
    run.names.unlink()
    assert "does not keep which input each row is" in cli("export", run.path, "codes.npy").stdout
    assert Path("codes.npy").exists()
    assert not Path("codes.npy.names.json").exists()  # of the export before
    assert cli("verify").stdout.startswith("1 run: 1 as stored")


NOT_THE_NAMES = {
    "torn": (lambda content: content[:50], "cannot be read"),
    "no gzip": (lambda content: b"[]", "cannot be read"),
    "a list": (lambda content: gzip.compress(b"[]"), "cannot be read"),
    "of fewer rows": (lambda content: gzip.compress(re.sub(rb", \d+\]", b"]", gzip.decompress(content))), "other rows"),
    "of another split": (lambda content: gzip.compress(gzip.decompress(content).replace(b'256": "', b'256": "0')),
                         "other rows"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NOT_THE_NAMES)
def test_names_that_are_not_those_of_the_codes(cli, run, kind):
    change, reason = NOT_THE_NAMES[kind]
    run.names.write_bytes(change(run.names.read_bytes()))
    assert reason in cli("export", run.path, "codes.npy", code=2).stderr
    assert not Path("codes.npy").exists()


def test_a_faiss_index_returns_the_neighbours_of_brute_force(cli, run):
    faiss = pytest.importorskip("faiss")
    said = cli("export", run.path, "database.faiss").stdout
    assert "16 bits, of which the last 4 are zeros" in said
    assert json.loads(Path("database.faiss.names.json").read_text()) == run.read_names()["database"]
    index = faiss.read_index_binary("database.faiss")
    codes = {name: unpack(packed, 12) for name, packed in run.read_arrays("codes").items()}
    distances, neighbours = index.search(np.packbits(codes["query"], axis=1), 75)
    expected = (codes["query"][:, None] != codes["database"][None]).sum(axis=2)
    assert np.array_equal(distances, np.sort(expected, axis=1))
    assert np.array_equal(np.take_along_axis(expected, neighbours, axis=1), distances)
    assert all(len({*row}) == 75 for row in neighbours)


def test_without_faiss_the_sentence_says_what_to_install(cli, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    refused = cli("export", run.path, "database.faiss", code=2)
    assert "pip install 'hashbench[faiss]'" in refused.stderr
    assert not Path("database.faiss").exists()


def test_what_is_written_makes_its_folder_and_says_where_there_can_be_none(cli, run):
    cli("export", "runs", "new/all.csv")
    cli("export", run.path, "newer/codes.npy")
    cli("report", "runs", "-o", "newest/report.html", "--queries", "0")
    assert all(Path(name).is_file() for name in ("new/all.csv", "newer/codes.npy", "newest/report.html"))
    refused = cli("export", "runs", "new/all.csv/all.csv", code=2).stderr
    assert "Cannot write new/all.csv: File exists; a file stands where a folder is needed" in refused


def test_a_file_of_a_run_in_place_of_the_run(cli, run):
    assert "model.pt is no bundle or search index of hashbench" in cli("encode", run.model, ".", code=2).stderr
    for command in (["show", run.result], ["export", run.result, "codes.npz"]):
        refused = cli(*command, code=2).stderr
        assert " is no run directory, or not finished" in refused
        assert "delete" not in refused


def test_an_ending_that_says_nothing(cli, run):
    assert "one of the endings .csv, .npz, .npy, .faiss" in cli("export", "runs", "codes.txt", code=2).stderr


# --config


def test_a_config_holds_the_flags_and_the_command_line_wins(cli):
    Path("sweep.toml").write_text(
        """
        method = ["crh", "csq"]
        dataset = "toy"
        bits = [16, 24]
        epochs = 1
        dry-run = true
        [set]
        crh.heads = 1
        recipe.batch_size = 16
        recipe.betas = [0.5, 0.9]
        """
    )
    shown = cli("run", "--config", "sweep.toml").stdout
    assert re.findall(r"(\w+) +(\d+) +0 +to do", shown) == [("crh", "16"), ("crh", "24"), ("csq", "16"), ("csq", "24")]
    typed = "run --method crh,csq --dataset toy --bits 16,24 --epochs 1 --dry-run --set crh.heads=1"
    rest = ["--set", "recipe.batch_size=16", "--set", "recipe.betas=0.5,0.9"]
    assert cli(*typed.split(), *rest).stdout == shown
    other = cli("run", "--config", "sweep.toml", "--bits", "32", "--set", "recipe.batch_size=32").stdout
    assert re.findall(r"(\w+) +(\d+) +0 +to do", other) == [("crh", "32"), ("csq", "32")]
    alike = cli(*typed.replace("16,24", "32").split(), *rest[2:], "--set", "recipe.batch_size=32").stdout
    assert alike == other


BAD_CONFIGS = {
    "an unknown key": ('methods = "crh"', "Unknown key in sweep.toml 'methods'. Did you mean 'method'?"),
    "no TOML": ("method = ", "sweep.toml is not TOML"),
    "a table": ("[method]\nname = 1", "method = {'name': 1} is no flag's value"),
    "flat settings": ('set = "crh.heads=1"', "[set] holds lines like crh.heads = 1"),
    "a value of another type": ('epochs = "many"', "'many' is not a valid int"),
}


@pytest.mark.parametrize("what", BAD_CONFIGS)
def test_a_config_that_is_wrong_is_one_sentence(cli, what):
    text, sentence = BAD_CONFIGS[what]
    Path("sweep.toml").write_text(text)
    said = cli("run", "--method", "crh", "--dataset", "toy", "--config", "sweep.toml", code=2).stderr
    assert sentence in said


def test_a_config_that_is_not_there(cli):
    said = cli("run", "--method", "crh", "--dataset", "toy", "--config", "nowhere.toml", code=2).stderr
    assert "nowhere.toml cannot be read (No such file or directory)" in said


# the plan


def test_the_plan_estimates_from_the_runs_alike(cli, run):
    changed(run.result, lambda data: data["time"].update(total=600.0))
    hashbench.run("lsh", "toy", bits=12, progress=False)
    shown = cli(
        "run", "--method", "crh,csq", "--dataset", "toy", "--epochs", "2", "--bits", "12,24", "--dry-run"
    ).stdout
    assert re.search(r"crh +12 +0 +finished +runs", shown)
    assert re.search(r"crh +24 +0 +to do +10 min", shown)
    assert re.search(r"csq +24 +0 +to do +unknown", shown)
    assert shown.strip().endswith("3 of 4 runs to compute, about 10 min one after another, 2 of unknown length.")


# configs of every editor


PLAIN = 'method = "crh"\ndataset = "toy"\nbits = 16\nepochs = 1\ndry-run = true\n[set]\nrecipe.batch_size = 16\n'
SAVED = {
    "with a byte order mark": PLAIN.encode("utf-8-sig"),
    "as UTF-16": PLAIN.encode("utf-16"),
    "with lines of Windows": PLAIN.replace("\n", "\r\n").encode(),
    "with quoted keys": PLAIN.replace("recipe.batch_size", '"recipe.batch_size"').encode(),
    "with a quoted table": PLAIN.replace("[set]\nrecipe.", '["set".recipe]\n').encode(),
    "with a quoted path of keys": PLAIN.replace("[set]\nrecipe.batch_size", '"set.recipe.batch_size"').encode(),
    "with underscores": PLAIN.replace("dry-run", "dry_run").encode(),
}


@pytest.mark.parametrize("what", SAVED)
def test_a_config_is_read_as_any_editor_saves_it(cli, what):
    Path("plain.toml").write_text(PLAIN)
    Path("saved.toml").write_bytes(SAVED[what])
    shown = cli("run", "--config", "saved.toml").stdout
    assert re.search(r"crh +16 +0 +to do", shown)
    assert shown == cli("run", "--config", "plain.toml").stdout


UNSOUND = {
    "half a seed": ("seeds = 2.7", "'2.7' is not a valid int"),
    "truth for a number": ("epochs = true", "epochs = true is no value of this flag"),
    "a number for a flag": ("quiet = 1", "quiet = 1 is no value of this flag; give true or false"),
    "two spellings of one key": ('data_dir = "a"\ndata-dir = "b"', "gives data_dir twice"),
    "a field twice": ('[set]\nrecipe.epochs = 1\n"recipe.epochs" = 2', "gives recipe.epochs twice"),
    "a value and a field": ('[set]\nrecipe = 1\n"recipe.epochs" = 2', "gives recipe a value and"),
    "tables without end": ("a = " + "[" * 5000, "its tables nest too deeply"),
    "a NUL": ('device = "\\u0000"', "is no flag's value"),
    "a date": ("device = 2026-01-01", "is no flag's value"),
}


@pytest.mark.parametrize("what", UNSOUND)
def test_a_config_that_could_mean_another_thing_is_refused(cli, what):
    text, sentence = UNSOUND[what]
    Path("sweep.toml").write_text(text)
    said = cli("run", "--method", "crh", "--dataset", "toy", "--config", "sweep.toml", code=2).stderr
    assert sentence in said


@pytest.mark.parametrize("what", ["a pipe", "a folder"])
def test_a_config_that_is_no_file_is_waited_for_by_nobody(cli, what):
    ODD_LOCKS[what](Path("sweep.toml"))
    said = cli("run", "--method", "crh", "--dataset", "toy", "--config", "sweep.toml", code=2).stderr
    assert "sweep.toml cannot be read" in said


# lists of names, some of which have commas


@pytest.fixture
def commas(cli):
    """Own data and a method whose paths have commas."""
    images = np.random.default_rng(0).integers(0, 255, (40, 4, 4, 3), dtype=np.uint8)
    np.savez("p,q.npz", images=images, labels=np.arange(40) % 2)
    method = "@hashbench.method('mn')\nclass MN(hashbench.DeepMethod):\n    def loss(self, out, batch): return {}\n"
    Path("m,n.py").write_text(f"import hashbench\n{method}")


DRY = ("run", "--bits", "8", "--epochs", "1", "--dry-run")


def test_a_comma_in_a_path_that_is_there_belongs_to_it(cli, commas, fresh_methods):
    shown = cli(*DRY, "--method", "m,n.py:MN,lsh", "--dataset", "arrays:p,q.npz,toy").stdout
    found = re.findall(r"^(\S+@\S+) +(\S+) +8", shown, re.M)
    assert found == [("arrays:p_q@auto", "mn"), ("arrays:p_q@auto", "lsh"), ("toy@small", "mn"), ("toy@small", "lsh")]
    Path("sweep.toml").write_text('method = ["m,n.py:MN", "lsh"]\ndataset = ["arrays:p,q.npz", "toy"]')
    assert cli(*DRY, "--config", "sweep.toml").stdout == shown
    assert cli(*DRY, "--method", '"m,n.py:MN",lsh', "--dataset", '"arrays:p,q.npz","toy"').stdout == shown


def test_a_list_that_is_a_path_as_well_is_refused(cli):
    for name in ("a", "toy", "a,toy"):
        Path(name).mkdir()
    said = cli(*DRY, "--method", "lsh", "--dataset", "folder:a,toy", code=2).stderr
    assert "--dataset 'folder:a,toy' is a path, and a list of 2; put what is one into quotes" in said
    assert "a,toy holds no" in cli(*DRY, "--method", "lsh", "--dataset", '"folder:a,toy"', code=2).stderr
