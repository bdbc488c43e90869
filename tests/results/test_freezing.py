"""A manifest of runs: what sha256sum checks too, what is noticed, and what verify says of it."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

import hashbench


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    runs = tmp_path_factory.mktemp("swept") / "runs"
    hashbench.sweep(["lsh"], ["toy"], [8], seeds=2, progress=False, runs_dir=runs)
    return runs


@pytest.fixture
def frozen(swept, cli):
    shutil.copytree(swept, "runs")
    said = cli("freeze").stdout
    lines = Path("frozen.sha256").read_text().splitlines()
    assert said.splitlines() == [
        f"frozen.sha256: {len(lines)} files of 2 runs.",
        f"sha256 {hashlib.sha256(Path('frozen.sha256').read_bytes()).hexdigest()}",
    ]
    return Path("frozen.sha256")


def test_every_file_that_a_result_states_is_in_it(frozen):
    named = {Path(line.split("  ", 1)[1]) for line in frozen.read_text().splitlines()}
    kept = ("result.json", "spec.json", "codes.npz", "histograms.npz", "model.pt", "names.json.gz")
    assert named == {run / name for run in Path("runs").glob("*/*/*/*") for name in kept}
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", frozen], check=True)


def test_verify_compares_it(frozen, cli):
    said = cli("verify", "--manifest", frozen).stdout
    assert (
        f"frozen.sha256: 12 of 12 files as frozen. Its sha256: {hashlib.sha256(frozen.read_bytes()).hexdigest()}"
        in said
    )
    first, second = sorted(Path("runs").glob("*/*/*/*"))
    (first / "spec.json").write_bytes((first / "spec.json").read_bytes() + b"\n")  # nothing else notices
    (second / "names.json.gz").unlink()
    said = cli("verify", "--manifest", frozen, code=1).stdout
    assert f"{first}/spec.json: is another file than frozen.sha256 states" in said
    assert f"{second}/names.json.gz: cannot be compared with frozen.sha256: No such file" in said
    assert "10 of 12 files as frozen" in said


def test_runs_that_it_lacks_are_said(frozen, cli):
    hashbench.run("lsh", "toy", bits=8, seed=5, progress=False, runs_dir=Path("runs"))
    assert "not in the manifest: 1 run (" in cli("verify", "--manifest", frozen).stdout
    cli("verify", "--strict", "--manifest", frozen, code=1)


def test_what_cannot_be_frozen_is_refused(swept, cli):
    shutil.copytree(swept, "runs")
    assert "name a manifest in the folder that holds the runs" in cli("freeze", "-o", "a/b.sha256", code=2).stderr
    next(Path("runs").rglob("codes.npz")).write_bytes(b"other")
    assert "is not the file that this run's result was stored with" in cli("freeze", code=2).stderr
    next(Path("runs").rglob("result.json")).write_text("{")
    assert "Nothing is frozen: " in cli("freeze", code=2).stderr
    Path("none").mkdir()
    assert "There is no finished run below none" in cli("freeze", "none", code=2).stderr
    assert not Path("frozen.sha256").exists()


def test_a_manifest_that_names_a_file_twice_is_refused(frozen, cli):
    lines = frozen.read_text().splitlines(keepends=True)
    frozen.write_text("".join(["0" * 64 + lines[0][64:], *lines]))  # of which the last one would be compared alone
    assert "frozen.sha256 names a file twice" in cli("verify", "--manifest", frozen, code=2).stderr


def test_no_file_of_a_run_is_written_over(frozen, cli):
    run = sorted(Path("runs").glob("*/*/*/*"))[0]
    for command, name in (("export", "codes.npz"), ("freeze", "result.json"), ("freeze", "spec.json")):
        before = (run / name).read_bytes()
        said = cli(command, run, *(["-o"] if command == "freeze" else []), run / name, code=2).stderr
        assert f"{name} is a file of the run in {run} and is not written over; name another." in said
        assert (run / name).read_bytes() == before
    cli("export", run, run / "other.npz")
    Path("link.npz").symlink_to(run / "codes.npz")
    assert f"link.npz is a file of the run in {run.resolve()}" in cli("export", run, "link.npz", code=2).stderr


def test_another_file_is_no_manifest(frozen, cli):
    frozen.write_text("hello\n")
    assert "holds other lines than those of `hashbench freeze`" in cli("verify", "--manifest", frozen, code=2).stderr
    assert "cannot be read" in cli("verify", "--manifest", "none", code=2).stderr
