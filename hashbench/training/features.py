"""Features of a data set through a fixed backbone: computed once, cached, shared by every run that needs them."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from hashbench.datasets.base import Store
from hashbench.datasets.loading.loader import inference_batches
from hashbench.networks.chosen import code_of
from hashbench.networks.network import FixedBackbone
from hashbench.recipes import Recipe
from hashbench.storage.cache import cache_root
from hashbench.storage.files import exclusive, make_folder, reported, write_text
from hashbench.storage.strict_json import digest
from hashbench.system.distributed import SINGLE, World

ROWS_AT_A_TIME = 2048  # what a killed computation loses at most


def features(
    store: Store,
    recipe: Recipe,
    *,
    weights: str | None,
    device: torch.device,
    batch_size: int = 64,
    progress: bool = True,
    world: World = SINGLE,
) -> np.ndarray:
    """Return the features (N, width), float32, of all inputs of `store` through the recipe's fixed backbone.

    They are memory-mapped from the cache, where they lie under the hash of the data in their order, backbone, weights
    and preprocessing. An interrupted computation resumes; of two processes, one computes and the other waits. The ranks
    of a `world` compute them together, each its share, and write them to one file.
    """
    key = digest(
        {
            "rows": hashlib.sha256(b"".join(store.content_hashes)).hexdigest(),
            "backbone": recipe.backbone,
            "weights": weights,
            "size": recipe.size,
            "precision": recipe.precision,
            **code_of(recipe.backbone),
        }
    )
    folder = cache_root() / "features"
    path = folder / f"{store.name}-{recipe.backbone.replace(':', '_')}-{recipe.size or 'native'}-{key[:16]}.npy"
    if not world.broadcast(path.is_file()):
        make_folder(folder)
        with exclusive(path.with_suffix(".lock")) if world.is_main else nullcontext():
            if not world.broadcast(path.is_file()):
                _compute(path, store, FixedBackbone(store.inputs.shape[1:], recipe).to(device), recipe.size, device,
                         batch_size, progress, world)  # fmt: skip
    return np.load(path, mmap_mode="r")


def _compute(
    path: Path,
    store: Store,
    backbone: FixedBackbone,
    size: int,
    device: torch.device,
    batch_size: int,
    progress: bool,
    world: World,
) -> None:
    """Fill a temporary file chunk by chunk, noting how many rows are done, and give it its name when it is complete.

    Rank 0 makes the file and the note; every rank writes its rows of each chunk.
    """
    temporary, note = path.with_suffix(".part"), path.with_suffix(".rows")
    shape = (len(store.inputs), backbone.width)
    with reported(temporary):
        done = 0
        if world.is_main:
            done = int(note.read_text()) if temporary.is_file() and note.is_file() else 0
            if not done:
                _make(temporary, shape)
        done = world.broadcast(done)
        array = np.lib.format.open_memmap(temporary, mode="r+")
        title = f"features of {store.name}"
        with tqdm(total=shape[0], initial=done, unit="img", desc=title, disable=not progress, leave=False) as bar:
            for start in range(done, shape[0], ROWS_AT_A_TIME * world.size):
                stop = min(start + ROWS_AT_A_TIME * world.size, shape[0])
                share = world.share(stop - start)
                at = start + share.start
                rows = store.inputs[at : start + share.stop]
                for images in inference_batches(
                    rows, batch_size=batch_size, device=device, size=size, channels_last=True
                ):
                    with torch.inference_mode():
                        array[at : at + len(images)] = backbone(images).cpu().numpy()
                    at += len(images)
                    bar.update(len(images) * world.size)
                array.flush()
                world.barrier()
                if world.is_main:
                    write_text(note, str(stop))  # whole or not at all: a kill must not leave an empty one
        del array
        if world.is_main:
            temporary.replace(path)
            note.unlink(missing_ok=True)
        world.barrier()


def _make(temporary: Path, shape: tuple[int, int]) -> None:
    """Make a temporary file with room on the disk for all of it.

    A full disk is an error here; later, writing through the map, it would end the process with SIGBUS.
    """
    np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
    if not hasattr(os, "posix_fallocate"):  # as on macOS
        return
    with temporary.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, os.path.getsize(temporary))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # what file systems without it say
                raise
