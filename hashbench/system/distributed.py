"""One run on several devices, started by torchrun: each rank's share, and all-reduce, all-gather and broadcast.

torch.distributed does the work. Every rank makes the same plan and calls the same functions of its `World` in the same
order; rank 0 decides what is computed, and alone writes results, checkpoints and progress. In a world of one rank all
this does nothing, so that the same code runs on one device. A collective that a dead rank breaks off raises a
HashbenchError in the others.
"""

from __future__ import annotations

import atexit
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hashbench.errors import HashbenchError

T = TypeVar("T")
# A rank waits as long as another works: for a preparation, for the features. A dead rank is found by its connection.
TIMEOUT = timedelta(days=30)
GLOO_EXIT_SECONDS = 0.2  # seconds


@dataclass(frozen=True)
class World:
    """The ranks that share a run, as seen from one of them."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which decides and writes."""
        return self.rank == 0

    @property
    def is_single(self) -> bool:
        """Whether this is the only rank."""
        return self.size == 1

    def share(self, count: int) -> slice:
        """Return this rank's share of `count` rows: all shares follow each other and cover every row once."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def batch_share(self, start: int, stop: int) -> tuple[int, int]:
        """Return the samples of a global batch that this rank trains on: its share, or all where it `replicates`."""
        if self.replicates(stop - start):
            return start, stop
        share = self.share(stop - start)
        return start + share.start, start + share.stop

    def replicates(self, count: int) -> bool:
        """Return whether every rank takes all `count` samples: too few to leave each rank two, as batch norm needs."""
        return not self.is_single and count < 2 * self.size

    def weight(self, mine: int, whole: int) -> float:
        """Return the weight of the mean over this rank's samples in the mean over the global batch."""
        return 1 / self.size if self.replicates(whole) else mine / whole

    def all_reduce(self, tensor: Tensor) -> None:
        """Replace `tensor` by its sum over the ranks."""
        if not self.is_single:
            _collective(lambda: dist.all_reduce(tensor))

    def all_reduced(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the sums over the ranks of named tensors; all ranks have the same names."""
        if self.is_single:
            return sums
        total = {name: sums[name].clone() for name in sorted(sums)}
        for tensor in total.values():
            self.all_reduce(tensor)
        return {name: total[name] for name in sums}

    def all_reduce_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace the gradients by their sums over the ranks, in one all-reduce; one that no rank has stays None.

        One all-reduce after `backward`, rather than DistributedDataParallel's during it: a method may call the network
        as often as it likes, differentiate by its inputs, and have parameters of its own.
        """
        if self.is_single:
            return
        device = parameters[0].device
        has = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32, device=device)
        flat = torch.cat([has, *((torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters)])
        self.all_reduce(flat)
        missing = [at for at, p in enumerate(parameters) if p.grad is None]
        anywhere = flat[: len(parameters)].tolist() if missing else []  # waits for the device only where one is missing
        place = len(parameters)
        for at, p in enumerate(parameters):
            total = flat[place : place + p.numel()].view_as(p)
            place += p.numel()
            if p.grad is not None:
                p.grad.copy_(total)
            elif anywhere[at]:
                p.grad = total.clone()

    def broadcast_in_place(self, tensors: Iterable[Tensor]) -> None:
        """Give `tensors` the values that they have on rank 0, in place."""
        if not self.is_single:
            for tensor in tensors:
                _collective(partial(dist.broadcast, tensor.detach(), src=0))

    def all_gather(self, rows: Tensor) -> Tensor:
        """Return the rows (n, ...) of all ranks, on the CPU, in the order of the ranks; each may have another n."""
        if self.is_single:
            return rows
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        _collective(lambda: dist.all_gather(counts, torch.tensor([len(rows)])))
        most = max(int(count) for count in counts)
        padded = torch.zeros(most, *rows.shape[1:], dtype=rows.dtype)
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        _collective(lambda: dist.all_gather(parts, padded))
        return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])

    def broadcast(self, value: T) -> T:
        """Return rank 0's `value`, which may be anything that can be pickled, with its tensors on the CPU."""
        if self.is_single:
            return value
        box: list[Any] = [value if self.is_main else None]
        _collective(lambda: dist.broadcast_object_list(box, src=0, device=torch.device("cpu")))
        return box[0]

    def barrier(self) -> None:
        """Wait until every rank has called this."""
        self.all_reduce(torch.zeros(1))


SINGLE = World()


def world() -> World:
    """Return the ranks that torchrun started, or this process alone."""
    if not dist.is_torchelastic_launched():
        return SINGLE
    return World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def join(device: torch.device) -> World:
    """Return the world, ready for collectives; called on every rank before any of them."""
    found = world()
    if dist.is_torchelastic_launched() and not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        _collective(lambda: dist.init_process_group(backend, timeout=TIMEOUT))
        atexit.register(_destroy_group)
        signal.signal(signal.SIGTERM, _on_sigterm)
    return found


def local_device(name: str) -> str:
    """Return the device that the name stands for on this rank: under torchrun, each rank of a machine has its own."""
    if not dist.is_torchelastic_launched() or name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return name
    if name not in ("auto", "cuda"):
        raise HashbenchError(f"torchrun gives each process a device of its own; leave out '--device {name}'.")
    own, processes, found = int(os.environ["LOCAL_RANK"]), os.environ["LOCAL_WORLD_SIZE"], torch.cuda.device_count()
    if own >= found:
        raise HashbenchError(
            f"torchrun started {processes} processes here, but there are {found} CUDA devices; say "
            f"--nproc-per-node {found}, or --device cpu."
        )
    return f"cuda:{own}"


def _collective(operation: Callable[[], Any]) -> None:
    try:
        operation()
    except RuntimeError as error:  # gloo's plain ones, and torch.distributed's own
        # torchrun sends SIGTERM now, which would end this process before the error is printed
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise HashbenchError(
            "Another process of this run ended, so this one cannot go on; what was finished is kept, and the same "
            f"command goes on from the last checkpoint ({str(error).splitlines()[0]})."
        ) from error


def _on_sigterm(number: int, frame: Any) -> None:
    """Turn torchrun's signal that ends all processes into an error, so that a run says why it has no result."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise HashbenchError(
        "torchrun ended this process, because another one failed or it was stopped; what was finished is kept, and the "
        "same command goes on from the last checkpoint."
    )


def _destroy_group() -> None:
    """Destroy the process group before Python ends.

    A thread of gloo takes Python's lock to free the tensors of the last collective; where Python is ending by then, it
    aborts the process, whose run was complete. So the threads get time for it while the lock is free.
    """
    if dist.is_initialized():
        time.sleep(GLOO_EXIT_SECONDS)
        dist.destroy_process_group()
