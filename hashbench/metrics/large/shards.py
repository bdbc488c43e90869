"""A database counted in shards: by several processes of this machine over the same rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial

import numpy as np

from hashbench.metrics.hamming import NO_PAIRS, Backend, histograms
from hashbench.metrics.histograms import Histograms, cores
from hashbench.metrics.large.rows import ConvertedRows
from hashbench.metrics.pairs import Pairs
from hashbench.metrics.workers import worker_processes

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
    likely = (
        "memory ran out (use fewer workers), or the script that calls this starts it outside "
        "`if __name__ == '__main__':`"
    )
    with worker_processes(workers, likely=likely) as pool:
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
        for done in as_completed(waiting):
            counted, (start, stop) = done.result(), waiting.pop(done)
            total = counted if total is None else total + counted
            progress(stop - start)
    assert total is not None
    return total
