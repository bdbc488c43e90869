"""An opened search index: photos in, for each the nearest images by Hamming distance."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hashbench.errors import HashbenchError
from hashbench.evaluation.folders import read_image
from hashbench.experiments.runner import load_with_result
from hashbench.metrics.hamming import pack, unpack
from hashbench.networks.model import Model
from hashbench.search.building import versions_here
from hashbench.search.contents import Contents, read_contents
from hashbench.search.ways import Exact, Graph

State = Literal["as indexed", "changed", "gone"]


@dataclass(frozen=True)
class Near:
    """An image near a photo."""

    path: Path  # where it was when it was indexed
    name: str  # its path below the folder that was indexed; of an index of several folders, the whole path
    distance: int  # Hamming distance, in bits
    state: State  # of its file, now


@dataclass(frozen=True)
class Answer:
    """The images nearest to a photo, nearest first; ties stand by the photo's outputs if reranked, then by name."""

    photo: Path | None  # None of an image that came from no file
    nearest: tuple[Near, ...]
    tied: int  # images of the index as near as the last one shown; among those found, where approximate
    tied_shown: int  # of these, how many are shown
    approximate: bool  # nearer images may be missing
    reranked: bool  # images at one distance stand by the photo's real-valued outputs

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what the ranks cannot tell: ties at the cut, what may be missing, files that are others now."""
        found = []
        if self.approximate:
            found.append(
                "The answer is approximate: nearer images may be missing, and ties at its end are not counted."
            )
        elif self.tied > self.tied_shown:
            by = "by the photo's outputs" if self.reranked else "by distance"
            found.append(
                f"{self.tied_shown} of {self.tied:,} images that are equally near {by} (distance "
                f"{self.nearest[-1].distance}) are shown; which of them is a matter of names."
            )
        for state, what in (("gone", "is not there any more"), ("changed", "has changed since it was indexed")):
            names = [near.name for near in self.nearest if near.state == state]
            if names:
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                found.append(f"{names[0]}{more}: the file {what}.")
        return tuple(found)


class SearchIndex:
    """The images of a search index, and the model that encoded them."""

    def __init__(self, path: Path, contents: Contents, model: Model, changed: Sequence[str] = ()):
        """Take what `open_index` read, with sentences on what of its run has `changed`."""
        self.path = path
        self._changed = tuple(changed)
        self.model = model
        self._contents = contents
        self._way = Graph(contents) if contents.kind == "hnsw" else Exact(contents)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._contents.names)

    @property
    def kind(self) -> str:
        """How it is searched: "flat" and "multi-index" find the nearest, "hnsw" about the nearest."""
        return self._contents.kind

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what may set codes made here apart from those of the index."""
        here, latest = versions_here(), self._contents.versions
        others: dict[str, dict[str, None]] = {}  # versions that differ from those here, by library, each once
        for versions in (*self._contents.earlier, latest):
            for name, then in versions.items():
                if then != here.get(name):
                    others.setdefault(name, {})[then] = None
        if not others:
            return self._changed
        part = "in part " if all(latest.get(name) == here.get(name) for name in others) else ""
        named = " and ".join(f"{name} {', '.join(then)} (here {here.get(name)})" for name, then in others.items())
        note = f"The index was {part}written with {named}: a photo's code may differ from then in some bits."
        return (*self._changed, note)

    def search(self, photos: str | Path | Sequence[str | Path], *, top: int = 10, rerank: bool = False) -> list[Answer]:
        """Return the `top` nearest images of each photo, a file; with `rerank`, ties stand by its real-valued outputs.

        A single path is one photo. Raises HashbenchError for a file that is no image, and for `rerank` where the run
        has no such outputs.
        """
        channels, *size = self.model.shape
        paths = [Path(photo) for photo in ([photos] if isinstance(photos, str | os.PathLike) else photos)]
        for path in paths:
            if not path.is_file():
                raise HashbenchError(f"There is no photo {path}; name image files, not folders.")
        images = [read_image(path, channels, size) for path in paths]
        return self._answers(torch.stack(images), paths, top, rerank) if images else []

    def search_images(self, images: Tensor | np.ndarray, *, top: int = 10, rerank: bool = False) -> list[Answer]:
        """Return what `search` does for images (n, channels, height, width), uint8 or floats in [0, 1].

        Raises HashbenchError for other pixels and shapes.
        """
        return self._answers(images, None, top, rerank)

    def _answers(
        self, images: Tensor | np.ndarray, photos: Sequence[Path] | None, top: int, rerank: bool
    ) -> list[Answer]:
        if not isinstance(top, Integral) or top < 1:
            raise HashbenchError(f"The nearest {top} images cannot be found; give 1 or more, a whole number.")
        outputs = self.model.encode(images, real=True) if rerank else None
        codes = pack(self.model.encode(images) if outputs is None else outputs >= 0)
        return [
            self._answer(code, photo, top, None if outputs is None else outputs[place])
            for place, (code, photo) in enumerate(zip(codes, photos or [None] * len(codes), strict=True))
        ]

    def _answer(self, code: np.ndarray, photo: Path | None, top: int, outputs: np.ndarray | None) -> Answer:
        rows, distances = self._way.nearest(code, min(top, len(self)))
        likeness = np.zeros(len(rows)) if outputs is None else self._likeness(outputs, rows)
        order = np.lexsort((rows, -likeness, distances))
        shown, last = order[:top], order[:top][-1]
        tied = (distances == distances[last]) & (likeness == likeness[last])
        return Answer(
            photo,
            tuple(self._near(int(rows[place]), int(distances[place])) for place in shown),
            tied=int(tied.sum()),
            tied_shown=int(tied[shown].sum()),
            approximate=self._way.approximate,
            reranked=outputs is not None,
        )

    def _likeness(self, outputs: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return how well codes of some rows agree with real-valued outputs (bits,): the sum of those of their bits.

        Among codes at one Hamming distance, it is largest where the bits that differ are those of which the photo's
        code is least sure.
        """
        bits = unpack(self._contents.codes[rows], self._contents.bits)
        found: np.ndarray = (np.where(bits, 1.0, -1.0) * outputs).sum(axis=1)  # row by row: the same code, the same sum
        return found

    def _near(self, row: int, distance: int) -> Near:
        path = self._contents.path(row)
        name = str(path) if len(self._contents.folders) > 1 else self._contents.names[row][1]
        return Near(path, name, distance, _state(path, self._contents.states[row]))


def open_index(
    path: str | Path, *, method: str | None = None, backbone: str | None = None, device: str = "auto"
) -> SearchIndex:
    """Return the search index in a file: `open_index("shop.hashindex").search(["photo.jpg"])`.

    `method` and `backbone` are those of `hashbench.load`. Raises HashbenchError where the file is damaged, something
    else, or needs what is not installed.
    """
    path = Path(path)
    contents = read_contents(path)
    model, result, changed = load_with_result(path, method=method, backbone=backbone, device=device)
    if (result.id, model.bits) != (contents.run, contents.bits):
        raise HashbenchError(f"{path} holds another model than that of its codes; make the index again.")
    return SearchIndex(path, contents, model, changed)


def _state(path: Path, then: np.ndarray) -> State:
    try:
        now = os.stat(path)
    except OSError:
        return "gone"
    return "as indexed" if [now.st_size, now.st_mtime_ns] == then.tolist() else "changed"
