"""Data of your own without writing code: class folders, HashNet's lists, arrays; named after their folder or file.

The name that enters an experiment is `folder:NAME`, `lists:NAME` or `arrays:NAME` with the last part of the path, so it
is the same on every machine; the hash of the contents tells two sets of one name apart.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Set
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashbench.datasets.base import DataSource, Store, one_hot
from hashbench.datasets.files.annotations import source as file_source
from hashbench.datasets.files.folders import read_folder
from hashbench.datasets.files.imagefiles import ImageFiles
from hashbench.datasets.files.lists import read_lists
from hashbench.datasets.files.parts import PART_OF
from hashbench.datasets.files.releases import SourceFile, data_root
from hashbench.datasets.prepared import opening
from hashbench.datasets.protocol import Protocol, StatedSizes
from hashbench.errors import HashbenchError, few

if TYPE_CHECKING:
    import numpy as np

    from hashbench.datasets.prepared.opening import PreparedStore
    from hashbench.metrics.arrays import Labels

ARRAYS = ("images", "features")
PAIRS = ("relevance", "exclude")
UNSEEN_CLASSES = 5  # from here on two or more are unseen; with a single one, every order would be perfect


@dataclass(frozen=True)
class Reading:
    """How own data are read, beside their spelling; a prepared store keeps it, and later runs read them so."""

    follow_links: bool = False
    image_root: str | None = None  # the folder of the images that lists name; None: the lists' own
    skipped: tuple[str, ...] = ()  # images that were left out because they cannot be decoded


def own_source(spelling: str, data_dir: str | Path | None = None, *, reading: Reading | None = None) -> DataSource:
    """Return the data set that `folder:PATH`, `lists:PATH` or `arrays:PATH` means, already read but for the pixels.

    PATH is looked for from here, then in the data folder. Without a `reading`, data are read as they were when they
    were prepared, and what was deleted since is taken from the prepared store. Raises HashbenchError for what is
    missing or not in order.
    """
    import numpy as np

    kind, _, text = spelling.partition(":")
    if not text.isprintable():  # a name in another encoding than UTF-8 among them
        raise HashbenchError(f"{spelling!a} holds characters that cannot be printed; rename it.")
    tried = _places(text, data_dir)
    path = next((path for path in tried if text and os.path.exists(path)), None)
    kept = None
    if reading is None:
        kept = next((k for p in ([path] if path else tried) if (k := opening.newest_of_root(f"{kind}:{p}"))), None)
    if path is None:
        if kept is None:
            prepared = any(opening.newest_of_root(f"{kind}:{p}") for p in tried)
            hint = " It is prepared, and runs use that; `prepare` alone needs the files." if prepared else ""
            raise HashbenchError(
                f"There is no {' and no '.join(map(str, tried)) if text else 'path'} for '{spelling}'.{hint}"
            )
        return _from_store(opening.open_store(kept))
    if reading is None:
        stated: dict[str, Any] = dict(opening.read_record(kept).get("reading", {})) if kept else {}
        reading = Reading(
            follow_links=stated.get("follow_links", False),
            image_root=stated.get("image_root"),
            skipped=tuple(stated.get("skipped", ())),
        )
    name = (
        kind
        + ":"
        + re.sub(r"[@,:\s\ud800-\udfff]", "_", path.stem if kind == "arrays" and path.is_file() else path.name)
    )
    data: Store | ImageFiles
    if kind == "arrays":
        data = read_arrays(path, name=name)
        searched = data.part is not None and "database" not in data.part
    else:
        if kind == "lists":
            root = None if reading.image_root is None else Path(reading.image_root)
            files, searched = read_lists(path, name=name, image_root=root, follow_links=reading.follow_links)
        else:
            files = read_folder(path, name=name, follow_links=reading.follow_links)
            searched = files.part is not None and "database" not in files.part
        files = _without(files, {*reading.skipped})
        if kept and not any(os.path.exists(files.root / image) for image in files.paths):
            store = opening.open_store(kept)  # the images were deleted, the lists were not
            if store.names == files.paths and np.array_equal(store.labels, files.labels):
                return _from_store(store)
        kept_reading = {key: value for key, value in dataclasses.asdict(reading).items() if value}
        data = dataclasses.replace(_fingerprinted(files), reading={**kept_reading, "searched": searched})

    def read(data_dir: Path | None) -> Store | ImageFiles:
        return data

    return DataSource(name, read, _protocols(data, train_in_database=searched), f"{kind}:{path}")


def _from_store(store: PreparedStore) -> DataSource:
    """Return the data set of a prepared store whose files are gone."""
    record = store.record
    searched = record.get("reading", {}).get("searched", store.part is not None and "database" not in store.part)
    data: Store | ImageFiles = store
    if record["size"] is not None:  # the files as they were, so that their stores of all sizes are found
        data = ImageFiles(
            store.name,
            Path(record["root"].partition(":")[2]),
            store.names or (),
            store.labels,
            store.classes,
            part=store.part,
            sources=store.sources,
        )

    def read(data_dir: Path | None) -> Store | ImageFiles:
        return data

    return DataSource(store.name, read, _protocols(data, train_in_database=searched), record["root"])


def _without(files: ImageFiles, skipped: Set[str]) -> ImageFiles:
    """Return `files` without the images at the paths `skipped`, and without classes that only these had."""
    import numpy as np

    kept = np.array([path not in skipped for path in files.paths])
    if not kept.any():
        raise HashbenchError(
            f"None of the {len(kept):,} images of {files.name} can be decoded; put the right files into {files.root}."
        )
    if not skipped or kept.all():
        return files
    labels = files.labels[kept]
    columns = labels.any(axis=0) | ~files.labels.any(axis=0)
    return dataclasses.replace(
        files,
        paths=tuple(path for path in files.paths if path not in skipped),
        labels=labels[:, columns],
        classes=tuple(label for label, stays in zip(files.classes, columns, strict=True) if stays),
        part=None if files.part is None else files.part[kept],
        notes=(*files.notes, f"Left out, since they cannot be decoded: {few(sorted(skipped))}."),
    )


def read_arrays(path: Path, *, name: str) -> Store:
    """Return the arrays of a file or folder: `images` or `features`, `labels`, and `part` and `classes` where given.

    Images are uint8 (N, channels, height, width), (N, height, width, channels) or (N, height, width); features are
    numbers (N, width); labels are class numbers or names (N,), or zeros and ones (N, C); part says train, test (or
    query) or database of each. `relevance` (pairs, 2) or (pairs, 3) gives the rows of query and relevant item, and the
    gain, and `exclude` (pairs, 2) what is left out. Raises HashbenchError for anything else.
    """
    from hashbench.metrics.arrays import plain_array, read_labels
    from hashbench.metrics.large import files

    names = (*ARRAYS, "labels", "part", "classes", *PAIRS)
    try:
        given, held = files.read_arrays(path, names)
        inputs = [key for key in ARRAYS if key in given]
        if len(inputs) != 1 or "labels" not in given:
            raise HashbenchError(
                f"{path} holds {', '.join(held)[:500] or 'nothing'}; give 'labels' and either 'images' or 'features'."
            )
        arrays: dict[str, Any] = {
            key: plain_array(array, f"The {key} in {path}", empty=key in PAIRS) for key, array in given.items()
        }
        labels = read_labels(given["labels"], f"The labels in {path}", ways=("", ""))
        part = read_labels(given["part"], f"The part in {path}", ways=("", "")) if "part" in given else None
    except HashbenchError:
        raise
    except ValueError as error:
        raise HashbenchError(str(error)) from error
    images = _image_array(arrays["images"], path) if inputs == ["images"] else _features(arrays["features"], path)
    count = images.shape[0]
    if len(labels.values) != count:
        raise HashbenchError(f"{path} holds {count} {inputs[0]}, but labels of shape {arrays['labels'].shape}.")
    columns, classes = _label_columns(labels, arrays.get("classes"), name)
    pairs = {key: _pairs(arrays[key], count, f"{key} in {path}") for key in PAIRS if key in arrays}
    if pairs and part is None:
        raise HashbenchError(f"{path} holds {' and '.join(pairs)}, but no 'part'; say which rows are queries.")
    read = [file for file in sorted(path.iterdir()) if file.stem in given] if path.is_dir() else [path]
    return Store(
        name,
        images,
        columns,
        classes,
        part=None if part is None else _parts(part, path),
        sources=tuple(file_source(file) for file in read if file.is_file()),
        **pairs,
    )


def _places(text: str, data_dir: str | Path | None) -> list[Path]:
    given = Path(text).expanduser()
    tried = [given] if given.is_absolute() else [Path.cwd() / given, data_root(data_dir) / given]
    return [Path(os.path.abspath(path)) for path in tried]


def _protocols(data: Store | ImageFiles, *, train_in_database: bool) -> tuple[Protocol, ...]:
    """Return the protocols of own data: the split that comes with it, our own, and unseen classes."""
    several = bool((data.labels.sum(axis=1) > 1).any())
    rules = {
        "given": ("given-v1", "the split in the data"),
        "auto": (
            "shares-v1",
            "by our own rule, a tenth of the images of each class become the queries, four tenths the training images, "
            "the rest the database",
        ),
        "unseen": (
            "unseen-v1",
            "three classes in four give the training images; the others the queries and the database",
        ),
    }
    if data.part is None:
        del rules["given"]
    if isinstance(data, Store) and data.has_pairs:  # pairs are of the queries that came with them
        rules = {"given": rules["given"]}
    if several or len(data.classes) < UNSEEN_CLASSES:
        rules.pop("unseen", None)
    return tuple(
        Protocol(
            dataset=data.name,
            name=name,
            sizes=StatedSizes(None, None, None),
            train_in_database=train_in_database and name == "given",
            rule=rule,
            measures=("mAP@all",),
            summary=summary,
            num_classes=len(data.classes),
            about="own data",
            citation="none: own data",
            licence="not stated",
            source=data.name,
            multi_label=several,
        )
        for name, (rule, summary) in rules.items()
    )


def _fingerprinted(files: ImageFiles) -> ImageFiles:
    """Return `files` with a source that changes when an image does: names alone do not identify own sets."""
    digest = sha256()
    for path in files.paths:
        try:
            status = os.stat(files.root / path)
        except OSError:
            continue  # preparing says which are missing
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    state = SourceFile(str(files.root), f"state:{digest.hexdigest()}")
    return dataclasses.replace(files, sources=(*files.sources, state))


def _image_array(images: np.ndarray, path: Path) -> np.ndarray:
    """Return images as (N, channels, height, width), from channels last or from grey pictures without channels.

    The channels are 1 or 3, first of all in their usual place, or fewer than rows and columns. Raises HashbenchError
    where that does not tell.
    """
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4 or images.shape[1] in (1, 3):
        return images
    first, middle, last = images.shape[1:]
    if last in (1, 3) or last < min(first, middle):
        return images.transpose(0, 3, 1, 2)
    if first < min(middle, last):
        return images
    raise HashbenchError(
        f"The images in {path} are of shape {images.shape}, where the channels cannot be told; give them as "
        "(N, channels, height, width), with 1 or 3 channels."
    )


def _features(given: Any, path: Path) -> Any:
    """Return features as float32, an array or the rows of a sparse matrix; raises HashbenchError for infinite ones."""
    import numpy as np

    given = getattr(given, "matrix", given)
    if given.dtype.kind not in "biuf":
        return given  # refused with the form that inputs have
    with np.errstate(over="ignore"):
        features = given.astype(np.float32)
    if not np.isfinite(getattr(features, "data", features)).all():
        raise HashbenchError(f"The features in {path} hold infinite values or NaN; leave those rows out.")
    return features


def _label_columns(labels: Labels, given: np.ndarray | None, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels (N, C) uint8 and the names of the classes: the `given` ones, else those that occur, in order."""
    import numpy as np

    values = np.asarray(labels.values)
    classes = None if given is None else tuple(_word(each) for each in given.ravel().tolist())
    if classes is not None and len({*classes}) < len(classes):
        raise HashbenchError(f"Of the {len(classes)} classes of {name} several have one name; give each its own.")
    if values.ndim == 2:
        return values.astype(np.uint8), classes or tuple(map(str, range(values.shape[1])))
    if labels.names is not None:
        known = classes or labels.names
        place = {word: number for number, word in enumerate(known)}
        unknown = next((word for word in labels.names if word not in place), None)
        if unknown is not None:
            raise HashbenchError(f"A label of {name} is '{unknown}', which is not among its {len(known)} classes.")
        return one_hot(np.array([place[word] for word in labels.names])[values], known, name=name), known
    if classes is not None:
        return one_hot(values, classes, name=name), classes
    found, places = np.unique(values, return_inverse=True)
    classes = tuple(map(str, found.tolist()))
    return one_hot(places, classes, name=name), classes


