"""Prepared stores: a data set as a folder of mapped arrays with its hashes, splits and audits, found and opened.

A folder holds `store.json`, written last: what it was made from and how, the size of every file, and the sha256 of all
but the inputs. So opening one reads labels and hashes, and detects what was cut off or altered. Inputs are read and
compared with their hashes when their file has changed since that was last done, by its size and times in the note
`checked.json`; what a disk alters beneath the file system leaves no such trace.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashbench.datasets.base import DataSource, Split, Store
from hashbench.datasets.files.releases import SourceFile, data_root
from hashbench.datasets.protocol import Protocol, Sizes
from hashbench.errors import HashbenchError
from hashbench.storage.cache import cache_root
from hashbench.storage.files import version_of
from hashbench.storage.notes import read_note, write_note

if TYPE_CHECKING:
    import numpy as np

    from hashbench.datasets.audit import Audit

SCHEMA = 1
RECORD = "store.json"
CHECKED = "checked.json"  # the note of the inputs' file as it was when its rows were last compared with their hashes
INPUTS, LABELS, HASHES, PART, NAMES, FILES = (
    "inputs.npy", "labels.npy", "hashes.npy", "part.npy", "names.json", "files.npy",
)  # fmt: skip
CHUNK_BYTES = 1 << 24  # of inputs that are hashed at a time
KEY_DIGITS = 12  # of a key, in the name of a folder
IMAGE_SIZE = 256  # pixels, where the protocols of a set of image files state no other


@dataclass(frozen=True, eq=False, kw_only=True)
class HashedStore(Store):
    """A store whose inputs were hashed before."""

    hashes: np.ndarray  # (N, 32) uint8, the sha256 of each input's bytes

    @cached_property
    def input_hashes(self) -> list[bytes]:
        """The sha256 of each input's bytes: equal for equal pictures, whatever their labels."""
        return [row.tobytes() for row in self.hashes]


@dataclass(frozen=True, eq=False, kw_only=True)
class PreparedStore(HashedStore):
    """A store mapped from the folder where it was prepared; its inputs are never read completely."""

    folder: Path
    record: Mapping[str, Any]  # what store.json says

    @cached_property
    def integrity(self) -> str:
        """The sha256 over the sorted content hashes, as it was computed when the store was prepared."""
        return str(self.record["integrity"])

    def kept_split(self, protocol: Protocol, evaluate_on: str) -> tuple[Split, Audit] | None:
        """Return the split and its audit as they were kept; None for a protocol that has changed since, or is new."""
        import numpy as np

        from hashbench.datasets.audit import Audit

        key = split_key(protocol, evaluate_on)
        kept = self.record["splits"].get(key)
        if kept is None:
            return None
        parts = np.load(checked(self.folder, split_file(key), self.record))
        found: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in kept["audit"].items()
        }
        found["sizes"] = Sizes(*found["sizes"])
        train, query, database = np.split(parts, np.cumsum(found["sizes"])[:2])
        return Split(train, query, database, kept["sha256"]), Audit(**found)


def open_or_read(
    source: DataSource, data_dir: str | Path | None, *, size: int | None = None, integrity: str | None = None
) -> Store:
    """Return the data of `source`: prepared where that is up to date, else read, where the files hold arrays.

    Without a `size`, a store of this `integrity` gives it; own images that are prepared at a single size need none.
    Raises HashbenchError for image files that are not prepared at `size` pixels, for a `size` given to arrays, and for
    what is missing or damaged.
    """
    if size is None and integrity is not None:
        size = next((record["size"] for record in _records(source.name) if record["integrity"] == integrity), None)
    side = size or source.protocols[0].image_size
    kept = [*folders(source.name, _sizes(source, size))]
    for folder in kept:
        if is_current(read_record(folder), source, data_dir):
            return open_store(folder)
    if side is not None and source.protocols[0].image_size is not None and not kept:
        raise _unprepared(source, data_dir, size, side)  # without reading, which may have much to fetch and unpack
    data = source.read(Path(data_dir).expanduser() if data_dir is not None else None)
    if isinstance(data, Store):
        if size is not None:
            raise no_size(data)
        return data
    sizes = {side} if side else {record["size"] for record in _records(source.name)} - {None}
    found = {side: folder for side in sizes if (folder := _folder_of(data, side)).is_dir()}
    if not found:
        raise _unprepared(source, data_dir, size, side, before=bool(kept))
    if len(found) > 1:
        defaults = [side for side, folder in found.items() if read_record(folder).get("default_size")] or [IMAGE_SIZE]
        found = {side: folder for side, folder in found.items() if side in defaults}
        if len(found) != 1:
            raise HashbenchError(
                f"{source.name} is prepared at {', '.join(map(str, sorted(sizes)))} pixels; choose with --size."
            )
    return open_store(next(iter(found.values())))


