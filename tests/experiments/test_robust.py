"""What goes wrong around a sweep: disks, folders, memory, signals, plug-ins; one sentence each, and nothing lost."""

import ast
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import hashbench
from hashbench.errors import HashbenchError
from hashbench.experiments import runner
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan
from hashbench.methods.contract import DeepMethod, method
from hashbench.registry import METHODS
from hashbench.results.finding import find_runs
from hashbench.results.runs import RunDirectory
from hashbench.storage.tensorfiles import save
from hashbench.system import allocator
from hashbench.system.memory import peak_memory_mb, reset_peak_memory

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path):
    return {"runs_dir": tmp_path / "runs", "epochs": 2, "progress": False}


def raising(error):
    """A method whose loss raises."""

    @method("raises")
    class Raises(DeepMethod):
        def loss(self, out, batch):
            raise error

    return Raises


OUT_OF_MEMORY = {
    "CUDA's": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "Python's": MemoryError(),
    "torch's on the CPU": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"
    ),
}


@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
def test_out_of_memory_names_the_options_and_the_other_runs_continue(settings, fresh_methods, kind):
    raising(OUT_OF_MEMORY[kind])
    outcome = runner.execute(plan(["raises", "crh"], ["toy"], [16], settings=Settings(**settings)))
    ((_, error),) = outcome.failures
    assert isinstance(error, HashbenchError)
    for knob in ("--set recipe.batch_size=32", "a smaller --backbone than resnet-small", "not enough main memory"):
        assert knob in str(error)
        assert knob in outcome.failures[0][0].status.note  # which status and the next plan show
    assert [result.coords["method"] for result in outcome.results] == ["crh"]


@pytest.mark.parametrize(
    ("settled", "knobs"),
    [
        ({"recipe": "scratch"}, ("a protocol with fewer training inputs", "--size", "a --recipe with a pretrained")),
        ({"recipe": "frozen", "backbone": "toy-backbone"}, ("fewer training inputs", "fewer features than toy-b")),
    ],
)
def test_a_fitted_method_that_is_out_of_memory_is_not_told_of_batches(settings, monkeypatch, settled, knobs):
    def fit(*arguments):
        raise MemoryError

    monkeypatch.setattr(METHODS.get("itq"), "fit", fit)
    made = plan(["itq"], ["toy"], [16], settings=Settings(**{**settings, **settled}))
    ((_, error),) = runner.execute(made).failures
    assert isinstance(error, HashbenchError)
    assert all(knob in str(error) for knob in knobs)
    assert "batch_size" not in str(error)


@pytest.mark.parametrize(
    ("free", "what"),
    [((150 * 144 * 4 - 1,), "The pixels of toy as vectors"), ((10**9, 60 * 144 * 4 - 1), "matrix of 60 x 144")],
)
def test_a_fit_that_memory_cannot_hold_is_refused_before_it_begins(settings, monkeypatch, free, what):
    left = iter(free)
    monkeypatch.setattr("hashbench.system.memory.free_bytes", lambda device: next(left))
    ((_, error),) = runner.execute(plan(["lsh"], ["toy"], [16], settings=Settings(**settings))).failures
    assert what in str(error)
    assert "GB of main memory are free" in str(error)


