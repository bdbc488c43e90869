"""Codes to distance histograms: for each query, how many database items lie at each Hamming distance.

The histograms are all that the measures need. They are integers, they add up over shards of the database and do not
depend on its order; so one pass over the codes is enough, nothing is sorted, and every kernel gives the same bits.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from hashbench.metrics.histograms import Counter, Histograms, plain_labels
from hashbench.metrics.large.rows import ConvertedRows
from hashbench.metrics.pairs import PairCounter, Pairs

_LOG = logging.getLogger(__name__)
MAX_BITS = 1024
Backend = Literal["auto", "numba", "triton", "torch"]
NO_PAIRS = Pairs()


def pack(codes: np.ndarray) -> np.ndarray:
    """Pack codes (n, bits) bool into bytes (n, ceil(bits / 8)) uint8, first bit highest, padded with zeros."""
    if codes.ndim != 2 or codes.dtype != np.bool_:
        raise ValueError(f"Codes to pack must be bool of shape (n, bits), not {codes.dtype} {codes.shape}.")
    return np.packbits(codes, axis=1)


def unpack(packed: np.ndarray, bits: int) -> np.ndarray:
    """Unpack bytes (n, ceil(bits / 8)) uint8 into codes (n, bits) bool; the inverse of `pack`."""
    _check_packed(packed, "Codes", bits)
    return np.unpackbits(packed, axis=1, count=bits).astype(bool)


def first_bits(packed: np.ndarray, bits: int) -> np.ndarray:
    """Return the packed codes (n, ceil(bits / 8)) uint8 of the first `bits` bits of longer packed codes."""
    first = packed[:, : -(-bits // 8)].copy()
    first[:, -1] &= np.uint8(0xFF << -bits % 8 & 0xFF)
    return first


def histograms(
    query: np.ndarray | ConvertedRows,
    database: np.ndarray | ConvertedRows,
    query_labels: np.ndarray | ConvertedRows | None,
    database_labels: np.ndarray | ConvertedRows | None,
    *,
    bits: int,
    pairs: Pairs = NO_PAIRS,
    backend: Backend = "auto",
    device: str = "cpu",
    gains: bool = False,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda items: None,
) -> Histograms:
    """Count the database by Hamming distance from each query, and the relevant part of it.

    query (Q, ceil(bits / 8)) and database (N, ceil(bits / 8)) are packed uint8; labels are integers (Q,), (N,) or
    multi-hot (Q, C), (N, C), or None where `pairs` say what is relevant; `pairs` also say what is left out of the
    rankings. The database and its labels may be memory-mapped: they are read a tile at a time.
    `backend` is "numba" (CPU), "triton" (CUDA devices), "torch" (any `device`) or "auto": numba on the CPU and triton
    on CUDA devices where they can be used, else torch; the log says which it is. No choice changes a count.
    `gains` counts by number of shared labels too. `threads` are those of the CPU kernels (None: one a core), and
    `progress` is called with the items of each tile. Raises ValueError when codes, labels and bits do not fit together.
    """
    _check_packed(query, "Query codes", bits)
    _check_packed(database, "Database codes", bits)
    if pairs.relevant is None:
        _check_labels(query_labels, len(query), database_labels, len(database))
    if len(query) == 0:
        raise ValueError("There are no query codes; at least one query is needed.")
    query = np.asarray(query)
    given = None if pairs.relevant is not None else plain_labels(np.asarray(query_labels))
    labels = np.zeros(len(query), np.int64) if given is None else given
    most_shared = max(1, int(labels.sum(axis=1).max())) if gains and labels.ndim == 2 else 1
    levels = 1 + (pairs.largest_gain if gains and given is None else most_shared)
    items = database, None if given is None else database_labels
    counter = _counter(backend, device, query, labels, items, bits=bits, levels=1 + most_shared, threads=threads)
    _LOG.info("The codes are counted by %s on %s.", type(counter).__name__, device)
    beside = PairCounter(pairs, query, given, bits=bits, levels=levels) if pairs else None
    for start in range(0, len(database), counter.tile):
        tile = slice(start, start + counter.tile)
        codes = np.asarray(database[tile])
        _check_padding(codes, "Database codes", bits)
        theirs = plain_labels(database_labels[tile]) if given is not None and database_labels is not None else None
        counter.add(codes, np.ones(len(codes), np.int64) if theirs is None else theirs)
        if beside is not None:
            beside.add(start, codes, theirs)
        progress(len(codes))
    counts = counter.counts()
    if beside is not None:
        counts = np.pad(counts, ((0, 0), (0, levels - counts.shape[1]), (0, 0))) + beside.counts()
    by_gain = counts[:, 1:].copy() if gains else None
    excluded = None if beside is None or pairs.excluded is None else beside.excluded
    return Histograms(counts.sum(axis=1), counts[:, 1:].sum(axis=1), by_gain, excluded)


def _counter(
    backend: Backend,
    device: str,
    query: np.ndarray,
    labels: np.ndarray,
    items: tuple[np.ndarray | ConvertedRows, np.ndarray | ConvertedRows | None],
    *,
    bits: int,
    levels: int,
    threads: int | None,
) -> Counter:
    """Return the kernel for queries with labels, and items: the codes and labels of the database."""
    _check_padding(query, "Query codes", bits)
    if backend not in get_args(Backend):
        raise ValueError(f"Unknown backend '{backend}'; known are {', '.join(get_args(Backend))}.")
    if backend == "numba" and device != "cpu":
        raise ValueError(f"The numba backend runs on the CPU, not on '{device}'; use backend auto there.")
    if backend == "numba" or (backend == "auto" and device == "cpu"):
        try:
            from hashbench.metrics.distinct import DistinctCounter, repeats
            from hashbench.metrics.kernels_numba import NumbaCounter

            kernel = DistinctCounter if repeats(*items, queries=len(query)) else NumbaCounter
            return kernel(query, labels, bits=bits, levels=levels, threads=threads)
        except ImportError as error:
            if backend == "numba":
                raise ValueError(f"The numba backend cannot be imported ({error}); use backend torch.") from error
    _check_device(device)
    if backend == "triton" or (backend == "auto" and device.startswith("cuda")):
        try:
            from hashbench.metrics.kernels_triton import TritonCounter

            return TritonCounter(query, labels, bits=bits, levels=levels, device=device)
        except Exception as error:  # what Triton raises depends on its version, the device and the compilers there
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            if backend == "triton":
                raise ValueError(f"Triton cannot count on '{device}' ({reason}); use backend torch.") from error
            warnings.warn(
                f"Triton cannot count on '{device}' ({reason}); plain torch counts there, which is slower.",
                RuntimeWarning,
                stacklevel=3,
            )
    from hashbench.metrics.kernels_torch import TorchCounter

    return TorchCounter(query, labels, bits=bits, levels=levels, device=device, threads=threads)


def _check_device(name: str) -> None:
    """Raise ValueError where torch has no such device, or one that holds no values."""
    import torch

    try:
        torch.zeros(1, device=name).cpu()
    except Exception as error:  # what torch raises depends on the device and on what torch was built for
        raise ValueError(
            f"The device '{name}' is not there (CUDA devices: {torch.cuda.device_count()}); choose `--device cpu`."
        ) from error


def _check_packed(packed: np.ndarray | ConvertedRows, name: str, bits: int) -> None:
    if not 1 <= bits <= MAX_BITS:
        raise ValueError(
            f"Codes of {bits} bits cannot be measured; bits must lie between 1 and {MAX_BITS}, and codes have a "
            "row for each item."
        )
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != -(-bits // 8):
        raise ValueError(
            f"{name} are {packed.dtype} {packed.shape}; codes of {bits} bits must be packed into "
            f"uint8 (n, {-(-bits // 8)}): see hashbench.metrics.pack."
        )


def _check_padding(packed: np.ndarray, name: str, bits: int) -> None:
    padding = -bits % 8
    if padding and (packed[:, -1] & ((1 << padding) - 1)).any():
        raise ValueError(
            f"{name} have ones beyond bit {bits}; they were packed from longer codes, or with the first bit lowest: "
            "check bits, or give numpy.unpackbits(codes, axis=1, bitorder='little')."
        )


def _check_labels(
    query: np.ndarray | ConvertedRows | None, queries: int, database: np.ndarray | ConvertedRows | None, items: int
) -> None:
    if query is None or database is None:
        raise ValueError("Nothing says which items are relevant; give the labels of queries and database, or pairs.")
    for name, labels, count in (("Query", query, queries), ("Database", database, items)):
        if len(labels.shape) not in (1, 2) or (labels.ndim == 1 and labels.dtype.kind not in "iu"):
            raise ValueError(
                f"{name} labels are {labels.dtype} {labels.shape}; they must be integers (n,) or multi-hot (n, C)."
            )
        if len(labels) != count:
            title = "; is one of them a title?" if len(labels) == count + 1 else "."
            raise ValueError(f"{name} labels and codes differ in number: {len(labels)} labels for {count} codes{title}")
    if query.ndim != database.ndim or query.shape[1:] != database.shape[1:]:
        raise ValueError(
            f"Query labels {query.shape} and database labels {database.shape} do not fit: both must be integers (n,) "
            "or both multi-hot over the same classes."
        )
