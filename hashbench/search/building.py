"""Making a search index of a folder of images, and adding more images to it."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import __version__ as pillow

from hashbench.errors import HashbenchError, unknown
from hashbench.evaluation.folders import EncodedImages, encode_images, kept_rows, write_skipped
from hashbench.experiments.runner import load_with_result
from hashbench.results.bundle import bundle_members, opened_run
from hashbench.search.contents import KINDS, Contents, Kind, contents_of, read_contents, weights_of, write_contents
from hashbench.search.ways import build_graph
from hashbench.storage.files import version_of


@dataclass(frozen=True)
class Indexed:
    """What came of indexing a folder."""

    images: int  # in the index
    new: int  # encoded or encoded anew
    resumed: int  # of the new ones, how many were encoded before an interruption
    gone: int  # images of the folder that are not there any more, and stay in the index
    dropped: int  # images of the folder that were in the index and are not there any more
    skipped: Mapping[str, str]  # path -> why it was left out
    listed: Path  # the list of them, where there are any
    notes: tuple[str, ...]  # sentences on what was passed over


def build_index(
    run: str | Path,
    folder: str | Path,
    output: str | Path,
    *,
    kind: Kind | None = None,
    skip_broken: bool = False,
    follow_links: bool = False,
    drop_gone: bool = False,
    method: str | None = None,
    backbone: str | None = None,
    device: str = "auto",
    progress: bool = False,
) -> Indexed:
    """Write a search index of all images below `folder` to `output`, or bring one that is there up to date with them.

    `run` is the folder of a run, its bundle, or an index. Of an index that is there, images of other folders stay as
    they are, and files that have not changed are not encoded again; images that are gone stay unless `drop_gone`, which
    drops them also where the whole folder is gone or empty. `kind` (default: that of the index, else "flat") says how
    it is searched; "hnsw" is approximate. After an interruption the same call goes on. `method` and `backbone` are
    those of `hashbench.load`. Raises HashbenchError as `encode_folder` does, where `output` is something else or of
    another run, and where no image would be left in it; warns as `hashbench.load` does.
    """
    output, folder = Path(output), Path(folder)
    if kind is not None and kind not in KINDS:
        raise unknown("kind of index", kind, KINDS)
    model, result, changed = load_with_result(run, method=method, backbone=backbone, device=device)
    for sentence in changed:
        warnings.warn(sentence, stacklevel=2)
    with kept_rows(output) as rows:
        version, place = version_of(output), os.path.realpath(folder)
        with opened_run(Path(run)) as directory:
            bundle = bundle_members(directory)
        weights = weights_of({name: hashlib.sha256(content).hexdigest() for name, content in bundle.items()})
        before = _before(output, result.id, weights)
        _refuse_overlap(output, place, () if before is None else before.folders)
        known = {} if before is None else before.images(place)
        found = encode_images(
            model, folder, rows, run=result.id, known=known, drop_gone=drop_gone, skip_broken=skip_broken,
            follow_links=follow_links, progress=progress,
        )  # fmt: skip
        stay = {name: known[name] for name in known if not drop_gone and _is_gone(folder / name, name, found)}
        folders = {} if before is None else {other: before.images(other) for other in before.folders}
        folders[place] = {**found.images, **stay}
        if not any(folders.values()):
            raise HashbenchError(
                f"All images in {output} are of {folder} and gone; an index holds at least one, so delete the file "
                f"instead."
            )
        kind = kind or ("flat" if before is None else before.kind)
        contents = contents_of(
            {other: images for other, images in folders.items() if images},
            run=result.id,
            weights=weights,
            bits=model.bits,
            kind=kind,
            versions=versions_here(),
            earlier=_earlier(before) if before and (found.known or stay or len(folders) > 1) else (),
        )
        if kind == "hnsw":
            contents = replace(contents, graph=build_graph(contents.codes))
        listed = write_skipped(output, found.broken)
        write_contents(output, contents, bundle, allowed=lambda: _refuse_changed(output, version))
    new = len(found.images) - found.known
    dropped = len(known.keys() - folders[place].keys() - found.broken.keys())
    return Indexed(len(contents.names), new, found.resumed, len(stay), dropped, found.broken, listed, found.notes)


def versions_here() -> dict[str, str]:
    """Return the versions of what decodes and encodes images."""
    return {"pillow": pillow, "torch": torch.__version__}


def _earlier(before: Contents) -> tuple[Mapping[str, str], ...]:
    """Return the versions that differ from those here, with which images of an index may have been encoded."""
    here, found = versions_here(), list[Mapping[str, str]]()
    for versions in (*before.earlier, before.versions):
        if versions not in (here, *found):
            found.append(versions)
    return tuple(found)


def _before(output: Path, run: str, weights: str) -> Contents | None:
    """Return the index that is there; raises HashbenchError where it is none, of another run or of other weights."""
    if not output.exists():
        return None
    found = read_contents(output)
    if (found.run, found.weights) != (run, weights):
        then, now = found.run[:8], run[:8]
        if then == now:  # the run was computed again, elsewhere or since
            then, now = f"{then} with the weights {found.weights[:8]}", f"{now} with the weights {weights[:8]}"
        raise HashbenchError(
            f"{output} holds codes of the run {then}, which cannot be compared with those of {now}; name another file, "
            f"or the run that it was made with."
        )
    return found


def _refuse_overlap(output: Path, folder: str, others: Sequence[str]) -> None:
    """Raise HashbenchError where a folder lies in one of the index, or that in it: images would be there twice."""
    for other in others:
        if folder != other and os.path.commonpath((folder, other)) in (folder, other):
            raise HashbenchError(
                f"{folder} and {other}, which is in {output}, lie within each other; give {other} again, or another "
                f"file for the index."
            )


def _is_gone(path: Path, name: str, found: EncodedImages) -> bool:
    return name not in found.images and name not in found.broken and not os.path.lexists(path)


def _refuse_changed(output: Path, version: tuple[int, ...] | None) -> None:
    if version_of(output) != version:
        raise HashbenchError(f"{output} was changed meanwhile; give the command again: what is encoded is kept.")
