"""Whatever bytes a file of arrays holds and whatever arrays are given: values, or one sentence, in bounded memory.

HASHBENCH_FUZZ=1000 tries so many examples in place of the few that the suite has time for.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import io as scipy_io
from scipy import sparse

from hashbench.datasets.families.user_data import own_source
from hashbench.errors import HashbenchError
from hashbench.metrics import evaluate, oracle, read_array
from hashbench.metrics.arrays import read_codes, read_labels
from hashbench.metrics.evaluation import count_shard, evaluate_shards
from hashbench.metrics.large.shard_counts import ShardCounts
from hashbench.metrics.large.shards import Shard
from hashbench.metrics.pair_files import read_pair_file

TRIED = int(os.environ.get("HASHBENCH_FUZZ", "0"))
MEGABYTES = 300  # what reading a few kilobytes may take at most


def tries(few: int) -> Callable[[Any], Any]:
    """The same examples every time, on every machine."""
    return settings(max_examples=TRIED or few, derandomize=True, deadline=None, database=None,
                    suppress_health_check=[*HealthCheck])  # fmt: skip


def saved(save: Callable[..., Any], *arguments: Any, **named: Any) -> bytes:
    file = io.BytesIO()
    save(file, *arguments, **named)
    return file.getvalue()


@cache
def whole_files() -> dict[str, bytes]:
    chance = np.random.default_rng(0)
    codes, numbers = chance.integers(0, 2, (30, 16)), np.arange(30) % 3
    names = np.array(["cat", "dog", "ox"])[numbers]
    tensors = {"codes": torch.tensor(codes), "labels": numbers.tolist()}
    matrix = sparse.csr_array(codes[:, :10] * 1.0)
    return {
        "npy": saved(np.save, codes),
        "names.npy": saved(np.save, names),
        "npz": saved(np.savez, codes=codes, labels=names),
        "deflated.npz": saved(np.savez_compressed, codes=codes, labels=numbers),
        "features.npz": saved(np.savez, features=codes * 0.5, labels=numbers, part=np.array(["train", "test"] * 15)),
        "sparse.npz": saved(sparse.save_npz, matrix),
        "coo.npz": saved(sparse.save_npz, sparse.coo_array(matrix)),
        "pt": saved(lambda file: torch.save(tensors, file)),
        "old.pt": saved(lambda file: torch.save(tensors, file, _use_new_zipfile_serialization=False)),
        "csv": ("label,a\n" + "\n".join(f"{name},{number}" for name, number in enumerate(numbers))).encode(),
        "txt": "\n".join(" ".join(map(str, row)) for row in codes).encode("utf-16"),
    }


@st.composite
def damaged(draw: st.DrawFn, kind: str) -> bytes:
    """A whole file with some bytes changed, mostly in its head, or cut, or cut out."""
    content = bytearray(whole_files()[kind])
    for _ in range(draw(st.integers(0, 6))):
        where = draw(st.integers(0, min(len(content), draw(st.sampled_from([200, 700, 1 << 20]))) - 1))
        content[where] = draw(st.one_of(st.sampled_from([0, 1, 65, 127, 255]), st.integers(0, 255)))
    if draw(st.integers(0, 3)) == 0:
        start = draw(st.integers(0, len(content)))
        del content[start : draw(st.sampled_from([len(content), start + 1, start + 8]))]
    return bytes(content)


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """Fail where the block takes much more memory than before, and let no promise of terabytes be allocated."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES << 10


