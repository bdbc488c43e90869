"""How kernels for the CPU are compiled, and how their work is distributed over threads.

The threads are Python's: the kernels hold no lock on the interpreter, and no threading layer is left behind that would
break a later fork.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba

ROWS_PER_TASK = 100  # few enough tasks that starting them costs nothing, enough for all cores to end together


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the interpreter lock, and keep the machine code on disk where a folder for it can be written."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba found no folder to cache in
        return numba.njit(nogil=True)(function)


def over_rows(rows: int, work: Callable[[slice], None], threads: int) -> None:
    """Do `work` for all of `rows`, a few at a time on each of `threads`; of a single one, in the thread that asks."""
    if threads == 1:
        work(slice(0, rows))
        return
    tasks = threads * -(-rows // (threads * ROWS_PER_TASK))
    step = -(-rows // tasks) if rows else 1
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [slice(at, at + step) for at in range(0, rows, step)]))
