"""Stanford Cars: 196 classes of cars, in either of its two official layouts of MATLAB files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashbench.datasets.base import dataset, one_hot
from hashbench.datasets.files.annotations import relative_path, source, unreadable
from hashbench.datasets.files.archives import ImageRelease, Packed
from hashbench.datasets.files.imagefiles import ImageFiles
from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    import numpy as np

PAGE = "https://ai.stanford.edu/~jkrause/cars/car_dataset.html"
HOW = "the links there are dead; copies circulate, as https://github.com/pytorch/vision/issues/7545 describes"
IN_PARTS = ImageRelease(
    title="Stanford Cars",
    folder="stanford_cars",
    archives=(
        Packed("car_devkit.tgz", "devkit", "cars_meta.mat", md5="c3b158d763b6e2245038c8ad08e45376"),
        Packed("cars_train.tgz", "cars_train", md5="065e5b463ae28d29e77c1b4b166cfe61"),
        Packed("cars_test.tgz", "cars_test", md5="4ce7ebf6a94d07f1952d94dd34c4d501"),
    ),
    page=PAGE,
    how=f"and cars_test_annos_withlabels.mat; {HOW}",
)
AS_ONE = ImageRelease(
    title="Stanford Cars",
    folder="stanford_cars",
    archives=(Packed("car_ims.tgz", "car_ims"),),
    page=PAGE,
    how=f"and cars_annos.mat; {HOW}",
)
ANNOTATIONS = "cars_annos.mat"
TEST_ANNOTATIONS = "cars_test_annos_withlabels.mat"
MD5 = {TEST_ANNOTATIONS: "b0a2b23655a3edd16d84508592a98d10"}


@dataset("cars", protocols="cars.toml")
def cars(data_dir: Path | None) -> ImageFiles:
    """Return the 16,185 pictures of Stanford Cars by path, labels (16185, 196), with the official split.

    Read are cars_annos.mat and car_ims/ where they are there, else devkit/, cars_train/ and cars_test/. The two number
    the pictures differently, so `b` picks others in each; the hash of the split tells them apart. Raises HashbenchError
    for files that are missing, damaged or of another kind.
    """
    if os.path.isfile(AS_ONE.root(data_dir) / ANNOTATIONS):
        return _read_as_one(AS_ONE.locate(data_dir))
    return _read_in_parts(IN_PARTS.locate(data_dir))


def _read_as_one(root: Path) -> ImageFiles:
    import numpy as np

    path = root / ANNOTATIONS
    table = _read(path, "annotations", ("relative_im_path", "class", "test"))
    classes = _class_names(path)
    return _files(
        root,
        [relative_path(str(name), path, number) for number, name in enumerate(table["relative_im_path"], start=1)],
        table["class"],
        np.where(table["test"].astype(bool), "test", "train"),
        classes,
        (path,),
    )


def _read_in_parts(root: Path) -> ImageFiles:
    import numpy as np

    with_labels = next(
        (path for path in (root / TEST_ANNOTATIONS, root / "devkit" / TEST_ANNOTATIONS) if path.is_file()), None
    )
    if with_labels is None:
        raise HashbenchError(
            f"{TEST_ANNOTATIONS}, which has the classes of the test pictures, is not in {root}: get it from {PAGE} "
            f"({HOW}) and put it there."
        )
    files = {"train": root / "devkit" / "cars_train_annos.mat", "test": with_labels}
    meta = root / "devkit" / "cars_meta.mat"
    paths: list[str] = []
    numbers: list[Any] = []
    for part, path in files.items():
        table = _read(path, "annotations", ("fname", "class"))
        paths += [
            f"cars_{part}/{relative_path(str(name), path, number)}"
            for number, name in enumerate(table["fname"], start=1)
        ]
        numbers.append(table["class"])
    parts = np.repeat(["train", "test"], [len(found) for found in numbers])
    return _files(root, paths, np.concatenate(numbers), parts, _class_names(meta), (*files.values(), meta))


def _files(
    root: Path,
    paths: list[str],
    numbers: np.ndarray,
    part: np.ndarray,
    classes: tuple[str, ...],
    read: tuple[Path, ...],
) -> ImageFiles:
    """Return the image files of the 1-based class `numbers`."""
    labels = one_hot(numbers.astype(int) - 1, classes, name="cars")
    return ImageFiles(
        "cars",
        root,
        tuple(paths),
        labels,
        classes,
        part=part,
        sources=tuple(source(path, MD5.get(path.name)) for path in read),
    )


def _class_names(path: Path) -> tuple[str, ...]:
    return tuple(str(name) for name in _load(path, "class_names"))


def _read(path: Path, variable: str, fields: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the `fields` of a struct array in the MATLAB file `path`, each (N,)."""
    import numpy as np

    table = _load(path, variable)
    missing = [field for field in fields if field not in (table.dtype.names or ())]
    if missing:
        raise unreadable(path, ValueError(f"its {variable} lack {', '.join(missing)}"))
    return {field: np.array(table[field].tolist()) for field in fields}


def _load(path: Path, variable: str) -> np.ndarray:
    import numpy as np
    from scipy.io import loadmat

    try:
        return np.atleast_1d(loadmat(path, squeeze_me=True)[variable])
    except KeyError as error:
        raise unreadable(path, ValueError(f"it lacks {error}")) from error
    except Exception as error:  # scipy raises whatever a damaged file brings about
        raise unreadable(path, error) from error
