"""Factors solve a literal objective; Gram matrices, and codes with a quadratic form each, are as in loops."""

import numpy as np
import pytest
import scipy.sparse
import torch

from hashbench.methods import coordinate_descent, factorisation, factorise_pairs, gram_matrices

WEIGHT, REGULARISATION = 3.0, 0.5


def some_pairs(rows=13, columns=9, *, share=0.3, seed=0):
    drawn = np.random.default_rng(seed)
    dense = (drawn.random((rows, columns)) < share) * drawn.integers(1, 6, (rows, columns))
    dense[4] = 0
    return scipy.sparse.csr_matrix(dense.astype(np.float32))


def objective(pairs, rows, columns):
    """Return the sum over all rows and columns, whether there is a pair or not."""
    wanted = torch.from_numpy((pairs.toarray() != 0).astype(float))
    gaps = (1 + WEIGHT * wanted) * (wanted - rows @ columns.T) ** 2
    return gaps.sum() + REGULARISATION * (rows.square().sum() + columns.square().sum())


def factors(pairs, rounds):
    chance = torch.Generator().manual_seed(3)
    return factorise_pairs(pairs, 4, chance, weight=WEIGHT, regularisation=REGULARISATION, rounds=rounds)


def test_no_round_raises_the_objective_and_the_columns_are_at_its_minimum():
    pairs = some_pairs()
    values = [float(objective(pairs, *factors(pairs, rounds))) for rounds in range(1, 8)]
    assert values == sorted(values, reverse=True)
    rows, columns = (each.requires_grad_() for each in factors(pairs, 2))
    by_rows, by_columns = torch.autograd.grad(objective(pairs, rows, columns), (rows, columns))
    assert by_columns.abs().max() < 1e-9 < by_rows.abs().max()


def test_a_row_without_a_pair_is_zero_and_values_play_no_part():
    pairs = some_pairs()
    rows, columns = factors(pairs, 3)
    assert not rows[4].any()
    ones = pairs.copy()
    ones.data[:] = 1
    assert torch.equal(columns, factors(ones, 3)[1])


@pytest.mark.parametrize("block", [1, 50, 10**6])
def test_gram_matrices_are_those_of_a_loop(block, monkeypatch):
    monkeypatch.setattr(factorisation, "GRAM_BLOCK", block)
    pairs, fixed = some_pairs(), np.random.default_rng(1).standard_normal((9, 4))
    found = np.zeros((13, 4, 4))
    for part, grams in gram_matrices(pairs, fixed):
        found[part] = grams
    for row, stored in enumerate(pairs.toarray()):
        expected = sum((np.outer(fixed[j], fixed[j]) for j in np.flatnonzero(stored)), np.zeros((4, 4)))
        np.testing.assert_allclose(found[row], expected)


def test_codes_with_a_quadratic_form_each_are_those_of_one_after_another():
    drawn = np.random.default_rng(5)
    forms = torch.from_numpy(drawn.standard_normal((6, 5, 5)))
    forms = forms @ forms.transpose(1, 2)
    linear = torch.from_numpy(drawn.standard_normal((6, 5)))
    start = torch.from_numpy(np.sign(drawn.standard_normal((6, 5))))
    together = coordinate_descent(start, forms, linear, sweeps=2)
    for n in range(6):
        alone = coordinate_descent(start[n : n + 1], forms[n], linear[n : n + 1], sweeps=2)
        assert torch.equal(together[n : n + 1], alone)
    assert not torch.equal(together, start)
