"""NUS-WIDE: Flickr pictures under 81 concepts, of which the field uses the 21 most frequent ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hashbench.datasets.base import dataset
from hashbench.datasets.files.annotations import read_lines, relative_path, source, unreadable
from hashbench.datasets.files.archives import ImageRelease, Packed
from hashbench.datasets.files.imagefiles import ImageFiles
from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    import numpy as np

NUM_CONCEPTS = 81
MOST_FREQUENT = 21
NUSWIDE = ImageRelease(
    title="NUS-WIDE",
    folder="NUS-WIDE",
    archives=(
        Packed("Groundtruth.zip", "Groundtruth", "AllLabels"),
        Packed("ImageList.zip", "ImageList", "Imagelist.txt"),
        Packed("Flickr.zip", "Flickr"),
    ),
    page="https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html",
    how="the labels lie there, the pictures come from its authors on request",
)


@dataset("nuswide21", protocols="nuswide21.toml")
def nuswide21(data_dir: Path | None) -> ImageFiles:
    """Return the 195,834 pictures of NUS-WIDE under its 21 most frequent concepts, by path, labels (195834, 21).

    Concepts are counted over all pictures of the image list, and stand in alphabetical order; pictures that show none
    of the 21 are left out. Raises HashbenchError for label files that are missing, damaged or of another length.
    """
    import numpy as np

    root = NUSWIDE.locate(data_dir)
    image_list = root / "ImageList" / "Imagelist.txt"
    images = [relative_path(line, image_list, number) for number, line in enumerate(read_lines(image_list), start=1)]
    files = sorted((root / "Groundtruth" / "AllLabels").glob("Labels_*.txt"))
    if len(files) != NUM_CONCEPTS:
        raise HashbenchError(
            f"{root / 'Groundtruth' / 'AllLabels'} holds labels of {len(files)} concepts instead of {NUM_CONCEPTS}; "
            f"unpack Groundtruth.zip there again."
        )
    labels = np.stack([_read_labels(path, len(images)) for path in files], axis=1)
    frequent = np.sort(np.argsort(-labels.sum(axis=0, dtype=np.int64), kind="stable")[:MOST_FREQUENT])
    labels = labels[:, frequent]
    labelled = np.flatnonzero(labels.any(axis=1))
    return ImageFiles(
        "nuswide21",
        root,
        tuple(f"Flickr/{images[image]}" for image in labelled.tolist()),
        labels[labelled],
        tuple(files[concept].stem.removeprefix("Labels_") for concept in frequent.tolist()),
        sources=(source(image_list), *map(source, files)),
        unlabelled=len(images) - len(labelled),
    )


def _read_labels(path: Path, count: int) -> np.ndarray:
    """Return the zeros and ones (count,) uint8 of a label file, one a line."""
    import numpy as np

    try:
        words = path.read_bytes().split()
    except OSError as error:
        raise unreadable(path, error) from error
    digits = b"".join(words)
    if len(words) != count or len(digits) != count or digits.strip(b"01"):
        raise HashbenchError(
            f"{path} does not hold one 0 or 1 for each of the {count:,} pictures of Imagelist.txt; fetch it again."
        )
    return np.frombuffer(digits, np.uint8) - ord("0")
