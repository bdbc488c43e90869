"""Building a prepared store: decoded and hashed in parallel, resumed where it was killed, named only when it is whole.

Everything is written into a hidden folder beside the final one. Its inputs, the state of their files and their hashes
grow row by row, the hashes last, so the number of hashes says how many rows are done.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from hashbench.datasets.audit import Audit, audited_split
from hashbench.datasets.base import DataSource, Store
from hashbench.datasets.catalogue import EVALUATE_ON, OWN_KINDS, find, require_official
from hashbench.datasets.files.decoding import broken_images, decode, inspect, longest_side
from hashbench.datasets.files.imagefiles import ImageFiles
from hashbench.datasets.prepared import opening
from hashbench.datasets.prepared.appendable_npy import AppendableNpy
from hashbench.datasets.prepared.finishing import complete
from hashbench.datasets.prepared.opening import FILES, HASHES, INPUTS, PreparedStore
from hashbench.datasets.protocol import Protocol
from hashbench.errors import HashbenchError, few
from hashbench.storage.cache import CACHE_DIR
from hashbench.storage.files import RESUMED_WITHIN, Busy, exclusive, lock_of, make_folder, reported, write_text

if TYPE_CHECKING:
    from hashbench.datasets.families.user_data import Reading

ROOT = "root.json"  # in an unfinished store: the data folder that it is made from
BROKEN_SHOWN = 20  # images that an error names; the others are not looked for
CHUNK_BYTES = 1 << 24  # of inputs: what is written, and what a killed preparation loses, at a time


@dataclass(frozen=True)
class Preparation:
    """The outcome of preparing a data set."""

    store: Store
    folder: Path | None  # None: nothing is kept, as of data that ship with hashbench and of sparse rows
    audits: Mapping[str, Audit]  # by protocol, of its test split
    problems: Mapping[str, HashbenchError]  # by protocol: why it cannot be used
    notes: tuple[str, ...] = ()  # how own data were read


def prepare(
    name: str,
    *,
    data_dir: str | Path | None = None,
    size: int | None = None,
    accept_unofficial: bool = False,
    follow_links: bool = False,
    image_root: str | Path | None = None,
    skip_broken: bool = False,
    progress: bool = True,
    on_wait: Callable[[], None] = lambda: None,
    on_begin: Callable[[str], None] = lambda sentence: None,
) -> Preparation:
    """Prepare the data set that `name` means, its image files at `size` pixels.

    Without a `size` it is what its protocols state, of own data the longest side of any image, and at most 256. Of own
    data, links out of the folder may be followed, lists may name images below `image_root`, and images that cannot be
    decoded may be left out; later runs read them the same way. A finished store is not built again; an interrupted
    build resumes. `on_wait` is called while another process builds it, `on_begin` with a sentence on the size of the
    store before it is built. Raises HashbenchError for what is unknown, missing, damaged or unofficial, and where the
    store cannot be written.
    """
    own = name.startswith(OWN_KINDS)
    given = {"--follow-links": follow_links, "--image-root": image_root is not None, "--skip-broken": skip_broken}
    fitting = {"--image-root": name.startswith("lists:")}
    for option in (option for option, asked in given.items() if asked and not fitting.get(option, own)):
        kinds = "lists:" if option == "--image-root" else "folder: and lists:"
        raise HashbenchError(f"{option} is for {kinds} data, which {name} is not; leave it out.")
    reading: Reading | None = None
    if own:
        from hashbench.datasets.families.user_data import Reading

        reading = Reading(follow_links, None if image_root is None else os.path.abspath(image_root))
    source, protocol = find(name, data_dir, reading=reading)
    if reading is not None and skip_broken and isinstance(files := source.read(None), ImageFiles):
        reading = dataclasses.replace(reading, skipped=tuple(broken_images(files, progress=progress)))
        source, protocol = find(name, data_dir, reading=reading)
    one_protocol = name.endswith(f"@{protocol.name}") or name in protocol.aliases
    protocols = (protocol,) if one_protocol else source.protocols
    if size is not None and size < 1:
        raise HashbenchError(f"Images cannot be prepared at {size} pixels; choose 1 or more.")
    data = source.read(Path(data_dir).expanduser() if data_dir is not None else None)
    require_official(data, accept_unofficial=accept_unofficial)
    if isinstance(data, ImageFiles):
        side = size or protocol.image_size or longest_side(data, opening.IMAGE_SIZE)
        by_default = size is None and protocol.image_size is None
        build = _Build(source, data, data_dir, side, opening.files_key(data, side), progress, on_begin, by_default)
    elif size is not None:
        raise opening.no_size(data)
    elif data.has_pairs:
        raise HashbenchError(
            f"{data.name} comes with pairs, which a prepared store does not keep; it needs no preparation, and is read "
            "from its files."
        )
    elif data.kind == "text" or not data.sources or None in [opening.status_of(file.path) for file in data.sources]:
        return _audited(data, None, protocols)
    else:
        key = _arrays_key(data, opening.root_of(source, data_dir))
        build = _Build(source, data, data_dir, None, key, progress, on_begin)
    store = build.run(protocols, on_wait)
    made = _audited(store, store.folder, protocols)
    return dataclasses.replace(made, notes=_notes(data))


def _notes(data: Store | ImageFiles) -> tuple[str, ...]:
    """Return how own data were read: their classes, and what their reader says; () for other data."""
    if not data.name.startswith(OWN_KINDS):
        return ()
    sizes = data.labels.sum(axis=0, dtype=np.int64)
    smallest, largest = (
        f"{data.classes[place]} ({sizes[place]:,})" for place in (int(sizes.argmin()), int(sizes.argmax()))
    )
    spread = f", the smallest {smallest}, the largest {largest}" if len(data.classes) > 1 else ""
    told = (f"Classes: {few(data.classes)}{spread}.",)
    if isinstance(data, ImageFiles):
        return (*told, *data.notes)
    if data.part is None:
        return told
    sizes_of = zip(*np.unique(data.part, return_counts=True), strict=True)
    return (*told, f"Parts: {', '.join(f'{part} ({size:,})' for part, size in sizes_of)}.")


def _audited(store: Store, folder: Path | None, protocols: Iterable[Protocol]) -> Preparation:
    audits: dict[str, Audit] = {}
    problems: dict[str, HashbenchError] = {}
    for protocol in protocols:
        kept = store.kept_split(protocol, "test") if isinstance(store, PreparedStore) else None
        try:
            audits[protocol.name] = (kept or audited_split(store, protocol, "test"))[1]
        except HashbenchError as error:
            problems[protocol.name] = error
    return Preparation(store, folder, audits, problems)


@dataclass(frozen=True)
class _Build:
    """One prepared store that is being built."""

    source: DataSource
    data: Store | ImageFiles
    data_dir: str | Path | None
    size: int | None  # side in pixels; None: arrays as they come
    key: str
    progress: bool
    on_begin: Callable[[str], None] = lambda sentence: None
    by_default: bool = False  # whether nobody named the size

    @property
    def folder(self) -> Path:
        return opening.prepared_root() / opening.folder_name(self.source.name, self.size, self.key)

    @property
    def root(self) -> str:
        return opening.root_of(self.source, self.data_dir)

    @property
    def build_folder(self) -> Path:
        return self._beside("building")

    def _beside(self, ending: str) -> Path:
        return self.folder.with_name(f".{self.folder.name}.{ending}")

    def run(self, protocols: Sequence[Protocol], on_wait: Callable[[], None]) -> PreparedStore:
        """Return the store, built where it is not ready; nothing is begun where no one of `protocols` can use it."""
        make_folder(self.folder.parent)
        states = inspect(self.data) if isinstance(self.data, ImageFiles) else None
        with exclusive(self._beside("lock"), on_wait=on_wait):
            shutil.rmtree(self._beside("old"), ignore_errors=True)
            found = self._found()
            if found is not None and self._is_current(found, states):
                self._remove_abandoned()
                return found
            if isinstance(self.data, ImageFiles):
                _check_splits(self.data, protocols, self.progress)
            self._remove_abandoned()
            if found is not None and states is not None and not self.build_folder.exists():
                self._reuse_rows(states)
            make_folder(self.build_folder)
            write_text(self.build_folder / ROOT, json.dumps(self.root))
            self._write_rows(states)
            complete(
                self.build_folder,
                self.data,
                self.source,
                root=self.root,
                size=self.size,
                key=self.key,
                progress=self.progress,
                default_size=self.by_default,
            )
            opening.open_store(self.build_folder)  # what will be read was read back once
            self._publish()
        self._remove_superseded()
        return opening.open_store(self.folder)

    def _found(self) -> PreparedStore | None:
        """Return the finished store, None where there is none or it is damaged."""
        try:
            found = opening.open_store(self.folder)
            if FILES in found.record["files"]:
                opening.checked(self.folder, FILES, found.record)
            return found
        except HashbenchError:
            return None

    def _is_current(self, found: PreparedStore, states: np.ndarray | None) -> bool:
        """Whether `found` was made of what lies there now, with the splits of all of today's protocols."""
        record = found.record
        needed = {opening.split_key(p, part) for p in self.source.protocols for part in EVALUATE_ON}
        if needed - record["splits"].keys() - record["refused"].keys():
            return False
        if states is not None and not np.array_equal(np.load(found.folder / FILES), states):
            return False
        # own data have just been read, and the folder's name says what was found
        return bool(self.source.spelling) or opening.is_current(record, self.source, self.data_dir)

    def _reuse_rows(self, states: np.ndarray) -> None:
        """Start from the rows of the outdated store, of which the unchanged ones are valid.

        Rows that will be cut are copied first, as the cut would kill a process that has the old store mapped.
        """
        unchanged = np.array_equal(np.load(self.folder / FILES), states)
        make_folder(self.build_folder)
        with reported(self.build_folder):
            for name in (INPUTS, FILES, HASHES):
                try:
                    (os.link if unchanged else shutil.copyfile)(self.folder / name, self.build_folder / name)
                except OSError:
                    if not unchanged:
                        raise
                    shutil.copyfile(self.folder / name, self.build_folder / name)  # the file system knows no hard links

    def _write_rows(self, states: np.ndarray | None) -> None:
        """Write inputs, their files' states and their hashes, from where a killed process left off."""
        data = self.data
        if isinstance(data, ImageFiles):
            assert self.size is not None
            shape, dtype = (len(data.paths), 3, self.size, self.size), np.dtype(np.uint8)
        else:
            shape, dtype = data.inputs.shape, data.inputs.dtype
        row_bytes = int(np.prod(shape[1:])) * dtype.itemsize
        with (
            AppendableNpy(self.build_folder / INPUTS, shape, dtype) as inputs,
            AppendableNpy(self.build_folder / FILES, (len(data.labels), 2), np.dtype(np.int64)) as files,
            AppendableNpy(self.build_folder / HASHES, (len(data.labels), 32), np.dtype(np.uint8)) as hashes,
        ):
            done = 0
            if states is not None:
                done = min(inputs.rows, files.rows, hashes.rows)
                changed = np.flatnonzero((files.read(done) != states[:done]).any(axis=1))
                done = int(changed[0]) if len(changed) else done
                if done:
                    done = opening.intact_rows(inputs.mapped(done), hashes.read(done), title="checking what is done")
            for array in (hashes, files, inputs):
                array.cut(done)
            self._require_space((shape[0] - done) * (row_bytes + 48))
            at = "" if self.size is None else f" at {self.size} pixels"
            whole = f"{max(shape[0] * (row_bytes + 48) / 1e6, 0.1):,.1f} MB"
            self.on_begin(f"{self.source.name}: {shape[0]:,} inputs{at} take {whole} in {self.folder.parent}.")
            title = self.source.name if self.size is None else f"{self.source.name} at {self.size} pixels"
            bar = tqdm(total=shape[0], initial=done, unit="img", desc=title, disable=not self.progress, leave=False)
            with bar, closing(self._rows(done, max(1, CHUNK_BYTES // row_bytes))) as chunks:
                for start, rows in chunks:
                    inputs.append(rows)
                    if states is not None:
                        files.append(states[start : start + len(rows)])
                    digests = b"".join(sha256(row.tobytes()).digest() for row in rows)
                    hashes.append(np.frombuffer(digests, np.uint8).reshape(-1, 32))
                    bar.update(len(rows))
        if states is None:
            (self.build_folder / FILES).unlink()

    def _rows(self, done: int, step: int) -> Generator[tuple[int, np.ndarray], None, None]:
        """Yield (start, rows) of the inputs from row `done` on; of image files, the next rows are decoded meanwhile."""
        data, size = self.data, self.size
        if isinstance(data, Store):
            for start in range(done, len(data.inputs), step):
                yield start, np.ascontiguousarray(data.inputs[start : start + step])
            return
        assert size is not None
        pool = ThreadPoolExecutor(_cores())

        def submit(start: int) -> list[Future[np.ndarray]]:
            return [pool.submit(decode, data.root / path, size) for path in data.paths[start : start + step]]

        try:
            starts = range(done, len(data.paths), step)
            submitted = submit(done)
            for start in starts:
                current, submitted = submitted, submit(start + step)
                try:
                    rows = np.stack([image.result() for image in current])
                except HashbenchError as error:
                    raise self._undecodable(error, start) from error
                yield start, rows
        finally:
            pool.shutdown(cancel_futures=True)

    def _undecodable(self, error: HashbenchError, start: int) -> HashbenchError:
        """Return the error about all images from row `start` on that cannot be decoded, of many the first."""
        assert isinstance(self.data, ImageFiles)
        found = broken_images(self.data, start=start, most=BROKEN_SHOWN, progress=self.progress)
        way_out = ", or leave them out with --skip-broken" if self.source.spelling else ""
        if len(found) < 2:
            return HashbenchError(f"{error}"[:-1] + f"{way_out.replace('them', 'it')}.")
        shown = "; ".join(f"{path} ({reason})" for path, reason in found.items())
        more = " or more" if len(found) >= BROKEN_SHOWN else ""
        return HashbenchError(
            f"{len(found)}{more} images of {self.source.name} cannot be decoded: {shown}; put the right files "
            f"there{way_out}."
        )

    def _require_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.build_folder).free
        if needed > free:
            raise HashbenchError(
                f"Preparing {self.source.name} takes {needed / 1e9:.1f} GB more in {self.folder.parent}, where "
                f"{free / 1e9:.1f} GB are free; make room there, or name another folder with {CACHE_DIR}."
            )

    def _publish(self) -> None:
        """Give the finished folder its name, in place of a damaged or outdated one."""
        old = self._beside("old")
        with reported(self.folder):
            if self.folder.exists():
                self.folder.rename(old)
            self.build_folder.rename(self.folder)
        shutil.rmtree(old, ignore_errors=True)

    def _remove_superseded(self) -> None:
        """Remove stores that were prepared from the same data folder before its files changed."""
        for folder in opening.folders(self.source.name, [self.size]):
            try:
                record = opening.read_record(folder)
            except HashbenchError:
                continue
            if folder != self.folder and record["root"] == self.root:
                shutil.rmtree(folder, ignore_errors=True)

    def _remove_abandoned(self) -> None:
        """Remove what interrupted preparations left of the same data folder before its files changed.

        What they left of other sets is removed where nobody went on with it for long.
        """
        own = opening.folder_pattern(self.source.name, self.size)
        for build_folder in self.folder.parent.glob(".*.building"):
            if build_folder == self.build_folder:
                continue
            with suppress(Busy, OSError, HashbenchError), exclusive(lock_of(build_folder), wait=False):
                changed = max(path.stat().st_mtime for path in (build_folder, *build_folder.iterdir()))
                of_this = build_folder.match(f".{own}.building")
                if time.time() - changed > RESUMED_WITHIN or (
                    of_this and (build_folder / ROOT).read_text() == json.dumps(self.root)
                ):
                    shutil.rmtree(build_folder, ignore_errors=True)


def _check_splits(files: ImageFiles, protocols: Sequence[Protocol], progress: bool) -> None:
    """Raise HashbenchError before anything is decoded where `files` cannot be a data set under any of `protocols`."""
    if len(set(files.paths)) != len(files.paths):
        raise HashbenchError(f"{files.name} lists an image twice; are its lists damaged?")
    # Four different bytes stand for each image: sizes and overlaps do not depend on the pixels.
    placeholders = np.arange(len(files.paths), dtype="<u4").view(np.uint8).reshape(-1, 1, 2, 2)
    store = Store(
        files.name, placeholders, files.labels, files.classes, part=files.part, sources=files.sources, names=files.paths
    )
    title = f"{files.name}: checking protocols"
    bar = tqdm(protocols, unit="protocol", desc=title, disable=not progress, leave=False)
    problems = _audited(store, None, bar).problems
    if len(problems) == len(protocols):
        raise next(iter(problems.values()))


def _arrays_key(store: Store, root: str) -> str:
    """Return what tells a set of arrays from those read from other files, or from another folder."""
    return opening.record_digest(
        {
            "schema": opening.SCHEMA,
            "root": root,
            "sources": [file.digest for file in store.sources],
            "labels": sha256(store.labels.tobytes()).hexdigest(),
        }
    )


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
