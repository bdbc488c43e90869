"""Features through a fixed backbone, of a data set and of augmented views: computed once, cached, shared by runs."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from hashbench.datasets.base import Store
from hashbench.datasets.loading.augment import Parameters, augmentation
from hashbench.datasets.loading.loader import inference_batches
from hashbench.datasets.loading.streaming import streamed
from hashbench.errors import HashbenchError
from hashbench.networks.chosen import code_of
from hashbench.networks.network import FixedBackbone
from hashbench.recipes import Recipe
from hashbench.storage.cache import cache_root
from hashbench.storage.files import (
    RESUMED_WITHIN,
    Busy,
    exclusive,
    lock_of,
    make_folder,
    remove_abandoned,
    reported,
    version_of,
)
from hashbench.storage.notes import read_note, write_note
from hashbench.storage.strict_json import digest
from hashbench.system.distributed import SINGLE, World
from hashbench.system.seeds import generator

_LOG = logging.getLogger(__name__)
ROWS_AT_A_TIME = 2048  # what a killed computation loses at most
VIEWS_SEED = 0  # of what is drawn for fixed views, whatever the run's seed
Images = Callable[[int, int], Iterator[Tensor]]  # batches of the images in rows from start to stop


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
    and preprocessing; what is damaged there, or of something else, is computed anew with a warning. An interrupted
    computation resumes; of two processes, one computes and the other waits. The ranks of a `world` compute them
    together, each its share, and write them to one file.
    """

    def images(start: int, stop: int) -> Iterator[Tensor]:
        rows = store.inputs[start:stop]
        return inference_batches(rows, batch_size=batch_size, device=device, size=recipe.size, channels_last=True)

    key = digest({"rows": _content(store.content_hashes), **_through(recipe, weights)})
    kept = _Cached(_path(store, recipe, key), key, len(store.inputs))
    return _computed_once(kept, images, store, recipe, device, f"features of {store.name}" if progress else None, world)


def view_features(
    store: Store,
    index: np.ndarray,
    recipe: Recipe,
    *,
    augment: str,
    engine: int,
    weights: str | None,
    device: torch.device,
    batch_size: int = 64,
    progress: bool = True,
    world: World = SINGLE,
) -> np.ndarray:
    """Return the features (views * n, width), float32, of the recipe's fixed views of the images at `index` (n,).

    Row v * n + i is view v of the i-th image, drawn by the augmentation called `augment` from a seed of their own: all
    runs share them. They are cached, resumed and shared by ranks as `features` are; `engine` is the version of the
    code that draws and augments.
    """
    count, rows = len(index), recipe.fixed_views * len(index)
    chosen = augmentation(augment)

    @cache
    def drawn() -> Parameters:
        height, width = store.inputs.shape[-2:]
        return chosen.draw(generator(VIEWS_SEED, "fixed views", augment), rows, height=height, width=width)

    def images(start: int, stop: int) -> Iterator[Tensor]:
        places = [slice(at, min(at + batch_size, stop)) for at in range(start, stop, batch_size)]
        of_images = (index[np.arange(place.start, place.stop) % count] for place in places)
        for place, batch in zip(places, streamed(store.inputs, of_images, device), strict=True):
            views = chosen.apply(batch, drawn()[place].to(device), size=recipe.size)
            yield views.contiguous(memory_format=torch.channels_last)

    key = digest(
        {
            "rows": _content(store.content_hashes[at] for at in index),
            "augment": augment,
            "views": recipe.fixed_views,
            "seed": VIEWS_SEED,
            "engine": engine,
            **_through(recipe, weights),
        }
    )
    kept = _Cached(_path(store, recipe, key, f"{augment}-{recipe.fixed_views}-views-"), key, rows)
    title = f"{recipe.fixed_views} views of {store.name}" if progress else None
    return _computed_once(kept, images, store, recipe, device, title, world)


def _content(hashes: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(hashes)).hexdigest()


def _through(recipe: Recipe, weights: str | None) -> dict[str, Any]:
    """Return what features follow from, besides the images."""
    return {
        "backbone": recipe.backbone,
        "weights": weights,
        "size": recipe.size,
        "precision": recipe.precision,
        **code_of(recipe.backbone),
    }


def _path(store: Store, recipe: Recipe, key: str, views: str = "") -> Path:
    name = f"{store.name}-{recipe.backbone.replace(':', '_')}-{recipe.size or 'native'}-{views}{key[:16]}.npy"
    return cache_root() / "features" / name


def _computed_once(
    kept: _Cached,
    images: Images,
    store: Store,
    recipe: Recipe,
    device: torch.device,
    title: str | None,
    world: World,
) -> np.ndarray:
    """Return the features as a memory map, computed first where they are not in the cache as they were written."""
    if not world.broadcast(world.is_main and kept.problem() is None):
        make_folder(kept.path.parent)
        if world.is_main:
            _remove_abandoned(kept.path.parent)
        with exclusive(lock_of(kept.path)) if world.is_main else nullcontext():
            problem = world.broadcast(kept.problem() if world.is_main else None)
            if problem is not None:
                if world.is_main and kept.path.exists():
                    _LOG.warning("%s %s and is computed anew.", kept.path, problem)
                backbone = FixedBackbone(store.inputs.shape[1:], recipe).to(device)
                _compute(kept, images, backbone, device, title, world)
    return np.load(kept.path, mmap_mode="r")


