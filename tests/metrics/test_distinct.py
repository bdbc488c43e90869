"""Items that share code and labels are counted together: always what is counted one by one."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from metrics_cases import Codes, make_codes
from scipy import sparse

from hashbench.metrics import Histograms, distinct, histograms, oracle, pack
from hashbench.metrics.kernels_numba import NumbaCounter
from hashbench.metrics.pairs import read_pairs


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take small databases for large ones, and tables that are soon full."""
    for name, value in {"FEWEST_ITEMS": 64, "FEWEST_PAIRS": 64, "SAMPLED": 64, "ROWS": 64}.items():
        monkeypatch.setattr(distinct, name, value)


def repeated(bits: int, multi_label: bool, *, items: int = 2000) -> Codes:
    """Codes of few different rows, of which queries have some more than once."""
    few = make_codes(queries=9, items=14, bits=bits, classes=5, multi_label=multi_label)
    drawn, asked = np.random.default_rng(1).integers(0, 14, items), np.random.default_rng(2).integers(0, 9, 30)
    return Codes(few.query[asked], few.database[drawn], few.query_labels[asked], few.database_labels[drawn])


def count(codes: Codes, **settings) -> Histograms:
    arrays = pack(codes.query), pack(codes.database), codes.query_labels, codes.database_labels
    return histograms(*arrays, bits=codes.query.shape[1], **settings)


def counter_of(caplog: pytest.LogCaptureFixture) -> str:
    return caplog.messages[-1].split()[5]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("bits", [1, 16, 70])
def test_rows_that_repeat_are_counted_as_by_definition(bits: int, multi_label: bool, caplog) -> None:
    codes = repeated(bits, multi_label)
    with caplog.at_level(logging.INFO):
        found = count(codes, gains=True, threads=2)
    assert counter_of(caplog) == "DistinctCounter"
    distances, shared = oracle.pairwise(codes.query, codes.database, codes.query_labels, codes.database_labels)
    assert found.gains is not None
    for query in range(len(codes.query)):
        at = distances[query]
        assert found.n[query].tolist() == np.bincount(at, minlength=bits + 1).tolist()
        for level, counts in enumerate(found.gains[query], start=1):
            assert counts.tolist() == np.bincount(at[shared[query] == level], minlength=bits + 1).tolist()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("items", [1, 300, 131_075])
def test_tables_that_are_full_lose_nothing(items: int, multi_label: bool) -> None:
    """Few rows repeat here; so tables fill, and what comes after the first tile is counted one by one."""
    codes = make_codes(queries=5, items=items, bits=20, classes=6, multi_label=multi_label)
    queries, database = pack(codes.query), pack(codes.database)
    counted = []
    for kernel in (distinct.DistinctCounter, NumbaCounter):
        counter = kernel(queries, codes.query_labels, bits=20, levels=3 if multi_label else 2, threads=3)
        for start in range(0, items, counter.tile):
            tile = slice(start, start + counter.tile)
            counter.add(database[tile], codes.database_labels[tile])
        counted.append(counter.counts())
        assert np.array_equal(counter.counts(), counted[-1])  # reading changes nothing
    assert np.array_equal(*counted)


@pytest.mark.usefixtures("small")
def test_tables_that_do_not_pay_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = make_codes(queries=3, items=400, bits=40, classes=4, multi_label=False)
    counter = distinct.DistinctCounter(pack(codes.query), codes.query_labels, bits=40, levels=2)
    counter.add(pack(codes.database), codes.database_labels)
    monkeypatch.setattr(distinct, "words_of", None)  # what gathers needs it
    counter.add(pack(codes.database), codes.database_labels)
    assert (counter.counts().sum(axis=(1, 2)) == 800).all()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (repeated(16, False), "DistinctCounter"),
        (repeated(16, False, items=63), "NumbaCounter"),
        (make_codes(queries=9, items=2000, bits=64, classes=5, multi_label=False), "NumbaCounter"),
    ],
    ids=["repeated", "few", "different"],
)
def test_a_sample_decides(codes: Codes, expected: str, caplog) -> None:
    with caplog.at_level(logging.INFO):
        count(codes)
    assert counter_of(caplog) == expected


@pytest.mark.usefixtures("small")
def test_pairs_beside_rows_that_repeat(tmp_path, caplog) -> None:
    """Pairs name single items, in a file here; they are subtracted from what was counted together."""
    codes = repeated(16, False)
    drawn = np.random.default_rng(0).random((30, 2000))
    np.save(tmp_path / "database.npy", pack(codes.database))
    database = np.load(tmp_path / "database.npy", mmap_mode="r")
    for relevance in (None, sparse.csr_array(drawn > 0.9)):
        pairs = read_pairs(relevance, sparse.csr_array(drawn < 0.1), never_itself=False, queries=30, items=2000)
        labels = (codes.query_labels, codes.database_labels) if relevance is None else (None, None)
        with caplog.at_level(logging.INFO):
            found = histograms(pack(codes.query), database, *labels, bits=16, pairs=pairs).arrays()
        assert counter_of(caplog) == "DistinctCounter"
        expected = histograms(pack(codes.query), database, *labels, bits=16, pairs=pairs, backend="torch").arrays()
        assert all(np.array_equal(found[name], values) for name, values in expected.items())
