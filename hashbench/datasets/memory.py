"""Free memory of a device or of this process, and whether the training inputs are to lie in it or be streamed."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from hashbench.errors import unknown

_LOG = logging.getLogger(__name__)
OVERRIDE = "HASHBENCH_LOADER"
TIERS = ("resident", "streamed")
RESIDENT_SHARE = 0.5  # of what is free; the rest is the network's, its optimiser's and the evaluation's


def choose_tier(needed: int, device: torch.device) -> str:
    """Return "resident" where inputs of `needed` bytes leave enough of the device's memory free, else "streamed".

    The environment's HASHBENCH_LOADER goes before; raises HashbenchError when it names no tier. Both give the same
    tensors, so that the tier is not part of a run's identity.
    """
    asked = os.environ.get(OVERRIDE)
    if asked:
        if asked not in TIERS:
            raise unknown(f"{OVERRIDE} (loader tier)", asked, TIERS)
        chosen = asked
    else:
        chosen = "resident" if needed <= RESIDENT_SHARE * free_bytes(device) else "streamed"
    _LOG.info("The training inputs (%.1f MB) are %s on %s.", needed / 1e6, chosen, device)
    return chosen


def free_bytes(device: torch.device) -> int:
    """Return the bytes that can still be taken on a device; on the CPU also within the limits of the control groups."""
    if device.type == "cuda":
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + reusable
    return host_free_bytes(Path("/"))


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
    except OSError:  # not this kernel's, or not ours to read
        return []