def newest_of_root(root: str) -> Path | None:
    """Return the folder of the store that was prepared last of the data at `root`, as records state it."""
    found = [folder for folder in prepared_root().glob(f"[!.]*/{RECORD}")]
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            if read_record(path.parent)["root"] == root:
                return path.parent
        except HashbenchError:
            continue  # opening it says what is wrong
    return None


def _folder_of(files: Any, side: int) -> Path:
    return prepared_root() / folder_name(files.name, side, files_key(files, side))


def _records(name: str) -> Iterator[dict[str, Any]]:
    """Yield the records of a data set's prepared stores of all sizes."""
    for path in sorted(prepared_root().glob(f"{_slug(name)}-*/{RECORD}")):
        with suppress(HashbenchError):  # opening it says what is wrong
            if (record := read_record(path.parent))["name"] == name:
                yield record


def state(source: DataSource, data_dir: str | Path | None) -> str:
    """Return "ready", "preparable" or "missing", or "" where that is unknown; reads no data."""
    stated = source.protocols[0]
    for folder in folders(source.name, _sizes(source, None)):
        try:
            if is_current(read_record(folder), source, data_dir):
                return "ready"
        except HashbenchError:
            continue  # opening it says what is wrong
    if stated.found_by is None:
        return ""
    root = Path(root_of(source, data_dir))
    if stated.found_by and not any((root / name).exists() for name in stated.found_by):
        return "missing"
    return "ready" if stated.image_size is None else "preparable"


def no_size(store: Store) -> HashbenchError:
    """Return the error for a size given to a set of arrays."""
    return HashbenchError(
        f"{store.name} comes as arrays of shape {store.inputs.shape[1:]}, so it has no other size; resize with "
        f"--set recipe.size=N."
    )


def open_store(folder: Path) -> PreparedStore:
    """Return the prepared store in `folder`; raises HashbenchError where it is incomplete or damaged."""
    import numpy as np

    record = read_record(folder)
    for name, entry in record["files"].items():
        found = os.path.getsize(folder / name) if (folder / name).is_file() else None
        if found != entry["bytes"]:
            what = "is missing" if found is None else f"holds {found:,} bytes instead of {entry['bytes']:,}"
            raise _damaged(folder, f"{name} {what}")
    there = record["files"]
    try:
        inputs, hashes = _mapped(folder), np.load(checked(folder, HASHES, record))
        _require_unaltered(folder, inputs, hashes, record)
        return PreparedStore(
            record["name"],
            inputs,
            np.load(checked(folder, LABELS, record)),
            tuple(record["classes"]),
            part=np.load(checked(folder, PART, record)) if PART in there else None,
            sources=tuple(SourceFile(file["path"], file["digest"], file["expected"]) for file in record["sources"]),
            names=tuple(json.loads(checked(folder, NAMES, record).read_bytes())) if NAMES in there else None,
            hashes=hashes,
            folder=folder,
            record=record,
        )
    except (OSError, ValueError) as error:
        if isinstance(error, HashbenchError):
            raise
        raise _damaged(folder, str(error)) from error


def _mapped(folder: Path) -> np.ndarray:
    import numpy as np

    try:
        return np.lib.format.open_memmap(folder / INPUTS, mode="r")
    except OSError:
        raise
    except Exception as error:  # of a file that is no array, numpy raises half a dozen kinds
        raise _damaged(folder, f"{INPUTS} was altered") from error


