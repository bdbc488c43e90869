"""Executors by name and option, plug-ins among them, and results that were computed in different places."""

import shutil
import sys
from importlib.util import find_spec

import pytest
from click.testing import CliRunner
from executor_cases import Calls

from hashbench.cli import main
from hashbench.cli.listing import executors
from hashbench.errors import HashbenchError
from hashbench.executors.base import make_executor
from hashbench.experiments import runner
from hashbench.experiments.jobs import Job, Sweep
from hashbench.registry import EXECUTORS
from hashbench.results.finding import find_runs
from hashbench.results.sweeps.run_status import RunSnapshot
from hashbench.results.tables.comparison import compare

THEIRS = """
from dataclasses import dataclass
import hashbench

@dataclass(frozen=True)
class OneByOne(hashbench.Executor):
    \"\"\"One after another, in this very process.\"\"\"

    leave: int = 0  # so many cells are not computed

    def compute(self, sweep, jobs, *, workers):
        for job in jobs[self.leave :]:
            yield None
            yield hashbench.compute_job(sweep.text, job)
"""


@pytest.fixture
def theirs(notes, tmp_path, monkeypatch):
    """Install a plug-in with an executor of its own."""
    (tmp_path / "site" / "their_engine.py").write_text(THEIRS)
    with open(tmp_path / "site" / "toy-1.0.dist-info" / "entry_points.txt", "a") as file:
        file.write("\n[hashbench.executors]\none-by-one = their_engine:OneByOne\nno-engine = fateful:Plain\n")
    monkeypatch.setattr(EXECUTORS, "_loaded", {})
    yield
    sys.modules.pop("their_engine", None)


def test_an_executor_from_a_plugin_is_listed_and_used(theirs, planned, same_as_in_process, monkeypatch):
    assert "one-by-one  toy 1.0" in executors()
    assert "leave=0" in executors()
    monkeypatch.setattr(sys, "argv", [*sys.argv])  # a worker takes on its sweep's
    beats = []
    same_as_in_process(
        runner.execute(
            planned(), make_executor("one-by-one"), reporter=Calls(tick=lambda left: beats.append(len(left)))
        )
    )
    assert beats == [4, 3, 2, 1]
    with pytest.raises(HashbenchError, match="is no class derived from"):
        make_executor("no-engine")


def test_what_travels_as_text_arrives_as_it_was(planned, tmp_path):
    made = planned(["crh"], seeds=1, data_dir=tmp_path, overrides={"crh": {"heads": "1"}})
    sweep = Sweep.of(made, ["hashbench", "run"])
    assert Sweep.from_text(sweep.text) == sweep
    for planned_then in (RunSnapshot(), RunSnapshot(result=(7, 2**60 + 1)), RunSnapshot(failure=(8, 9))):
        job = Job(3, made.runs[0].experiment.id, planned_then, small=True)
        assert Job.from_text(job.text) == job


def test_a_cell_that_an_executor_forgets_is_a_failure(theirs, planned, monkeypatch):
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    made = planned(["crh"])
    outcome = runner.execute(made, make_executor("one-by-one", {"leave": "1"}))
    assert [result.coords["seed"] for result in outcome.results] == [1]
    ((cell, error),) = outcome.failures
    assert cell.seed == 0
    assert "the executor ended without it" in str(error)


def test_a_worker_with_another_plan_refuses(theirs, planned, monkeypatch):
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    made = planned(["crh"], seeds=1)
    from hashbench.executors import worker

    monkeypatch.setattr(worker, "plan_of", lambda request: planned(["crh"], seeds=1, epochs=4))
    outcome = runner.execute(made, make_executor("one-by-one"))
    assert "plans another experiment for it" in str(outcome.failures[0][1])
    assert "plans another experiment for it" in made.runs[0].directory.read_failure()


def test_a_finished_sweep_starts_no_executor(theirs, planned):
    finished = runner.execute(planned(["crh"]))
    outcome = runner.execute(planned(["crh"]), make_executor("one-by-one", {"leave": "9"}))
    assert list(outcome.results) == list(finished.results)
    assert not outcome.failures


def test_runs_of_two_machines_merge_by_copying_folders(planned, tmp_path):
    """Three seeds on one machine, two on the other, one of them the same: four... of one cell in one table."""
    for name, seeds in (("one", 3), ("other", 2)):
        runner.execute(planned(["crh"], name=name, seeds=seeds)).raise_first_failure()
    for result in find_runs([tmp_path / "one"])[0]:
        if result.coords["seed"] == 0:
            shutil.rmtree(result.path)  # the machine `one` has done seeds 1 and 2, the `other` 0 and 1
    shutil.copytree(tmp_path / "other", tmp_path / "one", dirs_exist_ok=True)
    results, problems = find_runs([tmp_path / "one"])
    assert problems == []
    assert [result.coords["seed"] for result in results] == [0, 1, 2]
    table = str(compare(tmp_path / "one").render("text"))
    assert "3 seeds" in table or "(3)" in table or "n=3" in table, table
    again = runner.execute(planned(["crh"], name="one", seeds=3))
    assert len(again.results) == 3


REFUSED = {
    "name": (["--executor", "slum"], "Unknown executor 'slum'. Did you mean 'slurm'?"),
    "option": (
        ["--executor", "local", "--executor-option", "thread=1"],
        "Unknown option of the executor local 'thread'",
    ),
    "form": (["--executor", "local", "--executor-option", "threads"], "'threads' is not of the form key=value"),
    "value": (["--executor", "local", "--executor-option", "threads=x"], "'x' is not a value for threads"),
    "none": (["--executor", "local", "--workers", "0"], "--workers 0 is not possible"),
    "workers alone": (["--workers", "2"], "--workers belongs to an executor"),
    "option alone": (["--executor-option", "threads=1"], "--executor-option belongs to an executor"),
    "slurm": (
        ["--executor", "slurm"],
        "There is no sbatch on this machine" if find_spec("submitit") else "pip install 'hashbench[slurm]'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_sentence(case, tmp_path):
    flags, sentence = REFUSED[case]
    command = ["run", "--method", "crh", "--dataset", "toy", "--bits", "16", "--runs-dir", str(tmp_path / "runs")]
    ran = CliRunner().invoke(main, [*command, *flags])
    assert ran.exit_code == 2
    assert len(ran.stderr.strip().splitlines()) == 1
    assert sentence in ran.stderr


def test_the_command_shows_each_cell_and_fails_when_one_did(theirs, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    config = tmp_path / "sweep.toml"
    config.write_text('method = ["crh", "breaks"]\ndataset = "toy"\nbits = 16\nepochs = 3\n\n[executor]\n'
                      'name = "one-by-one"\nworkers = 2\nleave = 0\n')  # fmt: skip
    command = ["run", "--config", str(config), "--runs-dir", str(tmp_path / "runs"), "--quiet"]
    ran = CliRunner().invoke(main, command)
    assert ran.exit_code == 2
    assert "[1/2] crh on toy@small, 16 bits, seed 0 done" in ran.stderr
    assert "[2/2] breaks on toy@small, 16 bits, seed 0 failed: The loss term 'all' became inf" in ran.stderr
    assert "crh" in ran.stdout
    left_over = CliRunner().invoke(main, [*command, "--executor-option", "leave=1"])
    assert "the executor ended without it" in left_over.stderr
