"""The reference kernel in plain torch: a matrix product gives the distances, `bincount` the histogram.

It runs wherever torch does and needs nothing compiled. Codes and labels travel to the device a tile at a time and
nothing of size Q x N is kept. Products of {-1, +1} codes are integers of at most 1,024, which float16 (on a GPU) and
float32 (elsewhere) hold exactly, so that the counts are those of every other kernel.
"""

from __future__ import annotations

import numpy as np
import torch

TILE_BITS = {"cuda": 1 << 26, "cpu": 1 << 21}  # bits of the database unpacked at a time
PAIRS = {"cuda": 1 << 26, "cpu": 1 << 21}  # distances in memory at a time
# `bincount` keeps its bins in a GPU's shared memory when they fit, which is several times faster than when they do not.
BINS = {"cuda": 4096, "cpu": 1 << 24}


class TorchCounter:
    """Counts a streamed database for fixed queries on any torch device (see `histograms.Counter`)."""

    def __init__(
        self,
        queries: np.ndarray,
        labels: np.ndarray,
        *,
        bits: int,
        levels: int,
        device: str = "cpu",
        threads: int | None = None,
    ):
        """`queries (Q, bytes)` packed; `labels (Q,)` int64 or `(Q, C)` bool; `levels` of relevance, 0 among them.

        `threads` become those of torch in this process; None leaves them as they are.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self._device = torch.device(device)
        self._kind = "cuda" if self._device.type == "cuda" else "cpu"
        self._float = torch.float16 if self._kind == "cuda" else torch.float32
        self._bits, self._levels = bits, levels
        self._queries = self._signs(queries)
        self._labels = self._on_device(labels)
        self._counts = torch.zeros(len(queries), levels, bits + 1, dtype=torch.int64, device=self._device)
        self.tile = TILE_BITS[self._kind] // bits

    def add(self, database: np.ndarray, labels: np.ndarray) -> None:
        """Count one tile of the database: packed codes (n, bytes) and their labels, n at most `tile`."""
        codes, theirs = self._signs(database), self._on_device(labels)
        bins = self._levels * (self._bits + 1)
        step = max(1, min(PAIRS[self._kind] // max(1, len(codes)), BINS[self._kind] // bins))
        for start in range(0, len(self._queries), step):
            part = slice(start, start + step)
            distance = (self._bits - self._queries[part] @ codes.T).div_(2).to(torch.int32)
            slot = distance.add_(self._relevance(self._labels[part], theirs), alpha=self._bits + 1)
            slot += torch.arange(len(slot), dtype=torch.int32, device=self._device)[:, None] * bins
            counted = torch.bincount(slot.flatten(), minlength=len(slot) * bins)
            self._counts[part] += counted.view(len(slot), self._levels, self._bits + 1)

    def counts(self) -> np.ndarray:
        """Return the counts so far, (Q, levels, bits + 1) int64: by level of relevance, then by distance."""
        return self._counts.cpu().numpy()

    def _relevance(self, query: torch.Tensor, database: torch.Tensor) -> torch.Tensor:
        """Return the level of relevance of every pair, (Q, n) int32: the shared labels, at most levels - 1."""
        if query.ndim == 1:
            return (query[:, None] == database).to(torch.int32)
        return (query @ database.T).to(torch.int32).clamp_(max=self._levels - 1)

    def _signs(self, packed: np.ndarray) -> torch.Tensor:
        """Unpack codes on the device: (n, bytes) uint8 -> (n, bits) of -1 and +1."""
        codes = torch.tensor(packed, device=self._device)
        places = torch.arange(7, -1, -1, dtype=torch.uint8, device=self._device)
        ones = (codes[:, :, None] >> places).bitwise_and_(1).flatten(1)[:, : self._bits]
        return ones.to(self._float).mul_(2).sub_(1)

    def _on_device(self, labels: np.ndarray) -> torch.Tensor:
        moved = torch.tensor(labels, device=self._device)
        return moved.to(self._float) if moved.ndim == 2 else moved
