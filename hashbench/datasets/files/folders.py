"""Folders of images of the user's own: which folders are parts, which are classes, and what is passed over."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hashbench.datasets.base import one_hot
from hashbench.datasets.files.annotations import unreadable
from hashbench.datasets.files.imagefiles import IMAGE_ENDINGS, ImageFiles
from hashbench.datasets.files.parts import PART_OF, resembles_part
from hashbench.errors import HashbenchError, few

if TYPE_CHECKING:
    import numpy as np

#: Folders that systems leave among one's own, beside those whose names begin with a dot.
SYSTEM_FOLDERS = frozenset(
    ("__macosx", "@eadir", "#recycle", "__pycache__", "lost+found", "$recycle.bin", "system volume information")
)
DEEPEST = 100  # folders in folders; more would exceed what Python can walk


@dataclass
class Passed:
    """What is passed over, by kind, and where the walk was."""

    files: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)  # folders without images
    left_out: list[str] = field(default_factory=list)  # sentences
    reached: dict[str, str] = field(default_factory=dict)  # by real path: the folder, where links are followed
    hidden: set[str] = field(default_factory=set)  # folders at the top, or below a part, that systems hide

    def notes(self) -> Iterator[str]:
        """Yield a sentence for each kind."""
        yield from self.left_out
        if self.empty:
            yield f"No classes, since they hold no images: {few(sorted(self.empty))}."
        if self.hidden:
            yield f"Hidden folders passed over: {few(sorted(self.hidden))}."
        if self.files:
            kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(self.files.items()))
            yield f"Files passed over: {kinds}."


def read_folder(root: Path, *, name: str, follow_links: bool = False) -> ImageFiles:
    """Return the images in the class folders of `root`, or in those of its part folders, ordered by path.

    Folders called as a part (`parts.PART_NAMES`), in any case, are parts where each holds class folders and nothing
    else holds images; validation images are left out where another part gives the queries. Raises HashbenchError where
    there are no class folders with images, where parts give no split or could be classes too, and for links to folders,
    unless they are followed.
    """
    import numpy as np

    from hashbench.metrics.class_names import twins

    passed = Passed()
    found = {top: image_paths(root, top, passed, follow_links) for top in _folders(root, passed, follow_links)}
    strays = sum(name.lower().endswith(IMAGE_ENDINGS) and name[0] != "." for name in _files(root))
    passed.files += Counter({"beside the class folders": strays} if strays else {})
    passed.empty += [top for top, paths in found.items() if not paths]
    found = {top: paths for top, paths in found.items() if paths}
    parts = _parts(root, found, passed)
    for top in parts:
        used = {path.split("/")[1] for path in found[top]}
        passed.empty += [f"{top}/{name}" for name in _folders(root / top, passed, follow_links) if name not in used]
    labels: list[str] = []
    part: list[str] = []
    paths: list[str] = []
    for top in found:
        if parts and top not in parts:
            continue
        in_order = sorted(found[top], key=lambda path: (path.split("/")[1], path)) if parts else found[top]
        for path in in_order:
            folders = path.split("/")[:-1]
            if parts and len(folders) < 2:
                passed.files["beside the class folders"] += 1
                continue
            paths.append(path)
            labels.append(folders[1 if parts else 0])
            part += [parts[top]] if parts else []
    if not paths:
        raise HashbenchError(
            f"{root} holds no class folders with images ({', '.join(IMAGE_ENDINGS)}){_strays(strays)}; put each image "
            f"into a folder named as its class, below {root}, or below train/ and test/ (and database/)."
        )
    _require_text(paths, root)
    classes = tuple(sorted({*labels}))
    if parts and (alike := twins({p: {row for row, q in zip(labels, part, strict=True) if q == p} for p in {*part}})):
        raise HashbenchError(
            f"The parts in {root} hold classes that look alike, {alike[0]!a} and {alike[1]!a}; call the folders of "
            f"a class the same in all parts."
        )
    column = {label: number for number, label in enumerate(classes)}
    numbers = np.array([column[label] for label in labels])
    given = np.array(part) if parts else None
    return ImageFiles(
        name,
        root,
        tuple(paths),
        one_hot(numbers, classes, name=name),
        classes,
        part=given,
        notes=(*_part_notes(parts, given, numbers, classes), *passed.notes()),
        follow_links=follow_links,
    )


def _parts(root: Path, found: dict[str, list[str]], passed: Passed) -> dict[str, str]:
    """Return the part, "train", "test" or "database", that each part folder gives; none where all are classes.

    Raises HashbenchError where that cannot be told, or the parts are no split.
    """
    named = {top: PART_OF[top.lower()] for top in found if top.lower() in PART_OF}
    if not named:
        _refuse_near_parts(root, found)
        return {}
    # A class folder holds its images itself; a part folder holds them in class folders.
    flat = [top for top in named if all(path.count("/") == 1 for path in found[top])]
    others = [top for top in found if top not in named]
    shown, beside = few([f"{top}/" for top in named]), few([f"{top}/" for top in others])
    if others:
        if all(any(path.count("/") == 1 for path in found[top]) for top in named):
            passed.left_out.append(f"{shown}: read as a class, as the other folders are, since it holds images itself.")
            return {}
        raise HashbenchError(
            f"{root} holds {shown} with class folders, as a part of a split does, and beside it {beside}; move "
            f"what is no part away, or rename {shown} if it is a class."
        )
    if flat:
        raise HashbenchError(
            f"{root} holds {few([f'{top}/' for top in flat])}, a part of a split by name, whose images lie in no class "
            f"folders; put each image into a folder named as its class, or rename what is a class."
        )
    by_part: dict[str, list[str]] = {}
    for top, part in named.items():
        by_part.setdefault(part, []).append(top)
    twice = next((tops for tops in by_part.values() if len(tops) > 1), None)
    if twice:
        raise HashbenchError(
            f"{root} holds {' and '.join(f'{top}/' for top in twice)}, which are the same part; keep one."
        )
    if "validation" in by_part:
        (validation,) = by_part["validation"]
        if "test" in by_part:
            passed.left_out.append(
                f"{validation}/: its {len(found[validation]):,} images are left out; for --evaluate-on validation, "
                f"images are taken from the training images."
            )
            named.pop(validation)
        else:
            named[validation] = "test"
            by_part["test"] = [validation]
    missing = [part for part in ("train", "test") if part not in by_part]
    if missing:
        wanted = {"train": "training images (train/)", "test": "queries (test/, query/ or val/)"}
        below = f"to have hashbench split it, give folder:{root / next(iter(found))}"
        raise HashbenchError(
            f"{root} holds the parts {shown} of a split, but none with "
            f"{' and none with '.join(wanted[part] for part in missing)}; {below if len(found) == 1 else 'add it'}."
        )
    return named


def _refuse_near_parts(root: Path, found: dict[str, list[str]]) -> None:
    """Raise HashbenchError where no folder holds images itself and they are called nearly as parts, or there is one.

    Parts in the class folders, as in cat/train/, are refused as well.
    """
    inner = {path.split("/")[1] for paths in found.values() for path in paths if path.count("/") > 1}
    if {"train", "test"} <= {PART_OF.get(name.lower()) for name in inner}:
        raise HashbenchError(
            f"{root} holds parts of a split in its class folders, {few(sorted(inner))}; put the class folders into the "
            "part folders instead, as in train/cat/."
        )
    if any(path.count("/") == 1 for paths in found.values() for path in paths):
        return
    near = [f"{top}/" for top in found if resembles_part(top)]
    if near:
        raise HashbenchError(
            f"{root} holds {few(near)}, called nearly as a part of a split is, with class folders; call parts train/, "
            f"test/ and database/, or, if they are classes, put their images into the folders themselves."
        )
    if len(found) == 1:
        (top,) = found
        raise HashbenchError(
            f"{root} holds one folder, {top}/, whose images lie in folders of their own; if those are the classes or "
            f"the parts, give folder:{root / top}."
        )


def _part_notes(
    parts: dict[str, str], given: np.ndarray | None, numbers: np.ndarray, classes: tuple[str, ...]
) -> Iterator[str]:
    import numpy as np

    if given is None:
        return
    roles = {"train": "training images", "test": "queries", "database": "database"}
    told = [f"{roles[part]} from {top}/ ({np.count_nonzero(given == part):,})" for top, part in parts.items()]
    searched = "" if "database" in parts.values() else "; the training images are the database"
    yield f"Parts: {', '.join(told)}{searched}."
    for top, part in parts.items():
        here = {*numbers[given == part].tolist()}
        absent = [label for number, label in enumerate(classes) if number not in here]
        if absent:
            yield f"{top}/ lacks {'class' if len(absent) == 1 else 'classes'} of the other parts: {few(absent)}."


def _folders(root: Path, passed: Passed, follow_links: bool) -> list[str]:
    try:
        with os.scandir(root) as entries:
            there = sorted((entry.name, entry.is_symlink()) for entry in entries)
    except NotADirectoryError as error:
        raise HashbenchError(f"{root} is a file; name the folder that holds a folder for each class.") from error
    except OSError as error:
        raise unreadable(root, error) from error
    found = [name for name, _ in there if os.path.isdir(root / name)]
    kept = [name for name in found if not _is_hidden(name)]
    passed.hidden |= {*found} - {*kept}
    passed.left_out += [f"{name} is a broken link." for name, link in there if link and not os.path.exists(root / name)]
    for name in kept:
        if not follow_links:
            _refuse_link(root / name)
    return kept


def _files(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return [entry.name for entry in entries if os.path.isfile(entry.path)]  # a link to itself is none


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def image_paths(root: Path, folder: str, passed: Passed, follow_links: bool) -> list[str]:
    """Return the paths of all images below a folder, with "/", relative to `root`, in order.

    Raises HashbenchError for a link to a folder that is not to be followed, or leads where `passed` was before.
    """
    found = []
    above: dict[str, tuple[str, ...]] = {}  # by folder: the real paths of it and of those above, by which loops show
    for here, folders, names in os.walk(root / folder, followlinks=follow_links, onerror=_raise_unreadable):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        if len(Path(here).relative_to(root).parts) > DEEPEST:
            raise HashbenchError(f"{root / folder} holds folders in folders, more than {DEEPEST} deep; move them up.")
        if follow_links:
            first = passed.reached.setdefault(os.path.realpath(here), here)
            if first != here:
                raise HashbenchError(f"{here} and {first} are one folder, by links; remove one of them.")
            chain = (*above.get(here, ()), os.path.realpath(here))
            for name in folders:
                if os.path.realpath(os.path.join(here, name)) in chain:
                    raise HashbenchError(f"{os.path.join(here, name)} is a link to a folder above it; remove the link.")
                above[os.path.join(here, name)] = chain
        for name in folders if not follow_links else ():
            _refuse_link(Path(here, name))
        for name in names:
            kind = _passed_over(os.path.join(here, name), name)
            if kind is None:
                found.append(os.path.join(here, name))
            else:
                passed.files[kind] += 1
    return sorted(Path(path).relative_to(root).as_posix() for path in found)


def _passed_over(path: str, name: str) -> str | None:
    """Return what a file is that is no image, None where it is one."""
    if name.startswith("."):
        return "hidden"
    ending = os.path.splitext(name)[1].lower()
    if ending not in IMAGE_ENDINGS:
        return f"ending in {ending}" if ending else "without an ending"
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return "linked to nothing" if os.path.islink(path) else None  # what is missing is found when it is prepared
    return None if stat.S_ISREG(mode) else "of another kind (pipes, devices)"


def _raise_unreadable(error: OSError) -> None:
    raise unreadable(Path(error.filename), error)


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise HashbenchError(
            f"{path} is a link to a folder, which is not followed; put the images themselves there, or allow "
            f"links with --follow-links."
        )


def _require_text(paths: list[str], root: Path) -> None:
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise HashbenchError(f"{root} holds {path!a}, which is no name in UTF-8; rename it.") from error


def _strays(count: int) -> str:
    return f", but {count:,} images in no folder" if count else ""
