"""Run one toy sweep in several processes at once, disturb them at random moments and start them again; run by a test.

    python tests/experiments/disturbed_sweeps.py FOLDER '{"NAME": [PROCESSES, KILLS, STOPS, SEED], ...}'

Prints as JSON for each name how many processes were killed and stopped, and which cells were computed to their end, one
entry each time. The processes are forked, so that a killed one is back in milliseconds, and killed within its work
instead of its imports. With STOPS, each process believes to be on a machine of its own, and a stopped one wakes after
it was replaced.
"""

import functools
import json
import os
import platform
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import scipy.linalg
import scipy.optimize  # noqa: F401
import torch
import torch._dynamo  # what a run imports on its way is here before the forks, which then take no time
import toy_dataset  # noqa: F401  (registers the toy)

import hashbench.metrics.kernels_numba  # noqa: F401
from hashbench.executors import worker
from hashbench.experiments import execution, runner
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan
from hashbench.results import runs
from hashbench.storage import locks

torch.set_num_threads(1)
EPOCHS = 10
EXPIRY = 1.5


def sweep(runs: Path, tally: Path) -> None:
    """Do the sweep as `hashbench run` does, noting each computation that came to its end."""
    compute = execution._compute_into

    def noted(directory, cell, plan):
        compute(directory, cell, plan)
        with open(tally, "a") as file:  # one short append, which the kernel does in one piece
            file.write(f"{cell}\n")

    execution._compute_into = noted
    made = plan(["crh", "csq"], ["toy"], [16, 24],
                settings=Settings(runs_dir=runs, epochs=EPOCHS, progress=False))  # fmt: skip
    outcome = runner.execute(made)
    outcome.raise_first_failure()
    assert len(outcome.results) == len(made.runs)


def be_on_a_machine_of_its_own() -> None:
    """Let the others know this process by its heartbeat alone, and be quick about it."""
    name = f"machine{os.getpid()}"
    platform.node = lambda: name
    runs.hold_lock = functools.partial(locks.hold_lock, beat=0.1)
    worker.LockWatch = functools.partial(locks.LockWatch, expiry=EXPIRY)
    worker.WAIT = 0.1


def forked(runs: Path, tally: Path, *, alone: bool) -> int:
    """Start a process that sweeps and return its number."""
    pid = os.fork()
    if pid:
        return pid
    try:
        if alone:
            be_on_a_machine_of_its_own()
        sweep(runs, tally)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def ended(pid: int) -> int:
    """Wait for a process and return its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def disturbed(runs: Path, processes: int, kills: int, stops: int, seed: int) -> dict[str, object]:
    """Keep `processes` of them going, some of which are killed or stopped for a while, until all have ended.

    A sweep that is done before its kills are is thrown away and done again.
    """
    chance, killed, stopped = random.Random(seed), 0, 0
    tally = runs.with_suffix(".tally")
    start = functools.partial(forked, runs, tally, alone=stops > 0)
    alive = {start() for _ in range(processes)}
    while killed < kills or stopped < stops:
        time.sleep(chance.uniform(0.02, 0.8))
        victim = chance.choice(sorted(alive))
        if stopped < stops:
            os.kill(victim, signal.SIGSTOP)
            time.sleep(2 * EXPIRY)
            os.kill(victim, signal.SIGCONT)
            stopped += 1
            continue
        os.kill(victim, signal.SIGKILL)
        _, status = os.waitpid(victim, 0)
        alive.remove(victim)
        if os.WIFSIGNALED(status):
            killed += 1
            alive.add(start())
            continue
        for code in (os.waitstatus_to_exitcode(status), *map(ended, alive)):  # a quick machine was done: once more
            assert code == 0
        shutil.rmtree(runs)
        tally.unlink()
        alive = {start() for _ in range(processes)}
    for code in map(ended, alive):
        assert code == 0
    return {"killed": killed, "stopped": stopped, "computed": tally.read_text().splitlines()}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(json.dumps({name: disturbed(folder / name, *how) for name, how in json.loads(sys.argv[2]).items()}))
