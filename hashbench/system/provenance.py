"""Where a number comes from: versions, sources, device, threads, the command line."""

from __future__ import annotations

import hashlib
import inspect
import os
import platform
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
from hashbench.storage.strict_json import as_text
from hashbench.system.processor import processor

LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "numba", "pillow")


def provenance(method: str, *, device: torch.device, started: datetime, base: str | None = None) -> dict[str, Any]:
    """Return the provenance that a result states, except for the hashes that the experiment itself carries.

    `base` is the method that `method` wraps, where it wraps one.
    """
    entry, file = METHODS.entries()[method], _file_of(METHODS.get(method))
    origin = None if base is None else METHODS.entries()[base].origin
    return {
        "hashbench": __version__,
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "plugin": {"distribution": entry.origin.distribution, "version": entry.origin.version},
        **({} if origin is None else {"base": {"distribution": origin.distribution, "version": origin.version}}),
        "plugin_git": file and _checkout(file),
        "source_sha256": source_sha256(*(METHODS.get(name) for name in (method, base) if name is not None)),
        "git": _checkout(Path(__file__).resolve()),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "system": platform.platform(),
        "cpu": processor(),
        "threads": torch.get_num_threads(),
        "floats": _floats(),
        "deterministic": device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
        "argv": [as_text(part) for part in (os.path.basename(sys.argv[0]), *sys.argv[1:])],
        "started": started.astimezone(UTC).isoformat(timespec="seconds"),
    }


def source_sha256(thing: Any, *more: Any) -> str | None:
    """Return the sha256 of the file that defines a class, or None where it has no file, as in a notebook.

    Of several classes it is the sha256 of theirs, one after another.
    """
    if more:
        hashes = [source_sha256(one) for one in (thing, *more)]
        return None if None in hashes else hashlib.sha256("".join(map(str, hashes)).encode()).hexdigest()
    file = _file_of(thing)
    try:
        return None if file is None else hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _floats() -> dict[str, Any]:
    """Return the switches by which float32 may be computed in less than float32."""
    return {
        "float32_matmul": torch.get_float32_matmul_precision(),
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


@cache
def _checkout(file: Path) -> dict[str, Any] | None:
    """Return revision and dirtiness of the git checkout that a source file belongs to, or None outside one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        belongs = git("ls-files", "--cached", "--others", "--exclude-standard", "--", file.name)
        if not belongs:
            return None  # installed below another checkout, which ignores it
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _file_of(thing: Any) -> Path | None:
    try:
        return Path(inspect.getfile(thing)).resolve()
    except (OSError, TypeError):
        return None
