"""Multi-index hashing against distances computed one by one: everything is found, and what is looked at is counted."""

import itertools

import numpy as np
import pytest

from hashbench.metrics.hamming import pack
from hashbench.metrics.kernels_numba import BLOCK
from hashbench.metrics.multi_index import LinearScan, MultiIndex, linear_scan, usual_tables


def codes(count, bits, seed=0, clusters=6):
    """Return codes (count, bits) bool around some words, so that near ones exist."""
    chance = np.random.default_rng(seed)
    words = np.random.default_rng(99).random((clusters, bits)) < 0.5
    return words[chance.integers(0, clusters, count)] ^ (chance.random((count, bits)) < 0.12)


CASES = [(bits, tables) for bits in (5, 16, 31, 64, 70) for tables in (1, 2, 3, 5) if -(-bits // 16) <= tables <= bits]


@pytest.mark.parametrize(("bits", "tables"), CASES)
def test_all_within_a_radius_are_found_and_no_other(bits, tables):
    query, database = codes(9, bits, 1), codes(300, bits)
    apart = (query[:, None] != database).sum(axis=2)
    index = MultiIndex(pack(database), bits, tables=tables)
    for radius in (0, 1, 2, 3, 5):
        for found in (index.search(pack(query), radius=radius),
                      linear_scan(pack(query), pack(database), bits, radius=radius)):  # fmt: skip
            for row in range(len(query)):
                mine = slice(found.starts[row], found.starts[row + 1])
                assert sorted(found.items[mine]) == [*np.flatnonzero(apart[row] <= radius)]
                assert np.array_equal(found.distances[mine], apart[row][found.items[mine]])
                assert (np.diff(found.distances[mine]) >= 0).all()


@pytest.mark.parametrize(("bits", "tables"), CASES)
def test_the_nearest_are_found_at_their_distances(bits, tables):
    query, database = codes(9, bits, 1), codes(300, bits)
    nearest = np.sort((query[:, None] != database).sum(axis=2), axis=1)
    index = MultiIndex(pack(database), bits, tables=tables)
    for wanted in (1, 10, 300, 1000):
        for found in (index.search(pack(query), neighbours=wanted),
                      linear_scan(pack(query), pack(database), bits, neighbours=wanted)):  # fmt: skip
            assert np.array_equal(found.distances.reshape(9, -1), nearest[:, :wanted])
            for row in range(len(query)):
                items = found.items[found.starts[row] : found.starts[row + 1]]
                assert len({*items}) == min(wanted, 300)
                assert np.array_equal((query[row] != database[items]).sum(axis=1), nearest[row, :wanted])


@pytest.mark.parametrize(("bits", "tables"), [(16, 2), (70, 5)])
def test_with_ties_all_at_the_last_distance_are_found(bits, tables):
    query, database = codes(9, bits, 1), codes(300, bits)
    apart = (query[:, None] != database).sum(axis=2)
    for wanted in (1, 10, 1000):
        limits = np.sort(apart, axis=1)[:, min(wanted, 300) - 1]
        for index in (MultiIndex(pack(database), bits, tables=tables), LinearScan(pack(database), bits)):
            found = index.search(pack(query), neighbours=wanted, ties=True)
            for row, limit in enumerate(limits):
                mine = slice(found.starts[row], found.starts[row + 1])
                assert sorted(found.items[mine]) == [*np.flatnonzero(apart[row] <= limit)]
                assert np.array_equal(found.distances[mine], np.sort(apart[row])[: len(found.items[mine])])


@pytest.mark.parametrize("bits", [31, 70])
def test_more_items_than_a_block_of_the_scan(bits):
    query, database = codes(3, bits, 1), codes(2 * BLOCK + 5, bits)
    apart = (query[:, None] != database).sum(axis=2)
    within = linear_scan(pack(query), pack(database), bits, radius=4)
    assert np.array_equal(np.diff(within.starts), (apart <= 4).sum(axis=1))
    for row in range(len(query)):
        mine = within.items[within.starts[row] : within.starts[row + 1]]
        assert np.array_equal(sorted(mine), np.flatnonzero(apart[row] <= 4))
    nearest = linear_scan(pack(query), pack(database), bits, neighbours=len(database))
    assert np.array_equal(nearest.distances.reshape(3, -1), np.sort(apart, axis=1))


@pytest.mark.parametrize("radius", range(8))
def test_what_is_looked_at_is_what_loops_over_substrings_look_at(radius):
    bits, tables = 13, 3
    query, database = codes(4, bits, 1), codes(80, bits)
    found = MultiIndex(pack(database), bits, tables=tables).search(pack(query), radius=radius)
    parts = [slice(0, 5), slice(5, 9), slice(9, 13)]
    for row, code in enumerate(query):
        buckets, met = 0, []
        for place, part in enumerate(parts):
            reach = radius // tables - (place > radius % tables)
            width = part.stop - part.start
            for flips in range(min(reach, width) + 1):
                for turned in itertools.combinations(range(width), flips):
                    wanted = code[part].copy()
                    wanted[[*turned]] ^= True
                    buckets += 1
                    met += [item for item, theirs in enumerate(database) if np.array_equal(theirs[part], wanted)]
        assert (found.buckets[row], found.candidates[row], found.compared[row]) == (buckets, len(met), len({*met}))


def test_threads_change_nothing():
    query, database = pack(codes(500, 32, 1)), pack(codes(2000, 32))
    index = MultiIndex(database, 32)
    one, two = (index.search(query, neighbours=20, threads=threads) for threads in (1, 2))
    for name, value in vars(one).items():
        assert np.array_equal(value, getattr(two, name)), name


def test_the_usual_number_of_tables():
    assert [usual_tables(bits, 54_000) for bits in (8, 16, 32, 64, 128)] == [1, 1, 2, 4, 8]
    assert usual_tables(64, 1) == 64
    assert usual_tables(128, 10**9) == 6  # a table has at most 2^24 places


def test_what_cannot_be_searched_is_refused():
    database = pack(codes(10, 32))
    for tables in (0, 1, 33):
        with pytest.raises(ValueError, match=f"Codes of 32 bits can have 2 to 32 tables, not {tables}"):
            MultiIndex(database, 32, tables=tables)
    index = MultiIndex(database, 32)
    for given in ({}, {"radius": 1, "neighbours": 1}):
        with pytest.raises(ValueError, match="Give a radius, or a number of neighbours"):
            index.search(database, **given)
    with pytest.raises(ValueError, match="radius must be 0 or more"):
        index.search(database, radius=-1)
    with pytest.raises(ValueError, match="must be 1 or more, not 0"):
        index.search(database, neighbours=0)
    with pytest.raises(ValueError, match=r"Packed codes of 32 bits are uint8 \(n, 4\)"):
        index.search(database[:, :2], radius=1)
