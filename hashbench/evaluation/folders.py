"""Encoding a folder of images with a trained run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hashbench.datasets.files.decoding import read_picture
from hashbench.datasets.files.imagefiles import IMAGE_ENDINGS
from hashbench.datasets.loading.augment import resize, to_unit
from hashbench.errors import HashbenchError
from hashbench.metrics.hamming import pack
from hashbench.networks.model import Model
from hashbench.storage.files import replacing

BATCH = 256


def encode_folder(model: Model, folder: Path, output: Path, *, progress: bool) -> int:
    """Write packed codes, file names and the number of bits of all images below `folder` to `output` (.npz).

    Returns how many there were. Raises HashbenchError where the folder holds none, or one cannot be decoded.
    """
    if not folder.is_dir():
        raise HashbenchError(f"There is no folder {folder}; name one with images ({', '.join(IMAGE_ENDINGS)}).")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS and path.is_file())
    if not paths:
        raise HashbenchError(f"{folder} holds no images; it may hold {', '.join(IMAGE_ENDINGS)} files.")
    if len(model.shape) != 3:
        raise HashbenchError("This run takes vectors, not images; use hashbench.load(run).encode(vectors).")
    channels, height, width = model.shape
    codes = []
    with ThreadPoolExecutor() as pool, tqdm(total=len(paths), unit="img", disable=not progress, leave=False) as bar:
        for start in range(0, len(paths), BATCH):
            some = paths[start : start + BATCH]
            images = pool.map(lambda path: _read(path, channels, (height, width)), some)
            codes.append(pack(model.encode(torch.stack([*images]))))
            bar.update(len(some))
    names = np.array([path.relative_to(folder).as_posix() for path in paths])
    with replacing(output) as file:
        np.savez_compressed(file, codes=np.concatenate(codes), files=names, bits=np.array(model.bits))
    return len(paths)


def _read(path: Path, channels: int, size: tuple[int, int]) -> Tensor:
    """Return one image (channels, height, width), float in [0, 1], resized bilinear and antialiased."""
    pixels = np.array(read_picture(path, "L" if channels == 1 else "RGB"))
    unit = to_unit(torch.from_numpy(pixels).reshape(1, *pixels.shape[:2], channels).permute(0, 3, 1, 2))
    return resize(unit, size)[0]
