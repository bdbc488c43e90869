"""A method trained by two ranks: the check starts them, and each leaves its memories of samples in a folder.

python -m hashbench.checks.ranks FOLDER
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import wait
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed import TCPStore

from hashbench.checks.places import error_text
from hashbench.checks.toy_runs import CPU, Case
from hashbench.errors import HashbenchError
from hashbench.interop.targets import resolve_method
from hashbench.methods.contract import DeepMethod, Method
from hashbench.networks.model import Model
from hashbench.system.distributed import join

RANKS = 2
ABSENT, LATE = "absent", "late"  # files that say that a rank did not find the class, or that ranks did not end
SECONDS = 120  # after which ranks that wait for each other are ended


def target_of(cls: type[Method]) -> str | None:
    """Return by what another process finds a method's class, as `resolve_method` takes it; None where it cannot."""
    module, name = sys.modules.get(cls.__module__), cls.__qualname__
    if module is None or cls.__module__ == "__main__" or getattr(module, name, None) is not cls:
        return None
    by_file = "@" in cls.__module__  # as resolve_method names what a file made
    return f"{module.__file__ if by_file else cls.__module__}:{name}"


def memories(model: Model) -> dict[str, Tensor]:
    """Return copies of a method's buffers with a row for each training sample, declared in `keeps_samples` or not."""
    buffers = model.method.named_buffers()
    return {name: kept.clone() for name, kept in buffers if kept.ndim and len(kept) == model.task.num_train}


def memories_of_ranks(case: Case, targets: list[str]) -> list[dict[str, Tensor]] | None:
    """Return the `memories` of a method, as each of two ranks has them after a training.

    `targets` are those of its base and of itself; None where the ranks do not find them. Raises HashbenchError where a
    rank fails, and says why.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(case.prepared, folder / "prepared.pt")
        asked = {"targets": targets, "bits": case.bits, "multi_label": case.multi_label, "inputs": case.inputs}
        (folder / "case.json").write_text(json.dumps(asked))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", __name__, str(folder)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if (folder / LATE).exists():
            raise HashbenchError(f"its ranks did not end within {SECONDS} seconds; one waits for another.")
        if (folder / ABSENT).exists():
            return None
        said = [path.read_text() for path in sorted(folder.glob("*.txt"))]
        if ended.returncode:
            # The other rank only says that this one is gone.
            first = min(said, key=lambda text: text.startswith("Another process"), default=ended.stderr.strip()[-400:])
            raise HashbenchError(f"trained by {RANKS} ranks: {first}")
        return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


def _train_by_ranks(folder: Path) -> int:
    """Start the ranks, as torchrun does, and return 0 where all of them end well; one that fails ends the others.

    They are forks of this process, which has imported all that they need and has no thread yet.
    """
    context = multiprocessing.get_context("fork")
    port = context.SimpleQueue()
    ranks = [context.Process(target=_train, args=(folder, rank, port)) for rank in range(RANKS)]
    for process in ranks:
        process.start()
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for _ in ranks:
        port.put(store.port)
    until = time.monotonic() + SECONDS
    try:
        while running := [process for process in ranks if process.exitcode is None]:
            if any(process.exitcode for process in ranks):
                return 1
            if not wait([process.sentinel for process in running], timeout=until - time.monotonic()):
                (folder / LATE).touch()
                return 1
        return max(abs(process.exitcode or 0) for process in ranks)
    finally:
        for process in ranks:
            process.kill()


def _train(folder: Path, rank: int, port: SimpleQueue[int]) -> None:
    """Train the case that lies in `folder` as one of its ranks, and leave its memories there."""
    torch.set_num_threads(1)
    os.environ |= {
        **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS), "LOCAL_WORLD_SIZE": str(RANKS)},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port.get()), "TORCHELASTIC_USE_AGENT_STORE": "True"},
        **{"TORCHELASTIC_RUN_ID": "check", "TORCHELASTIC_RESTART_COUNT": "0"},
    }
    asked = json.loads((folder / "case.json").read_text())
    try:
        cls = [resolve_method(target) for target in asked.pop("targets")][-1]
    except HashbenchError:  # such as of a class that was decorated later
        (folder / ABSENT).touch()
        sys.exit(1)
    assert issubclass(cls, DeepMethod)
    try:
        prepared = torch.load(folder / "prepared.pt", weights_only=True)
        trained = Case(cls, prepared=prepared, **asked).train(world=join(CPU))
        torch.save(memories(trained.model), folder / f"{rank}.pt")
    except Exception as error:
        (folder / f"{rank}.txt").write_text(error_text(error, cls))
        sys.exit(1)


if __name__ == "__main__":
    import torch._dynamo  # which the first step would import, here once for both ranks

    sys.exit(_train_by_ranks(Path(sys.argv[1])))
