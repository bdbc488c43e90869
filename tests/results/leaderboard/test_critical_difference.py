"""Ranks and their test, against the tables of Demšar (JMLR 2006) and formulas written out."""

import numpy as np
import pytest

from hashbench.results.leaderboard.critical_difference import critical_difference, mean_ranks, rank_test


@pytest.mark.parametrize(
    ("rows", "q"),
    [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)],
)
def test_the_critical_values_are_those_of_demsars_table_5(rows, q):
    settings = 14
    assert critical_difference(rows, settings) == pytest.approx(q * np.sqrt(rows * (rows + 1) / 84), rel=5e-4)


def test_demsars_example_of_four_classifiers_on_14_data_sets():
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_mean_ranks_count_who_is_better_and_half_of_who_is_equal():
    values = np.round(np.random.default_rng(0).random((9, 6)), 1)
    expected = [
        np.mean([1 + (line > line[row]).sum() + ((line == line[row]).sum() - 1) / 2 for line in values])
        for row in range(6)
    ]
    assert len({*values[0]}) < 6, "no ties are tested"
    np.testing.assert_allclose(mean_ranks(values), expected)


def test_friedmans_statistic_is_that_of_the_mean_ranks():
    values = np.random.default_rng(1).random((8, 5)) + np.linspace(0, 1, 5)
    ranks = mean_ranks(values)
    expected = 12 * 8 / (5 * 6) * ((ranks**2).sum() - 5 * 6**2 / 4)
    found = rank_test(values)
    assert found.statistic == pytest.approx(expected)
    assert found.p < 0.05
    assert found.difference == critical_difference(5, 8)
    assert "more than" in str(found)


def test_nothing_differs_where_friedmans_test_finds_nothing():
    found = rank_test(np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]]))
    assert found.p == pytest.approx(1.0)
    assert found.difference is None
    assert "no critical difference" in str(found)


@pytest.mark.parametrize("shape", [(1, 5), (5, 2), (0, 0), (3, 1)])
def test_the_test_says_where_it_is_not_defined(shape):
    settings, rows = shape
    found = rank_test(np.random.default_rng(0).random(shape))
    assert (found.statistic, found.p, found.difference) == (None, None, None)
    assert f"not defined for {rows} row" in str(found)
    assert f"in {settings} setting" in str(found)


def test_equal_rows_have_no_test():
    assert "all rows are equal" in str(rank_test(np.full((4, 3), 0.5)))
