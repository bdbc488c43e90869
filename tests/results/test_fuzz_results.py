"""Whatever lies in the place of a run's file is named in a sentence, and the runs beside it are shown."""

import copy
import csv
import functools
import io
import json
import os

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hashbench.cli import main
from hashbench.results.finding import find_runs
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.results.sweeps.progress import SWEEPS, find_all, record_sweep, table, time_left
from hashbench.results.tables.comparison import compare
from hashbench.storage.locks import LockWatch, owner_of
from hashbench.storage.strict_json import document

FUZZ = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LINES_UP = np.array([[1, 2, 0]]), np.array([[1, 0, 0]])


@pytest.fixture
def beside(make, stored):
    """Two finished runs: the directory of the one that is spoilt, and the result of the other, of 2 bits."""
    bad = stored(make(seed=0))
    return RunDirectory(bad.path), stored(make(method="csq", bits=2), n=LINES_UP[0], r=LINES_UP[1])


def places(value, way=()):
    """Yield the way to each value in plain data, the outermost first."""
    yield way
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*way, key))


HUGE = st.sampled_from([10**30, -(10**30), 10**400, 2**63, 1e308, -1e308, 5e-324, float("inf"), float("nan")])
ODD_TEXT = st.sampled_from(["", "\ud800", "\0", "=1+1", "../..", "\x1b[31m", "a" * 3000, "2026-01-01", "test", "é\n"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | HUGE | ODD_TEXT | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def spoilt(draw, whole):
    """Draw the bytes of a JSON file: some of its values replaced or removed, or its bytes changed or cut."""
    data = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from([way for way in places(data) if way]) if data else st.just([None]))
        inner = functools.reduce(lambda value, key: value[key], way, data)
        if last is not None and draw(st.booleans()) and isinstance(inner, dict):
            del inner[last]
        elif last is not None:
            inner[last] = draw(ANYTHING)
    content = bytearray(json.dumps(draw(st.just(data) | ANYTHING) if draw(st.booleans()) else data).encode())
    if content and draw(st.integers(0, 4)) == 0:
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.none() | st.integers(0, len(content)))]) if draw(st.booleans()) else bytes(content)


def shown(root, good):
    """Show all that is below `root` in every form; return what is said about files that cannot be read."""
    results, problems = find_runs([root])
    assert good in results
    comparison = compare(root)
    assert {*problems} <= {*comparison.problems}
    for form in ("text", "markdown", "latex", "html", "csv"):
        assert "csq" in comparison.render(form, bounds=True, cost=True)
    assert all(str(result) for result in results)
    notes: list[str] = []
    found = find_all(root, notes, watch=LockWatch())
    assert "csq" in table(found)
    assert time_left(root, found) is not None
    return results, problems, {run.place[1]: run.status for run in found}, notes


@FUZZ
@given(st.data())
def test_any_bytes_of_a_result(tmp_path, make, beside, data):
    bad, good = beside
    bad.result.write_bytes(data.draw(spoilt(make(seed=0).to_dict()) | st.binary(max_size=50)))
    results, problems, states, _ = shown(tmp_path / "runs", good)
    assert len(results) + len(problems) == 2
    if problems:
        assert str(bad.result) in problems[0]
        assert "\n" not in problems[0]
        assert states["crh"].state == "damaged"
        assert states["crh"].note == problems[0]
    else:
        assert states["crh"].state == "finished"


@FUZZ
@given(st.data())
def test_any_bytes_of_the_lock_the_log_the_failure_and_the_spec(tmp_path, beside, data):
    bad, good = beside
    bad.result.unlink(missing_ok=True)
    owner = {"host": "far", "boot": "x", "pid": 7, "started": "2026-01-01T00:00:00+00:00"}
    spec = {"identity": {"recipe": {"epochs": 4}, "data": {"num_train": 60}}, "how": {}}
    written = {
        "lock": owner,
        "log.jsonl": {"epoch": 1, "seconds": 3.0, "loss": {"a": 1.0}},
        "FAILED.json": {"error": "boom", "traceback": "", "when": ""},
        "spec.json": spec,
    }
    for name, whole in written.items():
        (bad.path / name).write_bytes(data.draw(spoilt(whole) | st.just(json.dumps(whole).encode())) + b"\n")
    *_, states, _ = shown(tmp_path / "runs", good)
    assert states["crh"].state == "running"  # a lock that says nothing may be somebody's
    (bad.path / "lock").unlink()
    *_, states, _ = shown(tmp_path / "runs", good)
    assert states["crh"].state == "failed"
    assert states["crh"].note


@FUZZ
@given(st.data())
def test_any_bytes_of_the_note_of_a_sweep(tmp_path, beside, data):
    _, good = beside
    note = tmp_path / "runs" / SWEEPS / "0123456789abcdef.json"
    note.parent.mkdir(exist_ok=True)
    work = {"kind": "k", "alike": "a", "epochs": 3, "num_train": 60, "queries": 5, "database": 9, "prefix": False}
    whole = {"command": ["hashbench"], "asked": "now", "runs": {"toy@a/crh/8b/s0-01234567": work}}
    note.write_bytes(data.draw(spoilt(whole)))
    *_, notes = shown(tmp_path / "runs", good)
    assert all(str(note) in said for said in notes)


