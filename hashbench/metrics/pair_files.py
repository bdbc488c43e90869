"""Pairs of query and item from files: sparse matrices as scipy saves them, or lines `query item [gain]` of text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from hashbench.metrics.large.files import read_sparse, reading
from hashbench.metrics.text_files import TEXT, read_lines

NAMES = (["query", "item"], ["query", "item", "gain"])  # a first line that says so is no pair


def read_pair_file(path: Path | str, *, queries: int, items: int) -> tuple[Any, str]:
    """Return the sparse matrix (queries, items) in a file, and a sentence on what was read.

    An .npz file holds one that scipy.sparse.save_npz wrote. In a text file each line is a pair, `query item` or `query
    item gain`: positions from 0, parted by spaces, tabs or a comma. Raises ValueError, naming file and line, for what
    is missing, damaged, beyond the queries or items, there twice, or no pair.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        matrix = read_sparse(path)
        rows, columns = matrix.shape
        return matrix, f"{path}: a sparse matrix of {rows:,} queries and {columns:,} items, {matrix.nnz:,} values."
    if path.suffix.lower() not in TEXT:
        raise ValueError(
            f"{path} is not one of the kinds of file that hold pairs: .npz from scipy.sparse.save_npz, or text in "
            f"{', '.join(TEXT)}."
        )
    return _read_lines(path, queries, items)


def _read_lines(path: Path, queries: int, items: int) -> tuple[Any, str]:
    from scipy import sparse  # here and below: nothing else of the metrics needs it

    with reading(path):
        lines = read_lines(path)
    found: dict[tuple[int, int], int] = {}
    width = 0
    for number, line in lines:
        words = re.split(r"\s*,\s*|\s+", line.strip())
        if not found and [word.casefold() for word in words] in NAMES:
            continue
        where = f"{path}, line {number}:"
        if len(words) not in (2, 3) or not all(re.fullmatch(r"[0-9]{1,18}", word) for word in words):
            raise ValueError(f"{where} '{line.strip():.60}' is no pair; write `query item` or `query item gain`.")
        width = width or len(words)
        if len(words) != width:
            raise ValueError(
                f"{where} it has {len(words)} numbers, those before {width}; give all pairs a gain or none."
            )
        query, item, *gain = map(int, words)
        if query >= queries or item >= items:
            raise ValueError(
                f"{where} there is no query {query} with item {item}: queries are numbered 0 to {queries - 1}, items 0 "
                f"to {items - 1}."
            )
        if gain == [0]:
            raise ValueError(f"{where} the gain is 0; leave out what is not relevant.")
        if (query, item) in found:
            raise ValueError(f"{where} the pair of query {query} and item {item} stands there already; keep one.")
        found[query, item] = gain[0] if gain else 1
    if not found:
        raise ValueError(f"{path} holds no pair; write one on each line: `query item` or `query item gain`.")
    places = np.array([*found], dtype=np.int64).T
    matrix = sparse.coo_array(([*found.values()], (places[0], places[1])), shape=(queries, items))
    what = "query, item and gain" if width == 3 else "query and item"
    return matrix, f"{path}: {len(found):,} pairs of {what}, positions from 0."
