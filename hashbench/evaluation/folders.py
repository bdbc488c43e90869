"""Encoding a folder of images with a trained run: row by row into a journal, then whole into one file."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import __version__ as pillow
from torch import Tensor
from tqdm import tqdm

import hashbench
from hashbench.datasets.files.decoding import DamagedImage, check_header, read_picture
from hashbench.datasets.files.imagefiles import IMAGE_ENDINGS
from hashbench.datasets.loading.augment import resize, to_unit
from hashbench.errors import HashbenchError
from hashbench.metrics.hamming import pack
from hashbench.networks.model import Model
from hashbench.storage.files import check_replaceable, make_folder, replacing, reported, write_text
from hashbench.storage.journal import Journal
from hashbench.storage.locks import hold_lock
from hashbench.storage.strict_json import dumps
from hashbench.system.memory import is_out_of_memory

BATCH = 256  # images that are encoded, and written, at a time
ROWS = "rows.jsonl"  # in the folder of an unfinished encoding: names, states and codes of what is encoded
NAMED = 10  # of the files that cannot be encoded, in an error


@dataclass
class FoundImages:
    """What lies below a folder: image files with bytes and time of change, and what is left out of them."""

    states: dict[str, tuple[int, int]] = field(default_factory=dict)  # by path below the folder, in the order of rows
    broken: dict[str, str] = field(default_factory=dict)  # path -> why it cannot be encoded
    passed_over: Counter[str] = field(default_factory=Counter)  # hidden or no images: how many of each kind


@dataclass(frozen=True)
class EncodedFolder:
    """What came of encoding a folder."""

    images: int
    resumed: int  # of these, how many were encoded before an interruption
    skipped: Mapping[str, str]  # path -> why it was left out
    listed: Path  # the list of them, where there are any: a line of JSON each, `file` and `reason`
    passed_over: Mapping[str, int]


def encode_folder(
    model: Model, folder: Path, output: Path, *, run: str, skip_broken: bool = False, progress: bool = False
) -> EncodedFolder:
    """Write packed codes, file names and the number of bits of all images below `folder` to `output` (.npz).

    `run` is the id of the model's run. Rows are kept in a hidden folder beside `output` while they are computed; after
    an interruption, those of files that have not changed are taken from it, if run, weights and folder are the same.
    With `skip_broken`, images that cannot be encoded are left out and listed beside `output`. Raises HashbenchError
    where they are not, where there are none, and for a run that learned from no pictures.
    """
    _refuse_other_inputs(model)
    if output.suffix not in ("", ".npz"):
        raise HashbenchError(f"Codes and names of files are written as .npz, not as {output.suffix}; name such a file.")
    check_replaceable(output)
    found = find_images(folder, progress=progress)
    _refuse_broken(found.broken, folder, skip_broken)
    make_folder(output.parent)
    unfinished = output.with_name(f".{output.name}.encoding")
    with hold_lock(unfinished):
        with Journal(unfinished / ROWS, _subject(model, folder, run)) as journal:
            rows = {
                name: bytes.fromhex(code)
                for entry in journal.entries
                for name, size, changed, code in entry
                if found.states.get(name) == (size, changed)
            }
            resumed, left = len(rows), [name for name in found.states if name not in rows]
            bar = _bar(len(found.states), progress, initial=resumed)
            with bar, closing(_encoded(model, folder, left, found.broken)) as batches:
                for names, codes in batches:
                    texts = [code.tobytes().hex() for code in codes]
                    journal.append([[name, *found.states[name], text] for name, text in zip(names, texts, strict=True)])
                    rows.update(zip(names, map(bytes.fromhex, texts), strict=True))
                    bar.update(len(names))
        _refuse_broken(found.broken, folder, skip_broken, kept=len(rows))
        if not rows:
            raise HashbenchError(f"No image below {folder} can be encoded; {_named(found.broken)}.")
        _write(output, {name: rows[name] for name in found.states if name in rows}, model.bits, found.broken)
        with reported(unfinished):
            (unfinished / ROWS).unlink()
    with suppress(OSError):  # where another process has begun meanwhile
        unfinished.rmdir()
    return EncodedFolder(len(rows), resumed, found.broken, list_of_skipped(output), found.passed_over)


def find_images(folder: Path, *, progress: bool = False) -> FoundImages:
    """Return what lies below `folder`, ordered by path; hidden files and folders are passed over and counted.

    Links to folders are not followed and count as broken, as do links to nothing, empty files, and files whose first
    bytes are no image's. Raises HashbenchError where there is no such folder, or nothing that may be an image.
    """
    if not folder.is_dir():
        raise HashbenchError(f"There is no folder {folder}; name one with images ({', '.join(IMAGE_ENDINGS)}).")
    found, names = FoundImages(), []

    def unreadable(error: OSError) -> None:
        found.broken[os.path.relpath(error.filename, folder)] = f"the folder cannot be read: {error.strerror}"

    for here, folders, files in os.walk(folder, onerror=unreadable):
        below = os.path.relpath(here, folder)
        for name in [*folders]:
            if name.startswith("."):
                found.passed_over["hidden folder"] += 1
                folders.remove(name)
            elif os.path.islink(os.path.join(here, name)):
                found.broken[os.path.normpath(os.path.join(below, name))] = "a link to a folder, which is not followed"
        for name in files:
            if name.startswith("."):
                found.passed_over["hidden file"] += 1
            elif not name.lower().endswith(IMAGE_ENDINGS):
                found.passed_over[f"{os.path.splitext(name)[1].lower() or 'other'} file"] += 1
            else:
                names.append(os.path.normpath(os.path.join(below, name)))
    if not names and not found.broken:
        raise HashbenchError(f"{folder} holds no images; it may hold {', '.join(IMAGE_ENDINGS)} files.")
    names.sort(key=lambda name: name.split(os.sep))
    with ThreadPoolExecutor() as pool, _bar(len(names), progress, desc=f"looking at {folder}") as bar:
        for start in range(0, len(names), BATCH):
            some = names[start : start + BATCH]
            for name, state in zip(some, pool.map(lambda name: _state(folder / name), some), strict=True):
                if isinstance(state, str):
                    found.broken[name] = state
                else:
                    found.states[name] = state
            bar.update(len(some))
    return found


def list_of_skipped(output: Path) -> Path:
    """Return where the images that are left out of `output` are listed."""
    return output.with_name(f"{output.name.removesuffix('.npz')}.skipped.jsonl")


def _state(path: Path) -> tuple[int, int] | str:
    """Return bytes and time of change of an image file, or why it cannot be encoded, by its first bytes alone."""
    try:
        status = os.stat(path)
    except OSError as error:
        if path.is_symlink():
            return f"a link to {os.readlink(path)}, which is not there"
        return str(error.strerror)
    if not stat.S_ISREG(status.st_mode):
        return "no file"
    if not status.st_size:
        return "empty"
    try:
        check_header(path)
    except DamagedImage as error:
        return f"cannot be decoded as an image: {error.reason}"
    return status.st_size, status.st_mtime_ns


def _encoded(
    model: Model, folder: Path, names: Sequence[str], broken: dict[str, str]
) -> Generator[tuple[list[str], np.ndarray]]:
    """Yield names and packed codes of some images at a time, the next ones decoded meanwhile; `broken` gets others."""
    channels, *size = model.shape
    pool = ThreadPoolExecutor()

    def submit(start: int) -> dict[str, Future[Tensor]]:
        return {name: pool.submit(_read, folder / name, channels, size) for name in names[start : start + BATCH]}

    try:
        submitted = submit(0)
        for start in range(0, len(names), BATCH):
            current, submitted = submitted, submit(start + BATCH)
            images = {}
            for name, image in current.items():
                try:
                    images[name] = image.result()
                except DamagedImage as error:
                    broken[name] = f"cannot be decoded as an image: {error.reason}"
            if images:
                yield [*images], pack(_codes(model, torch.stack([*images.values()])))
    finally:
        pool.shutdown(cancel_futures=True)


def _codes(model: Model, images: Tensor) -> np.ndarray:
    try:
        return model.encode(images)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise HashbenchError(
            f"There was not enough memory to encode {len(images)} images on {model.task.device}; end what else takes "
            f"it, or name another --device, and give the command again: what is encoded is kept."
        ) from error


def _read(path: Path, channels: int, size: Sequence[int]) -> Tensor:
    """Return one image (channels, height, width), float in [0, 1], resized bilinear and antialiased."""
    try:
        pixels = np.array(read_picture(path, "L" if channels == 1 else "RGB"))
        unit = to_unit(torch.from_numpy(pixels).reshape(1, *pixels.shape[:2], channels).permute(0, 3, 1, 2))
        return resize(unit, (size[0], size[1]))[0]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise DamagedImage(path, "its pixels do not fit in memory") from error


def _subject(model: Model, folder: Path, run: str) -> dict[str, Any]:
    """Return what rows depend on beside their files: the run with its weights, the folder, and the decoder."""
    weights = hashlib.sha256()
    for part, state in model.state().items():
        for name, value in (state or {}).items():
            weights.update(f"{part}.{name} {value.dtype} {tuple(value.shape)}".encode())
            weights.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return {
        "run": run,
        "weights": weights.hexdigest(),
        "bits": model.bits,
        "folder": os.path.realpath(folder),
        "versions": [hashbench.__version__, pillow],
    }


def _write(output: Path, rows: Mapping[str, bytes], bits: int, skipped: Mapping[str, str]) -> None:
    """Write the list of what was skipped, or none, then codes and names."""
    listed = list_of_skipped(output)
    if skipped:
        lines = (dumps({"file": name, "reason": reason}) + "\n" for name, reason in sorted(skipped.items()))
        write_text(listed, "".join(lines))
    else:
        with reported(listed):
            listed.unlink(missing_ok=True)
    codes = np.frombuffer(b"".join(rows.values()), np.uint8).reshape(len(rows), -1)
    with replacing(output) as file:
        np.savez_compressed(file, codes=codes, files=np.array([*rows]), bits=np.array(bits))


def _refuse_other_inputs(model: Model) -> None:
    """Raise HashbenchError for a run whose inputs are not what a picture file holds."""
    if len(model.shape) != 3:
        what = "text" if model.task.inputs == "text" else "vectors"
        raise HashbenchError(f"This run takes {what}, not images; use hashbench.load(run).encode(rows).")
    if model.shape[0] not in (1, 3):
        raise HashbenchError(
            f"This run takes images of {model.shape[0]} channels, and picture files are read as 1 or 3; use "
            f"hashbench.load(run).encode(images)."
        )


def _refuse_broken(broken: Mapping[str, str], folder: Path, skip: bool, *, kept: int = 0) -> None:
    if broken and not skip:
        so_far = f" The codes of {kept:,} others are kept for that." if kept else ""
        raise HashbenchError(
            f"{len(broken):,} {'path' if len(broken) == 1 else 'paths'} below {folder} cannot be encoded: "
            f"{_named(broken)}. Put the right files there, or leave these out with --skip-broken.{so_far}"
        )


def _named(broken: Mapping[str, str]) -> str:
    named = "; ".join(f"{name}: {reason}" for name, reason in [*sorted(broken.items())][:NAMED])
    return named if len(broken) <= NAMED else f"{named}; and {len(broken) - NAMED:,} more"


def _bar(total: int, progress: bool, **more: Any) -> tqdm[Any]:
    return tqdm(total=total, unit="img", disable=not progress, leave=False, **more)