@dataclass(frozen=True)
class _Cached:
    """A file of features; beside it a note says whose they are, and the sha256 of each chunk of rows written so far.

    While the features are computed they lie in `part`, with the same note. So a note that is older than its `part`, or
    than the finished file, agrees with none of its rows.
    """

    path: Path
    of: str  # the hash of all that the features follow from
    rows: int

    @property
    def part(self) -> Path:
        return self.path.with_suffix(".part")

    @property
    def note(self) -> Path:
        return self.path.with_suffix(".rows")

    def problem(self) -> str | None:
        """Return why the file cannot be used, as the end of a sentence; None where every row is as it was written."""
        return _problem(self, version_of(self.path), version_of(self.note))

    def done(self, path: Path, shape: tuple[int, int] | None = None) -> list[list[Any]]:
        """Return the leading chunks [end, sha256] of `path`, part or finished file, that are as they were written.

        None is where the note states something else, or another `shape` than the one given.
        """
        note = read_note(self.note)
        if note is None or note["of"] != self.of or (shape is not None and note["shape"] != [*shape]):
            return []
        try:
            array = np.lib.format.open_memmap(path, mode="r")
        except Exception:  # of a file that is no array, numpy raises half a dozen kinds
            return []
        form = ([*array.shape], array.dtype, array.flags.c_contiguous, path.stat().st_size)
        if form != (note["shape"], np.float32, True, array.offset + array.nbytes):
            return []
        ends = [0, *(end for end, _ in note["chunks"])]
        whole = [_sha256(array[start:end]) == expected
                 for start, (end, expected) in zip(ends, note["chunks"], strict=False)]  # fmt: skip
        return note["chunks"][: [*whole, False].index(False)]


@cache
def _problem(kept: _Cached, version: tuple[int, ...] | None, noted: tuple[int, ...] | None) -> str | None:
    """Return the problem of a file in this version of it and its note, whose rows are read once in a process."""
    if version is None:
        return "is not there"
    note = read_note(kept.note)
    if note is None:
        return "has no checksums"
    if note["of"] != kept.of:
        return "belongs to other inputs or another backbone"
    done = kept.done(kept.path)
    return None if done and done[-1][0] == kept.rows else "is damaged"


def _sha256(rows: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()


def _compute(
    kept: _Cached, images: Images, backbone: FixedBackbone, device: torch.device, title: str | None, world: World
) -> None:
    """Fill a temporary file chunk by chunk, noting each that is done, and give it its name when it is complete.

    Rank 0 makes the file and the note; every rank writes its rows of each chunk, and states their sha256.
    """
    shape = (kept.rows, backbone.width)
    with reported(kept.part):
        chunks: list[list[Any]] = []
        if world.is_main:
            chunks = kept.done(kept.part, shape)
            if not chunks:
                _make(kept.part, shape)
        chunks = world.broadcast(chunks)
        done = chunks[-1][0] if chunks else 0
        array = np.lib.format.open_memmap(kept.part, mode="r+")
        with tqdm(total=shape[0], initial=done, unit="img", desc=title, disable=title is None, leave=False) as bar:
            for start in range(done, shape[0], ROWS_AT_A_TIME * world.size):
                stop = min(start + ROWS_AT_A_TIME * world.size, shape[0])
                share = world.share(stop - start)
                found = [torch.empty(0, backbone.width, device=device)]
                for batch in images(start + share.start, start + share.stop):
                    with torch.inference_mode():
                        found.append(backbone(batch))
                    bar.update(len(batch) * world.size)
                # Brought to the host at once, so that no batch waits for it.
                array[start + share.start : start + share.stop] = torch.cat(found).cpu().numpy()
                array.flush()
                own = bytes.fromhex(_sha256(array[start + share.start : start + share.stop]))
                written = world.all_gather(torch.tensor([[start + share.stop, *own]]))
                chunks += [[end, bytes(sha256).hex()] for end, *sha256 in written.tolist()]
                if world.is_main:  # whole or not at all: a kill must not leave an empty one
                    write_note(kept.note, {"of": kept.of, "shape": shape, "chunks": chunks})
        del array
        if world.is_main:
            kept.part.replace(kept.path)
        world.barrier()


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left in the cache: what cannot be resumed, and what nobody resumed for long."""
    remove_abandoned(folder)
    for left in [*folder.glob("[!.]*.part"), *folder.glob("[!.]*.rows")]:
        part, note, finished = (left.with_suffix(suffix) for suffix in (".part", ".rows", ".npy"))
        with suppress(Busy, HashbenchError, OSError), exclusive(lock_of(left), wait=False):
            if not (part.exists() and note.exists() and time.time() - part.stat().st_mtime < RESUMED_WITHIN):
                part.unlink(missing_ok=True)
            if not (part.exists() or finished.exists()):
                note.unlink(missing_ok=True)


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
