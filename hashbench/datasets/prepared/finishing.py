"""What completes a prepared store beside its rows: labels, names, splits with their audits, and the record of all."""

from __future__ import annotations

import dataclasses
import json
import os
from hashlib import file_digest
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import features
from tqdm.auto import tqdm

from hashbench.datasets.audit import audit, audited_split
from hashbench.datasets.base import DataSource, Split, Store
from hashbench.datasets.catalogue import EVALUATE_ON
from hashbench.datasets.files.decoding import FILTER
from hashbench.datasets.files.imagefiles import ImageFiles
from hashbench.datasets.files.releases import SourceFile
from hashbench.datasets.prepared import opening
from hashbench.datasets.prepared.opening import FILES, HASHES, INPUTS, LABELS, NAMES, PART, RECORD, HashedStore
from hashbench.datasets.splits import hold_out
from hashbench.errors import HashbenchError
from hashbench.storage.files import replacing, write_text
from hashbench.storage.strict_json import document

LIBRARIES = ("hashbench", "numpy", "pillow")


def complete(
    folder: Path,
    data: Store | ImageFiles,
    source: DataSource,
    *,
    root: str,
    size: int | None,
    key: str,
    progress: bool,
    default_size: bool = False,
) -> None:
    """Write everything but the rows, which are there, into `folder`, store.json last.

    `root` is the data folder of the request, `size` the side of the images (None: arrays as they came), `key` what
    tells this store from others; `progress` shows a bar; `default_size` says that nobody named the size. Raises
    HashbenchError where a file cannot be written.
    """
    for path in folder.iterdir():
        if path.name not in (INPUTS, HASHES, FILES):  # of an earlier preparation, or half-written when it was killed
            path.unlink()
    names = data.paths if isinstance(data, ImageFiles) else data.names
    _save(folder / LABELS, data.labels)
    if data.part is not None:
        _save(folder / PART, data.part)
    if names is not None:
        write_text(folder / NAMES, json.dumps(names, indent=0))
    store = HashedStore(
        data.name,
        np.load(folder / INPUTS, mmap_mode="r"),
        data.labels,
        data.classes,
        part=data.part,
        sources=data.sources,
        names=names,
        hashes=np.load(folder / HASHES),
    )
    splits, refused = _write_splits(folder, store, source, progress)
    record: dict[str, Any] = {
        "schema": opening.SCHEMA,
        "name": store.name,
        "key": key,
        "root": root,
        "reader_sha256": opening.reader_sha256(source),
        "sources": [_stated(file) for file in store.sources],
        "official": store.official,
        "size": size,
        "filter": None if size is None else FILTER,
        "libraries": {**{name: version(name) for name in LIBRARIES}, "jpeg": features.version("jpg")},
        "shape": list(store.inputs.shape),
        "dtype": store.inputs.dtype.name,
        "classes": list(store.classes),
        "unlabelled": data.unlabelled if isinstance(data, ImageFiles) else 0,
        **({"reading": dict(data.reading)} if isinstance(data, ImageFiles) and data.reading else {}),
        **({"default_size": True} if default_size else {}),
        "integrity": store.integrity,
        "splits": splits,
        "refused": refused,
        "files": {path.name: _described(path) for path in sorted(folder.iterdir())},
    }
    write_text(folder / RECORD, document({**record, "sha256": opening.record_digest(record)}))


def _write_splits(
    folder: Path, store: Store, source: DataSource, progress: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the splits of all protocols; returns what the record says of each, and why the others are refused."""
    splits: dict[str, Any] = {}
    refused: dict[str, str] = {}
    total = len(source.protocols) * len(EVALUATE_ON)
    with tqdm(total=total, unit="split", desc=f"{store.name}: splits", disable=not progress, leave=False) as bar:
        for protocol in source.protocols:
            parts: Split | None = None
            for evaluate_on in EVALUATE_ON:
                key = opening.split_key(protocol, evaluate_on)
                try:
                    if parts is None:
                        parts, found = audited_split(store, protocol, evaluate_on)
                    else:
                        parts = hold_out(store, parts)
                        found = audit(store, parts)
                except HashbenchError as error:
                    refused[key] = str(error)
                else:
                    rows = np.concatenate([parts.train, parts.query, parts.database])
                    _save(folder / opening.split_file(key), rows)
                    splits[key] = {
                        "protocol": protocol.name,
                        "evaluate_on": evaluate_on,
                        "sha256": parts.sha256,
                        "audit": dataclasses.asdict(found),
                    }
                bar.update()
    return splits, refused


def _stated(file: SourceFile) -> dict[str, Any]:
    """Return a source as the record states it: with its size and time of change, by which a later run recognises it."""
    size, changed = opening.status_of(file.path) or (None, None)
    path = os.path.abspath(file.path)
    return {"path": path, "digest": file.digest, "expected": file.expected, "bytes": size, "mtime_ns": changed}


def _described(path: Path) -> dict[str, Any]:
    """Return the size of a file, and its sha256 unless it is the inputs, whose every row has a hash."""
    described: dict[str, Any] = {"bytes": path.stat().st_size}
    if path.name != INPUTS:
        with path.open("rb") as file:
            described["sha256"] = file_digest(file, "sha256").hexdigest()
    return described


def _save(path: Path, array: np.ndarray) -> None:
    with replacing(path) as file:
        np.save(file, array, allow_pickle=False)
