"""Rows of an array on a device: resident where they fit, else streamed, read ahead by background threads.

On a GPU the rows pass through pinned buffers and are copied on a stream of their own, so that neither the host nor the
device waits for them; on the CPU the same code runs without buffers and streams. Sparse rows stay on the host, and
become dense on the device, batch by batch.
"""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from hashbench.datasets.sparse import is_sparse
from hashbench.errors import unknown
from hashbench.system.memory import free_bytes

if TYPE_CHECKING:
    from hashbench.datasets.sparse import Inputs, SparseRows

_LOG = logging.getLogger(__name__)
OVERRIDE = "HASHBENCH_LOADER"
TIERS = ("resident", "streamed")
RESIDENT_SHARE = 0.5  # of what is free; the rest is the network's, its optimiser's and the evaluation's
READERS = 2  # a disk serves several requests at once faster than one after the other
AHEAD = 4  # reads that are done before they are needed
READ_BYTES = 4 * 2**20  # at once, of small batches: each read wakes a thread that takes the interpreter from others
CHUNK_BYTES = 16 * 2**20  # of a set that becomes resident

Request = TypeVar("Request")
Read = TypeVar("Read")
RowIndex = slice | np.ndarray


def choose_tier(needed: int, device: torch.device) -> str:
    """Return "resident" where inputs of `needed` bytes leave enough of the device's memory free, else "streamed".

    HASHBENCH_LOADER overrides this; raises HashbenchError when it names no tier. Both give the same
    tensors, so that the tier is not part of a run's identity.
    """
    named = os.environ.get(OVERRIDE)
    if named:
        if named not in TIERS:
            raise unknown(f"{OVERRIDE} (loader tier)", named, TIERS)
        chosen = named
    else:
        chosen = "resident" if needed <= RESIDENT_SHARE * free_bytes(device) else "streamed"
    _LOG.info("The training inputs (%.1f MB) are %s on %s.", needed / 1e6, chosen, device)
    return chosen


