"""Encoding a folder of images with a trained run: row by row into a journal, then whole, for a file of any form."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import __version__ as pillow
from torch import Tensor
from tqdm.auto import tqdm

import hashbench
from hashbench.datasets.files.decoding import DamagedImage, check_header, read_picture
from hashbench.datasets.files.folders import Passed, image_paths
from hashbench.datasets.files.imagefiles import IMAGE_ENDINGS
from hashbench.datasets.loading.augment import resize, to_unit
from hashbench.errors import HashbenchError, few
from hashbench.methods.contract import base_of
from hashbench.metrics.hamming import pack
from hashbench.networks.model import Model
from hashbench.results.sweeps.estimates import plural
from hashbench.storage.files import check_replaceable, make_folder, replacing, reported, write_text
from hashbench.storage.journal import Journal
from hashbench.storage.locks import hold_lock
from hashbench.storage.strict_json import dumps
from hashbench.system.memory import is_out_of_memory
from hashbench.system.provenance import source_sha256

BATCH = 256  # images that are encoded, and written, at a time
ROWS = "rows.jsonl"  # in the folder of an unfinished encoding: names, states and codes of what is encoded
NONE_KNOWN: Mapping[str, EncodedImage] = {}
NAMED = 10  # of the files that cannot be encoded, in an error


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image file as it was when it was encoded, and its code."""

    size: int  # bytes
    changed: int  # time of change, nanoseconds
    code: bytes  # packed, ceil(bits / 8) of them


@dataclass(frozen=True)
class EncodedImages:
    """The images below a folder, those that were encoded before among them."""

    images: Mapping[str, EncodedImage]  # path below the folder -> image, in the order of rows
    resumed: int  # of these, how many were encoded before an interruption
    known: int  # of these, how many the caller had
    broken: Mapping[str, str]  # path -> why it was left out
    notes: tuple[str, ...]  # sentences on what was passed over: hidden files, other files, broken links


@dataclass(frozen=True)
class EncodedFolder:
    """What came of encoding a folder."""

    images: int
    resumed: int  # of these, how many were encoded before an interruption
    skipped: Mapping[str, str]  # path -> why it was left out
    listed: Path  # the list of them, where there are any: a line of JSON each, `file` and `reason`
    notes: tuple[str, ...]  # sentences on what was passed over: hidden files, other files, broken links


def encode_folder(
    model: Model,
    folder: Path,
    output: Path,
    *,
    run: str,
    skip_broken: bool = False,
    follow_links: bool = False,
    progress: bool = False,
) -> EncodedFolder:
    """Write packed codes, file names and the number of bits of all images below `folder` to `output` (.npz).

    `run` is the id of the model's run. Rows are kept in a hidden folder beside `output` while they are computed; after
    an interruption, those of files that have not changed are taken from it, if run, weights and folder are the same.
    With `skip_broken`, images that cannot be encoded are left out and listed beside `output`. Raises HashbenchError
    where they are not, where there are none, for a run that learned from no pictures, and for links to folders, unless
    they are followed.
    """
    if output.suffix not in ("", ".npz"):
        raise HashbenchError(f"Codes and names of files are written as .npz, not as {output.suffix}; name such a file.")
    with kept_rows(output) as rows:
        found = encode_images(
            model, folder, rows, run=run, skip_broken=skip_broken, follow_links=follow_links, progress=progress
        )
        listed = write_skipped(output, found.broken)
        _write(output, found.images, model.bits)
    return EncodedFolder(len(found.images), found.resumed, found.broken, listed, found.notes)


@contextmanager
def kept_rows(output: Path) -> Iterator[Path]:
    """Yield where rows for `output` are kept until the block ends without an error; no other process may use it then.

    Raises RunLocked where one does, and HashbenchError where `output` is nothing that can be written.
    """
    check_replaceable(output)
    make_folder(output.parent)
    unfinished = output.with_name(f".{output.name}.encoding")
    rows = unfinished / ROWS
    try:
        with hold_lock(unfinished):
            yield rows
            with reported(unfinished):
                rows.unlink(missing_ok=True)
    finally:
        with suppress(OSError):  # where rows are kept, or another process has begun meanwhile
            unfinished.rmdir()


def encode_images(
    model: Model,
    folder: Path,
    rows: Path,
    *,
    run: str,
    known: Mapping[str, EncodedImage] = NONE_KNOWN,
    drop_gone: bool = False,
    skip_broken: bool = False,
    follow_links: bool = False,
    progress: bool = False,
) -> EncodedImages:
    """Return all images below `folder` with their codes, which go to the file `rows` as they come.

    Of the `known` ones, which an index holds, and of those in `rows`, files that have not changed are not encoded
    again. With `drop_gone`, there may be none any more of those known. Raises HashbenchError as `encode_folder` does.
    """
    _refuse_other_inputs(model)
    passed = Passed()
    states, broken = _find(folder, passed, known, follow_links, progress, drop_gone=drop_gone)
    if not states and not broken:
        return EncodedImages({}, 0, 0, {}, tuple(passed.notes()))
    _refuse_broken(broken, folder, skip_broken)
    found = {name: image for name, image in known.items() if states.get(name) == (image.size, image.changed)}
    taken = len(found)
    with Journal(rows, _subject(model, folder, run)) as journal:
        for entry in journal.entries:
            for name, size, changed, code in entry:
                if states.get(name) == (size, changed):
                    found[name] = EncodedImage(size, changed, bytes.fromhex(code))
        resumed, left = len(found) - taken, [name for name in states if name not in found]
        with (
            _bar(len(states), progress, initial=len(found)) as bar,
            closing(_encoded(model, folder, left, broken)) as batches,
        ):
            for names, codes in batches:
                new = {
                    name: EncodedImage(*states[name], code.tobytes()) for name, code in zip(names, codes, strict=True)
                }
                journal.append([[name, each.size, each.changed, each.code.hex()] for name, each in new.items()])
                found |= new
                bar.update(len(new))
    _refuse_broken(broken, folder, skip_broken, kept=len(found))
    if not found:
        raise HashbenchError(f"No image below {folder} can be decoded: {_named(broken)}.")
    in_order = {name: found[name] for name in states if name in found}
    return EncodedImages(in_order, resumed, taken, broken, tuple(passed.notes()))


