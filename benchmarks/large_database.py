"""How fast, and in how much memory, is a database evaluated that need not fit into memory?

    python benchmarks/large_database.py --items 10000000 --queries 300
    python benchmarks/large_database.py --items 100000000 --queries 300 --repeats 1     0.8 GB of codes

Random packed codes and integer labels of 10 classes are written to temporary files a chunk at a time and removed at the
end. Each row is the whole call, `evaluate` over the files, in a process of its own: one process of one thread, several
processes of one thread, and one process with a thread a core. The rows take turns, so that what else the machine does
hits all of them alike; the best turn of each counts. CPU seconds are those of all processes of a row, the better guide
on a machine that is shared. Peak memory is the largest of any process of that row, codes per second are items of the
database, and pairs are items times queries.
"""

from __future__ import annotations

import re
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np
from tabulate import tabulate

from hashbench.metrics import evaluate, read_array

CLASSES = 10
CHUNK = 1 << 20
NAMES = ("query_codes", "database_codes", "query_labels", "database_labels")


def write(folder: Path, *, items: int, queries: int, bits: int) -> None:
    random = np.random.default_rng(0)
    for part, count in (("query", queries), ("database", items)):
        codes = np.lib.format.open_memmap(folder / f"{part}_codes.npy", "w+", np.uint8, (count, bits // 8))
        labels = np.lib.format.open_memmap(folder / f"{part}_labels.npy", "w+", np.uint8, (count,))
        for start in range(0, count, CHUNK):
            size = min(CHUNK, count - start)
            codes[start : start + size] = random.integers(0, 256, (size, bits // 8), np.uint8)
            labels[start : start + size] = random.integers(0, CLASSES, size, np.uint8)


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def one_call(folder: Path, workers: int, threads: int | None) -> tuple[float, float, float]:
    """Seconds of one evaluation, by the clock and of CPU, after a small one that compiles, and peak memory in MB."""
    arrays = [read_array(folder / f"{name}.npy") for name in NAMES]
    evaluate(arrays[0], arrays[1][:1000], arrays[2], arrays[3][:1000], encoding="packed")
    started, cpu_started = time.perf_counter(), cpu_seconds()
    evaluate(*arrays, encoding="packed", workers=workers, threads=threads)
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu_started
    mine = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert mine is not None
    # `ru_maxrss` of this process would be at least its parent's, from which it was forked.
    return seconds, cpu, max(int(mine[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def in_own_process(folder: Path, workers: int, threads: int | None) -> tuple[float, float, float]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(one_call, folder, workers, threads).result()


@click.command(help=__doc__)
@click.option("--items", default=10_000_000, show_default=True, help="Codes in the database.")
@click.option("--queries", default=300, show_default=True)
@click.option("--bits", default=64, show_default=True, help="A multiple of 8.")
@click.option("--workers", default=2, show_default=True, help="Processes to compare with one.")
@click.option("--repeats", default=3, show_default=True, help="Turns of each row; the best one counts.")
def main(items: int, queries: int, bits: int, workers: int, repeats: int) -> None:
    rows = {
        "1 process of 1 thread": (1, 1),
        f"{workers} processes of 1 thread": (workers, 1),
        "1 process, a thread a core": (1, None),
    }
    best: dict[str, tuple[float, ...]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder, items=items, queries=queries, bits=bits)
        for _ in range(repeats):
            for name, (processes, threads) in rows.items():
                seconds, cpu, memory = in_own_process(folder, processes, threads)
                before = best.get(name, (seconds, cpu, memory))
                best[name] = min(before[0], seconds), min(before[1], cpu), max(before[2], memory)
    reference = best["1 process of 1 thread"][0]
    click.echo(f"{queries:,} queries x {items:,} codes x {bits} bits ({items * bits / 8e9:.2f} GB)")
    table = []
    for name, (seconds, cpu, memory) in best.items():
        rates = f"{items / seconds / 1e6:.2f} M", f"{items * queries / seconds / 1e9:.2f} G"
        table.append((name, f"{seconds:.1f}", f"{cpu:.1f}", f"{reference / seconds:.2f}x", *rates, f"{memory:.0f}"))
    headers = ("", "seconds", "CPU s", "speed", "codes/s", "pairs/s", "peak MB a process")
    click.echo(tabulate(table, headers=headers, disable_numparse=True))


if __name__ == "__main__":
    main()
