"""One seed, many independent streams: every random draw has a purpose, and a seed gives every method the same draws."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

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


def seed_globals(seed: int, *purpose: str | int, rank: int = 0) -> None:
    """Start the global generators of torch (all devices), numpy and random anew, each in a stream for `purpose`.

    Whatever draws from them, such as dropout or a plug-in's library, then follows from the seed; each `rank` but the
    first draws by itself.
    """
    import torch

    own = [rank] if rank else []
    torch.manual_seed(derive(seed, *purpose, *own))
    random.seed(derive(seed, *purpose, "python", *own))
    np.random.seed(derive(seed, *purpose, "numpy", *own) % 2**32)


@contextmanager
def globals_kept(device: "torch.device | None" = None) -> Iterator[None]:
    """Put the global generators of torch (the CPU's and `device`'s), numpy and random back at the end."""
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    devices = [device] if device is not None and device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
