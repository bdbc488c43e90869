"""One seed, many independent streams: every random draw has a purpose, and a seed gives every method the same draws."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive(seed: int, *purpose: str | int) -> int:
    """Return the 63-bit seed of the stream for `purpose`, for example `derive(0, "order", epoch)`."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> "torch.Generator":
    """Return a fresh CPU generator for the stream of `purpose`; the CPU's, so that no device changes what is drawn."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *purpose))
