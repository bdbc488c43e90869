"""Image files as arrays of one shape: which files they are, decoded, made RGB and resized.

Pillow does it, in integers throughout, so that one version of it gives the same bytes on every machine; its bilinear
filter is torchvision's antialiased one within 1 level of 255. As in torchvision's image folders, grey, palette and CMYK
pictures become RGB, and transparency and the orientation tags of cameras are ignored.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from hashbench.datasets.files.imagefiles import ImageFiles
from hashbench.errors import HashbenchError

USUAL_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485
FILTER = "bilinear, antialiased"
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")  # no format that starts another program
MODES = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"))  # 8 bits a channel
MAX_PIXELS = "HASHBENCH_MAX_PIXELS"  # the most pixels of an image that is decoded
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # what Pillow raises on damaged files


class DamagedImage(HashbenchError):
    """An image file that cannot be decoded, for a `reason`."""

    def __init__(self, path: Path, reason: str):
        super().__init__(
            f"{path} cannot be decoded as an image ({reason}); put the right file there, and give the command again."
        )
        self.reason = reason


def largest_image() -> int:
    """Return the most pixels of an image that is decoded: HASHBENCH_MAX_PIXELS, else twice Pillow's limit.

    Raises HashbenchError for a setting that is no number.
    """
    text = os.environ.get(MAX_PIXELS)
    if not text:
        return 2 * USUAL_PIXELS
    if not text.isdecimal():
        raise HashbenchError(f"{MAX_PIXELS} is '{text}'; give a number of pixels.")
    Image.MAX_IMAGE_PIXELS = max(int(text), USUAL_PIXELS)  # Pillow refuses at twice of it
    return int(text)


def longest_side(files: ImageFiles, most: int) -> int:
    """Return the longest side of any image in pixels, or `most` as soon as one reaches it; headers alone are read.

    What cannot be read is passed over.
    """
    longest = 0
    for path in files.paths:
        try:
            with Image.open(files.root / path, formats=FORMATS) as opened:
                longest = max(longest, *opened.size)
        except UNREADABLE:
            continue
        if longest >= most:
            return most
    return longest or most


def broken_images(
    files: ImageFiles, *, start: int = 0, most: int | None = None, progress: bool = False
) -> dict[str, str]:
    """Return which images from row `start` on cannot be read, each with the reason; it ends when `most` are found."""
    found: dict[str, str] = {}
    paths = files.paths[start:]
    with ThreadPoolExecutor() as pool:
        bar = tqdm(total=len(paths), unit="img", desc=f"{files.name}: checking", disable=not progress, leave=False)
        with bar:
            for first in range(0, len(paths), 256):
                some = paths[first : first + 256]
                reasons = pool.map(lambda path: _defect(files.root / path), some)
                found |= {path: reason for path, reason in zip(some, reasons, strict=True) if reason}
                bar.update(len(some))
                if most is not None and len(found) >= most:
                    break
    return found


def _defect(path: Path) -> str:
    try:
        if not os.path.isfile(path):
            return "is missing"
        if not os.path.getsize(path):
            return "is empty"
        read_picture(path, "RGB")
    except DamagedImage as error:
        return error.reason
    return ""


def decode(path: Path, size: int) -> np.ndarray:
    """Return the image at `path` as (3, size, size) uint8; raises HashbenchError naming it where it is damaged."""
    picture = read_picture(path, "RGB").resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def read_picture(path: Path, mode: str) -> Image.Image:
    """Return the image at `path` in Pillow's `mode`, "RGB" or "L" (grey), whatever 8-bit mode it has.

    Raises HashbenchError naming the file where it is damaged, of another format, or of more than 8 bits a channel.
    """
    with _opened(path) as picture:
        return picture.convert(mode)


def check_header(path: Path) -> None:
    """Raise what `read_picture` would, as far as the first bytes of the file tell."""
    with _opened(path):
        pass


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=FORMATS) as opened:
            pixels = opened.width * opened.height
            if pixels > largest_image():
                raise ValueError(
                    f"its {opened.width:,} x {opened.height:,} pixels are more than {largest_image():,}, which "
                    f"{MAX_PIXELS} raises"
                )
            if opened.mode not in MODES:
                raise ValueError(f"its pixels are '{opened.mode}' instead of 8 bits a channel")
            yield opened
    except UNREADABLE as error:
        raise DamagedImage(path, str(error).replace(str(path), "it")) from error


def inspect(files: ImageFiles) -> np.ndarray:
    """Return bytes and time of change (N, 2) int64 of each image file, without opening any.

    Raises HashbenchError for names and links that leave the folder, and for what is missing, empty or no file.
    """
    root = os.path.realpath(files.root)
    inside = os.path.join(root, "") if not files.follow_links else ""
    real_folders: dict[str, str] = {}
    found = np.empty((len(files.paths), 2), np.int64)
    missing: list[str] = []
    way_out = ", or leave it out with --skip-broken" if files.reading else ""
    for place, name in enumerate(files.paths):
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "\0" in name:
            raise HashbenchError(f"{files.name} lists the image {name!r}, which is outside of its folder {root}.")
        folder, base = os.path.split(os.path.join(root, name))
        if folder not in real_folders:
            real_folders[folder] = os.path.realpath(folder)
        path = os.path.join(real_folders[folder], base)
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                path = os.path.realpath(path)
                status = os.lstat(path)
        except OSError:
            missing.append(os.path.join(root, name))
            continue
        if not path.startswith(inside):
            raise HashbenchError(
                f"{os.path.join(root, name)} is a link to {path}, which is outside of {root}; put the files themselves "
                f"there, or allow links with --follow-links."
            )
        if not (stat.S_ISREG(status.st_mode) and status.st_size):
            kind = "empty" if stat.S_ISREG(status.st_mode) else "no file"
            raise HashbenchError(f"{path} is {kind}; fetch it again{way_out}.")
        found[place] = status.st_size, status.st_mtime_ns
    if missing:
        raise HashbenchError(
            f"{len(missing):,} of the {len(files.paths):,} images of {files.name} are missing, the first of them "
            f"{missing[0]}; is everything unpacked?"
        )
    return found
