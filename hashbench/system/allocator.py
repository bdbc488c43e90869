"""Settings of this process's memory allocator: large pages, and freed memory kept for the next step.

A training step frees hundreds of megabytes and allocates as many again. By its defaults glibc returns them to the
system meanwhile, which then has to clear every page: on a CPU that took half the time of a backbone's forward pass at
224 pixels. No number depends on any of this. For processes of hashbench alone: the command, and its workers.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3), from malloc.h
NEVER = -1
LARGEST = (2**30, 2**25)  # bytes of what is kept when freed; glibc before 2.35 takes 32 MiB at most


def configure() -> None:
    """Set up this process's allocator, where it is glibc's and the environment does not set it up already."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch's own: large tensors lie on huge pages
    if any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    mallopt = _glibc("mallopt")
    if mallopt is not None and any(mallopt(MMAP_THRESHOLD, size) for size in LARGEST):
        mallopt(TRIM_THRESHOLD, NEVER)


def trim() -> None:
    """Return to the system what is free in this process, so that a run's memory is not that of the run before."""
    malloc_trim = _glibc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(0))


def _glibc(name: str) -> Any:
    """Return a function of the C library that this process runs on, as ctypes calls it; None where it has none such."""
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):  # where a library has to be named, as on Windows
        return None
