"""Where a number comes from: versions, sources, device, threads, the command line."""

from __future__ import annotations

import hashlib
import inspect
import os
import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from hashbench import __version__
from hashbench.registry import METHODS

LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "numba")


def provenance(method: str, *, device: torch.device, started: datetime) -> dict[str, Any]:
    """Return what a result states of its making, except for the hashes that the experiment itself carries."""
    entry = METHODS.entries()[method]
    return {
        "hashbench": __version__,
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "plugin": {"distribution": entry.origin.distribution, "version": entry.origin.version},
        "source_sha256": source_sha256(METHODS.get(method)),
        "git": _git(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "deterministic": device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
        "argv": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        "started": started.astimezone(UTC).isoformat(timespec="seconds"),
    }


def source_sha256(thing: Any) -> str | None:
    """Return the sha256 of the file that defines a class, or None where it has no file, as in a notebook."""
    try:
        return hashlib.sha256(Path(inspect.getfile(thing)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return None


def peak_memory_mb(device: torch.device) -> float:
    """Return the largest memory so far in MB (2^20 bytes): the device's on a GPU, else the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts in bytes, Linux in KB


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _git() -> dict[str, Any] | None:
    """Return revision and dirtiness of the checkout that this code runs from, or None outside one."""

    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        done = subprocess.run(["git", "-C", here, *arguments], capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        if not Path(git("rev-parse", "--show-toplevel")).joinpath("hashbench", "provenance.py").is_file():
            return None  # installed below somebody else's checkout
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
