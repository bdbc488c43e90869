"""A database counted in shards: by several processes of this machine over the same rows."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process

import numpy as np

from hashbench.metrics.hamming import NO_PAIRS, Backend, histograms
from hashbench.metrics.histograms import Histograms, cores
from hashbench.metrics.large.rows import ConvertedRows
from hashbench.metrics.pairs import Pairs

TASKS = 16  # for each worker: so many that all end at about the same time, and that the progress shows
SMALLEST = 1 << 18  # items that are worth a task of their own


@dataclass(frozen=True)
class Shard:
    """One of `of` equal shards of a database, the `number`-th from 1 on; written 2/4."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that `text`, for example 2/4, stands for; raises ValueError for anything else."""
        match = re.fullmatch(r"([0-9]{1,18})/([0-9]{1,18})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f"'{text}' is not a shard; write 1/4, 2/4, 3/4 and 4/4 for the four shards of a database.")
        return cls(int(match[1]), int(match[2]))

    def rows(self, items: int) -> tuple[int, int]:
        """Return where the shard starts and stops in a database of so many items."""
        return (self.number - 1) * items // self.of, self.number * items // self.of

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def histograms_by_workers(
    query: np.ndarray,
    database: ConvertedRows,
    query_labels: np.ndarray | None,
    database_labels: ConvertedRows | None,
    *,
    bits: int,
    workers: int,
    pairs: Pairs = NO_PAIRS,
    threads: int | None = None,
    backend: Backend = "auto",
    gains: bool = False,
    progress: Callable[[int], object] = lambda items: None,
) -> Histograms:
    """Count as `hamming.histograms` does on the CPU, by `workers` processes of `threads` (None: the cores divided).

    The workers read their rows from the files themselves; rows in memory are sent to them. Raises ValueError as
    `histograms` does, and when a worker dies.
    """
    tasks = max(workers, min(TASKS * workers, len(database) // SMALLEST))
    bounds = [Shard(number + 1, tasks).rows(len(database)) for number in range(tasks)]
    count = partial(
        histograms, bits=bits, backend=backend, gains=gains, threads=threads or max(1, cores() // workers)
    )  # fmt: skip
    total: Histograms | None = None
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_the_parent) as pool:
        waiting = {
            pool.submit(
                count,
                query,
                database.between(*rows),
                query_labels,
                None if database_labels is None else database_labels.between(*rows),
                pairs=pairs.between(*rows) if pairs else pairs,
            ): rows
            for rows in bounds
        }
        try:
            for done in as_completed(waiting):
                counted, (start, stop) = done.result(), waiting.pop(done)
                total = counted if total is None else total + counted
                progress(stop - start)
        except BrokenProcessPool as error:
            raise ValueError(
                "A worker process ended before its time: memory ran out (use fewer workers), or the script that calls "
                "this starts it outside `if __name__ == '__main__':`."
            ) from error
        finally:
            for left in waiting:
                left.cancel()
    assert total is not None
    return total


def _end_with_the_parent() -> None:
    """Let Ctrl-C end a worker without a traceback, and the death of the parent end it at all."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
