"""The answers of a search as one self-contained web page, with thumbnails of the files that are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hashbench.datasets.files.decoding import DamagedImage, read_picture
from hashbench.results.pages import page
from hashbench.results.thumbnails import thumbnail
from hashbench.search.index import Answer, SearchIndex

THUMBNAIL = 240  # pixels of the longer side


@dataclass(frozen=True)
class _Picture:
    """An image file as the page shows it."""

    name: str
    source: str  # a data URI; empty where there is none
    missing: str  # why there is none
    distance: int = 0
    changed: bool = False


def search_page(index: SearchIndex, answers: Sequence[Answer], *, title: str = "Nearest images") -> str:
    """Return the HTML page of `answers` of an index: each photo, the images nearest to it, and what to know of them.

    It needs no network and no other file. An image whose file is not there, or cannot be read, stands as its name with
    the reason.
    """
    shown = []
    for number, answer in enumerate(answers, start=1):
        photo = None if answer.photo is None else _picture(answer.photo, answer.photo.name)
        nearest = [_picture(near.path, near.name, near.distance, near.state) for near in answer.nearest]
        shown.append((f"image {number}" if photo is None else photo.name, photo, nearest, answer))
    return page(
        "search.html",
        styles=("page.css", "search.css"),
        scripts=(),
        title=title,
        index=index.path.name,
        images=len(index),
        bits=index.model.bits,
        method=index.model.method.info.name,
        data=index.model.task.dataset,
        notes=index.notes,
        answers=shown,
        without=sum(not picture.source for _, _, nearest, _ in shown for picture in nearest),
    )


def _picture(path: Path, name: str, distance: int = 0, state: str = "as indexed") -> _Picture:
    if not path.is_file():
        return _Picture(name, "", "the file is not there", distance)
    try:
        source = thumbnail(read_picture(path, "RGB"), THUMBNAIL, form="jpeg")
    except DamagedImage as error:
        return _Picture(name, "", f"cannot be decoded: {error.reason}", distance)
    return _Picture(name, source, "", distance, changed=state == "changed")
