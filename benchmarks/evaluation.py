"""How fast is the evaluation? Ours against the usual ways, on the same codes, in one run.

    python benchmarks/evaluation.py                           all cases (several minutes)
    python benchmarks/evaluation.py --case 1000x54000x64      one case: queries x items x bits[xclasses of multi-label]

Ours is the whole call: mAP over the full ranking, the PR curve and P@H<=2, ties exact. The others: a loop of
`numpy.argsort` over the queries (what most published scripts do), `torch.argsort` in batches, and FAISS
`IndexBinaryFlat`, which only searches. Slow ones run on the first 100 queries and are scaled up (marked ~). Each runs
in a process of its own; bringing the codes into its form is not timed; peak memory is what it adds to the packed codes.
CPU seconds are those of all threads, the better guide on a machine that is shared. The limit is one popcount and one
histogram increment per pair, both from the first-level cache, on all cores; counting two items by one increment can
beat it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import click
import numpy as np
from tabulate import tabulate

from hashbench.metrics import Histograms, evaluate_histograms, histograms, unpack
from hashbench.metrics.hamming import Backend

DEFAULT_CASES = (
    *("1000x54000x16", "1000x54000x32", "1000x54000x64", "1000x54000x128"),
    *("5000x117000x64x80", "1000x1000000x64"),
)
MEASURES = ("mAP@all", "PR", "P@H<=2")
T = TypeVar("T")
CLASSES = 10
SAMPLE = 100  # queries of the slow contenders
TILE = 65_536


@dataclass(frozen=True)
class Case:
    """queries x items x bits, single-label with 10 classes, or multi-label with the given number of classes."""

    queries: int
    items: int
    bits: int
    label_classes: int = 0

    @classmethod
    def parse(cls, text: str) -> Case:
        if not re.fullmatch(r"\d+x\d+x\d+(x\d+)?", text):
            raise click.BadParameter(f"'{text}' is not QUERIESxITEMSxBITS or QUERIESxITEMSxBITSxCLASSES.")
        return cls(*map(int, text.split("x")))

    def __str__(self) -> str:
        labels = f"multi-label, {self.label_classes} classes" if self.label_classes else f"{CLASSES} classes"
        return f"{self.queries:,} queries x {self.items:,} items x {self.bits} bits, {labels}"


@dataclass(frozen=True)
class Data:
    query: np.ndarray  # packed (Q, bytes)
    database: np.ndarray
    query_labels: np.ndarray
    database_labels: np.ndarray
    bits: int


@dataclass(frozen=True)
class Timing:
    seconds: float
    cpu_seconds: float
    peak_mb: float | None
    scaled: bool


def make(case: Case) -> Data:
    """Clusters of codes with one bit in eight flipped, about what training gives."""
    random = np.random.default_rng(0)
    centers = random.random((case.label_classes or CLASSES, case.bits)) < 0.5

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        classes = random.integers(0, len(centers), count)
        tiles = [
            np.packbits(centers[part] ^ (random.integers(0, 8, (len(part), case.bits), np.uint8) == 0), axis=1)
            for part in np.split(classes, range(TILE, count, TILE))
        ]
        if not case.label_classes:
            return np.concatenate(tiles), classes
        labels = random.random((count, len(centers)), np.float32) < 2 / len(centers)
        labels[np.arange(count), classes] = True
        return np.concatenate(tiles), labels

    query, query_labels = draw(case.queries)
    database, database_labels = draw(case.items)
    return Data(query, database, query_labels, database_labels, case.bits)


# A contender takes the data, brings it into the form it works on, and returns the call that is timed.
Contender = Callable[[Data], Callable[[], None]]


def ours(data: Data, backend: Backend = "auto", device: str = "cpu") -> Callable[[], None]:
    def call() -> None:
        evaluate_histograms(counted(data, backend, device), MEASURES, bounds=False)

    return call


def counted(data: Data, backend: Backend, device: str) -> Histograms:
    labels = data.query_labels, data.database_labels
    return histograms(data.query, data.database, *labels, bits=data.bits, backend=backend, device=device)


def ours_on_cuda(data: Data, backend: Backend) -> Callable[[], None]:
    """The timed call, after a part was counted as on the CPU."""
    part = part_of(data, SAMPLE, 100_000)
    there, here = counted(part, backend, "cuda"), counted(part, "auto", "cpu")
    for name, values in here.arrays().items():
        if not np.array_equal(there.arrays()[name], values):
            raise click.ClickException(f"{backend} on CUDA counts otherwise than the CPU.")
    return ours(data, backend, "cuda")


def numpy_loop(data: Data) -> Callable[[], None]:
    query, database = signs(data.query, data.bits), signs(data.database, data.bits)

    def call() -> None:
        for q in range(len(query)):
            order = np.argsort(0.5 * (data.bits - database @ query[q]))
            average_precision(relevance(data, q)[order])

    return call


def relevance(data: Data, q: int) -> np.ndarray:
    if data.query_labels.ndim == 1:
        return data.database_labels == data.query_labels[q]
    return np.asarray(data.database_labels[:, data.query_labels[q]].any(axis=1))


def average_precision(relevant: np.ndarray) -> float:
    ranks = np.flatnonzero(relevant) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).mean()) if len(ranks) else 0.0


def torch_argsort(data: Data, batch: int = 25) -> Callable[[], None]:
    import torch

    query, database = (torch.from_numpy(signs(codes, data.bits)) for codes in (data.query, data.database))
    query_labels, database_labels = torch.from_numpy(data.query_labels), torch.from_numpy(data.database_labels)
    if query_labels.ndim == 2:
        query_labels, database_labels = query_labels.float(), database_labels.float()
    ranks = torch.arange(1, len(database) + 1)

    def call() -> None:
        for start in range(0, len(query), batch):
            part = slice(start, start + batch)
            order = (query[part] @ database.T).argsort(dim=1, descending=True)
            if query_labels.ndim == 1:
                relevant = query_labels[part, None] == database_labels
            else:
                relevant = query_labels[part] @ database_labels.T > 0
            ranked = relevant.gather(1, order)
            precision = ranked.cumsum(dim=1) / ranks
            (precision * ranked).sum(dim=1).div(ranked.sum(dim=1).clamp(min=1)).mean()

    return call


def faiss_nearest(data: Data, k: int = 1000) -> Callable[[], None]:
    import faiss

    index = faiss.IndexBinaryFlat(8 * data.database.shape[1])
    index.add(data.database)

    def call() -> None:
        index.search(data.query, min(k, len(data.database)))

    return call


def faiss_all(data: Data) -> Callable[[], None]:
    return faiss_nearest(data, len(data.database))


def signs(packed: np.ndarray, bits: int) -> np.ndarray:
    return np.where(unpack(packed, bits), np.float32(1), np.float32(-1))


def part_of(data: Data, queries: int, items: int | None = None) -> Data:
    query, query_labels = data.query[:queries], data.query_labels[:queries]
    return Data(query, data.database[:items], query_labels, data.database_labels[:items], data.bits)


def measure(contender: Contender, case: Case, queries: int, repeats: int) -> Timing:
    """Best of `repeats` calls in this process, scaled from `queries` to all queries of the case."""
    data = make(case)
    contender(part_of(data, 4, 64))()  # imports, compiles, starts threads
    before = reset_peak()
    call = contender(part_of(data, queries))
    wall, cpu = [], []
    for _ in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    peak = None if before is None else (memory_mb("VmHWM") or 0) - before
    scale = max(1, case.queries / queries)
    return Timing(min(wall) * scale, min(cpu) * scale, peak, scaled=scale > 1)


def reset_peak() -> float | None:
    """Start measuring peak memory anew; returns the memory in use (Linux only, else None)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return memory_mb("VmRSS")