def read_ahead(read: Callable[[Request], Read], requests: Iterable[Request]) -> Iterator[Read]:
    """Yield `read(request)` for each of `requests`, in order, up to AHEAD of them computed early in threads.

    An error of `read` is raised in the place of its value. Closing the iterator waits for the reads in progress alone.
    """
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="hashbench-reader")
    pending: deque[Future[Read]] = deque()
    try:
        for request in requests:
            pending.append(pool.submit(read, request))
            if len(pending) > AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def streamed(inputs: Inputs | Tensor, rows: Iterable[RowIndex], device: torch.device) -> Iterator[Tensor]:
    """Yield the `rows` of `inputs`, each a slice or positions (n,), as dense tensors on `device`, read ahead."""
    if is_sparse(inputs):
        for nonzeros in read_ahead(lambda chosen: _nonzeros(inputs, chosen, device), rows):
            yield _densified(*nonzeros, device)
        return
    source = inputs.cpu().numpy() if isinstance(inputs, Tensor) else inputs
    groups = _grouped(rows, READ_BYTES // row_bytes(source))
    if device.type != "cuda":
        on_host = read_ahead(
            lambda group: [torch.from_numpy(gathered(source, one)).to(device) for one in group], groups
        )
        for batches in on_host:
            yield from batches
        return
    copies = torch.cuda.Stream(device)
    buffers: SimpleQueue[_PinnedBuffer] = SimpleQueue()
    for _ in range(READERS + 1):
        buffers.put(_PinnedBuffer(device))

    def read(chosen: RowIndex) -> tuple[Tensor, torch.cuda.Event]:
        values = torch.from_numpy(gathered(source, chosen))
        buffer = buffers.get()
        try:
            return buffer.send(values, copies)
        finally:
            buffers.put(buffer)

    for sent in read_ahead(lambda group: [read(one) for one in group], groups):
        for there, arrived in sent:
            current = torch.cuda.current_stream(device)
            current.wait_event(arrived)
            there.record_stream(current)
            yield there


def _nonzeros(inputs: SparseRows, rows: RowIndex, device: torch.device) -> tuple[tuple[int, int], Tensor, Tensor]:
    """Return the shape of the `rows`, and places (int64, in the flattened rows) and values of their nonzeros."""
    chosen = inputs[rows]
    count, width = chosen.shape
    starts = np.repeat(np.arange(count, dtype=np.int64) * width, np.diff(chosen.indptr))
    found = (torch.from_numpy(starts + chosen.indices), torch.from_numpy(chosen.data))
    places, values = (each.pin_memory() if device.type == "cuda" else each for each in found)
    return (count, width), places, values


def _densified(shape: tuple[int, int], places: Tensor, values: Tensor, device: torch.device) -> Tensor:
    whole = torch.zeros(shape, dtype=values.dtype, device=device)
    there = [each.to(device, non_blocking=True) for each in (places, values)]
    whole.view(-1).scatter_(0, *there)
    return whole


def _grouped(rows: Iterable[RowIndex], most: int) -> Iterator[list[RowIndex]]:
    """Yield `rows` in lists of at most `most` positions, or of one batch that has more."""
    group: list[RowIndex] = []
    held = 0
    for one in rows:
        count = one.stop - one.start if isinstance(one, slice) else len(one)
        if group and held + count > most:
            yield group
            group, held = [], 0
        group.append(one)
        held += count
    if group:
        yield group


def resident(inputs: np.ndarray | Tensor, rows: np.ndarray | None, device: torch.device) -> Tensor:
    """Return the `rows` of `inputs` (None: all) as one tensor on `device`, with no second copy of them on the host."""
    if isinstance(inputs, Tensor):
        return (inputs if rows is None else inputs[rows]).to(device)
    count = len(inputs) if rows is None else len(rows)
    step = max(1, CHUNK_BYTES // row_bytes(inputs))
    places = [slice(at, at + step) for at in range(0, count, step)]
    wanted = places if rows is None else (rows[place] for place in places)
    dtype = torch.from_numpy(np.empty(0, inputs.dtype)).dtype
    whole = torch.empty((count, *inputs.shape[1:]), dtype=dtype, device=device)
    for place, part in zip(places, streamed(inputs, wanted, device), strict=True):
        whole[place] = part
    return whole


def gathered(inputs: np.ndarray, rows: RowIndex) -> np.ndarray:
    """Return a copy of the `rows` of `inputs`, in memory of its own: torch cannot share that of a read-only map."""
    if isinstance(rows, np.ndarray) and isinstance(inputs, np.ndarray):
        return np.asarray(np.take(inputs, rows, axis=0))  # which lets other threads run meanwhile
    return np.array(inputs[rows])


def row_bytes(inputs: np.ndarray | Tensor) -> int:
    """Return the bytes of one row of `inputs`, at least 1."""
    return max(1, math.prod(inputs.shape[1:]) * inputs.dtype.itemsize)


class _PinnedBuffer:
    """Page-locked host memory, from which the device copies by itself; used again when the last copy is through."""

    def __init__(self, device: torch.device):
        self._device = device
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._through: torch.cuda.Event | None = None

    def send(self, values: Tensor, stream: torch.cuda.Stream) -> tuple[Tensor, torch.cuda.Event]:
        """Start the copy of `values` to the device on `stream`; returns it and the event of its arrival."""
        size = values.numel() * values.itemsize
        if self._through is not None:
            self._through.synchronize()  # in the reader's thread: training does not wait
        if len(self._memory) < size:
            self._memory = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        host = self._memory[:size].view(values.dtype).view(values.shape)
        host.copy_(values)
        with torch.cuda.device(self._device), torch.cuda.stream(stream):
            there = host.to(self._device, non_blocking=True)
            self._through = torch.cuda.Event()
            self._through.record(stream)
        return there, self._through