def _word(given: Any) -> str:
    return given.decode(errors="backslashreplace").strip() if isinstance(given, bytes) else str(given).strip()


def _pairs(given: np.ndarray, items: int, name: str) -> Any:
    """Return pairs (pairs, 2), or (pairs, 3) with gains, of row numbers as a sparse matrix (items, items)."""
    from scipy import sparse

    columns = (2, 3) if name.startswith("relevance") else (2,)
    if given.ndim != 2 or given.shape[1] not in columns or given.dtype.kind not in "iu":
        raise HashbenchError(
            f"The {name} is {given.dtype} of shape {given.shape}; give integers (pairs, 2): the rows of query and item"
            f"{', or (pairs, 3) with the gain' if 3 in columns else ''}."
        )
    if given.size and not 0 <= given[:, :2].min() <= given[:, :2].max() < items:
        raise HashbenchError(f"The {name} names rows from {given[:, :2].min()} to {given[:, :2].max()} of {items:,}.")
    gains = given[:, 2] if given.shape[1] == 3 else given[:, 0] * 0 + 1
    return sparse.coo_array((gains, (given[:, 0], given[:, 1])), shape=(items, items))


def _parts(given: Labels, path: Path) -> np.ndarray:
    import numpy as np

    words = given.names or ()
    if given.names is None:
        raise HashbenchError(f"The part in {path} is numbers; give words: {', '.join(PART_OF)}.")
    odd = next((word for word in words if word.lower() not in PART_OF), None)
    if odd is not None:
        raise HashbenchError(f"The part in {path} says '{odd}'; known: {', '.join(PART_OF)}.")
    parts = [PART_OF[word.lower()] for word in words]
    if {"validation", "test"} <= {*parts}:
        raise HashbenchError(
            f"The part in {path} names validation rows beside the queries; leave them out, or call them train: "
            f"--evaluate-on validation takes queries from the training rows."
        )
    return np.array(["test" if part == "validation" else part for part in parts])[np.asarray(given.values)]
