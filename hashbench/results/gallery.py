"""Retrieved images: for some queries, the nearest database images of each method, relevant or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from hashbench.errors import HashbenchError
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.results.tables.blocks import Block
from hashbench.results.thumbnails import thumbnail

if TYPE_CHECKING:
    from hashbench.datasets.base import Dataset

THUMBNAIL = 96  # pixels of the longer side, above which an image is made smaller


@dataclass(frozen=True)
class Shown:
    """One image: a PNG as data URI, its classes, and its distance and relevance to the query."""

    source: str
    classes: str
    distance: int = 0  # Hamming distance, in bits
    relevant: bool = True  # shares a label with the query


@dataclass(frozen=True)
class Ranking:
    """What one method retrieves for a query."""

    label: str
    nearest: tuple[Shown, ...]
    tied: int  # database images at the distance of the last one shown; which of them are shown is arbitrary
    tied_shown: int  # those of them that are shown


@dataclass(frozen=True)
class Query:
    """A query image and each method's ranking."""

    image: Shown
    rankings: tuple[Ranking, ...]


@dataclass(frozen=True)
class Gallery:
    """Some queries at one code length, and a sentence for each method that could not be shown."""

    bits: int
    queries: tuple[Query, ...]
    missing: tuple[str, ...]


def gallery(block: Block, dataset: Dataset, *, queries: int, seed: int, nearest: int = 10) -> Gallery:
    """Return the `nearest` images of `queries` random queries for each method of the block, from its stored codes.

    Shown is the code length that most methods have, of those the longest, and each method's first seed. Images at one
    distance stand in the order of the split, which is arbitrary. Raises HashbenchError where the data set has no images
    or is not the one of the runs, or no run keeps its codes.
    """
    refuse_other_data(block, dataset)
    counts = Counter(bits for row in block.rows().values() for bits in {result.coords["bits"] for result in row})
    bits = max(counts, key=lambda length: (counts[length], length))
    codes, missing = {}, []
    for label, row in block.rows().items():
        runs = sorted((r for r in row if r.coords["bits"] == bits), key=lambda r: r.coords["seed"])
        try:
            if runs:
                codes[label] = _codes(runs[0], dataset)
        except HashbenchError as error:
            missing.append(f"{label}: {error}")
    if not codes:
        raise HashbenchError(f"No run on {block.name} keeps its codes. {' '.join(missing[:1])}")
    show = _show(dataset)
    count = min(queries, len(dataset.split.query))
    chosen = np.sort(np.random.default_rng(seed).choice(len(dataset.split.query), size=count, replace=False))
    return Gallery(
        bits,
        tuple(
            Query(
                show(int(dataset.split.query[place])),
                tuple(_ranking(label, *arrays, int(place), dataset, nearest, show) for label, arrays in codes.items()),
            )
            for place in chosen
        ),
        tuple(missing),
    )


def refuse_other_data(block: Block, dataset: Dataset) -> None:
    """Raise HashbenchError where `dataset` is not what the block's runs were made on, or has no images."""
    ran, here = block.conditions["split_sha256"], dataset.split.sha256
    if ran != here:
        raise HashbenchError(
            f"{dataset.name} as it is here has another split ({here[:8]}) than the runs ({str(ran)[:8]}), so the codes "
            f"cannot be matched with images."
        )
    if dataset.kind != "images" or dataset.store.inputs.shape[1] not in (1, 3):
        raise HashbenchError(f"{dataset.name} holds no pictures to look at.")


def hamming_distances(query: np.ndarray, database: np.ndarray) -> np.ndarray:
    """Return the Hamming distances (N,) of one packed code (bytes,) to packed codes (N, bytes)."""
    return np.unpackbits(query ^ database, axis=1).sum(axis=1, dtype=np.int64)


def _ranking(
    label: str,
    query: np.ndarray,
    database: np.ndarray,
    place: int,
    dataset: Dataset,
    nearest: int,
    show: Callable[..., Shown],
) -> Ranking:
    distances = hamming_distances(query[place], database)
    first = np.argsort(distances, kind="stable")[:nearest]
    labels, split = dataset.store.labels, dataset.split
    query_labels = labels[split.query[place]] > 0
    last = distances[first[-1]]
    return Ranking(
        label,
        tuple(
            show(
                int(split.database[item]),
                distance=int(distances[item]),
                relevant=bool((query_labels & (labels[split.database[item]] > 0)).any()),
            )
            for item in first
        ),
        tied=int((distances == last).sum()),
        tied_shown=int((distances[first] == last).sum()),
    )


def _codes(result: Result, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return a run's packed codes of queries and database, in the order of the split."""
    if result.path is None:
        raise HashbenchError("the result has no run directory with codes.")
    arrays = RunDirectory(result.path).read_arrays("codes")
    width = -(-result.coords["bits"] // 8)
    wanted = {"query": (len(dataset.split.query), width), "database": (len(dataset.split.database), width)}
    found = {name: array.shape for name, array in arrays.items() if array.dtype == np.uint8}
    if any(found.get(name) != shape for name, shape in wanted.items()):
        raise HashbenchError(f"{RunDirectory(result.path).codes} does not hold the codes of {dataset.name}.")
    return arrays["query"], arrays["database"]


def _show(dataset: Dataset) -> Callable[..., Shown]:
    """Return the function that shows the image at a place of the store."""
    store = dataset.store
    source = cache(lambda place: _data_uri(np.asarray(store.inputs[place])))

    def show(place: int, *, distance: int = 0, relevant: bool = True) -> Shown:
        names = [name for name, has in zip(store.classes, store.labels[place], strict=True) if has]
        return Shown(source(place), ", ".join(names) or "no label", distance, relevant)

    return show


def _data_uri(image: np.ndarray) -> str:
    """Return an image (channels, height, width) uint8 as a PNG in a data URI."""
    from PIL import Image

    picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    return thumbnail(picture, THUMBNAIL)
