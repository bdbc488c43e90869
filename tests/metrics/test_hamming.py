from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from metrics_cases import Codes, make_codes

from hashbench.metrics import (
    Histograms,
    compiling,
    first_bits,
    histograms,
    kernels_numba,
    kernels_torch,
    oracle,
    pack,
    unpack,
)

BACKENDS = ["numba", "torch"]
LENGTHS = [1, 8, 12, 13, 16, 48, 64, 65, 100, 128, 1000, 1024]


def count(codes: Codes, *, backend: str = "auto", gains: bool = False, device: str = "cpu") -> Histograms:
    bits = codes.query.shape[1]
    packed = pack(codes.query), pack(codes.database)
    labels = codes.query_labels, codes.database_labels
    return histograms(*packed, *labels, bits=bits, backend=backend, gains=gains, device=device)


def by_hand(codes: Codes) -> np.ndarray:
    """(Q, most shared labels + 1, bits + 1): the pairs counted one query at a time."""
    distances, shared = oracle.pairwise(codes.query, codes.database, codes.query_labels, codes.database_labels)
    levels = max(1, int(codes.query_labels.sum(axis=1).max())) if codes.query_labels.ndim == 2 else 1
    counts = np.zeros((len(distances), levels + 1, codes.query.shape[1] + 1), np.int64)
    for q in range(len(distances)):
        np.add.at(counts[q], (shared[q], distances[q]), 1)
    return counts


def same(a: Histograms, b: Histograms) -> bool:
    if (a.gains is None) != (b.gains is None):
        return False
    return all(np.array_equal(b.arrays()[name], values) for name, values in a.arrays().items())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bits", LENGTHS)
def test_every_length_is_counted_as_by_hand(bits: int, backend: str, multi_label: bool) -> None:
    codes = make_codes(queries=7, items=201, bits=bits, classes=5, multi_label=multi_label)
    expected = by_hand(codes)
    counted = count(codes, backend=backend, gains=True)
    assert np.array_equal(counted.n, expected.sum(axis=1))
    assert np.array_equal(counted.r, expected[:, 1:].sum(axis=1))
    assert counted.gains is not None
    assert np.array_equal(counted.gains, expected[:, 1:])
    assert same(count(codes, backend=backend), Histograms(counted.n, counted.r))
    assert counted.n.dtype == counted.r.dtype == counted.gains.dtype == np.int64


@pytest.mark.parametrize("backend", BACKENDS)
def test_classes_beyond_one_word_of_a_label_mask(backend: str) -> None:
    codes = make_codes(queries=9, items=150, bits=20, classes=130, multi_label=True)
    expected = by_hand(codes)
    assert np.array_equal(count(codes, backend=backend, gains=True).gains, expected[:, 1:])


@pytest.mark.parametrize("bits", [5, 64, 130])
def test_backends_agree_beyond_a_tile(bits: int, multi_label: bool) -> None:
    # More items than a tile of either kernel, so many that pairs are counted, and an odd number of them.
    codes = make_codes(queries=40, items=131_075, bits=bits, classes=6, multi_label=multi_label)
    numba, torch = (count(codes, backend=backend, gains=multi_label) for backend in BACKENDS)
    assert same(numba, torch)
    assert (numba.n.sum(axis=1) == 131_075).all()


def test_all_items_at_one_distance_do_not_overflow_a_cell() -> None:
    items = 3 * kernels_numba.TILE_ITEMS
    database, labels = np.full((items, 2), 0b1111_0000, np.uint8), np.zeros(items, np.int64)
    hist = histograms(np.zeros((2, 2), np.uint8), database, np.array([0, 1]), labels, bits=16, backend="numba")
    assert hist.n[:, 8].tolist() == [items, items]
    assert hist.r[:, 8].tolist() == [items, 0]


