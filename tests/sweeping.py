"""Run one toy sweep in several processes at once, kill them at random moments and start them again; run by a test.

    python tests/sweeping.py RUNS PROCESSES KILLS SEED

Prints as JSON how many processes were killed and which cells were computed to their end, one entry each time. The
processes are forked, so that a killed one is back in milliseconds, and killed within its work instead of its imports.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
import toy_dataset  # noqa: F401  (registers the toy)

from hashbench import runner
from hashbench.planning import Settings, plan

torch.set_num_threads(1)
EPOCHS = 6


def sweep(runs: Path, tally: Path) -> None:
    """Do the sweep as `hashbench run` does, noting each computation that came to its end."""
    compute = runner._compute_into

    def noted(directory, cell, plan):
        compute(directory, cell, plan)
        with open(tally, "a") as file:  # one short append, which the kernel does in one piece
            file.write(f"{cell}\n")

    runner._compute_into = noted
    made = plan(["crh", "csq"], ["toy"], [16, 24], seeds=2,
                settings=Settings(runs_dir=runs, epochs=EPOCHS, progress=False))  # fmt: skip
    outcome = runner.execute(made)
    outcome.raise_first_failure()
    assert len(outcome.results) == len(made.cells)


def forked(runs: Path, tally: Path) -> int:
    """Start a process that sweeps and return its number."""
    pid = os.fork()
    if pid:
        return pid
    try:
        sweep(runs, tally)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def main(runs: Path, processes: int, kills: int, seed: int) -> None:
    """Keep `processes` of them going, `kills` of which are killed, until all others have ended."""
    chance, killed = random.Random(seed), 0
    tally = runs.with_suffix(".tally")
    alive = {forked(runs, tally) for _ in range(processes)}
    while alive:
        if killed < kills:
            time.sleep(chance.uniform(0.02, 1.2))
            victim = chance.choice(sorted(alive))
            os.kill(victim, signal.SIGKILL)
            _, status = os.waitpid(victim, 0)
            alive.remove(victim)
            if os.WIFSIGNALED(status):
                killed += 1
            assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
            alive.add(forked(runs, tally))
        else:
            pid, status = os.wait()
            alive.remove(pid)
            assert os.waitstatus_to_exitcode(status) == 0
    print(json.dumps({"killed": killed, "computed": tally.read_text().splitlines()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
