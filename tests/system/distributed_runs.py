"""What tests/system/test_distributed.py starts with torchrun: exchanges, and runs on the toy by two ranks.

torchrun --nproc-per-node 2 tests/system/distributed_runs.py runs|death FOLDER
"""

import json
import os
import sys
from pathlib import Path
from typing import ClassVar

import torch

torch.set_num_threads(1)
sys.path.insert(0, str(Path(__file__).parents[1]))

import contract_methods  # noqa: E402
import toy_dataset  # noqa: E402, F401

import hashbench  # noqa: E402
from hashbench.cli import main  # noqa: E402
from hashbench.system import distributed  # noqa: E402

FROZEN = ("--recipe", "frozen", "--backbone", "toy-backbone")
VIEWS = (*FROZEN, "--set", "recipe.fixed_views=2", "--set", "recipe.augment=pad-crop")
#: Name -> what `hashbench run` is given beyond the folder. 19 samples in a batch: the shares differ in size,
#: and the last batch, of 3, has too few for two ranks.
RUNS = {
    "trained": ("--method", "crh,csq,dpn", "--backbone", "toy-backbone"),
    "frozen": ("--method", "shc,itq,classifier", *FROZEN),
    "views": ("--method", "classifier", *VIEWS),
    "sums": ("--method", "crh", "--backbone", "toy-backbone", "--set", "crh.code_source=fresh"),
    "batch-norm": ("--method", "csq", "--backbone", "resnet-small"),
    "memory": ("--method", "rank-memory,own-batch-norm", "--backbone", "toy-backbone"),
    "pairs": ("--method", "pairs", "--backbone", "toy-backbone"),
}
COMMON = ("--dataset", "toy", "--bits", "16", "--epochs", "3", "--set", "recipe.batch_size=19", "--quiet")


@hashbench.method("pairs")
class Pairs(hashbench.DeepMethod):
    """Compares samples, and does not say that it does not."""

    def loss(self, out, batch):
        alike = batch.labels @ batch.labels.T
        return {"pairs": ((out @ out.T / 16 - alike) ** 2).mean()}


class Leaving:
    """Leaves what each rank encodes with in the folder that the script was given."""

    folder: ClassVar[Path | None] = None

    def codes(self, out):
        if self.folder is not None:
            torch.save(self.state_dict(), self.folder / f"{self.info.name}-{distributed.world().rank}.pt")
        return super().codes(out)


@hashbench.method("rank-memory")
class Memory(Leaving, contract_methods.Memory):
    """A memory of all training images."""


@hashbench.method("own-batch-norm")
class OwnBatchNorm(Leaving, contract_methods.Memory):
    """A memory written in a fresh pass too, statistics that each rank takes of its own share, and draws of its own."""

    per_sample = False

    def setup(self, task, prepared):
        super().setup(task, prepared)
        self.norm = torch.nn.BatchNorm1d(task.bits)
        self.register_buffer("drawn", torch.zeros(()))

    def training_step(self, network, batch):
        terms, out = super().training_step(network, batch)
        return {**terms, "norm": self.norm(out).abs().mean()}, out

    def wants_fresh_pass(self, epoch):
        return True

    def epoch_sums(self, out, batch):
        if batch.whole == len(self.steps):  # no training step sees all
            self.steps[batch.index] = 1000 + batch.index
        return {}

    def end_epoch(self, epoch, sums):
        self.drawn += torch.rand(())
        return {}


@hashbench.method("mortal")
class Mortal(hashbench.DeepMethod):
    """Ends rank 1 in the third epoch."""

    per_sample = True

    def loss(self, out, batch):
        if batch.epoch == 2 and os.environ.get("RANK") == "1":
            os._exit(7)
        return {"norm": ((out.abs() - 1) ** 2).mean()}


def command(name: str, folder: Path) -> list[str]:
    return ["run", *RUNS[name], *COMMON, "--runs-dir", str(folder / name)]


def exchanges(folder: Path) -> None:
    world = distributed.join(torch.device("cpu"))
    mine = torch.arange(5)[world.share(5)]
    parameters = [torch.nn.Parameter(torch.zeros(n)) for n in (2, 1, 3)]
    parameters[0].grad = torch.tensor([1.0, 2.0]) * (world.rank + 1)
    if world.rank == 1:
        parameters[1].grad = torch.tensor([5.0])
    world.all_reduce_gradients(parameters)
    state = torch.tensor([world.rank])
    world.broadcast_in_place([state])
    found = {
        "share": world.all_gather(mine).tolist(),
        "empty": world.all_gather(torch.ones(3 if world.rank == 1 else 0, 2)).tolist(),
        "summed": {
            name: value.tolist()
            for name, value in world.all_reduced({"a": torch.tensor([0.1, 0.2], dtype=torch.float64)}).items()
        },
        "gradients": [None if p.grad is None else p.grad.tolist() for p in parameters],
        "shares": [
            world.all_gather_share(rows[slice(*world.batch_share(0, len(rows)))], len(rows)).tolist()
            for rows in (torch.arange(5), torch.arange(10).view(5, 2) % 2 == 0, torch.arange(3) + world.rank)
        ],
        "first": world.broadcast({"rank": world.rank}),
        "equal": state.tolist(),
    }
    (folder / f"{world.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    what, folder = sys.argv[1], Path(sys.argv[2])
    if what == "death":
        main(["run", "--method", "mortal", "--backbone", "toy-backbone", *COMMON, "--runs-dir", str(folder)])
    else:
        exchanges(folder)
        Leaving.folder = folder
        for name in RUNS:
            main(command(name, folder), standalone_mode=False)
