"""Results and codes in forms that other tools read: a long CSV, numpy files, a FAISS index."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from hashbench.errors import HashbenchError
from hashbench.metrics.hamming import unpack
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.results.sweeps.estimates import plural
from hashbench.results.tables import escaping
from hashbench.results.tables.comparison import Comparison
from hashbench.storage import files
from hashbench.storage.strict_json import dumps

Part = Literal["query", "database"]
CODE_ENDINGS = (".npz", ".npy", ".faiss")
NAMES_ENDING = ".names.json"


def write_csv(results: Iterable[Result], path: Path) -> int:
    """Write one line for each run and each measure that any of them stores to `path`; returns how many.

    What a run does not store is computed from its histograms; there is no line where it has none.
    """
    found = list(results)
    measures = list(dict.fromkeys(measure for result in found for measure in result.metrics))
    compared = Comparison.of(found, measures=measures).records
    records = [escaping.csv_line(record) for record in compared if record["value"] is not None]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=dict.fromkeys(key for record in records for key in record) or ["value"])
    writer.writeheader()
    writer.writerows(records)
    files.make_folder(path.parent)
    files.write_text(path, text.getvalue())
    return len(records)


def write_codes(directory: RunDirectory, path: Path, part: Part) -> str:
    """Write a run's codes to `path` and return a sentence on what is there; raises HashbenchError for other endings.

    .npz holds both parts as bool (n, bits) under "query" and "database"; .npy one of them; .faiss a binary index of it.
    Which input each row is goes into a second file, `path` with the ending .names.json added: a list of a part's names,
    or both lists by part. A run that does not keep them has none.
    """
    result = directory.read_result()
    if not result.has_codes:
        raise HashbenchError(f"{directory.path} ranks by real scores and has no codes to write; name a run that has.")
    bits = result.coords["bits"]
    packed = directory.read_codes(bits)
    if not {"query", "database"} <= packed.keys():
        raise HashbenchError(f"{directory.codes} does not hold the codes of a run; copy it anew, or run again.")
    names, beside = directory.read_names(), path.with_name(path.name + NAMES_ENDING)
    files.make_folder(path.parent)
    with files.reported(beside):
        beside.unlink(missing_ok=True)  # of another export: never beside these codes
    written = _write_codes(packed, bits, path, part)
    if names is None:
        return f"{written} The run does not keep which input each row is."
    both = {name: names[name] for name in ("query", "database")}
    files.write_text(beside, dumps(both if path.suffix == ".npz" else names[part]))
    return f"{written} {beside}: which of the data set's {names['rows']} each row is."


def _write_codes(packed: Mapping[str, np.ndarray], bits: int, path: Path, part: Part) -> str:
    codes = packed[part]
    if path.suffix == ".faiss":
        return _write_faiss(codes, bits, path, part)
    with files.replacing(path) as file:
        if path.suffix == ".npz":
            both = {name: unpack(packed[name], bits) for name in ("query", "database")}
            np.savez_compressed(file, **both)  # type: ignore[arg-type]  # its stub takes allow_pickle first
            counts = " and ".join(f"{len(array):,} {name}" for name, array in both.items())
            return f"{path}: {counts} codes, bool (n, {bits})."
        np.save(file, unpack(codes, bits), allow_pickle=False)
    return f"{path}: {len(codes):,} {plural(f'{part} code', len(codes))}, bool (n, {bits})."


def _write_faiss(codes: np.ndarray, bits: int, path: Path, part: Part) -> str:
    try:
        import faiss
    except ImportError:
        raise HashbenchError("A FAISS index needs faiss; install it with pip install 'hashbench[faiss]'.") from None
    index = faiss.IndexBinaryFlat(8 * codes.shape[1])
    index.add(np.ascontiguousarray(codes))
    with files.replacing(path) as file:
        file.write(faiss.serialize_index_binary(index).tobytes())
    padding = index.d - bits
    padded = f", of which the last {padding} are zeros that fill the last byte" if padding else ""
    return (
        f"{path}: {len(codes):,} {plural(f'{part} code', len(codes))} in an IndexBinaryFlat of {index.d} bits{padded}. "
        f"Query it with numpy.packbits(codes, axis=1); positions are those of the run's {part}."
    )
