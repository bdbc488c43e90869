"""Augmented training batches: our loader, resident and streamed, against torch's DataLoader with PIL and torchvision.

python benchmarks/loading.py
python benchmarks/loading.py --device cuda --images 20000
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # before torch is there; the DataLoader has it too

import click
import numpy as np
import torch
from PIL import Image
from steps import Workload, ratio, seconds
from tabulate import tabulate
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from hashbench import recipes
from hashbench.datasets.loading.loader import TrainLoader
from hashbench.datasets.loading.streaming import OVERRIDE
from hashbench.networks.model import true_float32

BATCH = 128


@dataclass(frozen=True)
class Case:
    """What is loaded: images of `side` pixels, augmented, as the network of a recipe takes them."""

    title: str
    side: int
    size: int
    augment: str
    transform: Callable[[Image.Image], torch.Tensor]
    share: float  # of the images asked for


def cases() -> list[Case]:
    flip = [transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    padded = transforms.Compose([transforms.RandomCrop(32, padding=4), *flip])
    resized = transforms.Compose([transforms.RandomResizedCrop(224), *flip])
    return [
        Case("32 px, pad-crop, flip", 32, 0, "pad-crop-flip", padded, 1.0),
        Case("32 -> 224 px, resized crop, flip", 32, 224, "resized-crop-flip", resized, 0.25),
        Case("256 -> 224 px, resized crop, flip", 256, 224, "resized-crop-flip", resized, 0.25),
    ]


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """Decoded images behind a transform, sample by sample, as most code of the field has them."""

    def __init__(self, images: np.ndarray, transform: Callable[[Image.Image], torch.Tensor]):
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[at].transpose(1, 2, 0))), at


def loaders(case: Case, images: np.ndarray, device: torch.device) -> dict[str, Callable[[], object]]:
    """One epoch of each loader, batch by batch on the device."""
    parts: dict[str, Callable[[], object]] = {}
    for tier in ("resident", "streamed"):
        os.environ[OVERRIDE] = tier
        ours = TrainLoader(
            images, None, batch_size=BATCH, seed=0, device=device, augment=case.augment, size=case.size,
            channels_last=True,
        )  # fmt: skip
        parts[f"ours, {tier}"] = lambda ours=ours: [None for _ in ours.epoch(0)]  # type: ignore[misc]
    del os.environ[OVERRIDE]
    for workers in (0, 2):
        theirs = DataLoader(
            Pictures(images, case.transform), BATCH, shuffle=True, num_workers=workers,
            persistent_workers=workers > 0, pin_memory=device.type == "cuda",
        )  # fmt: skip
        parts[f"DataLoader, {workers} workers"] = (
            lambda theirs=theirs: [  # type: ignore[misc]
                batch.to(device, non_blocking=True) for batch, _ in theirs
            ][:0]
        )
    return parts


def step_seconds(recipe: str, device: torch.device, rounds: int) -> float:
    """Return the seconds of a bare training step with a batch of BATCH images, scaled up from 16 on a CPU."""
    batch = BATCH if device.type == "cuda" or recipe == "scratch" else 16
    settings = recipes.load(recipe, overrides={"batch_size": batch}, multi_label=False)
    work = Workload.of(settings, method="crh", side=32, steps=3, device=device)
    found = seconds({"bare": work.bare_steps()}, rounds=rounds, device=device)["bare"]
    return statistics.median(found) / 3 * BATCH / batch


@click.command(help=__doc__)
@click.option("--device", default="cpu", help="cpu or cuda.")
@click.option("--images", "count", default=4096, help="Images of 32 px; a quarter of it where views are 224 px.")
@click.option("--rounds", default=5, help="Times that the loaders take turns.")
@true_float32()
def main(device: str, count: int, rounds: int) -> None:
    on = torch.device(device)
    batch_seconds: dict[str, float] = {}
    for case in cases():
        with tempfile.TemporaryDirectory() as folder:
            shape = (int(count * case.share), 3, case.side, case.side)
            np.save(Path(folder) / "images.npy", np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
            images = np.load(Path(folder) / "images.npy", mmap_mode="r")
            found = seconds(loaders(case, images, on), rounds=rounds, device=on)
        rivals = [name for name in found if name.startswith("DataLoader")]
        rows = [
            [name, f"{shape[0] / statistics.median(took):,.0f}", *(f"{ratio(found[r], took):.2f}x" for r in rivals)]
            for name, took in found.items()
        ]
        click.echo(f"\n{case.title}, batches of {BATCH} on {on}, {torch.get_num_threads()} threads")
        click.echo(tabulate(rows, headers=["", "images/s", *(f"of {r}" for r in rivals)], disable_numparse=True))
        batch_seconds[case.title] = statistics.median(found["ours, resident"]) * BATCH / shape[0]
    small, large = step_seconds("scratch", on, rounds), step_seconds("finetune", on, rounds)
    click.echo("\nThe resident loader's seconds as a share of the bare training step's:")
    for title, took in batch_seconds.items():
        network, step = ("resnet-small", small) if title.startswith("32 px") else ("resnet34 at 224 px", large)
        click.echo(f"  {title}: {100 * took / step:.1f}% of {network}'s")


if __name__ == "__main__":
    main()