def test_failures_are_listed_at_the_end_with_exit_code_2(cli, fresh_methods):
    raising(ValueError("broken\nin two lines"))
    ran = cli("run", "--method", "raises,crh", "--dataset", "toy", "--bits", "16,24", "--epochs", "1", code=2)
    assert "2 runs failed:\n  raises on toy@small, 16 bits, seed 0: ValueError: broken in two lines\n" in ran.stderr
    assert ran.stderr.strip().splitlines()[-1].startswith("Error: raises on toy@small, 16 bits, seed 0: ValueError")
    assert "crh" in ran.stdout


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(settings):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))  # enough for the spec, not for a checkpoint
    try:
        with pytest.raises(HashbenchError, match=r"Cannot write .*: File too large; make room there"):
            hashbench.run("crh", "toy", bits=16, **settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(settings["runs_dir"].rglob(".*.part"))
    assert not list(settings["runs_dir"].rglob("result.json"))
    assert hashbench.run("crh", "toy", bits=16, **settings).status == "done"


def test_a_disk_too_full_for_the_reason_still_tells_it(settings, monkeypatch):
    def full(*arguments):
        raise HashbenchError("Cannot write: No space left on device")

    monkeypatch.setattr(RunDirectory, "write_arrays", lambda self, name, **arrays: full())
    monkeypatch.setattr(RunDirectory, "write_failure", lambda self, error: full("again"))
    with pytest.raises(HashbenchError, match="crh on toy@small, 16 bits, seed 0: Cannot write: No space left"):
        hashbench.run("crh", "toy", bits=16, **settings)


def test_a_finished_sweep_in_a_folder_that_is_only_read(settings, monkeypatch):
    first = hashbench.run("crh", "toy", bits=16, **settings)

    def refused(*arguments, **more):
        raise PermissionError(13, "Permission denied")

    def opened(path, flags, *arguments, opener=os.open, **more):
        return refused() if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else opener(path, flags, *arguments, **more)

    with monkeypatch.context() as patch:  # root may write into read-only folders, so the refusal is ours
        patch.setattr("os.open", opened)
        for name in ("mkdir", "rename", "replace", "link"):
            patch.setattr(f"os.{name}", refused)
        assert hashbench.run("crh", "toy", bits=16, **settings) == first


def test_a_results_folder_that_moved_between_runs(settings, tmp_path):
    first = hashbench.run("crh", "toy", bits=16, **settings)
    settings["runs_dir"].rename(tmp_path / "moved")
    moved = hashbench.run("crh", "toy", bits=16, **{**settings, "runs_dir": tmp_path / "moved"})
    assert moved == first
    assert moved.path.is_relative_to(tmp_path / "moved")


def test_a_results_folder_that_moves_while_it_is_written(settings, tmp_path, monkeypatch):
    append = RunDirectory.append_log

    def moves(self, line):
        settings["runs_dir"].rename(tmp_path / "moved")
        append(self, line)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "append_log", moves)
        with pytest.raises(HashbenchError, match="was moved or deleted while it was written; run again where it is"):
            hashbench.run("crh", "toy", bits=16, **settings)
    assert not list(settings["runs_dir"].rglob("spec.json"))
    assert hashbench.run("crh", "toy", bits=16, **{**settings, "runs_dir": tmp_path / "moved"}).status == "done"


def test_folders_of_two_machines_are_merged_by_copying(settings, tmp_path):
    there = {**settings, "runs_dir": tmp_path / "there"}
    expected = [hashbench.run("crh", "toy", bits=16, **settings), hashbench.run("crh", "toy", bits=24, **there)]
    shutil.copytree(there["runs_dir"], settings["runs_dir"], dirs_exist_ok=True)
    assert hashbench.sweep(["crh"], ["toy"], [16, 24], **settings) == expected


def test_a_result_that_is_corrupt_fails_its_cell_alone(settings, cli):
    runs = settings["runs_dir"]
    first = hashbench.sweep(["crh"], ["toy"], [16, 24], **settings)[0]
    (first.path / "result.json").write_text('{"schema": 1')
    planned = cli("run", "--method", "crh", "--dataset", "toy", "--bits", "16,24", "--epochs", "2", "--dry-run").stdout
    assert planned.count("it is torn or no JSON") == 1
    ran = cli("run", "--method", "crh", "--dataset", "toy", "--bits", "16,24", "--epochs", "2", code=2)
    assert "it is torn or no JSON" in ran.stderr
    assert "24 bits" in ran.stdout
    assert "torn" in cli("compare", runs).stderr
    assert "torn" in cli("verify", runs, code=1).stdout
    cli("run", "--method", "crh", "--dataset", "toy", "--bits", "16", "--epochs", "2", "--rerun", "all")
    assert len(find_runs([runs])[0]) == 2


def test_results_of_a_plug_in_that_is_gone(settings, cli, fresh_methods, monkeypatch):
    from hashbench.registry import METHODS

    @method("leaving")
    class Leaving(DeepMethod):
        def loss(self, out, batch):
            return {"all": out.square().mean()}

    run = hashbench.run("leaving", "toy", bits=16, **settings).path
    METHODS._local.clear()
    METHODS._loaded.clear()
    for command in ("compare", "status", "verify"):
        assert "leaving" in cli(command, "runs", code=3 if command == "verify" else 0).stdout
    assert "leaving" in cli("show", run).stdout
    cli("export", run, "codes.npz")


def test_time_stamps_are_information_only(settings, monkeypatch):
    """With each look at the clock a day earlier, a sweep does what it always does."""
    expected = hashbench.sweep(["crh"], ["toy"], [16, 24], **settings)
    now = [time.time()]

    def back():
        now[0] -= 86_400
        return now[0]

    monkeypatch.setattr(time, "time", back)
    again = hashbench.sweep(["crh"], ["toy"], [16, 24], **{**settings, "runs_dir": settings["runs_dir"] / "again"})
    assert [result.metrics for result in again] == [result.metrics for result in expected]


