"""Small sets of image files: JPEG trees on disk, registered as data sets whose reader lists them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from hashbench.datasets.base import DataSource, dataset
from hashbench.datasets.files.imagefiles import ImageFiles
from hashbench.datasets.files.releases import SourceFile, data_root

TOML = """
about = "pictures in files"
num_classes = 3
citation = "nobody"
licence = "MIT"
source = "https://example.org"
image_size = {size}
found_by = ["{name}/list.txt"]
[[protocol]]
name = "p"
summary = "a few"
sizes = {{ train = {train}, query = 6, database = {database} }}
train_in_database = false
rule = "per-class-v1"
measures = ["mAP@all"]
"""
CLASSES = ("a", "b", "c")


def write_tree(data_dir: Path, *, count: int = 30, name: str = "tree", side: int = 24) -> Path:
    """Write `count` JPEG files of about `side` pixels and a list of them below `data_dir`; returns their folder."""
    chance = np.random.default_rng(5)
    root = data_dir / name
    lines = []
    for number in range(count):
        path = root / f"images/{CLASSES[number % 3]}/{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = chance.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side + number % 5, side)).save(path, quality=90)
        lines.append(f"{path.relative_to(root).as_posix()} {number % 3}\n")
    (root / "list.txt").write_text("".join(lines))
    return root


def register_tree(
    protocols: Path, *, count: int = 30, name: str = "tree", size: int = 16, expected: str | None = None
) -> DataSource:
    """Register the data set that `write_tree` writes; its protocol file goes to the folder `protocols`."""
    (protocols / f"{name}.toml").write_text(
        TOML.format(name=name, size=size, train=count // 2 // 3 * 3, database=count - 6 - count // 2 // 3 * 3)
    )

    def read(data_dir: Path | None) -> ImageFiles:
        data_dir = data_root(data_dir)
        content = (data_dir / name / "list.txt").read_bytes()
        rows = [line.split() for line in content.decode().splitlines()]
        return ImageFiles(
            name,
            data_dir / name,
            tuple(path for path, _ in rows),
            np.eye(3, dtype=np.uint8)[[int(label) for _, label in rows]],
            CLASSES,
            sources=(
                SourceFile(str(data_dir / name / "list.txt"), f"md5:{hashlib.md5(content).hexdigest()}", expected),
            ),
        )

    return dataset(name, protocols=str(protocols / f"{name}.toml"))(read)
