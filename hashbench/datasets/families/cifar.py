"""CIFAR-10 and CIFAR-100, read from the official binary version: no pickle is ever loaded."""

from __future__ import annotations

from pathlib import Path

from hashbench.datasets.base import Store, dataset, one_hot
from hashbench.datasets.files.releases import Archive, OfficialFile, Release

SIDE = 32
PIXELS = 3 * SIDE * SIDE  # red, green, blue planes, row by row
URL = "https://www.cs.toronto.edu/~kriz/"

CIFAR10 = Release(
    title="CIFAR-10",
    folder="cifar-10-batches-bin",
    files=(
        OfficialFile("data_batch_1.bin", 30_730_000, "5dd7e06a14cb22eb9f671a540d1b7c25"),
        OfficialFile("data_batch_2.bin", 30_730_000, "5ea93a67294ea407fff1d09f752e9692"),
        OfficialFile("data_batch_3.bin", 30_730_000, "942cd6a4bcdd0dd3c604fbe906cb4421"),
        OfficialFile("data_batch_4.bin", 30_730_000, "ae636b3ba5c66a11e91e8cb52e771fcb"),
        OfficialFile("data_batch_5.bin", 30_730_000, "53f37980c15c3d472c316c40844f3f0d"),
        OfficialFile("test_batch.bin", 30_730_000, "803d5f7f4d78ea53de84dbe85f74fb6d"),
    ),
    url=URL,
    archive=Archive("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

CIFAR100 = Release(
    title="CIFAR-100",
    folder="cifar-100-binary",
    files=(
        OfficialFile("train.bin", 153_700_000, "6172c7755cfe09b2fe270c85cebc1b15"),
        OfficialFile("test.bin", 30_740_000, "4499cfba6c016c1be1438163640a0898"),
    ),
    url=URL,
    archive=Archive("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
)
_FINE_LABELS = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""
CIFAR100_CLASSES = tuple(_FINE_LABELS.split())


@dataset("cifar10", protocols="cifar10.toml")
def cifar10(data_dir: Path | None) -> Store:
    """Return all 60,000 images of CIFAR-10, (60000, 3, 32, 32) uint8, labels (60000, 10)."""
    return read_binary(CIFAR10, data_dir, name="cifar10", classes=CIFAR10_CLASSES, label_bytes=1)


@dataset("cifar100", protocols="cifar100.toml")
def cifar100(data_dir: Path | None) -> Store:
    """Return all 60,000 images of CIFAR-100, (60000, 3, 32, 32) uint8, with their fine labels (60000, 100)."""
    return read_binary(CIFAR100, data_dir, name="cifar100", classes=CIFAR100_CLASSES, label_bytes=2)


def read_binary(
    release: Release, data_dir: Path | None, *, name: str, classes: tuple[str, ...], label_bytes: int
) -> Store:
    """Return the images of `release`, whose records are `label_bytes` labels, the last one counting, and the pixels.

    Raises HashbenchError for files that are missing, damaged or hold labels that no class has.
    """
    import numpy as np

    contents, sources = release.read(data_dir)
    records = {
        file: np.frombuffer(content, np.uint8).reshape(-1, label_bytes + PIXELS) for file, content in contents.items()
    }
    images = np.concatenate([record[:, label_bytes:] for record in records.values()])
    numbers = np.concatenate([record[:, label_bytes - 1] for record in records.values()])
    part = [np.repeat("test" if file.startswith("test") else "train", len(record)) for file, record in records.items()]
    return Store(
        name,
        images.reshape(-1, 3, SIDE, SIDE),
        one_hot(numbers, classes, name=name),
        classes,
        part=np.concatenate(part),
        sources=sources,
    )
