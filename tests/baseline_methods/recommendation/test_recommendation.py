"""Methods of users and items against literal objectives: losses, gradients, and that no step makes them worse."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import scipy.sparse
import torch

from baselines.recommendation import bccf, ch, dcf, hashcf, references
from hashbench.methods import PairTask, factorise_pairs, random_rotation

BITS = 5
TASK = PairTask(BITS, 17, 12, 0, torch.device("cpu"))


@pytest.fixture(scope="module")
def ratings():
    """Return 17 rows and 12 columns with ratings 1 to 5, float32; row 3 and column 7 have none."""
    drawn = np.random.default_rng(2)
    dense = (drawn.random((17, 12)) < 0.4) * drawn.integers(1, 6, (17, 12))
    dense[3], dense[:, 7], dense[0, :2] = 0, 0, (1, 5)
    return scipy.sparse.csr_matrix(dense.astype(np.float32))


def some_codes(count, seed=0):
    return torch.where(torch.rand(count, BITS, generator=torch.Generator().manual_seed(seed)) < 0.5, -1.0, 1.0).double()


def dcf_objective(ratings, rows, columns, x, y, alpha, beta):
    """Return DCF's objective by a loop over the ratings."""
    total = -2 * alpha * sum(float(b @ a) for b, a in zip(rows, x, strict=True))
    total -= 2 * beta * sum(float(d @ a) for d, a in zip(columns, y, strict=True))
    for i, j in zip(*ratings.nonzero(), strict=True):
        scaled = BITS * (ratings[i, j] - 3) / 2  # ratings from 1 to 5 to [-K, K]
        total += (scaled - float(rows[i] @ columns[j])) ** 2
    return total


def test_no_step_of_dcf_raises_its_objective(ratings):
    alpha = beta = 0.7
    by_row, by_column = dcf.sides(ratings, BITS)
    rows, columns = some_codes(17, 1), some_codes(12, 2)
    x, y = dcf.balanced(some_codes(17, 3)), dcf.balanced(some_codes(12, 4))
    values = [dcf_objective(ratings, rows, columns, x, y, alpha, beta)]
    for _ in range(4):
        rows = dcf.best_codes(rows, by_row, columns, alpha * x)
        values.append(dcf_objective(ratings, rows, columns, x, y, alpha, beta))
        columns = dcf.best_codes(columns, by_column, rows, beta * y)
        values.append(dcf_objective(ratings, rows, columns, x, y, alpha, beta))
        x = dcf.balanced(rows)
        values.append(dcf_objective(ratings, rows, columns, x, y, alpha, beta))
        y = dcf.balanced(columns)
        values.append(dcf_objective(ratings, rows, columns, x, y, alpha, beta))
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(values))
    assert values[-1] < values[0]


def test_the_bits_of_dcf_are_those_of_a_literal_loop(ratings):
    by_row, _ = dcf.sides(ratings, BITS)
    start, columns, pull = some_codes(17, 1), some_codes(12, 2), 0.3 * dcf.balanced(some_codes(17, 3))
    scaled, codes = by_row.toarray(), start.clone().numpy()
    for i in range(17):
        rated = np.flatnonzero(ratings.toarray()[i])
        for _ in range(dcf.SWEEPS):
            for k in range(BITS):
                value = float(pull[i, k])
                for j in rated:
                    others = sum(float(columns[j, h]) * codes[i, h] for h in range(BITS) if h != k)
                    value += float(columns[j, k]) * (scaled[i, j] - others)
                codes[i, k] = np.sign(value) if abs(value) > 1e-12 else codes[i, k]
    assert np.array_equal(dcf.best_codes(start, by_row, columns, pull).numpy(), codes)
    assert not np.array_equal(codes, start.numpy())


def test_ratings_are_scaled_to_the_range_of_products_and_equal_ones_to_its_end(ratings):
    scaled, transposed = dcf.sides(ratings, BITS)
    assert (scaled.data.min(), scaled.data.max()) == (-BITS, BITS)
    assert scaled[0, 0] == -BITS
    assert np.array_equal(scaled.toarray().T, transposed.toarray())
    equal = ratings.copy()
    equal.data[:] = 4
    assert set(dcf.sides(equal, BITS)[0].data) == {float(BITS)}