@FUZZ
@given(st.data())
def test_any_arrays_of_histograms(tmp_path, beside, data):
    bad, _ = beside
    kinds = st.sampled_from(["<U3", "M8[s]", "?", "c16", "f8", "i8", "u1"])
    shapes = st.sampled_from([(), (0,), (1, 3), (2, 33), (1, 33), (1, 1, 33)])
    arrays = {
        name: np.full(data.draw(shapes), data.draw(st.integers(-1, 1))).astype(data.draw(kinds))
        for name in data.draw(st.sets(st.sampled_from(["n", "r", "gains", "excluded", "zz"])))
    }
    np.savez(bad.histograms, **arrays)
    comparison = compare(tmp_path / "runs", measures=["P@2"])
    assert "csq" in comparison.render()
    rows = [*csv.DictReader(io.StringIO(comparison.render("csv")))]
    assert {row["method"] for row in rows} == {"crh", "csq"}
    known = [row["mean"] for row in rows if row["method"] == "crh" and row["bits"] == "32"] != [""]
    assert known or any(str(bad.histograms) in problem for problem in comparison.problems)


def _folder(path):
    path.mkdir()


def _hole(path):
    path.touch()
    os.truncate(path, 1 << 30)


ODD = {
    "a pipe": os.mkfifo,
    "a folder": _folder,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "nothing in it": lambda path: path.touch(),
    "brackets": lambda path: path.write_text("[" * 100_000 + "]" * 100_000),
    "a hole of a gigabyte": _hole,
}
COMMANDS = {
    "compare": ["compare", "."],
    "csv": ["compare", ".", "--format", "csv"],
    "export": ["export", ".", "all.csv"],
    "report": ["report", ".", "--queries", "0"],
    "plot": ["plot", "pr", ".", "-o", "pr.svg"],
    "status": ["status", "."],
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_no_result_is_named_by_every_command_and_the_others_are_shown(tmp_path, beside, monkeypatch, what):
    bad, _ = beside
    bad.result.unlink()
    ODD[what](bad.result)
    monkeypatch.chdir(tmp_path)
    for name, arguments in COMMANDS.items():
        ran = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert ran.exit_code == 0, (name, ran.output)
        assert "crh/32b" in ran.output, name
        assert "cannot be read" in ran.output, name
    assert "csq" in (tmp_path / "all.csv").read_text()
    assert "csq" in (tmp_path / "report.html").read_text()
    refused = CliRunner().invoke(main, ["show", str(bad.path)], catch_exceptions=False)
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
    assert "cannot be read" in refused.stderr


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[pytest.mark.slow] if "gigabyte" in what else []) for what in ODD]
)
def test_what_is_no_file_of_a_run_is_waited_for_by_nobody(tmp_path, beside, what):
    bad, good = beside
    note = tmp_path / "runs" / SWEEPS / "0123456789abcdef.json"
    note.parent.mkdir()
    for path in (bad.spec, bad.log, bad.histograms, bad.codes, bad.failure, note):
        ODD[what](path)
    *_, notes = shown(tmp_path / "runs", good)
    assert str(note) in notes[0]
    with pytest.raises(Exception, match=r"cannot be read|There is no"):
        bad.read_spec()
    with pytest.raises(Exception, match=r"cannot be read|There is no"):
        bad.read_arrays("codes")


def test_a_folder_that_may_not_be_read_is_named(tmp_path, make, beside, monkeypatch):
    _, good = beside
    scan = os.scandir

    def refused(path="."):
        if str(path).endswith("crh"):
            raise PermissionError(13, "Permission denied", str(path))  # root may read anything, so the refusal is ours
        return scan(path)

    monkeypatch.setattr("os.scandir", refused)
    results, problems = find_runs([tmp_path])
    assert results == [good]
    assert "crh cannot be read: Permission denied" in problems[0]


HOSTILE = {
    "a list for a hash": ({"provenance": {"source_sha256": [1]}}, "provenance.source_sha256"),
    "an integer beyond floats": ({"metrics": {"mAP@all": 10**400}}, "metrics.mAP@all"),
    "a time beyond floats": ({"time": {"train": 10**400}}, "time.train"),
    "a text for a count": ({"code_stats": {"bit_balance": "much"}}, "code_stats.bit_balance"),
    "half a character": ({"diagnostics": {"zz": ["\udcff"]}}, "half a character"),
    "600 lists": ({"diagnostics": {"zz": json.loads("[" * 600 + "]" * 600)}}, "64 deep"),
    "an unknown tie rule": ({"ties": "some"}, "'ties' holds 'some'"),
    "curves of texts": ({"curves": {"PR": {"x": ["a"], "y": ["b"]}}}, "curves.PR"),
    "curves of other lengths": ({"curves": {"PR": {"x": [1], "y": [1], "at": [1, 2]}}}, "curves.PR"),
    "bounds of truth": ({"bounds": {"mAP@all": [True, False]}}, "bounds.mAP@all"),
    "a prefix of nothing": ({"provenance": {"prefix_of": {}}}, "provenance.prefix_of.id"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_values_that_no_run_has_are_refused_by_key(make, what):
    change, sentence = HOSTILE[what]
    with pytest.raises(ValueError, match="cannot be read") as error:
        Result.from_json(make().to_dict() | change)
    assert sentence in str(error.value)
    for place in ("bits", "seed"):
        data = make().to_dict()
        data["coords"] = data["coords"] | {place: -1}
        with pytest.raises(ValueError, match=f"coords.{place}"):
            Result.from_json(data)


def test_a_command_line_that_is_no_text_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["hashbench", "folder:bad\udcff"])
    record_sweep(tmp_path, {}, {})
    (note,) = (tmp_path / SWEEPS).glob("*.json")
    assert json.loads(note.read_text())["command"] == ["hashbench", "folder:bad\\udcff"]


def test_a_lock_of_another_kind_says_so(tmp_path):
    (tmp_path / "lock").write_text(document({"host": ["far"], "pid": "x"}))
    assert str(owner_of(tmp_path)) == "an unknown process on an unknown machine"
