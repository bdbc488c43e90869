"""What an attack costs beside its passes: `python benchmarks/attacks.py [--backbone NAME] [--side PIXELS]`.

A batch of 64 made-up queries is attacked by pgd, and the same network makes as many bare passes forward and back to the
images as the attack has steps, and one more. Both are timed in turn, in pairs; the ratio is the median over the pairs,
so that what else the machine does falls on both. The database has 5,000 made-up codes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from tabulate import tabulate

from hashbench import recipes
from hashbench.evaluation.conditions.attacks import CenterCodePGD
from hashbench.evaluation.conditions.contract import Queries
from hashbench.methods.contract import Task
from hashbench.networks.model import Model
from hashbench.registry import METHODS

BATCH, CLASSES, BITS, DATABASE = 64, 10, 32, 5000


def made_up(backbone: str, side: int, device: torch.device) -> Queries:
    """Return a batch of queries of an untrained csq, with a database."""
    recipe = recipes.load("scratch", overrides={"backbone": backbone}, multi_label=False)
    task = Task(CLASSES, BITS, False, "images", 1000, 1, 1, device, 0)
    model = Model(METHODS.get("csq")(), task, recipe, (3, side, side), width=0, prepared={})
    random = torch.Generator().manual_seed(0)
    labels = torch.eye(CLASSES, dtype=torch.uint8)
    return Queries(
        torch.rand(BATCH, 3, side, side, generator=random).to(device),
        range(BATCH),
        "pgd",
        0,
        model,
        labels=labels[torch.randint(CLASSES, (BATCH,), generator=random)].to(device),
        database_codes=torch.rand(DATABASE, BITS, generator=random) > 0.5,
        database_labels=labels[torch.randint(CLASSES, (DATABASE,), generator=random)],
    )


def bare_passes(queries: Queries, passes: int) -> None:
    """Make so many passes forward, and back to the images."""
    for _ in range(passes):
        images = queries.images.detach().requires_grad_()
        torch.autograd.grad(queries.model.outputs(images).tanh().sum(), images)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long `work` takes, on a GPU to its end."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet-small")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--steps", default="1,7,50")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    device = torch.device(given.device)
    queries = made_up(given.backbone, given.side, device)
    rows = []
    for steps in map(int, given.steps.split(",")):
        attack = CenterCodePGD(steps=steps)
        works = (lambda attack=attack: attack.apply(queries), lambda passes=steps + 1: bare_passes(queries, passes))
        for work in works:  # the first is slower
            work()
        pairs = [tuple(seconds(work, device) for work in works) for _ in range(given.pairs)]
        ratios = sorted(attacked / bare for attacked, bare in pairs)
        attacked, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
        rows.append([steps, f"{attacked:.3f}", f"{bare:.3f}", f"{statistics.median(ratios):.2f}",
                     f"{ratios[0]:.2f} to {ratios[-1]:.2f}"])  # fmt: skip
    print(
        f"{given.backbone} at {given.side} px, {BATCH} queries, {given.pairs} pairs, {torch.get_num_threads()} thread"
    )
    print(tabulate(rows, headers=["steps", "attack, s", "steps + 1 passes, s", "ratio (median)", "ratios"],
                   disable_numparse=True))  # fmt: skip


if __name__ == "__main__":
    main()