def _require_unaltered(folder: Path, inputs: np.ndarray, hashes: np.ndarray, record: Mapping[str, Any]) -> None:
    """Raise HashbenchError where the inputs are not as they were prepared; reads them where the note is no answer."""
    if ([*inputs.shape], inputs.dtype.name) != (record["shape"], record["dtype"]) or not inputs.flags.c_contiguous:
        raise _damaged(folder, f"{INPUTS} was altered")
    note = {"record": record_digest(record), "version": [*(version_of(folder / INPUTS) or ())]}
    if read_note(folder / CHECKED) == note:
        return
    intact = intact_rows(inputs, hashes, title=f"checking {record['name']}")
    if intact < len(inputs):
        raise _damaged(folder, f"{INPUTS} was altered, first in row {intact:,}")
    with suppress(HashbenchError):  # a store that is only read is checked by every process
        write_note(folder / CHECKED, note)


def intact_rows(rows: np.ndarray, hashes: np.ndarray, *, title: str) -> int:
    """Return how many leading `rows` (n, ...) have the sha256 that `hashes` (n, 32) states; a long check has a bar."""
    from tqdm.auto import tqdm

    step = max(1, CHUNK_BYTES // max(1, rows[:1].nbytes))

    def altered(start: int) -> int | None:
        return next(
            (at for at in range(start, min(start + step, len(rows)))
             if sha256(rows[at]).digest() != hashes[at].tobytes()), None
        )  # fmt: skip

    starts = range(0, len(rows), step)
    pool = ThreadPoolExecutor()  # hashing lets other threads go on
    try:
        found = tqdm(pool.map(altered, starts), title, len(starts), leave=False, delay=3, disable=None)
        return next((at for at in found if at is not None), len(rows))
    finally:
        pool.shutdown(cancel_futures=True)


def read_record(folder: Path) -> dict[str, Any]:
    """Return what the store.json of `folder` says; raises HashbenchError where it is missing, altered or newer."""
    try:
        text = (folder / RECORD).read_bytes()
        record = json.loads(text)
        if record["schema"] != SCHEMA:
            raise _damaged(folder, f"it was written by another version of hashbench: schema {record['schema']}")
        if record.pop("sha256") != record_digest(record):
            raise _damaged(folder, f"{RECORD} was altered")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, HashbenchError):
            raise
        raise _damaged(folder, f"{RECORD} cannot be read: {error}") from error
    return dict(record)


def is_current(record: Mapping[str, Any], source: DataSource, data_dir: str | Path | None) -> bool:
    """Whether a store was prepared from the files that `source` would read now, decided without reading them.

    Files that are all gone count as unchanged: a prepared store does not need them.
    """
    if (record["root"], record["reader_sha256"]) != (root_of(source, data_dir), reader_sha256(source)):
        return False
    then = [(file["bytes"], file["mtime_ns"]) for file in record["sources"]]
    now = [status_of(file["path"]) for file in record["sources"]]
    return bool(then) and (None, None) not in then and (now == then or not any(now))


def folders(name: str, sizes: Sequence[int | None]) -> Iterator[Path]:
    """Yield the prepared folders of data set `name` at any of `sizes` (None: as it comes)."""
    for size in sizes:
        yield from sorted(
            path for path in prepared_root().glob(folder_pattern(name, size)) if (path / RECORD).is_file()
        )


def prepared_root() -> Path:
    """Return the folder of prepared stores."""
    return cache_root() / "stores"


def folder_name(name: str, size: int | None, key: str) -> str:
    """Return the name of the folder of a prepared store."""
    return f"{_slug(name)}-{size or 'native'}-{key[:KEY_DIGITS]}"


def files_key(files: Any, size: int) -> str:
    """Return what tells two sets of image files at `size` pixels apart, whatever folder they lie in."""
    from hashbench.datasets.files.decoding import FILTER

    return record_digest(
        {
            "schema": SCHEMA,
            "name": files.name,
            "size": size,
            "filter": FILTER,
            "names": sha256("\0".join(files.paths).encode(errors="surrogateescape")).hexdigest(),
            "labels": sha256(files.labels.tobytes()).hexdigest(),
            "classes": list(files.classes),
            "part": None if files.part is None else sha256("\0".join(files.part.tolist()).encode()).hexdigest(),
            "sources": sorted(file.digest for file in files.sources),
        }
    )