def memory_mb(entry: str) -> float | None:
    found = re.search(rf"{entry}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else None


def limit(case: Case) -> float:
    """Seconds that one popcount a word and one increment a pair take on all cores, from the first-level cache."""
    import numba

    from hashbench.metrics.kernels_numba import BLOCK, SLOT, _tally, distances_of

    @numba.njit(nogil=True)
    def passes(count, query, database, slots, histogram):  # type: ignore[no-untyped-def]
        nothing = np.empty((0, 0), np.uint16)
        for _ in range(count):
            distances_of(query, database, 0, slots.size, slots)
            _tally(slots, slots.size, nothing, histogram, False)

    words = -(-case.bits // 64)
    random = np.random.default_rng(0)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    codes = np.packbits(random.random((words, BLOCK, 64)) < 0.5, axis=2).view(np.uint64)[:, :, 0]

    def work(count: int) -> None:
        passes(count, codes[:, 0].copy(), codes, np.empty(BLOCK, SLOT), np.zeros(64 * words + 1, np.int64))

    work(1)
    rounds = 2000
    times = []
    for _ in range(5):
        start = time.perf_counter()
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(work, [rounds] * cores))
        times.append(time.perf_counter() - start)
    return min(times) / (rounds * BLOCK * cores) * case.queries * case.items


def in_own_process(function: Callable[..., T], *arguments: object) -> T:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def contenders(case: Case, *, cuda: bool) -> dict[str, tuple[Contender, int]]:
    """Name -> function and number of queries it is timed on."""
    rows: dict[str, tuple[Contender, int]] = {"hashbench (mAP, PR, P@H<=2)": (ours, case.queries)}
    if cuda:
        for backend in ("triton", "torch"):
            rows[f"hashbench on CUDA, {backend}"] = (partial(ours_on_cuda, backend=backend), case.queries)
    rows["numpy.argsort per query"] = (numpy_loop, SAMPLE)
    rows["torch.argsort in batches"] = (torch_argsort, SAMPLE)
    if importlib.util.find_spec("faiss"):
        rows["FAISS IndexBinaryFlat k=1000"] = (faiss_nearest, case.queries)
        rows["FAISS IndexBinaryFlat k=N"] = (faiss_all, SAMPLE)
    return rows


@click.command(help=__doc__)
@click.option("--case", "cases", multiple=True, help="QUERIESxITEMSxBITS[xCLASSES]; may be given several times.")
@click.option("--repeats", default=3, show_default=True, help="Calls of each; the best one counts.")
@click.option("--cuda", is_flag=True, help="Measure the GPU too.")
@click.option("--only", multiple=True, help="Only contenders whose name contains this or another; ours always runs.")
def main(cases: tuple[str, ...], repeats: int, cuda: bool, only: tuple[str, ...]) -> None:
    if not importlib.util.find_spec("faiss"):
        click.echo("faiss-cpu is not installed; its rows are left out (pip install faiss-cpu).")
    for case in map(Case.parse, cases or DEFAULT_CASES):
        rows = []
        reference: Timing | None = None
        for name, (contender, queries) in contenders(case, cuda=cuda).items():
            wanted = not only or any(part.casefold() in name.casefold() for part in only)
            if not wanted and contender is not ours:
                continue
            timing = in_own_process(measure, contender, case, queries, repeats)
            reference = reference or timing
            seconds = f"{'~' if timing.scaled else ''}{timing.seconds:.3f}"
            peak = "-" if timing.peak_mb is None else f"{timing.peak_mb:.0f}"
            ratios = f"{timing.seconds / reference.seconds:.1f}x", f"{timing.cpu_seconds / reference.cpu_seconds:.1f}x"
            rows.append((name, seconds, ratios[0], f"{timing.cpu_seconds:.3f}", ratios[1], peak))
        click.echo(f"\n{case}")
        click.echo(
            tabulate(rows, headers=("", "seconds", "of ours", "CPU s", "of ours", "peak MB"), disable_numparse=True)
        )
        assert reference is not None
        rate = f"{case.queries * case.items / reference.seconds / 1e9:.2f} G pairs/s"
        if importlib.util.find_spec("numba"):
            rate += f", {in_own_process(limit, case) / reference.seconds:.0%} of the popcount-and-increment limit"
        click.echo(rate)


if __name__ == "__main__":
    main()
