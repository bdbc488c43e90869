"""Memory of a device and of this process: what is free, the most that was used, and whether it ran out."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch

from hashbench.errors import HashbenchError
from hashbench.system import allocator

_PROCESS = Path("/proc/self")


def reset_peak_memory(device: torch.device) -> None:
    """Let `peak_memory_mb` count from here on; where the system cannot, it counts from the start of the process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    allocator.trim()
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


def free_bytes(device: torch.device) -> int:
    """Return the bytes that can still be taken on a device; on the CPU also within the limits of the control groups."""
    if device.type == "cuda":
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + reusable
    return host_free_bytes(Path("/"))


def require_memory(needed: int, device: torch.device, *, what: str, instead: str) -> None:
    """Raise HashbenchError where `what` takes more bytes than are free on a device; `instead` is the way out."""
    free = free_bytes(device)
    if needed > free:
        kind = "GPU" if device.type == "cuda" else "main"
        raise HashbenchError(
            f"{what} takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of {kind} memory are free; {instead}."
        )


def host_free_bytes(root: Path) -> int:
    """Return the bytes of memory that this process may still take, by the kernel's files below `root`."""
    system = _fields(root / "proc/meminfo")
    free = [1024 * system["MemAvailable"]] if "MemAvailable" in system else []
    for folder in _control_groups(root):
        names = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
        for limit, used in filter(None, (_numbers(folder, pair) for pair in names)):
            statistics = _fields(folder / "memory.stat")
            cached = statistics.get("total_inactive_file", statistics.get("inactive_file", 0))  # given back when needed
            free.append(max(limit - used + cached, 0))
    return min(free, default=sys.maxsize)


def _control_groups(root: Path) -> list[Path]:
    """Return the folders of the process's memory control groups, from its own up to the root's; each may limit it."""
    folders = []
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        own = top / path.strip("/")
        folders += [folder for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return folders


def _numbers(folder: Path, names: tuple[str, str]) -> tuple[int, int] | None:
    values = [next(iter(_lines(folder / name)), "") for name in names]
    return (int(values[0]), int(values[1])) if all(value.isdigit() for value in values) else None


def _fields(path: Path) -> Mapping[str, int]:
    rows = (line.replace(":", " ").split() for line in _lines(path))
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:  # not this kernel's, or not readable
        return []
