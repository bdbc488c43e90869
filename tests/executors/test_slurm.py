"""Cells as job arrays through submitit, whose executor for one machine stands for Slurm."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest
from executor_cases import Calls

from hashbench.errors import HashbenchError
from hashbench.executors import slurm as slurm_module
from hashbench.executors.base import make_executor
from hashbench.experiments import runner

submitit = pytest.importorskip("submitit")
LOCAL = {"cluster": "local"}
SBATCH = """
import os, pathlib, re, subprocess, sys
text = pathlib.Path(sys.argv[1]).read_text()
pathlib.Path(os.environ["SBATCH_SCRIPT"]).write_text(text)
if "SBATCH_REFUSES" in os.environ:
    sys.exit(os.environ["SBATCH_REFUSES"])
for task in range(int(re.search("--array=0-([0-9]+)", text)[1]) + 1):
    variables = {"ARRAY_JOB_ID": 7, "ARRAY_TASK_ID": task, "JOB_ID": 8 + task, "NTASKS": 1, "JOB_NUM_NODES": 1,
                 "NODEID": 0, "PROCID": 0, "LOCALID": 0}
    environment = os.environ | {f"SLURM_{name}": str(value) for name, value in variables.items()}
    subprocess.Popen(["bash", sys.argv[1]], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL)
print("Submitted batch job 7")
"""
SRUN = """
import os, sys
command = sys.argv[sys.argv.index("--error") + 2 :]
os.execv(command[0], command)
"""
SACCT = """
print("JobID|State|NodeList")
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Put a stand-in for Slurm on the path, which runs arrays on this machine; returns where it keeps their scripts."""
    bin = tmp_path / "bin"
    bin.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT)):
        (bin / name).write_text(f"#!{sys.executable}\n{text}")
        (bin / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(bin), prepend=os.pathsep)
    monkeypatch.setenv("SBATCH_SCRIPT", str(tmp_path / "script"))
    return tmp_path / "script"


def test_an_array_of_jobs_computes_what_one_process_does(planned, same_as_in_process, slurm, tmp_path):
    options = {"cells_per_job": "2", "partition": "gpu", "account": "vision", "qos": "low", "constraint": "a100",
               "timeout_min": "90", "gpus": "2", "cpus": "8", "memory_gb": "32"}  # fmt: skip
    same_as_in_process(runner.execute(planned(), make_executor("slurm", options), workers=5))
    asked = re.findall("^#SBATCH --(.*)$", slurm.read_text(), re.MULTILINE)
    assert {"array=0-1%2", "partition=gpu", "account=vision", "qos=low", "constraint=a100", "time=90",
            "gpus-per-node=2", "cpus-per-task=8", "mem=32GB"} <= {*asked}  # fmt: skip
    assert list((tmp_path / "runs.slurm").glob("*_submitted.pkl"))
    assert not list((tmp_path / "runs").rglob("*.pkl"))


def test_what_slurm_refuses_is_said_in_its_words(planned, slurm, monkeypatch):
    monkeypatch.setenv("SBATCH_REFUSES", "sbatch: error: invalid partition specified: cpu")
    with pytest.raises(HashbenchError, match=r"Slurm does not take the jobs \(sbatch: error: invalid partition"):
        runner.execute(planned(["crh"]), make_executor("slurm", {"partition": "cpu"}))


@pytest.mark.cluster
def test_a_lost_job_costs_only_what_it_had_not_finished(planned):
    made = planned(["crh", "kills"], seeds=1)
    outcome = runner.execute(made, make_executor("slurm", LOCAL))
    assert [result.coords["method"] for result in outcome.results] == ["crh"]
    ((cell, error),) = outcome.failures
    assert cell.method == "kills"
    assert "ended without it" in str(error)
    assert "ended without it" in cell.directory.read_failure()


@pytest.mark.cluster
def test_a_preempted_job_is_put_into_the_queue_again_and_goes_on(planned, notes, monkeypatch):
    monkeypatch.setattr("hashbench.executors.slurm._submitted", interrupted_once := Interrupted())
    made = planned(["slow"], seeds=1, epochs=40)
    outcome = runner.execute(made, make_executor("slurm", LOCAL), reporter=Calls(tick=interrupted_once.look))
    outcome.raise_first_failure()
    assert interrupted_once.done
    epochs = [int(line.split()[2]) for line in notes()]
    assert sorted({*epochs}) == list(range(40))
    assert 40 <= len(epochs) <= 41
    assert len({line.split()[-1] for line in notes()}) == 2  # processes


class Interrupted:
    """Submits as ever, and sends the first job the signal of a preemption once it has trained some epochs."""

    def __init__(self):
        self._submit, self._jobs, self.done = slurm_module._submitted, [], False

    def __call__(self, *arguments):
        self._jobs = self._submit(*arguments)
        return self._jobs

    def look(self, left):
        if not self.done and left[0].directory.log.exists() and len(left[0].directory.read_log()) > 5:
            controller = self._jobs[0]._process.pid
            (task,) = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
            os.kill(int(task), signal.SIGUSR2)
            self.done = True


def test_without_sbatch_or_submitit_it_is_one_sentence(monkeypatch):
    with pytest.raises(HashbenchError, match="There is no sbatch on this machine"):
        make_executor("slurm")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(HashbenchError, match=r"pip install 'hashbench\[slurm\]'"):
        make_executor("slurm")
    with pytest.raises(HashbenchError, match=r"pip install 'hashbench\[ray\]'"):
        make_executor("ray")
