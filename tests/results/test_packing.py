"""Runs in one file: whatever reads a folder reads it and says the same, and nothing in it tells of the machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import hashbench
from hashbench.errors import HashbenchError
from hashbench.results.finding import find_runs
from hashbench.results.packing import pack
from hashbench.results.runs import RunDirectory

TOY = {"backbone": "toy-backbone", "progress": False, "device": "cpu", "epochs": 1}
SPACE = "[csq]\nquantization = {low = 1e-5, high = 1.0, log = true}\n"


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder with a sweep that lacks a run, runs under conditions, and runs from another folder's run and study."""
    folder = tmp_path_factory.mktemp("swept")
    runs, other = folder / "runs", folder / "other"
    (folder / "space.toml").write_text(SPACE)
    command = [sys.argv[0], "run", "--data-dir", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", command)
        hashbench.sweep(["lsh"], ["toy"], [8, 16], seeds=2, progress=False, runs_dir=runs)
        hashbench.tune(["csq"], ["toy"], [8], space=folder / "space.toml", trials=1, runs_dir=other, **TOY)
        hashbench.run("csq", "toy", bits=8, runs_dir=other, **TOY)
        hashbench.run("csq", "toy", bits=8, runs_dir=runs, **TOY, start_from=other)
        hashbench.run("csq", "toy", bits=8, runs_dir=runs, **TOY, tuned=other)
    for run in (runs / "toy@small" / "lsh" / "16b").glob("s0-*"):
        hashbench.evaluate_run(run, under="noise(sigma=0.1)")
    (missing,) = (runs / "toy@small" / "lsh" / "8b").glob("s1-*")
    shutil.rmtree(missing)
    return folder


@pytest.fixture
def packed(swept, cli):
    """A copy of the runs in the empty folder where commands run, and beside it the file that they are packed into."""
    shutil.copytree(swept, ".", dirs_exist_ok=True)
    cli("pack", "runs", "-o", "runs.zip", "--with", "histograms", "--with", "codes")
    return Path("runs.zip")


READERS = {
    "compare": ("compare",),
    "compare of histograms": ("compare", "--measure", "mAP@10/R,P@H2", "--format", "csv"),
    "compare of conditions": ("compare", "--conditions"),
    "verify": ("verify", "--strict"),
    "status": ("status",),
}


@pytest.mark.parametrize("reader", READERS)
def test_whatever_reads_the_folder_says_the_same_of_the_file(packed, cli, reader):
    code = 1 if reader == "verify" else 0  # for the run that is missing
    command, *options = READERS[reader]
    of_file = cli(command, packed, *options, code=code)
    of_folder = cli(command, "runs", *options, code=code)
    assert of_file.stdout.replace("runs.zip", "runs") == of_folder.stdout
    assert of_file.stderr.replace("runs.zip", "runs") == of_folder.stderr
    if reader == "verify":
        assert "missing: 1 planned run without a result (toy@small/lsh/8b/s1-" in of_file.stdout
        assert "6 runs: 6 as stored, 0 with differences." in of_file.stdout


def test_what_writes_about_the_folder_writes_about_the_file(packed, cli):
    for number, runs in enumerate(("runs", packed)):
        cli("leaderboard", runs, "-o", f"site{number}")
        cli("export", runs, f"{number}.csv")
        cli("freeze", runs, "-o", f"{number}.sha256")
    assert Path("1.csv").read_text().replace("runs.zip", "runs") == Path("0.csv").read_text()
    pages = [Path(f"site{number}", "index.html").read_text() for number in (0, 1)]
    assert pages[0] == pages[1]
    assert "24 of 24 files as frozen" in cli("verify", packed, "--manifest", "1.sha256", code=3).stdout
    cli("plot", "bits", packed, "-o", "x.svg")
    cli("report", packed, "-o", "x.html", "--queries", "1", "--method", "lsh")
    assert Path("x.html").read_text().count("runs.zip/toy@small/lsh/16b/s1-") == 1


def test_a_path_leads_to_each_run_in_it(packed, cli):
    results, problems = find_runs([packed])
    assert problems == []
    assert [str(result.path)[8:] for result in results] == [str(result.path)[4:] for result in find_runs(["runs"])[0]]
    for result in results:
        folder = Path("runs", *result.path.parts[1:])
        assert cli("show", result.path).stdout.splitlines()[:5] == cli("show", folder).stdout.splitlines()[:5]
        for name in ("histograms", "codes"):
            mine, theirs = (RunDirectory(path).read_arrays(name) for path in (result.path, folder))
            assert mine.keys() == theirs.keys()
            for key, array in mine.items():
                assert array.dtype == theirs[key].dtype
                assert np.array_equal(array, theirs[key])
    assert {str(result.path) for result in find_runs([packed / "toy@small" / "csq"])[0]} == {
        str(result.path) for result in results if result.coords["method"] == "csq"
    }
    with pytest.raises(HashbenchError, match=r"There is no folder runs\.zip/none"):
        find_runs([packed / "none"])


def test_the_same_runs_give_the_same_bytes(packed, cli):
    before = packed.read_bytes()
    arrays = ("--with", "codes", "--with", "histograms")
    for source, file in (("runs", "again.zip"), (packed, "again.zip"), (packed, packed)):
        cli("pack", source, "-o", file, *arrays)
        assert Path(file).read_bytes() == before
    with zipfile.ZipFile(packed) as archive:
        archive.extractall("unpacked")
    assert cli("compare", "unpacked").stdout == cli("compare", packed).stdout
    said = cli("verify", "unpacked", "--strict", code=1).stdout
    assert said == cli("verify", packed, "--strict", code=1).stdout


def test_nothing_tells_of_the_machine(packed, swept):
    with zipfile.ZipFile(packed) as archive:
        names = set(archive.namelist())
        texts = {name: archive.read(name).decode() for name in names if name.endswith(".json")}
    assert sum(name.endswith("/study.json") for name in names) == 1
    assert len(names) - len(texts) == 2 * 6
    assert not any(name.endswith((".pt", ".jsonl", "names.json.gz", "centers.npz")) for name in names)
    for name, text in texts.items():
        assert "argv" not in text
        assert "--data-dir" not in text
        assert str(swept.parent) not in text
        if name.endswith("result.json"):
            provenance = json.loads(text)["provenance"]
            for key in {"start", "tuned"} & provenance.keys():
                place = os.path.normpath(Path(name).parent / provenance[key]["path"])
                assert Path(place).parts[0] in ("toy@small", ".tuning")


def test_arrays_are_packed_on_request(packed, cli):
    said = cli("pack", "runs", "-o", "small.zip").stdout
    assert said.startswith("small.zip: 6 runs, 0.0")
    with zipfile.ZipFile("small.zip") as archive:
        assert not any(name.endswith(".npz") for name in archive.namelist())
    assert cli("compare", "small.zip").stdout == cli("compare", packed).stdout
    assert "not checked in 6 of 6 runs: measures from histograms" in cli("verify", "small.zip", code=3).stdout
    assert cli("pack", "small.zip", "-o", "x.zip", "--with", "codes").stderr == (
        "Warning: 6 of 6 runs lack their codes.npz, and are packed without.\n"
    )


def altered(path, change):
    """Pack by hand what `change` makes of the members, names to contents."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_a_number_that_was_changed_is_noticed(packed, cli):
    (run,) = Path("runs").glob("*/lsh/16b/s1-*")
    name = f"{run.relative_to('runs')}/result.json"
    altered(packed, lambda members: members.update({name: members[name].replace(b'"mAP@all": 0.', b'"mAP@all": 0.1')}))
    assert f"runs.zip/{run.relative_to('runs')}: measures from histograms: mAP@all is" in (
        cli("verify", packed, code=1).stdout
    )


@pytest.mark.parametrize("command", ["compare", "verify", "report", "leaderboard", "status", "freeze", "pack"])
def test_a_run_without_its_spec_is_refused(packed, cli, command):
    (run,) = Path("runs").glob("*/lsh/16b/s1-*")
    folder = run.relative_to("runs")
    altered(packed, lambda members: members.pop(f"{folder}/spec.json"))
    lines = cli(command, packed, code=2).stderr.splitlines()
    assert lines == [
        f"Error: {packed}/{folder} lacks its spec.json, as no file of `hashbench pack` does; pack the runs again."
    ]


@pytest.mark.parametrize("command", ["compare", "verify", "report", "leaderboard", "status", "freeze", "pack"])
def test_a_file_that_was_cut_short_is_refused(packed, cli, command):
    packed.write_bytes(packed.read_bytes()[:-200])
    (line,) = cli(command, packed, code=2).stderr.splitlines()
    assert line.startswith("Error: runs.zip cannot be used: it is cut short, or no zip file (")


def test_what_cannot_be_packed_is_refused_and_leaves_the_file_as_it_was(packed, cli):
    before = packed.read_bytes()

    def refused(*arguments):
        (line,) = cli("pack", *arguments, code=2).stderr.splitlines()
        assert packed.read_bytes() == before
        assert not [*Path().glob(".runs.zip*")]
        return line

    assert "'runs.tar' is no name of a zip file; give it the ending .zip." in refused("runs", "-o", "runs.tar")
    Path("empty").mkdir()
    assert "There is no finished run below empty to pack" in refused("empty")
    shutil.copytree("runs", "copy")
    assert "are both the run toy@small/csq/8b/s0-" in refused("runs", "copy")
    run = next(Path("copy").glob("*/lsh/*/s1-*"))
    (run / "codes.npz").write_bytes(b"other")
    assert "is not the file that this run's result was stored with" in refused("copy", "--with", "codes")
    (run / "spec.json").unlink()
    assert f"There is no {run}/spec.json" in refused("copy")
    (run / "result.json").write_text("{")
    assert f"Nothing is packed: {run}/result.json cannot be read" in refused("copy")
    next(Path("runs", ".sweeps").iterdir()).write_text("{")
    assert "Nothing is packed: runs/.sweeps" in refused("runs").replace(str(Path.cwd()) + "/", "")


def test_a_kill_leaves_the_file_as_it_was(packed, cli):
    before = packed.read_bytes()
    child = """
import os, signal, zipfile
from hashbench.cli import main
inner, written = zipfile.ZipFile.writestr, []
def writestr(self, *arguments):
    written.append(arguments)
    if len(written) == 9:
        self.fp.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    inner(self, *arguments)
zipfile.ZipFile.writestr = writestr
main(["pack", "runs", "-o", "runs.zip"])
"""
    killed = subprocess.run([sys.executable, "-c", child], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert packed.read_bytes() == before
    assert len([*Path().glob(".runs.zip.*.part")]) == 1
    assert pack(["runs"], packed).runs == 6
    assert cli("compare", packed).stdout == cli("compare", "runs").stdout
