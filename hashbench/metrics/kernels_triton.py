"""The kernel for CUDA devices: XOR, popcount, relevance and count in one pass on the chip, written in Triton.

A program compares one query with some of a tile's items and keeps their histogram in registers; no distance is ever
written to memory. Its counts are 32-bit and at most `ITEMS`; they are added to 64-bit ones once a program. It is tested
under Triton's interpreter, and has not run on a GPU yet: so a new counter first counts a few pairs and compares them
with plain torch (kernels_torch.py), which also counts where Triton cannot.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from hashbench.metrics.kernels_torch import TorchCounter

BLOCK = 1024  # items compared at a time
ITEMS = 32 * BLOCK  # items of one program: so many that adding up its histogram costs little beside them
MOST_BINS = 2048  # of one histogram; more levels of relevance than fit are counted by programs of their own
TILE_ITEMS = 1 << 20
TILE_BYTES = 1 << 26  # of a tile's codes and labels on the host
CHECKED = 32  # queries and items of the first comparison


@triton.jit
def _ones(word):  # type: ignore[no-untyped-def]
    """Return how many ones each 32-bit word has."""
    word = word.to(tl.uint32, bitcast=True)
    word = word - ((word >> 1) & 0x55555555)
    word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F
    return ((word * 0x01010101) >> 24).to(tl.int32)


@triton.jit(do_not_specialize=["items"])
def _count(  # type: ignore[no-untyped-def]
    queries, query_labels, database, labels, counts, items,
    WORDS: tl.constexpr, LABEL_WORDS: tl.constexpr, WIDTH: tl.constexpr, LEVELS: tl.constexpr, SPAN: tl.constexpr,
    BINS: tl.constexpr, ITEMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add one query's counts of `ITEMS` items at `SPAN` levels of relevance to `counts (Q, LEVELS, WIDTH)`.

    queries (Q, WORDS) and database (WORDS, items) are 32-bit words; labels are masks (LABEL_WORDS, items), or one label
    each where LABEL_WORDS is 0. What is not counted falls into the last bin.
    """
    query = tl.program_id(0).to(tl.int64)
    start = tl.program_id(1) * ITEMS
    first = tl.program_id(2) * SPAN
    histogram = tl.zeros([BINS], tl.int32)
    for block in range(start, tl.minimum(start + ITEMS, items), BLOCK):
        at = block + tl.arange(0, BLOCK)
        inside = at < items
        distance = tl.zeros([BLOCK], tl.int32)
        for w in range(WORDS):
            word = tl.load(database + w * items + at, mask=inside, other=0)
            distance += _ones(word ^ tl.load(queries + query * WORDS + w))
        if LABEL_WORDS == 0:
            level = (tl.load(labels + at, mask=inside, other=0) == tl.load(query_labels + query)).to(tl.int32)
        else:
            level = tl.zeros([BLOCK], tl.int32)
            for w in range(LABEL_WORDS):
                word = tl.load(labels + w * items + at, mask=inside, other=0)
                level += _ones(word & tl.load(query_labels + query * LABEL_WORDS + w))
            level = tl.minimum(level, LEVELS - 1)
        counted = inside & (level >= first) & (level < first + SPAN)
        slot = tl.where(counted, (level - first) * WIDTH + distance, BINS - 1)
        histogram += tl.histogram(slot, BINS)
    bins = tl.arange(0, BINS)
    place = first * WIDTH + bins
    kept = (bins < SPAN * WIDTH) & (place < LEVELS * WIDTH) & (histogram > 0)
    tl.atomic_add(counts + query * LEVELS * WIDTH + place, histogram.to(tl.int64), mask=kept)


INTERPRETED = not isinstance(_count, triton.JITFunction)  # by TRITON_INTERPRET=1, on the CPU


class TritonCounter:
    """Counts a streamed database for fixed queries on a CUDA device (see `histograms.Counter`)."""

    def __init__(
        self,
        queries: np.ndarray,
        labels: np.ndarray,
        *,
        bits: int,
        levels: int,
        device: str = "cuda",
        check: bool = True,
    ):
        """`queries (Q, bytes)` packed; `labels (Q,)` int64 or `(Q, C)` bool; `levels` of relevance, 0 among them.

        Raises RuntimeError where the device is no CUDA one, where the kernel does not compile, and, with `check`, where
        it counts a few of the queries among themselves otherwise than plain torch.
        """
        self._device = torch.device(device)
        if self._device.type != "cuda" and not INTERPRETED:
            raise RuntimeError(f"it compiles for CUDA devices, not for '{device}'")
        self._levels, self._width = levels, bits + 1
        self._queries = self._words(queries).T.contiguous()
        several = labels.ndim == 2
        self._labels = self._labels_of(labels).T.contiguous() if several else self._labels_of(labels)
        self._label_words = self._labels.shape[1] if several else 0
        self._span = max(1, min(levels, (MOST_BINS - 1) // self._width))
        self._counts = torch.zeros(len(queries), levels, bits + 1, dtype=torch.int64, device=self._device)
        self.tile = max(1, min(TILE_ITEMS, TILE_BYTES // (queries.shape[1] + labels[:1].nbytes)))
        if check:
            self._check(queries[:CHECKED], labels[:CHECKED], bits)

    def add(self, database: np.ndarray, labels: np.ndarray) -> None:
        """Count one tile of the database: packed codes (n, bytes) and their labels, n at most `tile`."""
        codes, theirs = self._words(database), self._labels_of(labels)
        grid = (len(self._queries), triton.cdiv(len(database), ITEMS), triton.cdiv(self._levels, self._span))
        if not len(database):
            return
        with torch.cuda.device_of(codes):  # Triton starts its programs on the current device
            _count[grid](
                self._queries, self._labels, codes, theirs, self._counts, len(database), WORDS=len(codes),
                LABEL_WORDS=self._label_words, WIDTH=self._width, LEVELS=self._levels, SPAN=self._span,
                BINS=triton.next_power_of_2(self._span * self._width + 1), ITEMS=ITEMS, BLOCK=BLOCK,
            )  # fmt: skip

    def counts(self) -> np.ndarray:
        """Return the counts so far, (Q, levels, bits + 1) int64: by level of relevance, then by distance."""
        return self._counts.cpu().numpy()

    def _check(self, queries: np.ndarray, labels: np.ndarray, bits: int) -> None:
        settings: Any = {"bits": bits, "levels": self._levels, "device": str(self._device)}
        here = TritonCounter(queries, labels, check=False, **settings)
        reference = TorchCounter(queries, labels, **settings)
        for counter in (here, reference):
            counter.add(queries, labels)
        if not np.array_equal(here.counts(), reference.counts()):
            raise RuntimeError("it counts otherwise than torch")

    def _words(self, rows: np.ndarray) -> torch.Tensor:
        """Return the bytes of each row, zero-padded, as words: (n, bytes) uint8 -> (words, n) int32 on the device."""
        moved = torch.tensor(rows, device=self._device)
        padded = torch.nn.functional.pad(moved, (0, -rows.shape[1] % 4))
        return padded.view(torch.int32).T.contiguous()

    def _labels_of(self, labels: np.ndarray) -> torch.Tensor:
        """Return labels on the device: (n,) int64 as they are, (n, C) bool as masks (words, n) int32."""
        if labels.ndim == 1:
            return torch.tensor(labels, device=self._device)
        return self._words(np.packbits(labels, axis=1))