@contextlib.contextmanager
def a_file(content: bytes, kind: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a.{kind.rpartition('.')[2]}")
        path.write_bytes(content)
        yield path


def one_sentence(error: ValueError, path: Path | None = None) -> None:
    assert str(error).strip()
    assert "\n" not in str(error)
    assert path is None or str(path) in str(error)


def use(array: Any) -> None:
    """Take an array for codes and for labels, as `evaluate` does."""
    for read in (read_codes, read_labels):
        try:
            taken = read(array, "These")
        except ValueError as error:
            one_sentence(error)
        else:
            assert len(np.asarray(taken.packed if hasattr(taken, "packed") else taken.values))


@pytest.mark.parametrize("kind", [*whole_files()])
def test_damaged_files_are_read_or_refused(kind: str) -> None:
    @tries(60)
    @given(damaged(kind), st.sampled_from([None, "codes", "labels", "label"]))
    def check(content: bytes, key: str | None) -> None:
        with a_file(content, kind) as path:
            try:
                array = read_array(path, key)
            except ValueError as error:
                return one_sentence(error, path)
            use(array)

    with bounded_memory():
        check()


@pytest.mark.parametrize("kind", ["features.npz", "npz", "pt"])
def test_damaged_arrays_of_own_data_are_read_or_refused(kind: str) -> None:
    @tries(40)
    @given(damaged(kind))
    def check(content: bytes) -> None:
        with a_file(content, kind) as path:
            try:
                store = own_source(f"arrays:{path}").read(None)
            except HashbenchError as error:
                return one_sentence(error)
            assert len(store.labels) == len(store.inputs)

    with bounded_memory():
        check()


@tries(40)
@given(st.sampled_from([".csv", ".tsv", ".txt"]), st.text(alphabet="01 ,;\t\n\"-.ae#\r'", max_size=60), st.booleans())
def test_text_is_read_or_refused(suffix: str, text: str, as_pairs: bool) -> None:
    with a_file(text.encode(), suffix[1:]) as path:
        try:
            found = read_pair_file(path, queries=9, items=9)[0] if as_pairs else read_array(path)
        except ValueError as error:
            return one_sentence(error, path)
        if not as_pairs:
            use(found)


@pytest.mark.parametrize("kind", ["sparse.npz", "coo.npz"])
def test_damaged_pairs_are_read_or_refused(kind: str) -> None:
    codes, items = np.eye(30, 16, dtype=bool), np.eye(10, 16, dtype=bool)

    @tries(60)
    @given(
        damaged(kind), st.sampled_from(["indices", "indptr", "row", "col", "data", "shape"]), st.integers(-2, 1 << 40)
    )
    def check(content: bytes, name: str, value: int) -> None:
        with np.load(io.BytesIO(whole_files()[kind])) as file:
            arrays = dict(file)
        if name in arrays:  # sound as a file, and wrong as a matrix
            arrays[name] = arrays[name].astype(np.int64)
            arrays[name][len(arrays[name]) // 2] = value
            content = saved(np.savez, **arrays)
        with a_file(content, kind) as path:
            try:
                evaluate(codes, items, relevance=read_pair_file(path, queries=30, items=10)[0])
            except ValueError as error:
                one_sentence(error)

    with bounded_memory():
        check()


def test_damaged_matlab_files_are_read_or_refused(tmp_path: Path) -> None:
    """The changed type at byte 176 ends scipy's process with a signal."""
    whole = saved(scipy_io.savemat, {"q": np.eye(3), "names": np.array(["cat", "dog"], object)})
    signal = bytearray(whole)
    signal[176] = 65
    for number, content in enumerate([bytes(signal), whole[:300], b"no .mat file" * 30]):
        path = tmp_path / f"{number}.mat"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is damaged or no \.mat file") as caught:
            read_array(path, "q")
        one_sentence(caught.value, path)


@cache
def counted() -> tuple[bytes, dict[str, float]]:
    chance = np.random.default_rng(1)
    given = chance.integers(0, 2, (5, 16)), chance.integers(0, 2, (40, 16)), np.arange(5) % 3, np.arange(40) % 3
    shard, _ = count_shard(*given, shard=Shard(1, 1))
    file = io.BytesIO()
    shard.write(file)
    return file.getvalue(), dict(evaluate(*given))


@tries(40)
@given(
    st.sampled_from(["n", "r", "about"]),
    st.sampled_from([-1, 0, 2, 99, 1.5, np.nan, 1 << 62]),
    st.sampled_from(["one", "all", "rows", "columns"]),
    st.recursive(st.none() | st.integers() | st.text(max_size=3), st.lists, max_leaves=3),
    st.integers(0, 99),
)
def test_changed_counts_are_damaged(name: str, value: float, where: str, about: Any, entry: int) -> None:
    content, expected = counted()
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    if name == "about":
        said = json.loads(str(arrays["about"]))
        said[sorted(said)[entry % len(said)]] = about
        arrays["about"] = np.array(json.dumps(said))
    else:
        changed = arrays[name].astype(type(value)) if where != "one" or isinstance(value, float) else arrays[name]
        changed = {"rows": changed[:0], "columns": changed[:, :1]}.get(where, changed.copy())
        changed[(0, 3) if where == "one" else ...] = value
        arrays[name] = changed
    with a_file(saved(np.savez, **arrays), "npz") as path:
        try:
            scores = evaluate_shards({"part": ShardCounts.read(path)})
        except ValueError as error:
            return one_sentence(error)
        assert dict(scores) == expected


CELLS = st.one_of(
    st.integers(-3, 4),
    st.sampled_from([0.0, 1.0, 2.5, np.inf, np.nan, 1e300, 2.0**53]),
    st.sampled_from(["a", "b ", ""]),
)


@tries(200)
@given(st.lists(CELLS, min_size=6, max_size=6), st.sampled_from([object, None, float, np.int8, np.uint64, bool, "S3"]))
def test_labels_that_are_taken_mean_what_they_say(cells: list[Any], dtype: Any) -> None:
    """Two items are relevant to each other exactly where Python says that their labels are equal."""
    try:
        with np.errstate(all="ignore"):
            given = np.array(cells, dtype)
    except (ValueError, TypeError, OverflowError):
        return
    codes = np.random.default_rng(0).integers(0, 2, (6, 8)).astype(bool)
    try:
        scores = evaluate(codes, codes, given, given, measures="P@H<=3")
    except ValueError as error:
        return one_sentence(error)
    plain = [each.strip() if isinstance(each, str | bytes) else each for each in given.tolist()]
    numbers = np.array([plain.index(each) for each in plain])
    distances, shared = oracle.pairwise(codes, codes, numbers, numbers)
    expected = np.mean([oracle.in_ball(distances[q], shared[q], 3)[0] for q in range(6)])
    assert scores["P@H<=3"] == pytest.approx(expected)
