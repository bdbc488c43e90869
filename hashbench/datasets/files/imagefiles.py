"""A data set of image files as its official files describe it, before anything is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashbench.datasets.files.releases import SourceFile

if TYPE_CHECKING:
    import numpy as np

# The endings of the files in a folder that are read as images.
IMAGE_ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Which image lies where and what it shows; `hashbench prepare` decodes it once into a `Store`."""

    name: str
    root: Path  # every image lies below it
    paths: tuple[str, ...]  # N paths below `root`, with "/": the official names, by which splits rank the images
    labels: np.ndarray  # (N, C) uint8, multi-hot
    classes: tuple[str, ...]
    part: np.ndarray | None = None  # (N,) str: "train", "test" or "database", the source's own split
    sources: tuple[SourceFile, ...] = ()  # the annotation files it was read from
    unlabelled: int = 0  # images of the release that were left out because they have no label
    notes: tuple[str, ...] = ()  # how own data were read, as sentences that `hashbench prepare` prints
    follow_links: bool = False  # whether links may lead out of `root`
    reading: Mapping[str, Any] = field(default_factory=dict)  # JSON: how own data were read, to read them so again
