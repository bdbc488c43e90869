"""What a search index holds, and its file: a run's bundle with the codes and names of images beside it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from hashbench import __version__
from hashbench.errors import HashbenchError
from hashbench.evaluation.folders import EncodedImage
from hashbench.results.bundle import INDEX, MODEL
from hashbench.storage.archives import Archive, write_archive
from hashbench.storage.strict_json import dumps, loads

Kind = Literal["flat", "multi-index", "hnsw"]
KINDS: tuple[str, ...] = get_args(Kind)
_CODES, _STATES, _NAMES, _GRAPH = "codes.npy", "states.npy", "names.json", "graph.faiss"


@dataclass(frozen=True)
class Contents:
    """The images of an index, in the order of its rows: folder by folder, in each by name."""

    run: str  # id of the run whose model encoded them
    weights: str  # sha256 of its model.pt: a run that was computed again has the same id and may have others
    bits: int
    kind: Kind
    versions: Mapping[str, str]  # of the libraries that decode and encode, when the index was written
    earlier: tuple[Mapping[str, str], ...]  # other versions, with which some of its images were encoded before that
    folders: tuple[str, ...]
    names: tuple[tuple[int, str], ...]  # place of its folder, and path below it, of each image
    states: np.ndarray  # (n, 2) int64: bytes and time of change (nanoseconds) of each file
    codes: np.ndarray  # (n, ceil(bits / 8)) uint8, packed
    graph: bytes | None = field(default=None, repr=False)  # FAISS's, of kind hnsw

    def path(self, row: int) -> Path:
        """Return where the image of a row was when it was encoded."""
        place, name = self.names[row]
        return Path(self.folders[place]) / name

    def images(self, folder: str) -> dict[str, EncodedImage]:
        """Return the images of one folder by their path below it."""
        if folder not in self.folders:
            return {}
        place = self.folders.index(folder)
        rows = (row for row, (of, _) in enumerate(self.names) if of == place)
        return {self.names[row][1]: self._image(row) for row in rows}

    def _image(self, row: int) -> EncodedImage:
        size, changed = self.states[row].tolist()
        return EncodedImage(size, changed, self.codes[row].tobytes())


def contents_of(
    folders: Mapping[str, Mapping[str, EncodedImage]],
    *,
    run: str,
    weights: str,
    bits: int,
    kind: Kind,
    versions: Mapping[str, str],
    earlier: Sequence[Mapping[str, str]] = (),
) -> Contents:
    """Return the contents that hold the images of `folders` (folder -> path below it -> image)."""
    images = [image for inside in folders.values() for image in inside.values()]
    return Contents(
        run,
        weights,
        bits,
        kind,
        versions,
        tuple(earlier),
        tuple(folders),
        tuple((place, name) for place, inside in enumerate(folders.values()) for name in inside),
        np.array([(image.size, image.changed) for image in images], np.int64).reshape(-1, 2),
        np.frombuffer(b"".join(image.code for image in images), np.uint8).reshape(len(images), -(-bits // 8)),
    )


def write_contents(
    path: Path, contents: Contents, bundle: Mapping[str, bytes], *, allowed: Callable[[], None] = lambda: None
) -> None:
    """Write an index with the files of its run's `bundle` to `path`; raises HashbenchError where it cannot be."""
    names = [[name for _, name in group] for _, group in groupby(contents.names, key=lambda name: name[0])]
    members = {
        **bundle,
        _CODES: _npy(contents.codes),
        _STATES: _npy(contents.states),
        _NAMES: dumps(names).encode(),
        **({} if contents.graph is None else {_GRAPH: contents.graph}),
    }
    about = {
        "id": contents.run,
        "hashbench": __version__,
        "bits": contents.bits,
        "search": contents.kind,
        "versions": contents.versions,
        "earlier": contents.earlier,
        "folders": contents.folders,
        "images": len(contents.names),
    }
    write_archive(path, INDEX, members, about, allowed=allowed)


def weights_of(sha256: Mapping[str, str]) -> str:
    """Return that of the weights, of the sha256 of a bundle's files by name; raises KeyError where there are none."""
    return {name.rpartition("/")[2]: of for name, of in sha256.items()}[MODEL]


def read_contents(path: Path) -> Contents:
    """Return what the index in a file holds; raises HashbenchError where it is damaged or something else."""
    with Archive(path, INDEX) as archive:
        about = archive.about
        try:
            names = loads(archive.read(_NAMES))
            found = Contents(
                str(about["id"]),
                weights_of({name: stated["sha256"] for name, stated in about["members"].items()}),
                int(about["bits"]),
                about["search"],
                dict(about["versions"]),
                tuple(dict(versions) for versions in about.get("earlier", [])),  # absent before it was kept
                tuple(about["folders"]),
                tuple((place, name) for place, inside in enumerate(names) for name in inside),
                _array(archive.read(_STATES)),
                _array(archive.read(_CODES)),
                archive.read(_GRAPH) if _GRAPH in archive else None,
            )
            wrong = next(_problems(found, about), None)
        except HashbenchError:
            raise
        except (KeyError, TypeError, ValueError, EOFError) as error:
            raise archive.unusable("its contents are damaged", error) from error
        if wrong:
            raise archive.unusable(wrong)
    return found


def _problems(contents: Contents, about: Mapping[str, Any]) -> Iterator[str]:
    """Yield why the parts of an index do not fit together, each as the end of a sentence."""
    count, width = len(contents.names), -(-contents.bits // 8)
    if contents.kind not in KINDS:
        yield f"it is to be searched by '{contents.kind}', and this hashbench knows {', '.join(KINDS)}"
    if not count or count != about["images"] or (contents.graph is None) == (contents.kind == "hnsw"):
        yield "its parts do not fit together"
    if contents.codes.dtype != np.uint8 or contents.codes.shape != (count, width):
        yield f"its codes are {contents.codes.dtype} {contents.codes.shape} for {count} images of {contents.bits} bits"
    if contents.states.dtype != np.int64 or contents.states.shape != (count, 2):
        yield "its list of files is damaged"
    if not all(isinstance(name, str) for _, name in contents.names) or contents.names[-1][0] >= len(contents.folders):
        yield "its names are damaged"


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _array(content: bytes) -> np.ndarray:
    found: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    return found
