"""How long the commands take that read a folder of many runs: `run` of what is finished, `report` and `verify`.

python benchmarks/many_runs.py [--seeds 50]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import click
from tabulate import tabulate

from hashbench.experiments.execution import execute_run
from hashbench.experiments.planned import Request, Settings
from hashbench.experiments.planning import plan_of
from hashbench.experiments.runner import execute
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory

METHODS = ("lsh", "pcah", "itq", "sh", "sph")
DATASETS = ("fashion-mnist-10k", "fashion-mosaic")
BITS = (16, 32, 48, 64)


def write(folder: Path, seeds: int) -> None:
    """Make the finished runs of a sweep: those of the first seed are computed, and stand for the other seeds, too.

    Each has the id, the place and the specification of its own experiment.
    """
    request = Request(METHODS, DATASETS, BITS, seeds, Settings(runs_dir=folder, progress=False))
    plan = plan_of(request)
    computed: dict[tuple[str, str, int], tuple[RunDirectory, Result]] = {}
    for run in sorted(plan.runs, key=lambda run: run.seed):
        assert run.experiment is not None, run.skipped
        assert run.directory is not None
        key = (run.method, run.dataset, run.bits)
        if key not in computed:
            computed[key] = run.directory, execute_run(plan, run)
            continue
        source, result = computed[key]
        with run.directory.lock() as directory:
            for path in source.kept:
                if path.is_file():
                    shutil.copyfile(path, directory.path / path.name)
            directory.write_spec({**source.read_spec(), "identity": run.experiment.identity})
            coords = {**result.coords, "seed": run.seed}
            directory.write_result(replace(result, id=run.experiment.id, coords=coords))
    execute(plan_of(request))  # which finds all of it, and keeps the note of the sweep


def seconds(*arguments: str) -> tuple[float, float]:
    """Return the wall and the CPU seconds of one `hashbench`."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-m", "hashbench", *arguments], stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - start, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


@click.command()
@click.option("--seeds", default=50, show_default=True, help="Of each of 40 cells.")
@click.option("--times", default=3, show_default=True, help="The best of so many tries is shown.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep the runs here, and use them if they are there.")
def main(seeds: int, times: int, folder: Path | None) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        place = (folder or Path(temporary)) / f"{seeds}-seeds"
        if not place.exists():
            write(place, seeds)
        grid = ["--method", ",".join(METHODS), "--bits", ",".join(map(str, BITS)), "--seeds", str(seeds)]
        runs = seeds * len(METHODS) * len(BITS)
        commands = {
            "--help": (0, ["--help"]),
            "run": (runs, ["run", *grid, "--dataset", DATASETS[0], "--runs-dir", str(place)]),
            "report": (2 * runs, ["report", str(place), "-o", str(Path(temporary) / "report.html")]),
            "verify": (2 * runs, ["verify", str(place)]),
        }
        rows = []
        for name, (count, arguments) in commands.items():
            wall, cpu = min(seconds(*arguments) for _ in range(times))
            rows.append([f"hashbench {name}", f"{count:,}", f"{wall:.2f}", f"{cpu:.2f}"])
    print(tabulate(rows, headers=["", "finished runs", "seconds", "of CPU"], disable_numparse=True))


if __name__ == "__main__":
    main()
