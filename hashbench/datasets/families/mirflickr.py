"""MIRFlickr-25k: 25,000 Flickr pictures under 38 labels, 24 potential ones and 14 relevant ones (`_r1`)."""

from __future__ import annotations

import re
from pathlib import Path

from hashbench.datasets.base import dataset
from hashbench.datasets.files.annotations import bad_line, read_lines, source
from hashbench.datasets.files.archives import ImageRelease, Packed
from hashbench.datasets.files.imagefiles import ImageFiles
from hashbench.errors import HashbenchError

URL = "https://press.liacs.nl/mirflickr/mirflickr25k.v3b/"
IMAGES, ANNOTATIONS = "mirflickr", "mirflickr25k_annotations_v080"
_POTENTIAL = """
    animals baby bird car clouds dog female flower food indoor lake male night people plant_life portrait river sea sky
    structures sunset transport tree water
"""
_RELEVANT = "baby bird car clouds dog female flower male night people portrait river sea tree"
CLASSES = (*_POTENTIAL.split(), *(f"{label}_r1" for label in _RELEVANT.split()))
MIRFLICKR = ImageRelease(
    title="MIRFlickr-25k",
    folder="mirflickr25k",
    archives=(
        Packed(
            "mirflickr25k.zip",
            IMAGES,
            "im1.jpg",
            url=f"{URL}mirflickr25k.zip",
            md5="a23d0a8564ee84cda5622a6c2f947785",
        ),
        Packed(
            "mirflickr25k_annotations_v080.zip",
            ANNOTATIONS,
            "animals.txt",
            url=f"{URL}mirflickr25k_annotations_v080.zip",
        ),
    ),
    page="https://press.liacs.nl/mirflickr/mirdownload.html",
)


@dataset("mirflickr", protocols="mirflickr.toml")
def mirflickr(data_dir: Path | None) -> ImageFiles:
    """Return the 25,000 pictures of MIRFlickr-25k by path, im1.jpg first, labels (25000, 38).

    Pictures without a label stay: the protocol keeps them out of train and query, and the audit counts them. Raises
    HashbenchError for pictures that lack a number in between and for annotations of pictures that are not there.
    """
    import numpy as np

    root = MIRFLICKR.locate(data_dir)
    count = _count(root / IMAGES)
    labels = np.zeros((count, len(CLASSES)), np.uint8)
    files = [root / ANNOTATIONS / f"{label}.txt" for label in CLASSES]
    for column, path in enumerate(files):
        for number, line in enumerate(read_lines(path), start=1):
            if not line.strip().isdecimal() or not 1 <= int(line) <= count:
                raise bad_line(path, number, f"'{line}' is not the number of one of the {count:,} pictures")
            labels[int(line) - 1, column] = 1
    return ImageFiles(
        "mirflickr",
        root,
        tuple(f"{IMAGES}/im{number}.jpg" for number in range(1, count + 1)),
        labels,
        CLASSES,
        sources=tuple(map(source, files)),
    )


def _count(folder: Path) -> int:
    """Return how many pictures im1.jpg, im2.jpg, ... there are."""
    names = (re.fullmatch(r"im(\d+)\.jpg", path.name) for path in folder.iterdir())
    numbers = {int(name[1]) for name in names if name}
    missing = set(range(1, max(numbers) + 1)) - numbers
    if missing:
        raise HashbenchError(f"{folder} lacks im{min(missing)}.jpg; unpack mirflickr25k.zip there again.")
    return len(numbers)
