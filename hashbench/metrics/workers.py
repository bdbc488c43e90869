"""Worker processes of this machine, which end with the process that began them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process


class WorkerDied(ValueError):
    """A worker process ended before its time; the message says why that is likely, and the way out."""


@contextmanager
def worker_processes(
    count: int, *, likely: str, begin: Callable[[], object] | None = None
) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of `count` new processes, each of which calls `begin` first; at the end, what waits is given up.

    Raises WorkerDied when one of them dies, with the `likely` reason and the way out.
    """
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_begin, initargs=(begin,))
    try:
        yield pool
    except BrokenProcessPool as error:
        raise WorkerDied(f"A worker process ended before its time: {likely}.") from error
    finally:
        pool.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """Let the death of the parent process end this one."""
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _begin(begin: Callable[[], object] | None) -> None:
    """Let Ctrl-C end a worker without a traceback, and the death of the parent end it at all."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()
    if begin is not None:
        begin()
