"""Splits as the lists that HashNet's code and its descendants read: one image a line, `path 0 1 0 ...`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from hashbench.datasets.base import Dataset, Store
from hashbench.errors import HashbenchError
from hashbench.storage.files import make_folder, reported, write_text

IMAGES = "images"
LISTS = {"train": "train.txt", "query": "test.txt", "database": "database.txt"}


def export_split(dataset: Dataset, folder: Path, *, progress: bool = False) -> int:
    """Write train.txt, test.txt and database.txt with the images that they name, as PNG files, below `folder`.

    Paths in the lists are relative to `folder`, and labels are multi-hot, in the order of the data set's classes. The
    lists come last, so that where they are, the images are whole. Returns how many images there are. Raises
    HashbenchError for vectors, for images that PNG cannot hold, and where a file cannot be written.
    """
    store, split = dataset.store, dataset.split
    if store.kind != "images" or store.inputs.shape[1] not in (1, 3):
        raise HashbenchError(f"{dataset.name} has inputs {store.inputs.shape[1:]}; only images can be exported.")
    parts = {part: getattr(split, part) for part in LISTS}
    positions = np.unique(np.concatenate([*parts.values()]))
    make_folder(folder / IMAGES)
    pool = ThreadPoolExecutor()
    try:
        written = pool.map(lambda position: _write_png(store.inputs[position], folder / _path(position)), positions)
        for _ in tqdm(written, total=len(positions), unit="img", disable=not progress, leave=False):
            pass  # takes what a thread raised
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for all that are still to write
    for part, index in parts.items():
        write_text(folder / LISTS[part], "".join(_line(store, position) for position in index))
    return len(positions)


def _path(position: int) -> str:
    return f"{IMAGES}/{position:07d}.png"


def _line(store: Store, position: int) -> str:
    return f"{_path(position)} {' '.join(map(str, store.labels[position]))}\n"


def _write_png(image: np.ndarray, path: Path) -> None:
    """Write an image (channels, height, width) uint8; one of a single channel becomes a grey picture."""
    picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    with reported(path):
        picture.save(path)