def folder_pattern(name: str, size: int | None) -> str:
    """Return the glob of the folders of a data set's prepared stores, whatever their keys."""
    return folder_name(name, size, "") + "[0-9a-f]" * KEY_DIGITS


def split_key(protocol: Protocol, evaluate_on: str) -> str:
    """Return what tells two splits of one store apart."""
    from hashbench.datasets.splits import VALIDATION_RULE

    return record_digest(
        {
            "protocol": protocol.full_name,
            "sizes": list(protocol.sizes),
            "rule": protocol.rule,
            "train_in_database": protocol.train_in_database,
            "num_classes": protocol.num_classes,
            "num_images": protocol.num_images,
            "multi_label": protocol.multi_label,
            "evaluate_on": VALIDATION_RULE if evaluate_on == "validation" else evaluate_on,
        }
    )[:16]


def split_file(key: str) -> str:
    """Return the name of the file that holds train, query and database of a split, one after the other."""
    return f"split-{key}.npy"


def record_digest(value: Mapping[str, Any]) -> str:
    """Return the sha256 of the one JSON text of `value`."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def root_of(source: DataSource, data_dir: str | Path | None) -> str:
    """Return the data folder that `data_dir` means, as records state it; own data lie where their spelling says."""
    if source.spelling:
        return source.spelling
    return os.path.realpath(Path(data_dir).expanduser() if data_dir is not None else data_root())


def reader_sha256(source: DataSource) -> str | None:
    """Return the sha256 of the file that defines the reader of `source`, None where it has none."""
    path = getattr(sys.modules.get(source.read.__module__), "__file__", None)
    try:
        return sha256(Path(path).read_bytes()).hexdigest() if path else None
    except OSError:
        return None


def status_of(path: str) -> tuple[int, int] | None:
    """Return bytes and time of change of the file at `path`, or of the archive that it names a member of."""
    place = Path(path)
    for candidate in (place, place.parent):
        if candidate.is_file():
            status = candidate.stat()
            return status.st_size, status.st_mtime_ns
    return None


def _sizes(source: DataSource, size: int | None) -> list[int | None]:
    """Return at which sizes to look for a prepared store: as it comes, and that of the images; the latter last."""
    stated = source.protocols[0].image_size
    if size is not None:
        return [size]
    return [stated] if stated is not None else [None, IMAGE_SIZE]


def checked(folder: Path, name: str, record: Mapping[str, Any]) -> Path:
    """Return the path of a file whose content is as the record says."""
    path = folder / name
    with path.open("rb") as file:
        if file_digest(file, "sha256").hexdigest() != record["files"][name]["sha256"]:
            raise _damaged(folder, f"{name} was altered")
    return path


def _unprepared(
    source: DataSource, data_dir: str | Path | None, size: int | None, side: int | None, *, before: bool = False
) -> HashbenchError:
    """Return the error about images that are not prepared, though others were `before` under the same name."""
    command = ["hashbench", "prepare", source.spelling or source.name]
    if data_dir is not None:
        command += ["--data-dir", str(data_dir)]
    if size is not None:
        command += ["--size", str(size)]
    at = f" at {side} pixels" if side else ""
    now = " as its files are now" if before else ""
    return HashbenchError(f"{source.name} is not prepared{at}{now}; run `{shlex.join(command)}`.")


def _damaged(folder: Path, reason: str) -> HashbenchError:
    return HashbenchError(
        f"The prepared store {folder} cannot be used ({reason}); remove that folder and run `hashbench prepare` again."
    )


def _slug(name: str) -> str:
    """Return `name` as part of a file name; what had to be changed leaves a hash, so that no two names collide."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return plain if plain == name else f"{plain[-60:]}.{sha256(name.encode()).hexdigest()[:8]}"
