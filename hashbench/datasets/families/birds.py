"""Bird pictures by species, CUB-200-2011 and NABirds: two releases in the same layout of text files."""

from __future__ import annotations

from pathlib import Path

from hashbench.datasets.base import dataset
from hashbench.datasets.files.annotations import read_pairs, relative_path, source
from hashbench.datasets.files.archives import ImageRelease, Packed
from hashbench.datasets.files.imagefiles import ImageFiles
from hashbench.errors import HashbenchError

TEXT_FILES = ("classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt")
PARTS = {"0": "test", "1": "train"}
CUB200 = ImageRelease(
    title="CUB-200-2011",
    folder="",
    archives=(
        Packed(
            "CUB_200_2011.tgz",
            "CUB_200_2011",
            "images.txt",
            url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            md5="97eceeb196236b17998738112f37df78",
        ),
    ),
    page="https://www.vision.caltech.edu/datasets/cub_200_2011/",
)
NABIRDS = ImageRelease(
    title="NABirds",
    folder="",
    archives=(Packed("nabirds.tar.gz", "nabirds", "images.txt"),),
    page="https://dl.allaboutbirds.org/nabirds",
    how="after agreeing to its terms of use",
)


@dataset("cub200", protocols="cub200.toml")
def cub200(data_dir: Path | None) -> ImageFiles:
    """Return the 11,788 pictures of CUB-200-2011 by path, labels (11788, 200), with the official split."""
    return read_birds(CUB200.locate(data_dir) / "CUB_200_2011", name="cub200")


@dataset("nabirds", protocols="nabirds.toml")
def nabirds(data_dir: Path | None) -> ImageFiles:
    """Return the 48,562 pictures of NABirds by path, labels (48562, 555), with the official split.

    The classes are the 555 leaves that pictures belong to; the hierarchy above them is not read.
    """
    return read_birds(NABIRDS.locate(data_dir) / "nabirds", name="nabirds")


def read_birds(root: Path, *, name: str) -> ImageFiles:
    """Return the pictures that the four text files in `root` describe, in the order of images.txt.

    A class is called by its number and name, as names repeat. Raises HashbenchError for files that are missing or
    damaged and for pictures that one of the files leaves out.
    """
    import numpy as np

    classes, images, labels, split = (read_pairs(root / file) for file in TEXT_FILES)
    for file, table in (("image_class_labels.txt", labels), ("train_test_split.txt", split)):
        if table.keys() != images.keys():
            odd = min(table.keys() ^ images.keys())
            raise HashbenchError(f"{root / file} and images.txt differ about image '{odd}'; fetch them again.")
    unknown_class = next((image for image, number in labels.items() if number not in classes), None)
    if unknown_class is not None:
        raise HashbenchError(
            f"{root / 'image_class_labels.txt'} gives image '{unknown_class}' the class {labels[unknown_class]}, which "
            f"classes.txt does not name; fetch them again."
        )
    wrong_part = next((image for image, part in split.items() if part not in PARTS), None)
    if wrong_part is not None:
        raise HashbenchError(
            f"{root / 'train_test_split.txt'} says '{split[wrong_part]}' of image '{wrong_part}' instead of 0 or 1; "
            f"fetch it again."
        )
    used = set(labels.values())
    columns = {number: column for column, number in enumerate(number for number in classes if number in used)}
    return ImageFiles(
        name,
        root,
        tuple(
            f"images/{relative_path(path, root / 'images.txt', number)}"
            for number, path in enumerate(images.values(), start=1)
        ),
        np.eye(len(columns), dtype=np.uint8)[[columns[labels[image]] for image in images]],
        tuple(f"{number} {classes[number]}" for number in columns),
        part=np.array([PARTS[split[image]] for image in images]),
        sources=tuple(source(root / file) for file in TEXT_FILES),
    )
