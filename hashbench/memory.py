"""Memory of a run: the most that it used, and what to say when there is not enough."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

from hashbench import allocator
from hashbench.errors import HashbenchError
from hashbench.experiment import Experiment

_PROCESS = Path("/proc/self")


def reset_peak_memory(device: torch.device) -> None:
    """Let `peak_memory_mb` count from here on; where the system cannot, it counts from the start of the process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    allocator.give_back()
    with suppress(OSError):
        (_PROCESS / "clear_refs").write_text("5")  # Linux: the peak becomes what is in use now


def peak_memory_mb(device: torch.device) -> float:
    """Return the largest memory in MB (2^20 bytes) since the reset: the device's on a GPU, else the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        lines = (_PROCESS / "status").read_text().splitlines()
        (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
        return int(kilobytes) / 2**10
    except (OSError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts in bytes, Linux in KB


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether there was not enough memory, on the device or for the process."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # torch's, on the CPU


def out_of_memory(experiment: Experiment, device: torch.device, error: BaseException) -> HashbenchError:
    """Return the error that names the knobs by which this experiment takes less memory."""
    recipe = experiment.recipe
    knobs = [f"--set recipe.batch_size={max(recipe.batch_size // 2, 1)}"]
    if experiment.inputs == "images":
        knobs += [f"--set recipe.size={recipe.size * 2 // 3}"] if recipe.size > 32 else []
        knobs += [f"a smaller --backbone than {recipe.backbone}"]
        knobs += ["--set recipe.precision=bf16"] if recipe.precision == "fp32" else []
    where = "GPU" if device.type == "cuda" else "main"
    detail = " ".join(str(error).split())[:200]
    return HashbenchError(
        f"There was not enough {where} memory; take less by {', or '.join(knobs)} (each makes it another experiment)"
        f"{f'. The system said: {detail}' if detail else '.'}"
    )
