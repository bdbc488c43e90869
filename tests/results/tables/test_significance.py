"""The tests against scipy's and against their definitions."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hashbench.results.tables.significance import PERMUTATIONS, holm, permutations_for, sign_flip, welch

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("sizes", [(4, 4), (5, 9), (30, 4)])
@pytest.mark.parametrize("shift", [0.0, 0.02, 0.5])
def test_welch_is_scipy_s(sizes, shift):
    first, second = RNG.normal(0.5, 0.01, sizes[0]).tolist(), RNG.normal(0.5 + shift, 0.05, sizes[1]).tolist()
    expected = stats.ttest_ind(first, second, equal_var=False).pvalue
    assert welch(first, second) == pytest.approx(expected, rel=1e-9)
    assert welch(second, first) == pytest.approx(expected, rel=1e-9)


@pytest.mark.filterwarnings("ignore:Precision loss")
def test_welch_with_one_side_that_never_varies():
    varied = [0.1, 0.2, 0.3, 0.5]
    expected = stats.ttest_ind(varied, [0.4] * 4, equal_var=False).pvalue
    assert welch(varied, [0.4] * 4) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("first", "second"), [([0.1] * 5, [0.2] * 5), ([0.3] * 5, [0.3] * 5), ([0.5], [0.1, 0.2]), ([], [0.1, 0.2])]
)
def test_welch_has_nothing_to_go_by(first, second):
    assert welch(first, second) is None


def closed_testing(p):
    """Holm by the closure principle: the largest Bonferroni p-value of all sets of hypotheses that contain one."""
    sets = [chosen for size in range(1, len(p) + 1) for chosen in combinations(range(len(p)), size)]
    return [min(1, max(len(s) * min(p[j] for j in s) for s in sets if i in s)) for i in range(len(p))]


@given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.01, 0.02, 0.05])), min_size=1, max_size=7))
def test_holm_is_the_closed_test_of_bonferroni(p):
    assert holm(p) == pytest.approx(closed_testing(p))


def test_holm_of_the_textbook_and_of_nothing():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_sign_flip_agrees_with_every_sign_tried():
    differences = RNG.normal(0.1, 0.3, (4, 11))
    signs = np.array(list(product([-1, 1], repeat=11)))
    exact = (np.abs(signs @ differences.T) >= np.abs(differences.sum(axis=1)) - 1e-9).mean(axis=0)
    assert sign_flip(differences, permutations=40_000) == pytest.approx(exact, abs=0.012)


def test_sign_flip_agrees_with_scipy_s_permutation_test():
    pairs = RNG.beta(2, 2, (2, 40))
    pairs[1] += 0.08
    theirs = stats.permutation_test(
        pairs,
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        random_state=1,
    ).pvalue
    assert sign_flip((pairs[0] - pairs[1])[None]) == pytest.approx([theirs], abs=0.02)


def test_sign_flip_of_no_difference_and_of_one_that_no_chance_gives():
    differences = np.stack([np.zeros(50), np.full(50, 0.1), np.full(50, -0.1)])
    smallest = 1 / (PERMUTATIONS + 1)
    assert sign_flip(differences).tolist() == [1.0, smallest, smallest]


def test_sign_flip_counts_ties_in_spite_of_rounding():
    # Sums of 0.1 differ in the last digits by their order; half of the eight signs tie with the sum seen or exceed it.
    found = sign_flip(np.array([[0.1, 0.2, -0.3], [0.1, 0.1, 0.1]]), permutations=20_000)
    assert found == pytest.approx([1.0, 0.25], abs=0.02)


def test_sign_flip_is_seeded_and_draws_in_parts(monkeypatch):
    differences = RNG.normal(0.05, 0.3, (2, 33))
    assert sign_flip(differences).tolist() == sign_flip(differences).tolist()
    assert sign_flip(differences, seed=1).tolist() != sign_flip(differences).tolist()
    monkeypatch.setattr("hashbench.results.tables.significance._CHUNK", 7)  # less than one row of signs
    assert sign_flip(differences, permutations=500) == pytest.approx(sign_flip(differences), abs=0.08)


def test_under_the_null_hypothesis_p_is_uniform():
    p = sign_flip(RNG.normal(0, 1, (400, 30)), permutations=999)
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_holm_can_still_reject_in_a_large_family():
    for tests in (1, 500, 5000):
        assert tests / (permutations_for(tests) + 1) < 0.05
