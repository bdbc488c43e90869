"""MovieLens 100k and 1M (Harper & Konstan, TiiS 2015): ratings of movies with their times, from the official files."""

from __future__ import annotations

import hashlib
import http.client
import os
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hashbench.datasets.files.downloading import download
from hashbench.datasets.files.releases import SourceFile, data_root
from hashbench.datasets.interactions.base import (
    RANKED_BY_GAIN,
    RANKED_BY_HITS,
    InteractionProtocol,
    Interactions,
    InteractionSource,
    numbered,
)
from hashbench.errors import HashbenchError

URL = "https://files.grouplens.org/datasets/movielens/"
LICENCE = (
    "Research use with acknowledgement; no redistribution without permission, no commercial use without permission of "
    "GroupLens, no implied endorsement (README of the release)."
)
CITATION = "Harper & Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015, doi:10.1145/2827872"
LIKED = 4.0


@dataclass(frozen=True)
class Release:
    """One release of MovieLens: the file of ratings, in its folder or in the archive, and what is in it."""

    folder: str  # and the archive's name before .zip
    file: str
    separator: str
    ratings: int
    users: int
    items: int
    md5: str | None = None  # of the file of ratings; None: not known for certain


RELEASES = {
    "movielens-100k": Release("ml-100k", "u.data", "\t", 100_000, 943, 1682, md5="6e47046882bad158b0efbb84cd5cb987"),
    "movielens-1m": Release("ml-1m", "ratings.dat", "::", 1_000_209, 6040, 3706),
}


def state(release: Release, data_dir: Path | None) -> str:
    """Return "ready" where the file of ratings or the archive is there, else "missing"."""
    root = data_root(data_dir)
    places = (root / release.folder / release.file, root / f"{release.folder}.zip")
    return "ready" if any(map(os.path.isfile, places)) else "missing"


def read(name: str, release: Release, data_dir: Path | None) -> Interactions:
    """Return all ratings of a release.

    The file is looked for in its folder below the data root, then in the archive there, which is downloaded where it is
    missing. Raises HashbenchError for a file that is missing or damaged, or of another size than the release.
    """
    root = data_root(data_dir)
    path = root / release.folder / release.file
    if os.path.isfile(path):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise _damaged(path, error) from error
    else:
        path = root / f"{release.folder}.zip"
        if not os.path.isfile(path):
            _download(name, release, path)
        try:
            with zipfile.ZipFile(path) as archive:
                content = archive.read(f"{release.folder}/{release.file}")
        except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise _damaged(path, error) from error
        path = path / release.file
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    source = SourceFile(str(path), f"md5:{digest}", release.md5 and f"md5:{release.md5}")
    return parse(name, release, content, source)


def parse(name: str, release: Release, content: bytes, source: SourceFile) -> Interactions:
    """Return the ratings in the lines `user, item, rating, time`; raises HashbenchError for anything else in them."""
    import numpy as np

    users: list[str] = []
    items: list[str] = []
    numbers: list[tuple[int, int]] = []
    for at, line in enumerate(content.decode("latin-1").splitlines(), start=1):
        cells = line.split(release.separator)
        if len(cells) != 4 or not all(cell.isascii() and cell.isdigit() for cell in cells):
            raise HashbenchError(
                f"{source.path} is damaged: its line {at:,} is {line[:60]!r}, not user, item, rating and time; delete "
                f"it and fetch it again."
            )
        users.append(cells[0])
        items.append(cells[1])
        numbers.append((int(cells[2]), int(cells[3])))
    rating, time = np.array(numbers, dtype=np.float64).reshape(-1, 2).T
    found = numbered(
        name,
        users,
        items,
        rating=rating.astype(np.float32),
        time=time,
        sources=(source,),
        where=lambda at: f"line {at + 1:,}",
    )
    counted = (len(found), len(found.users), len(found.items))
    if counted != (release.ratings, release.users, release.items) or not 1 <= rating.min() <= rating.max() <= 5:
        raise HashbenchError(
            f"{source.path} holds {counted[0]:,} ratings of {counted[1]:,} users and {counted[2]:,} items, from "
            f"{rating.min():g} to {rating.max():g}; {name} has {release.ratings:,}, {release.users:,} and "
            f"{release.items:,}, from 1 to 5: is this copy complete? pairs:FILE takes others."
        )
    return found


def protocols(name: str) -> tuple[InteractionProtocol, ...]:
    """Return the protocols of a release, the default first."""
    return (
        InteractionProtocol(
            name, "leave-one-out", "last-v1", RANKED_BY_HITS, "Each user's last rating is to be found, whatever it is."
        ),
        InteractionProtocol(
            name, "80-20", "shares-by-user-v1", RANKED_BY_GAIN, "A fifth of each user's ratings are to be found."
        ),
        InteractionProtocol(
            name,
            "80-20-liked",
            "shares-by-user-v1",
            RANKED_BY_GAIN,
            f"The same split; of that fifth, only ratings of {LIKED:g} or 5 are relevant.",
            liked=LIKED,
        ),
    )


def _download(name: str, release: Release, path: Path) -> None:
    def check(partial: Path) -> None:
        if not zipfile.is_zipfile(partial):
            raise HashbenchError(f"The download of {path.name} is no archive; nothing was kept, try again.")

    try:
        download(URL + path.name, path, check=check)
    except (OSError, http.client.HTTPException) as error:
        raise HashbenchError(
            f"{name} is not in {path.parent} and cannot be downloaded ({str(error).strip('<>')}): get {path.name} from "
            f"{URL} and put it there, or its folder {release.folder}, or say with --data-dir where it is."
        ) from error


def _damaged(path: Path, error: Exception) -> HashbenchError:
    return HashbenchError(f"{path} is damaged or cannot be read ({error}); delete it and fetch it again.")


def _source(name: str) -> InteractionSource:
    release = RELEASES[name]
    return InteractionSource(
        name, partial(read, name, release), protocols(name), partial(state, release), LICENCE, CITATION, URL
    )


movielens_100k = _source("movielens-100k")
movielens_1m = _source("movielens-1m")
