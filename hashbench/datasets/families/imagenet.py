"""ImageNet100: the 100 classes of ILSVRC2012 that HashNet's train list names, from the official folders."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hashbench.datasets.base import dataset
from hashbench.datasets.files.annotations import bad_line, read_lines, source, unreadable
from hashbench.datasets.files.imagefiles import ImageFiles
from hashbench.datasets.files.releases import SourceFile, data_root
from hashbench.errors import HashbenchError

FOLDERS = ("imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC", ".")  # below the data root; the first that is there counts
DEVKIT = "ILSVRC2012_devkit_t12/data"
GROUND_TRUTH = f"{DEVKIT}/ILSVRC2012_validation_ground_truth.txt"
META = f"{DEVKIT}/meta.mat"
# Z. Cao, M. Long, J. Wang, P. S. Yu, HashNet: deep learning to hash by continuation, ICCV 2017. The list is not ours to
# ship; the database is all train pictures of its classes.
CLASS_LIST = "imagenet100.txt"
LIST_ORIGIN = "the train list of https://github.com/thuml/HashNet (pytorch/data/imagenet/train.txt)"
NUM_CLASSES = 100
_SYNSET = re.compile(r"(?<![0-9A-Za-z])n[0-9]{8}(?![0-9])")  # as in n00000001/n00000001_23.JPEG


@dataset("imagenet100", protocols="imagenet100.toml")
def imagenet100(data_dir: Path | None) -> ImageFiles:
    """Return the train and validation pictures of HashNet's 100 classes by path, labels (133503, 100).

    The classes are those that HashNet's train list names, beside train/. Validation pictures, part "test", lie in a
    folder for each class, or all in val/ with the official ground truth beside it. Raises HashbenchError for folders
    and files that are missing or damaged.
    """
    import numpy as np

    root = _root(data_dir)
    classes = _classes(root / CLASS_LIST)
    train = [(f"train/{synset}/{name}", synset) for synset in classes for name in _images(root / "train" / synset)]
    validation, sources = _validation(root, classes)
    pictures = sorted(train) + sorted(validation)
    column = {synset: number for number, synset in enumerate(classes)}
    return ImageFiles(
        "imagenet100",
        root,
        tuple(path for path, _ in pictures),
        np.eye(len(classes), dtype=np.uint8)[[column[synset] for _, synset in pictures]],
        classes,
        part=np.repeat(["train", "test"], [len(train), len(validation)]),
        sources=(source(root / CLASS_LIST), *sources),
    )


def _root(data_dir: Path | None) -> Path:
    """Return the first folder that holds train/ and val/; raises HashbenchError that says how to make one."""
    data_folder = data_root(data_dir)
    for folder in FOLDERS:
        if os.path.isdir(data_folder / folder / "train") and os.path.isdir(data_folder / folder / "val"):
            return data_folder / folder
    raise HashbenchError(
        f"ImageNet is not in {data_folder / FOLDERS[0]}: get ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and "
        f"ILSVRC2012_devkit_t12.tar.gz from https://image-net.org/download-images (after registering) and unpack them "
        f"there as train/n01440764/*.JPEG (a folder for each of its inner archives), val/*.JPEG and {DEVKIT}/, with "
        f"{LIST_ORIGIN} as {CLASS_LIST}, or say with --data-dir where the folder imagenet is."
    )


def _classes(listing: Path) -> tuple[str, ...]:
    """Return the synsets that occur in HashNet's train list, sorted; raises HashbenchError unless they are 100."""
    if not os.path.exists(listing):
        raise HashbenchError(
            f"The list that names the {NUM_CLASSES} classes of ImageNet100 is missing: get {LIST_ORIGIN} and save it "
            f"as {listing}."
        )
    found = sorted({synset for line in read_lines(listing) for synset in _SYNSET.findall(line)})
    if len(found) != NUM_CLASSES:
        raise HashbenchError(
            f"{listing} names {len(found)} classes (n and 8 digits) instead of {NUM_CLASSES}; put {LIST_ORIGIN} there."
        )
    return tuple(found)


def _images(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.endswith(".JPEG")]
    except OSError as error:
        raise HashbenchError(
            f"The class folder {folder} cannot be read ({error.strerror}); unpack {folder.name}.tar of ImageNet there."
        ) from error


def _validation(root: Path, classes: tuple[str, ...]) -> tuple[list[tuple[str, str]], tuple[SourceFile, ...]]:
    """Return path and synset of the validation pictures of `classes`, and what that was read from."""
    if os.path.isdir(root / "val" / classes[0]):
        return [(f"val/{synset}/{name}", synset) for synset in classes for name in _images(root / "val" / synset)], ()
    truth, meta = root / GROUND_TRUTH, root / META
    synset_of = _numbers(meta)
    found = []
    for number, line in enumerate(read_lines(truth), start=1):
        if line.strip() not in synset_of:
            raise bad_line(truth, number, f"'{line}' is not the number of a class")
        if (synset := synset_of[line.strip()]) in classes:
            found.append((f"val/ILSVRC2012_val_{number:08d}.JPEG", synset))
    return found, (source(truth), source(meta))


def _numbers(meta: Path) -> dict[str, str]:
    """Return the synset of each class number, as the ground truth writes it, from the devkit's MATLAB file."""
    from scipy.io import loadmat

    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        return {str(int(entry["ILSVRC2012_ID"])): str(entry["WNID"]) for entry in synsets}
    except Exception as error:  # scipy raises whatever a damaged file brings about
        raise unreadable(meta, error) from error