@pytest.mark.slow
def test_interrupting_a_training_ends_and_keeps_what_is_done(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import toy_dataset
from hashbench.cli import main
main(["run", "--method", "crh", "--dataset", "toy", "--bits", "16", "--epochs", "100000", "--quiet"])
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and not list(tmp_path.rglob("checkpoint.pt")):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert said.strip().endswith("the same command goes on from here.")
    left = {path.name for path in tmp_path.joinpath("runs").rglob("*") if path.is_file() and path.suffix != ".json"}
    assert left == {"checkpoint.pt", "log.jsonl"}


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_saving_is_not_lost(tmp_path):
    """Wherever in `save` Python gets to raise it, it comes out as itself, and the old file stays whole."""
    path = tmp_path / "state.pt"
    save({"weights": torch.zeros(4)}, path)
    whole = path.read_bytes()
    state = {f"layer {at}": torch.randn(8, 8) for at in range(20)}
    package = str(ROOT / "hashbench")
    calls = at = 0

    def interrupt(frame, event, argument):
        nonlocal calls
        if event == "call" and frame.f_code.co_filename.startswith((package, str(Path(torch.__file__).parent))):
            calls += 1
            if calls == at:
                raise KeyboardInterrupt
        return None

    while True:  # each function that is called on the way, and by whom it is called
        at, calls = at + 1, 0
        sys.settrace(interrupt)
        try:
            save(state, path)
            break
        except KeyboardInterrupt:
            assert path.read_bytes() == whole or torch.load(path, weights_only=True).keys() == state.keys()
        finally:
            sys.settrace(None)
    assert at > 10
    assert torch.load(path, weights_only=True).keys() == state.keys()


def test_peak_memory_is_that_of_the_run_and_not_of_those_before(settings):
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this system does not let a process forget its peak")
    cpu = torch.device("cpu")
    allocator.configure()  # from here on, what is freed is kept
    ballast = bytearray(600 * 2**20)
    held = peak_memory_mb(cpu)
    del ballast
    reset_peak_memory(cpu)
    assert peak_memory_mb(cpu) < held - 500


def test_nothing_in_the_package_unpickles():
    """Results come from strangers: numpy with allow_pickle and torch without weights_only would run their code."""
    found = []
    for file in [*(ROOT / "hashbench").rglob("*.py"), *(ROOT / "baselines").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                found += [f"{file.name}: imports {name}" for name in names & {"dill", "joblib", "shelve"}]
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle":
                found += [f"{file.name}: {ast.unparse(node)}"] if node.attr != "UnpicklingError" else []
            if isinstance(node, ast.ImportFrom) and node.module == "pickle":
                found.append(f"{file.name}: {ast.unparse(node)}")
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load"):
                continue
            owner = ast.unparse(node.func.value)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if owner == "torch" and given.get("weights_only") != "True":
                found.append(f"{file.name}: {ast.unparse(node)}")
            if owner == "np" and given.get("allow_pickle", "False") != "False":
                found.append(f"{file.name}: {ast.unparse(node)}")
    assert found == []


@pytest.mark.parametrize("together", [False, True])
def test_a_method_that_ends_the_process_fails_alone(settings, fresh_methods, together):
    raising(SystemExit(0)).maps_over_seeds = together
    made = plan(["raises", "crh"], ["toy"], [16], seeds=2, settings=Settings(**settings))
    outcome = runner.execute(made)
    assert [result.coords["method"] for result in outcome.results] == ["crh", "crh"]
    assert len(outcome.failures) == 2
    for run, error in outcome.failures:
        assert str(error) == "it called sys.exit(0), which ends the process; let it raise an error."
        assert run.status.state == "failed"


def test_a_method_that_ends_the_process_when_asked_is_skipped(settings, fresh_methods):
    @method("leaves")
    class Leaves(DeepMethod):
        def supports(self, task):
            raise SystemExit

    (run,) = plan(["leaves"], ["toy"], [16], settings=Settings(**settings)).runs
    assert "its supports() failed: HashbenchError: it called sys.exit(None)" in run.skipped


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        (lambda out: {}, "its loss has no terms; `hashbench check`"),
        (lambda out: {"pairs": out.square()}, r"its loss term 'pairs' has the shape \(\d+, 16\); return one number"),
        (lambda out: {"a": out.mean(), "b": 0.5}, "its loss term 'b' is 0.5; return one number as a tensor"),
        (lambda out: {"signs": out.sign().detach().mean()}, r"none of its loss terms \(signs\) has a gradient"),
    ],
)
def test_what_is_no_loss_is_said(settings, fresh_methods, terms, reason):
    @method("odd")
    class Odd(DeepMethod):
        def loss(self, out, batch):
            return terms(out)

    with pytest.raises(HashbenchError, match=reason):
        hashbench.run("odd", "toy", bits=16, **settings)
