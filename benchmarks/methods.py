"""Time of a training step, and memory, of all methods beside csq's: `python benchmarks/methods.py [NAME ...]`.

Each method trains two epochs on 10,000 made-up vectors of 512 numbers in 10 classes, or `--classes` (images of 3 x 16 x
16 where it needs them), at batch 128 and 64 bits, with a linear head alone, so that its loss is nearly all there is:
with a backbone, the ratios are smaller. Every method is measured in a process and thread of its own, with csq before
and after, and the ratio is that of the faster epochs, in processor time; the memory is the process's peak, less csq's.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from tabulate import tabulate

import hashbench
from hashbench.errors import HashbenchError
from hashbench.methods.contract import DeepMethod
from hashbench.registry import METHODS
from hashbench.system import allocator

allocator.configure()  # as the command does
TRAIN, QUERIES, DATABASE, BITS = 10_000, 100, 1000, 64


def write_data(folder: Path, classes: int) -> None:
    """Write vectors.npz and images.npz, whose classes are around random means."""
    random = np.random.default_rng(0)
    count = TRAIN + QUERIES + DATABASE
    labels = random.integers(0, classes, count)
    part = np.repeat(["train", "query", "database"], [TRAIN, QUERIES, DATABASE])
    features = random.normal(size=(classes, 512))[labels] + 2 * random.normal(size=(count, 512))
    images = random.integers(0, 256, (count, 3, 16, 16)).astype(np.uint8)
    np.savez(folder / "vectors.npz", features=features.astype(np.float32), labels=labels, part=part)
    np.savez(folder / "images.npz", images=images, labels=labels, part=part)


def measure(method: str, folder: Path, inputs: str) -> dict[str, float]:
    """Train a method; return processor seconds of a step in the faster of two epochs, and this process's peak MiB."""
    torch.set_num_threads(1)  # steps this small take longer in several
    recipe = {"epochs": "2", "batch_size": "128"}
    if inputs == "images":
        recipe |= {"size": "0"}
    # A process that does something else at the same time takes none of the processor's seconds.
    with tempfile.TemporaryDirectory() as runs, mock.patch("time.perf_counter", time.process_time):
        result = hashbench.run(
            method, f"arrays:{folder}/{inputs}.npz", bits=BITS, recipe="frozen" if inputs == "vectors" else "scratch",
            runs_dir=runs, progress=False, overrides={"recipe": recipe},
        )  # fmt: skip
        assert result.path is not None
        lines = (Path(result.path) / "log.jsonl").read_text().splitlines()
        first, both = (json.loads(line)["seconds"] for line in lines)
        seconds = min(first, both - first)
    return {
        "step": seconds / (TRAIN // 128 + 1),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measured(method: str, folder: Path, inputs: str) -> dict[str, float]:
    """Return what `measure` finds in a process of its own; raises HashbenchError with its last line where it fails."""
    command = [sys.executable, __file__, "--folder", str(folder), "--inputs", inputs, "--one", method]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise HashbenchError((ran.stderr.strip().splitlines() or ["no output"])[-1])
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--inputs", default="vectors", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if asked.one:
        print(json.dumps(measure(asked.one, asked.folder, asked.inputs)))
        return
    deep = [name for name in METHODS if issubclass(METHODS.get(name), DeepMethod)]
    if others := sorted(set(asked.names) - set(deep)):
        parser.error(f"{', '.join(others)} trains no network, so that it has no steps.")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_data(folder, asked.classes)
        for inputs in ("vectors", "images"):
            names = [name for name in asked.names or deep if (METHODS.get(name).views > 1) == (inputs == "images")]
            before = measured("csq", folder, inputs) if names else {}
            for name in names:
                try:
                    found = measured(name, folder, inputs)
                except HashbenchError as error:
                    rows.append([name, inputs, "", "", "", str(error)])
                    continue
                after = measured("csq", folder, inputs)
                csq = min(before["step"], after["step"])
                more = found["peak"] - min(before["peak"], after["peak"])
                rows.append([name, inputs, 1000 * found["step"], found["step"] / csq, more, ""])
                print(f"{name}: {found['step'] / csq:.2f}", file=sys.stderr)
                before = after
    headers = ["method", "inputs", "ms a step", "x csq", "MiB more than csq", ""]
    print(tabulate(rows, headers=headers, floatfmt=(".0f", "", ".1f", ".2f", ".0f")))


if __name__ == "__main__":
    main()
