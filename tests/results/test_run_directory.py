"""The result store on a real file system, with real processes that are killed."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hashbench.errors import HashbenchError
from hashbench.results.finding import find_runs
from hashbench.results.runs import Result, RunDirectory
from hashbench.storage import files
from hashbench.storage.strict_json import dumps

not_for_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may write into read-only folders")


@pytest.fixture
def run(tmp_path):
    run = RunDirectory.at(tmp_path / "runs", dataset="toy@a", method="crh", bits=32, seed=0, id="ab" * 32)
    run.path.mkdir(parents=True)
    return RunDirectory(run.path)


def python(code, *arguments, **kwargs):
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **kwargs)


def test_a_run_has_a_readable_path(tmp_path):
    run = RunDirectory.at(tmp_path, dataset="cifar10@54k", method="csq", bits=32, seed=0, id="3f9a2c71" + "0" * 56)
    assert run.path == tmp_path / "cifar10@54k" / "csq" / "32b" / "s0-3f9a2c71"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../../etc", "..", "a/b", ".hidden", "a\0b"])
def test_a_plug_in_cannot_name_itself_out_of_the_runs_directory(tmp_path, name):
    run = RunDirectory.at(tmp_path, dataset="toy@a", method=name, bits=8, seed=0, id="ab" * 32)
    folder = run.path.relative_to(tmp_path).parts[1]
    assert len(run.path.relative_to(tmp_path).parts) == 4
    assert not folder.startswith(".")
    run.path.mkdir(parents=True)


# Results


def test_a_result_is_read_back_as_it_was_written(run, make):
    assert not run.finished
    result = make(0.123456789)
    run.write_result(result)
    assert run.finished
    assert run.read_result() == result
    assert run.read_result().path == run.path


def test_undefined_numbers_are_null_in_the_result(run, make):
    run.write_result(replace(make(), peak_memory_mb=float("nan")))
    assert '"peak_memory_mb": null' in run.result.read_text()


def test_a_result_that_could_not_be_read_back_is_not_written(run, make):
    with pytest.raises(HashbenchError, match=r"'metrics.mAP@all' holds 'high'"):
        run.write_result(make(metrics={"mAP@all": "high"}))
    with pytest.raises(TypeError, match=r"provenance\.git is a"):
        run.write_result(replace(make(), provenance={"git": object()}))
    assert list(run.path.iterdir()) == []


def test_finishing_removes_what_only_an_unfinished_run_needs(run, make):
    run.write_failure(ValueError("boom"))
    run.checkpoint.write_bytes(b"state")
    run.write_result(make())
    assert [path.name for path in run.path.iterdir()] == ["result.json"]


def test_a_failure_says_what_and_where(run):
    try:
        raise ValueError("boom")
    except ValueError as error:
        run.write_failure(error)
    text = run.failure.read_text()
    assert "ValueError: boom" in text
    assert "in test_a_failure_says_what_and_where" in text
    assert not run.finished


BROKEN = {
    "schema": ({"schema": 2}, r"its schema is 2 and this hashbench reads schema 1"),
    "unknown key": ({"metric": {}}, "unknown key 'metric'"),
    "type": ({"bounds": []}, r"'bounds' holds \[\]"),
    "bool for a number": ({"images_per_s": True}, "'images_per_s' holds True"),
    "coords": ({"coords": {}}, "'coords.method' is missing"),
    "epoch": ({"epoch": {"kept": "last"}}, "'epoch.of' is missing"),
    "bounds": ({"bounds": {"mAP@all": [1]}}, "'bounds.mAP@all' holds"),
    "curves": ({"curves": {"PR": {"x": [1], "y": []}}}, "'curves.PR' is not a pair"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_result_is_refused_in_one_sentence(make, name):
    change, message = BROKEN[name]
    with pytest.raises(HashbenchError, match=message) as error:
        Result.from_json(make().to_dict() | change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["id", "metrics", "ties", "provenance", "schema"])
def test_a_missing_key_is_named(make, key):
    data = make().to_dict()
    del data[key]
    with pytest.raises(HashbenchError, match=key):
        Result.from_json(dumps(data))


# Atomic writing


def test_a_process_killed_while_writing_leaves_no_result(run, make):
    text = dumps(make().to_dict())
    child = python(
        """
        import os, signal, sys
        from pathlib import Path
        from hashbench.results.runs import Result, RunDirectory
        os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)  # all is written, nothing is renamed
        run = RunDirectory(Path(sys.argv[1]))
        with run.lock():
            run.write_result(Result.from_json(sys.argv[2]))
        """,
        run.path,
        text,
    )
    assert child.wait(30) == -signal.SIGKILL
    assert not run.finished
    assert any(path.name.endswith(".part") for path in run.path.iterdir())
    with run.lock():  # the kernel released the dead process's lock, and its leftovers go
        assert [path.name for path in run.path.iterdir()] == ["lock"]
    assert list(run.path.iterdir()) == []


def test_an_array_file_is_old_or_new_at_any_moment(run):
    child = python(
        """
        import sys
        import numpy as np
        from pathlib import Path
        from hashbench.results.runs import RunDirectory
        run = RunDirectory(Path(sys.argv[1]))
        for value in range(1_000_000):
            run.write_arrays("codes", first=np.full(50_000, value), second=np.full(50_000, value))
            print(value, flush=True)
        """,
        run.path,
    )
    child.stdout.readline()
    for _ in range(20):
        arrays = run.read_arrays("codes")
        assert (arrays["first"] == arrays["second"]).all()
    child.kill()
    child.wait(30)
    arrays = run.read_arrays("codes")
    assert (arrays["first"] == arrays["second"][0]).all()


def test_a_failing_block_keeps_the_old_file(run):
    def write(content, error=None):
        with files.replacing(run.model) as file:
            file.write(content)
            if error:
                raise error

    write(b"old")
    with pytest.raises(KeyboardInterrupt):
        write(b"new", KeyboardInterrupt())
    assert run.model.read_bytes() == b"old"
    assert list(run.path.iterdir()) == [run.model]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(run, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(HashbenchError, match=r"Cannot write .*codes.npz: File too large; make room"):
            run.write_arrays("codes", query=np.random.default_rng(0).integers(0, 256, 100_000, dtype=np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(run.path.iterdir()) == []


def test_a_file_in_the_place_of_the_runs_directory(tmp_path):
    (tmp_path / "runs").write_text("")
    run = RunDirectory.at(tmp_path / "runs", dataset="toy@a", method="crh", bits=32, seed=0, id="ab" * 32)
    with pytest.raises(HashbenchError, match=r"a file stands where a folder is needed"), run.lock():
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="other systems give another reason")
def test_a_folder_in_the_place_of_a_file_is_named(run):
    run.model.mkdir(parents=True)
    with pytest.raises(HashbenchError, match=r"model\.pt: Is a directory; a folder stands where a file is needed"):
        run.remove_kept()


@not_for_root
def test_an_unwritable_runs_directory(tmp_path):
    tmp_path.chmod(0o500)
    run = RunDirectory.at(tmp_path / "runs", dataset="toy@a", method="crh", bits=32, seed=0, id="ab" * 32)
    with pytest.raises(HashbenchError, match=r"Permission denied; name a folder you may write to"), run.lock():
        pass


# The lock


def test_two_processes_never_write_one_run(run):
    child = python(
        """
        import sys
        from pathlib import Path
        from hashbench.results.runs import RunDirectory
        with RunDirectory(Path(sys.argv[1])).lock():
            print("locked", flush=True)
            sys.stdin.read()
        """,
        run.path,
        stdin=subprocess.PIPE,
    )
    assert child.stdout.readline() == "locked\n"
    with pytest.raises(HashbenchError, match=rf"is being written by process {child.pid};"), run.lock():
        pass
    child.kill()
    child.wait(30)
    with run.lock():
        pass
    assert list(run.path.iterdir()) == []


def test_a_lock_keeps_out_a_second_writer_of_the_same_process(run):
    with run.lock():
        with pytest.raises(HashbenchError, match=rf"by process {os.getpid()}"), run.lock():
            pass
        with pytest.raises(HashbenchError), run.lock():  # the refused one must not have taken the lock file away
            pass


def test_the_lock_excludes_under_contention(run):
    counter = run.path.parent / "counter"
    counter.write_text("0")
    code = """
        import sys
        from pathlib import Path
        from hashbench.errors import HashbenchError
        from hashbench.results.runs import RunDirectory
        run, counter = RunDirectory(Path(sys.argv[1])), Path(sys.argv[2])
        done = 0
        while done < 40:
            try:
                with run.lock():
                    counter.write_text(str(int(counter.read_text()) + 1))
                    done += 1
            except HashbenchError as error:
                assert "is being written by process" in str(error), error
        """
    children = [python(code, run.path, counter) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert counter.read_text() == "120"


# Arrays


def test_arrays_are_read_back(run):
    run.write_arrays("histograms", n=np.arange(6).reshape(2, 3), r=[[1, 2, 3]])
    arrays = run.read_arrays("histograms")
    assert arrays["n"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arrays["r"].tolist() == [[1, 2, 3]]


def test_no_pickle_is_written_or_read(run):
    with pytest.raises(TypeError, match=r"'n' of histograms.npz holds Python objects"):
        run.write_arrays("histograms", n=np.array([{}]))
    np.savez(run.histograms, n=np.array([{}], dtype=object))
    with pytest.raises(HashbenchError, match="cannot be read"):
        run.read_arrays("histograms")


def test_what_the_system_refuses_to_read_is_not_taken_for_damaged(run, monkeypatch):
    def refused(*arguments, **more):
        raise PermissionError(13, "Permission denied")  # root may read anything, so the refusal is ours

    run.write_arrays("histograms", n=np.arange(3))
    run.write_spec({"identity": {}, "how": {}})
    monkeypatch.setattr(Path, "read_bytes", refused)
    monkeypatch.setattr("builtins.open", refused)
    for read in (run.read_spec, lambda: run.read_arrays("histograms")):
        with pytest.raises(HashbenchError, match="cannot be read: Permission denied; check who may read it, and the d"):
            read()


def test_missing_and_corrupt_arrays_are_one_sentence(run):
    with pytest.raises(HashbenchError, match=r"There is no .*histograms.npz"):
        run.read_arrays("histograms")
    run.write_arrays("histograms", n=np.arange(1000))
    whole = run.histograms.read_bytes()
    for torn in (b"", whole[:50], whole[:-50], b"text"):
        run.histograms.write_bytes(torn)
        with pytest.raises(HashbenchError, match="cannot be read"):
            run.read_arrays("histograms")


def test_a_flipped_byte_is_noticed_or_harmless(run):
    run.write_arrays("histograms", n=np.random.default_rng(0).integers(0, 9, 200))
    whole, n = run.histograms.read_bytes(), run.read_arrays("histograms")["n"]
    refused = 0
    for at in range(len(whole)):
        run.histograms.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            arrays = run.read_arrays("histograms")
        except HashbenchError:
            refused += 1
        else:
            assert all(array.tolist() == n.tolist() for array in arrays.values())
    assert refused > len(whole) / 2


# Spec and log


def test_the_spec_is_read_back(run):
    spec = {"identity": {"method": "crh", "lambda": 0.1}, "how": {"device": "cpu"}}
    run.write_spec(spec)
    assert run.read_spec() == spec
    for torn in ("{", '{"a": NaN}', "", "5", "[]"):
        run.spec.write_text(torn)
        with pytest.raises(HashbenchError, match=r"spec.json cannot be read"):
            run.read_spec()


def test_a_line_of_the_log_that_is_no_object_is_one_sentence(run):
    run.log.write_text('{"epoch": 0}\n5\n')
    with pytest.raises(HashbenchError, match=r"log.jsonl cannot be read: it holds int where an object is expected"):
        run.read_log()


def test_the_log_survives_a_torn_line(run):
    assert run.read_log() == []
    run.append_log({"epoch": 1, "loss": 2.0})
    run.append_log({"epoch": 2, "loss": 1.0})
    with open(run.log, "a") as file:
        file.write('{"epoch": 3, "lo')
    assert [entry["epoch"] for entry in run.read_log()] == [1, 2]
    run.append_log({"epoch": 3, "loss": 0.5})
    assert [entry["epoch"] for entry in run.read_log()] == [1, 2, 3]


def test_a_log_that_starts_with_a_torn_line_starts_again(run):
    run.log.write_text('{"epoch"')
    assert run.read_log() == []
    run.append_log({"epoch": 1})
    assert run.read_log() == [{"epoch": 1}]


def test_an_epoch_done_again_counts_once(run):
    for epoch, loss in [(1, 3.0), (2, 2.0), (2, 1.5), (3, 1.0)]:
        run.append_log({"epoch": epoch, "loss": loss})
    assert [(entry["epoch"], entry["loss"]) for entry in run.read_log()] == [(1, 3.0), (2, 1.5), (3, 1.0)]


def test_a_log_line_is_plain_data_or_nothing(run):
    with pytest.raises(TypeError, match=r"^loss is a"):
        run.append_log({"loss": object()})
    assert run.read_log() == []


# Finding runs


def test_runs_are_found_below_any_folder(tmp_path, make, stored):
    found = [stored(make(bits=bits, seed=seed)) for bits in (8, 16) for seed in (0, 1)]
    runs = tmp_path / "runs"
    for root in (runs, str(runs), runs / "toy@a" / "crh"):
        results, problems = find_runs([root])
        assert results == found
        assert problems == []
    assert find_runs([found[0].path])[0] == [found[0]]
    assert find_runs([runs, found[0].path])[0] == found


def test_unfinished_and_failed_runs_are_not_results(tmp_path, run):
    run.write_failure(ValueError("boom"))
    assert find_runs([tmp_path]) == ([], [])


def test_a_corrupt_result_is_a_problem_and_the_others_are_read(tmp_path, make, stored):
    good, bad = stored(make(seed=0)), stored(make(seed=1))
    (bad.path / "result.json").write_text('{"schema": 1, "id"')
    results, problems = find_runs([tmp_path])
    assert results == [good]
    (problem,) = problems
    assert problem.startswith(f"{bad.path / 'result.json'} cannot be read: it is torn or no JSON")


def test_a_root_that_does_not_exist(tmp_path):
    with pytest.raises(HashbenchError, match=r"There is no folder .*nowhere"):
        find_runs([tmp_path / "nowhere"])
