"""A method trained by two ranks: the check starts them, and each leaves its memories of samples in a folder.

python -m hashbench.checks.ranks FOLDER, by torchrun
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from hashbench.checks.places import error_text
from hashbench.checks.toy_runs import CPU, Case
from hashbench.errors import HashbenchError
from hashbench.interop.targets import resolve_method
from hashbench.methods.contract import DeepMethod, Method
from hashbench.system.distributed import join

RANKS = 2
ABSENT = "absent"  # the file that says that a rank did not find the class
SECONDS = 120  # after which ranks that wait for each other are ended


def target_of(cls: type[Method]) -> str | None:
    """Return by what another process finds a method's class, as `resolve_method` takes it; None where it cannot."""
    module, name = sys.modules.get(cls.__module__), cls.__qualname__
    if module is None or cls.__module__ == "__main__" or getattr(module, name, None) is not cls:
        return None
    by_file = "@" in cls.__module__  # as resolve_method names what a file made
    return f"{module.__file__ if by_file else cls.__module__}:{name}"


def memories_of_ranks(case: Case, targets: list[str]) -> list[dict[str, Tensor]] | None:
    """Return the buffers that a method declares in `keeps_samples`, as each of two ranks has them after a training.

    `targets` are those of its base and of itself; None where the ranks do not find them. Raises HashbenchError where a
    rank fails, and says why.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(case.prepared, folder / "prepared.pt")
        asked = {"targets": targets, "bits": case.bits, "multi_label": case.multi_label, "inputs": case.inputs}
        (folder / "case.json").write_text(json.dumps(asked))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        started = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS)]
        arguments = [sys.executable, *started, "-m", __name__, str(folder)]
        try:
            ended = subprocess.run(
                arguments, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise HashbenchError(f"its ranks did not end within {SECONDS} seconds; one waits for another.") from None
        if (folder / ABSENT).exists():
            return None
        said = [path.read_text() for path in sorted(folder.glob("*.txt"))]
        if ended.returncode:
            # The other rank only says that this one is gone.
            first = min(said, key=lambda text: text.startswith("Another process"), default=ended.stderr.strip()[-400:])
            raise HashbenchError(f"trained by {RANKS} ranks: {first}")
        return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


def _train(folder: Path) -> None:
    """Train the case that lies in `folder` as one of its ranks, and leave its memories there."""
    torch.set_num_threads(1)
    asked, rank = json.loads((folder / "case.json").read_text()), os.environ["RANK"]
    try:
        cls = [resolve_method(target) for target in asked.pop("targets")][-1]
    except HashbenchError:  # such as of a class that was decorated later
        (folder / ABSENT).touch()
        sys.exit(1)
    assert issubclass(cls, DeepMethod)
    try:
        prepared = torch.load(folder / "prepared.pt", weights_only=True)
        method = Case(cls, prepared=prepared, **asked).train(world=join(CPU)).model.method
        assert isinstance(method, DeepMethod)
        torch.save({name: method.get_buffer(name) for name in method.keeps_samples}, folder / f"{rank}.pt")
    except Exception as error:
        (folder / f"{rank}.txt").write_text(error_text(error, cls))
        sys.exit(1)


if __name__ == "__main__":
    _train(Path(sys.argv[1]))