@pytest.mark.parametrize("rank", [BITS, 2, 0])
def test_balanced_codes_are_uncorrelated_and_the_nearest_such(rank):
    codes = some_codes(17)
    codes[:, rank:] = 1  # constant bits: the centered codes have this rank
    found = dcf.balanced(codes)
    torch.testing.assert_close(found.sum(dim=0), torch.zeros(BITS, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(found.T @ found, 17 * torch.eye(BITS, dtype=torch.float64))
    best = math.sqrt(17) * np.linalg.svd((codes - codes.mean(dim=0)).numpy(), compute_uv=False).sum()
    assert float((codes * found).sum()) == pytest.approx(best)


def test_a_step_of_the_start_of_dcf_solves_its_problem(ratings):
    by_row, _ = dcf.sides(ratings, BITS)
    before, columns, x, alpha = some_codes(17, 5), some_codes(12), dcf.balanced(some_codes(17)), 0.2
    rows = dcf.best_factors(before, by_row, columns, x, alpha).requires_grad_()
    there = torch.from_numpy(ratings.toarray() != 0)
    gaps = (torch.from_numpy(by_row.toarray()) - rows @ columns.T)[there].square().sum()
    held = alpha * (there.sum(dim=1) * rows.square().sum(dim=1)).sum()
    (gradient,) = torch.autograd.grad(gaps + held - 4 * alpha * (rows * x).sum(), rows)
    rated = torch.arange(17) != 3
    assert gradient[rated].abs().max() < 1e-9
    assert torch.equal(rows.detach()[3], before[3])


def start_of_dcf(scaled, there, rows, columns, alpha, beta, tolerance):
    """Return U, V, X and Y of the official code's start by loops, and the number of its rounds."""

    def surrogate(factors):
        centered = factors - factors.mean(axis=0)
        sizes, vectors = np.linalg.eigh(centered.T @ centered)
        return math.sqrt(len(factors)) * centered @ vectors @ np.diag(sizes**-0.5) @ vectors.T

    def solve(factors, values, paired, fixed, near, weight):
        for i in range(len(factors)):
            mine = [j for j in range(len(fixed)) if paired[i, j]]
            if mine:
                quadratic = sum(np.outer(fixed[j], fixed[j]) + weight * np.eye(BITS) for j in mine)
                linear = sum(values[i, j] * fixed[j] for j in mine) + 2 * weight * near[i]
                factors[i] = np.linalg.solve(quadratic, linear)

    x, y, number = surrogate(rows), surrogate(columns), 0
    while True:
        number += 1
        before = [each.copy() for each in (rows, columns, x, y)]
        solve(rows, scaled, there, columns, x, alpha)
        solve(columns, scaled.T, there.T, rows, y, beta)
        x, y = surrogate(rows), surrogate(columns)
        moves = [np.linalg.norm(now - then) for now, then in zip((rows, columns, x, y), before, strict=True)]
        if number == 50 or max(moves) < tolerance * max(len(rows), len(columns)):
            return (rows, columns, x, y), number


@pytest.mark.parametrize(("alpha", "beta", "tolerance", "rounds"), [(1e-3, 2e-3, 1e-5, 50), (0.7, 1.1, 1e-2, 19)])
def test_the_start_of_dcf_is_that_of_a_literal_loop(ratings, alpha, beta, tolerance, rounds, monkeypatch):
    assert dcf.TOLERANCE == 1e-5
    monkeypatch.setattr(dcf, "TOLERANCE", tolerance)
    found = dcf.DCF(alpha=alpha, beta=beta).relaxed(TASK, ratings)
    rows, columns = (
        torch.rand((count, BITS), generator=TASK.generator(which), dtype=torch.float64).numpy()
        for which, count in (("rows", 17), ("columns", 12))
    )
    scaled, there = dcf.sides(ratings, BITS)[0].toarray(), ratings.toarray() != 0
    started = rows[3].copy(), columns[7].copy()
    expected, number = start_of_dcf(scaled, there, rows, columns, alpha, beta, tolerance)
    assert number == rounds
    for mine, literal in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine.numpy(), literal, atol=1e-9)
    assert np.array_equal(found[0][3], started[0])  # without ratings
    assert np.array_equal(found[1][7], started[1])


def test_the_loss_of_hashcf_and_its_gradient_are_literal():
    chance, beta, weight = torch.Generator().manual_seed(1), 2.5, 0.3
    factors = [torch.randn(4, BITS, generator=chance, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    total, gradients = 0.0, [np.zeros((4, BITS)) for _ in range(3)]
    for n in range(4):
        p, q, r = (each[n].detach().numpy() for each in factors)
        b, d, e = np.tanh(beta * p), np.tanh(beta * q), np.tanh(beta * r)
        margin = 10 / BITS * float(b @ d - b @ e)
        total += math.log(1 + math.exp(-margin)) + weight * float(p @ p + q @ q + r @ r) / 2
        slope = -10 / BITS / (1 + math.exp(margin))
        for gradient, code, by_code, factor in zip(gradients, (b, d, e), (d - e, b, -b), (p, q, r), strict=True):
            gradient[n] = slope * by_code * beta * (1 - code**2) + weight * factor
    triples = torch.arange(4).repeat(3, 1)
    triples[2] += 4
    loss = hashcf.ranking_loss(factors[0], torch.cat(factors[1:]), triples, beta=beta, regularisation=weight)
    assert float(loss.detach()) == pytest.approx(total)
    for found, expected in zip(torch.autograd.grad(loss, factors), gradients, strict=True):
        np.testing.assert_allclose(found.numpy(), expected)


def test_hashcf_draws_a_row_then_one_of_its_columns_and_one_that_is_not():
    dense = np.ones((4, 4), np.float32)
    dense[1, 2:], dense[2, 1:], dense[3] = 0, 0, 0  # row 0 has all columns and row 3 none: neither is drawn
    triples = hashcf.Triples(scipy.sparse.csr_matrix(dense))
    assert triples.rows.tolist() == [1, 2]
    drawn = triples.draw(4800, torch.Generator().manual_seed(0))
    counts = Counter(tuple(each) for each in drawn.T.tolist())
    wanted = {(1, own, other): 600 for own in (0, 1) for other in (2, 3)} | {(2, 0, other): 800 for other in (1, 2, 3)}
    assert counts == pytest.approx(wanted, abs=100)


def test_hashcf_is_a_literal_loop_of_lazy_adam(ratings):
    method = hashcf.HashCF(epochs=4, learning_rate=0.03, regularisation=0.2, batch_size=6, growth=7.0)
    chance, triples = TASK.generator("training"), hashcf.Triples(ratings)
    sides = []
    for which, count in (("rows", 17), ("columns", 12)):
        drawn = torch.rand((count, BITS), generator=TASK.generator(which)).double().numpy()
        sides.append((2 * drawn - 1) * math.sqrt(6 / (count + BITS)))
    firsts, seconds = ([np.zeros_like(side) for side in sides] for _ in range(2))
    number, most_left_out = 0, 0
    for epoch in range(1, 5):
        beta = math.sqrt(1 + 7 * (epoch - 1))
        for _ in range(ratings.nnz // 6):
            number += 1
            gradients = [{}, {}]
            for row, column, other in triples.draw(6, chance).T.tolist():
                factors = [sides[0][row], sides[1][column], sides[1][other]]
                b, d, e = (np.tanh(beta * each) for each in factors)
                slope = -10 / BITS / (1 + math.exp(10 / BITS * float(b @ (d - e))))
                for side, at, code, by, factor in zip(
                    (0, 1, 1), (row, column, other), (b, d, e), (d - e, b, -b), factors, strict=True
                ):
                    step = slope * by * beta * (1 - code**2) + 0.2 * factor
                    gradients[side][at] = gradients[side].get(at, 0) + step
            rate = 0.03 * math.sqrt(1 - 0.999**number) / (1 - 0.9**number)
            for side in range(2):
                most_left_out = max(most_left_out, len(sides[side]) - len(gradients[side]))
                for at, gradient in gradients[side].items():
                    first, second = firsts[side][at], seconds[side][at]
                    first[:] = 0.9 * first + 0.1 * gradient
                    second[:] = 0.999 * second + 0.001 * gradient**2
                    sides[side][at] -= rate * first / (np.sqrt(second) + 1e-8)
    assert number > 4
    assert most_left_out > 5  # what is not in a batch neither moves nor forgets
    for found, literal in zip(method.factors(TASK, ratings), sides, strict=True):
        np.testing.assert_allclose(found.numpy(), literal, atol=1e-4)


@pytest.mark.parametrize("dense", [np.zeros((17, 12)), np.ones((17, 12))])
def test_where_nothing_can_be_drawn_hashcf_keeps_its_start(dense):
    rows, columns = hashcf.HashCF(epochs=1).factors(TASK, scipy.sparse.csr_matrix(dense.astype(np.float32)))
    assert torch.equal(rows, hashcf.glorot((17, BITS), TASK.generator("rows")))
    assert torch.equal(columns, hashcf.glorot((12, BITS), TASK.generator("columns")))


def test_hashcf_learns_whose_a_column_is(ratings):
    method = hashcf.HashCF(epochs=60, learning_rate=0.05)
    method.fit(TASK, ratings)
    rows, columns = (2.0 * codes - 1 for codes in (method.row_codes().double(), method.column_codes().double()))
    products, there = (rows @ columns.T).numpy(), ratings.toarray() != 0
    assert products[there].mean() > products[~there].mean() + 1


def test_no_step_of_ch_lowers_the_agreement_and_it_ends_at_the_singular_values(ratings):
    dense = torch.from_numpy(ratings.toarray().astype(float))
    columns = ch.orthogonal(torch.randn(12, BITS, generator=torch.Generator().manual_seed(0)))
    values = []
    for _ in range(300):
        rows = ch.orthogonal(dense @ columns)
        values.append(float((rows * (dense @ columns)).sum()))
        columns = ch.orthogonal(dense.T @ rows)
        values.append(float((rows * (dense @ columns)).sum()))
    torch.testing.assert_close(rows.T @ rows, 17 * torch.eye(BITS, dtype=torch.float64))
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(values))
    most = math.sqrt(17 * 12) * np.linalg.svd(dense.numpy(), compute_uv=False)[:BITS].sum()
    assert values[-1] == pytest.approx(most, rel=1e-6)


def test_the_codes_of_bccf_are_signs_of_factors_under_a_literal_rotation(ratings):
    method = bccf.BCCF()
    method.fit(TASK, ratings)
    given = {name: getattr(method, name) for name in ("weight", "regularisation", "rounds")}
    factors = torch.cat(factorise_pairs(ratings, BITS, TASK.generator("factors"), **given)).numpy()
    rotation = random_rotation(BITS, TASK.generator("rotation")).numpy()
    for _ in range(method.iterations):
        left, _, right = np.linalg.svd(factors.T @ np.where(factors @ rotation >= 0, 1.0, -1.0))
        rotation = left @ right
    codes = torch.cat([method.row_codes(), method.column_codes()]).numpy()
    given_any = (np.abs(factors).max(axis=1) > 0).nonzero()[0]  # row 3 has no pair, and zeros
    assert np.array_equal(codes[given_any], (factors @ rotation >= 0)[given_any])
    assert not np.array_equal(codes, factors >= 0)


def test_popularity_counts_pairs_and_mf_multiplies_factors(ratings):
    popular, factorised = references.Popularity(), references.MF(weight=10.0, regularisation=0.5)
    for method in (popular, factorised):
        method.fit(TASK, ratings)
    counts = (ratings.toarray() != 0).sum(axis=0)
    assert popular.scores(slice(2, 5)).tolist() == [counts.tolist()] * 3
    scores = factorised.scores(slice(None))
    assert torch.linalg.matrix_rank(scores) == BITS
    there = torch.from_numpy(ratings.toarray() != 0)
    assert scores[there].mean() > scores[~there].mean() + 0.2


def test_planes_go_through_the_origin_of_the_factors(ratings):
    method = references.LSHOfFactors(factors=3)
    method.fit(TASK, ratings)
    rows, _ = factorise_pairs(ratings, 3, TASK.generator("factors"), weight=1.0, regularisation=10.0, rounds=15)
    planes = torch.randn((3, BITS), generator=TASK.generator("planes"), dtype=torch.float64)
    assert torch.equal(method.row_codes(), rows @ planes >= 0)


@pytest.mark.parametrize(
    ("method", "task", "reason"),
    [
        (dcf.DCF(), PairTask(12, 17, 12, 0, torch.device("cpu")), "12 balanced and uncorrelated bits need more"),
        (ch.CH(), PairTask(13, 17, 12, 0, torch.device("cpu")), "13 orthogonal bits need as many"),
        (hashcf.HashCF(growth=-0.5), TASK, "growth must be at least 0"),
        (hashcf.HashCF(epochs=0), TASK, "epochs and batch_size must be at least 1"),
        (bccf.BCCF(regularisation=0.0), TASK, "weight and regularisation must be above 0"),
        (references.MF(rounds=0), TASK, "rounds at least 1"),
        (references.LSHOfFactors(factors=0), TASK, "factors must be at least 1"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(method, task, reason):
    assert reason in method.supports(task)
    assert type(method)().supports(TASK) is None
