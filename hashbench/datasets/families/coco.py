"""COCO 2014: the labelled pictures of its train and validation part under 80 kinds of objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hashbench.datasets.base import dataset
from hashbench.datasets.files.annotations import relative_path, source, unreadable
from hashbench.datasets.files.archives import ImageRelease, Packed
from hashbench.datasets.files.imagefiles import ImageFiles
from hashbench.errors import HashbenchError

URL = "http://images.cocodataset.org/"
PARTS = ("train2014", "val2014")
COCO = ImageRelease(
    title="COCO 2014",
    folder="coco",
    archives=(
        Packed(
            "train2014.zip",
            "train2014",
            "COCO_train2014_000000000009.jpg",
            url=f"{URL}zips/train2014.zip",
            md5="0da8c0bd3d6becc4dcb32757491aca88",
        ),
        Packed(
            "val2014.zip",
            "val2014",
            "COCO_val2014_000000000042.jpg",
            url=f"{URL}zips/val2014.zip",
            md5="a3d79f5ed8d289b7a7554ce06a5782b3",
        ),
        Packed(
            "annotations_trainval2014.zip",
            "annotations",
            "instances_val2014.json",
            url=f"{URL}annotations/annotations_trainval2014.zip",
        ),
    ),
    page="https://cocodataset.org/#download",
)


@dataset("coco", protocols="coco.toml")
def coco(data_dir: Path | None) -> ImageFiles:
    """Return the 122,218 pictures of COCO 2014 that show an annotated object, by path, labels (122218, 80).

    Train comes before validation, both by id; the classes are in the order of their ids. Raises HashbenchError for
    annotation files that are missing, damaged or of another kind.
    """
    import numpy as np

    root = COCO.locate(data_dir)
    files = [root / "annotations" / f"instances_{part}.json" for part in PARTS]
    classes: dict[int, str] = {}
    paths: list[str] = []
    shown: list[set[int]] = []
    unlabelled = 0
    for path, part in zip(files, PARTS, strict=True):
        categories, names, objects = _read(path)
        if classes and categories != classes:
            raise HashbenchError(f"{path} and {files[0].name} name different classes; fetch them again.")
        classes = categories
        labelled = sorted(image for image in names if objects[image])
        unlabelled += len(names) - len(labelled)
        paths += [f"{part}/{relative_path(names[image], path, 1)}" for image in labelled]
        shown += [objects[image] for image in labelled]
    columns = {category: column for column, category in enumerate(classes)}
    labels = np.zeros((len(paths), len(columns)), np.uint8)
    for row, categories_shown in zip(labels, shown, strict=True):
        row[[columns[category] for category in categories_shown]] = 1
    return ImageFiles(
        "coco",
        root,
        tuple(paths),
        labels,
        tuple(classes.values()),
        sources=tuple(map(source, files)),
        unlabelled=unlabelled,
    )


def _read(path: Path) -> tuple[dict[int, str], dict[int, str], dict[int, set[int]]]:
    """Return class names by id, file names by image id, and the ids of the classes that each image shows."""
    try:
        table: Any = json.loads(path.read_bytes())
        classes = {int(entry["id"]): str(entry["name"]) for entry in table["categories"]}
        names = {int(entry["id"]): str(entry["file_name"]) for entry in table["images"]}
        objects: dict[int, set[int]] = {image: set() for image in names}
        for entry in table["annotations"]:
            if entry["category_id"] not in classes:
                raise ValueError(f"an object is of the class {entry['category_id']}, which has no name")
            objects[entry["image_id"]].add(entry["category_id"])
    except KeyError as error:
        raise unreadable(path, ValueError(f"it lacks {error}")) from error
    except (OSError, ValueError, TypeError) as error:
        raise unreadable(path, error) from error
    return dict(sorted(classes.items())), names, objects