def _find(
    folder: Path,
    passed: Passed,
    known: Mapping[str, EncodedImage],
    follow_links: bool,
    progress: bool,
    *,
    drop_gone: bool,
) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Return the images below a folder, in the order of rows, with bytes and time of change; and the broken ones.

    Those are files that are empty or whose first bytes are no image's, each with the reason; `known` ones that have not
    changed are not opened. Raises HashbenchError where there are none, unless some are `known` and to be dropped.
    """
    there, names = folder.is_dir(), list[str]()
    if there:
        names = sorted(image_paths(folder, ".", passed, follow_links), key=lambda name: name.split("/"))
    if not names and not (known and drop_gone):
        raise HashbenchError(" ".join([_none_there(folder, there, len(known)), *passed.notes()]))
    states: dict[str, tuple[int, int]] = {}
    broken: dict[str, str] = {}
    with ThreadPoolExecutor() as pool, _bar(len(names), progress, desc="looking at files") as bar:
        for start in range(0, len(names), BATCH):
            some = names[start : start + BATCH]
            for name, state in zip(
                some, pool.map(lambda name: _state(folder / name, known.get(name)), some), strict=True
            ):
                if isinstance(state, str):
                    broken[name] = state
                else:
                    states[name] = state
            bar.update(len(some))
    return states, broken


def _none_there(folder: Path, there: bool, known: int) -> str:
    """Return the sentence about a folder that is not there or has no images, of which an index holds so many."""
    kinds = ", ".join(IMAGE_ENDINGS)
    drop = f"give --drop-gone, which drops the {known:,} {plural('image', known)} of it that the index holds"
    if there:
        return f"{folder} holds no images ({kinds}){f'; {drop}' if known else ''}."
    return f"There is no folder {folder}; name one with images ({kinds}){f', or {drop}' if known else ''}."


def write_skipped(output: Path, skipped: Mapping[str, str]) -> Path:
    """List what is left out of `output` in a file beside it, which is returned; none is left there without any."""
    listed = output.with_name(f"{output.name.removesuffix('.npz')}.skipped.jsonl")
    if skipped:
        lines = (dumps({"file": name, "reason": reason}) + "\n" for name, reason in sorted(skipped.items()))
        write_text(listed, "".join(lines))
    else:
        with reported(listed):
            listed.unlink(missing_ok=True)
    return listed


def _state(path: Path, known: EncodedImage | None) -> tuple[int, int] | str:
    """Return bytes and time of change of an image file, or why it cannot be encoded, by its first bytes alone."""
    try:
        status = os.stat(path)
        if not status.st_size:
            return "is empty"
        if known is None or (known.size, known.changed) != (status.st_size, status.st_mtime_ns):
            check_header(path)
    except DamagedImage as error:
        return error.reason
    except OSError as error:  # removed meanwhile
        return str(error.strerror)
    return status.st_size, status.st_mtime_ns


def _encoded(
    model: Model, folder: Path, names: Sequence[str], broken: dict[str, str]
) -> Generator[tuple[list[str], np.ndarray]]:
    """Yield names and packed codes of some images at a time, the next ones decoded meanwhile; `broken` gets others."""
    channels, *size = model.shape
    pool = ThreadPoolExecutor()

    def submit(start: int) -> dict[str, Future[Tensor]]:
        return {name: pool.submit(read_image, folder / name, channels, size) for name in names[start : start + BATCH]}

    try:
        submitted = submit(0)
        for start in range(0, len(names), BATCH):
            current, submitted = submitted, submit(start + BATCH)
            images = {}
            for name, image in current.items():
                try:
                    images[name] = image.result()
                except DamagedImage as error:
                    broken[name] = error.reason
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


def read_image(path: Path, channels: int, size: Sequence[int]) -> Tensor:
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
    """Return what rows depend on beside their files: the run with its weights, the code, and the folder."""
    weights = hashlib.sha256()
    for part, state in model.state().items():
        for name, value in (state or {}).items():
            weights.update(f"{part}.{name} {value.dtype} {tuple(value.shape)}".encode())
            weights.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return {
        "run": run,
        "weights": weights.hexdigest(),
        "bits": model.bits,
        "source": source_sha256(*(type(one) for one in (model.method, base_of(model.method)) if one is not None)),
        "folder": os.path.realpath(folder),
        "versions": [hashbench.__version__, pillow, torch.__version__],
    }


def _write(output: Path, images: Mapping[str, EncodedImage], bits: int) -> None:
    codes = np.frombuffer(b"".join(image.code for image in images.values()), np.uint8).reshape(len(images), -1)
    with replacing(output) as file:
        np.savez_compressed(file, codes=codes, files=np.array([*images]), bits=np.array(bits))


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
            f"{len(broken):,} {plural('image', len(broken))} below {folder} cannot be decoded: {_named(broken)}; put "
            f"the right files there, or leave them out with --skip-broken.{so_far}"
        )


def _named(broken: Mapping[str, str]) -> str:
    return few([f"{name} ({reason})" for name, reason in sorted(broken.items())], NAMED)


def _bar(total: int, progress: bool, **more: Any) -> tqdm[Any]:
    return tqdm(total=total, unit="img", disable=not progress, leave=False, **more)