def test_shards_add_up(multi_label: bool) -> None:
    codes = make_codes(queries=6, items=90, bits=13, classes=4, multi_label=multi_label)
    shards = [
        Codes(codes.query, codes.database[part], codes.query_labels, codes.database_labels[part])
        for part in (slice(0, 1), slice(1, 50), slice(50, 50), slice(50, 90))
    ]
    first, *rest = (count(shard, gains=True) for shard in shards)
    assert same(sum(rest, start=first), count(codes, gains=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_order_of_the_database_does_not_matter(backend: str, multi_label: bool) -> None:
    codes = make_codes(queries=6, items=90, bits=13, classes=4, multi_label=multi_label)
    order = np.random.default_rng(1).permutation(90)
    shuffled = Codes(codes.query, codes.database[order], codes.query_labels, codes.database_labels[order])
    assert same(count(codes, backend=backend, gains=True), count(shuffled, backend=backend, gains=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_memory_mapped_database_is_streamed(tmp_path, backend: str, monkeypatch, multi_label: bool) -> None:
    monkeypatch.setattr(kernels_numba, "TILE_ITEMS", 64)
    monkeypatch.setitem(kernels_torch.TILE_BITS, "cpu", 64 * 24)
    codes = make_codes(queries=5, items=1000, bits=24, classes=4, multi_label=multi_label)
    np.save(tmp_path / "database.npy", pack(codes.database))
    np.save(tmp_path / "labels.npy", codes.database_labels)
    database, labels = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("database", "labels"))
    read = []
    hist = histograms(
        pack(codes.query), Spy(database, read), codes.query_labels, labels, bits=24, backend=backend, gains=True
    )
    assert same(hist, count(codes, gains=True))
    assert len(read) == 16
    assert max(read) == 64


class Spy:
    """An array that notes how many rows were asked for."""

    def __init__(self, array: np.ndarray, read: list[int]):
        self._array, self._read = array, read
        self.shape, self.ndim, self.dtype = array.shape, array.ndim, array.dtype

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, rows: slice) -> np.ndarray:
        self._read.append(len(self._array[rows]))
        return self._array[rows]


def test_histograms_survive_a_file(tmp_path, multi_label: bool) -> None:
    codes = make_codes(queries=5, items=40, bits=9, classes=4, multi_label=multi_label)
    for gains in (False, True):
        hist = count(codes, gains=gains)
        np.savez(tmp_path / "hist.npz", **hist.arrays())
        with np.load(tmp_path / "hist.npz", allow_pickle=False) as file:
            assert same(Histograms.from_arrays(file), hist)


@pytest.mark.parametrize("bits", [1, 7, 8, 12, 64])
def test_packing_is_undone_by_unpacking(bits: int) -> None:
    codes = np.random.default_rng(0).random((5, bits)) < 0.5
    assert np.array_equal(unpack(pack(codes), bits), codes)


def test_the_first_bit_is_the_highest() -> None:
    assert pack(np.array([[True] + [False] * 8])).tolist() == [[128, 0]]


def test_what_histograms_know_about_themselves() -> None:
    hist = Histograms(np.array([[1, 2, 3], [6, 0, 0]]), np.array([[0, 1, 1], [0, 0, 0]]))
    assert (hist.bits, hist.queries, hist.database, hist.relevant.tolist()) == (2, 2, 6, [2, 0])


ONE = np.zeros((1, 1), np.uint8)
LABEL = np.zeros(1, np.int64)


@pytest.mark.parametrize(
    ("query", "database", "query_labels", "database_labels", "bits", "reason"),
    [
        (ONE, ONE, LABEL, LABEL, 9, r"codes of 9 bits must be packed into uint8 \(n, 2\)"),
        (ONE, np.zeros((1, 2), np.uint8), LABEL, LABEL, 8, "Database codes are uint8"),
        (ONE.astype(int), ONE, LABEL, LABEL, 8, "Query codes are int64"),
        (ONE, ONE, LABEL, LABEL, 0, "between 1 and 1024"),
        (ONE, np.array([[1]], np.uint8), LABEL, LABEL, 7, "ones beyond bit 7"),
        (np.array([[1]], np.uint8), ONE, LABEL, LABEL, 7, "ones beyond bit 7"),
        (ONE, ONE, LABEL, np.zeros(2, np.int64), 8, "2 labels for 1 codes"),
        (ONE, ONE, LABEL, np.zeros((1, 3), bool), 8, "do not fit"),
        (ONE, ONE, np.zeros((1, 2), bool), np.zeros((1, 3), bool), 8, "do not fit"),
        (ONE, ONE, LABEL.astype(float), LABEL, 8, "must be integers"),
        (ONE[:0], ONE, LABEL[:0], LABEL, 8, "no query codes"),
    ],
)
def test_what_does_not_fit_is_refused(query, database, query_labels, database_labels, bits, reason) -> None:
    with pytest.raises(ValueError, match=reason):
        histograms(query, database, query_labels, database_labels, bits=bits)


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(ValueError, match="known are auto, numba, triton, torch"):
        histograms(ONE, ONE, LABEL, LABEL, bits=8, backend="cuda")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="use backend auto"):
        histograms(ONE, ONE, LABEL, LABEL, bits=8, backend="numba", device="cuda")


def test_histograms_of_other_queries_do_not_add_up() -> None:
    one, other = (
        Histograms(np.ones((1, 3), int), np.ones((1, 3), int)),
        Histograms(np.ones((1, 4), int), np.ones((1, 4), int)),
    )
    with pytest.raises(ValueError, match="same queries and bits"):
        one + other
    with pytest.raises(ValueError, match="with gains"):
        one + Histograms(one.n, one.r, np.ones((1, 1, 3), int))
    with pytest.raises(ValueError, match="both have the shape"):
        Histograms(one.n, other.n)


def test_without_numba_torch_counts(monkeypatch) -> None:
    codes = make_codes(queries=3, items=20, bits=9, classes=4, multi_label=False)
    expected = count(codes)
    monkeypatch.setitem(sys.modules, "hashbench.metrics.kernels_numba", None)
    assert same(count(codes), expected)
    with pytest.raises(ValueError, match="numba backend cannot be imported"):
        count(codes, backend="numba")


def test_kernels_compile_where_nothing_can_be_cached(monkeypatch) -> None:
    njit = compiling.numba.njit

    def without_a_folder(*, nogil: bool, cache: bool = False):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(nogil=nogil)

    monkeypatch.setattr(compiling.numba, "njit", without_a_folder)
    assert compiling.compiled(lambda number: 2 * number)(21) == 42


def test_importing_the_metrics_imports_no_heavy_library() -> None:
    script = "import sys, hashbench.metrics; print(*({'torch', 'numba', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("bits", [1, 7, 8, 9, 16, 23, 24])
def test_the_first_bits_of_packed_codes_are_those_of_the_codes(bits):
    codes = np.random.default_rng(bits).random((50, 24)) < 0.5
    assert (first_bits(pack(codes), bits) == pack(codes[:, :bits])).all()
