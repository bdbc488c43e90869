from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_cases import make_codes, single_query
from sklearn.metrics import average_precision_score, ndcg_score

from hashbench.metrics import Histograms, histograms, oracle, pack, ranking, tie_groups

TIES = ("expected", "pessimistic", "optimistic")
CUTS = (1, 2, 3, 5, 50)

# Few items, few distances: many ties, and every order of them can be written out.
small_cases = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6)

# name -> (closed form, word for word)
MEASURES: dict[str, tuple[Callable[..., np.ndarray], Callable[[oracle.Ranking], float]]] = {
    "AP": (
        lambda hist, **ties: ranking.average_precision(hist, **ties),
        lambda order: oracle.average_precision(order, None, "R"),
    )
}
for k in CUTS:
    for denominator in ("R", "hits", "min"):
        MEASURES[f"AP@{k}/{denominator}"] = (
            lambda hist, k=k, denominator=denominator, **ties: ranking.average_precision(
                hist, k, denominator=denominator, **ties
            ),
            lambda order, k=k, denominator=denominator: oracle.average_precision(order, k, denominator),
        )
    MEASURES[f"P@{k}"] = (
        lambda hist, k=k, **ties: ranking.precision_at(hist, k, **ties),
        lambda order, k=k: oracle.precision(order, k),
    )
    MEASURES[f"R@{k}"] = (
        lambda hist, k=k, **ties: ranking.recall_at(hist, k, **ties),
        lambda order, k=k: oracle.recall(order, k),
    )
    MEASURES[f"HR@{k}"] = (
        lambda hist, k=k, **ties: ranking.hit_rate_at(hist, k, **ties),
        lambda order, k=k: oracle.hit(order, k),
    )
    MEASURES[f"nDCG@{k}"] = (
        lambda hist, k=k, **ties: ranking.ndcg_at(hist, k, **ties),
        lambda order, k=k: oracle.ndcg(order, k),
    )


def all_ties(hist: Histograms, closed_form: Callable[..., np.ndarray]) -> tuple[float, ...]:
    return tuple(float(closed_form(hist, ties=ties)[0]) for ties in TIES)


@settings(deadline=None, max_examples=60)
@given(small_cases)
def test_expectation_and_bounds_are_those_over_all_orders(items: list[tuple[int, int]]) -> None:
    distances, gains = zip(*items, strict=True)
    hist = single_query(distances, gains)
    orders = list(oracle.tie_orders(distances, gains))
    for name, (closed_form, by_definition) in MEASURES.items():
        values = [by_definition(order) for order in orders]
        by_enumeration = (math.fsum(values) / len(values), min(values), max(values))
        assert all_ties(hist, closed_form) == pytest.approx(by_enumeration, abs=1e-12), name


def test_the_bounds_of_hits_where_the_naive_ones_fail() -> None:
    hist = single_query([0, 1, 1, 1], [1, 1, 0, 0])
    values = all_ties(hist, lambda hist, ties: ranking.average_precision(hist, 3, denominator="hits", ties=ties))
    assert values == pytest.approx((17 / 18, 5 / 6, 1))


@pytest.mark.parametrize("seed", range(4))
def test_a_large_group_split_by_the_cut(seed: int) -> None:
    """The hypergeometric expectation and the bisected bound, against exact fractions over every number of hits."""
    random = np.random.default_rng(seed)
    n, before = int(random.integers(300, 700)), int(random.integers(1, 200))
    r, hits = int(random.integers(1, n)), int(random.integers(0, before + 1))
    k = before + int(random.integers(1, n))
    m = k - before
    possible = range(max(0, m - n + r), min(m, r) + 1)
    chance = {h: Fraction(math.comb(r, h) * math.comb(n - r, m - h), math.comb(n, m)) for h in possible}

    def average(head: Fraction, tail: Fraction, h: int) -> Fraction:
        return (head + tail) / (hits + h) if hits + h else Fraction(0)

    middle, low, high = (
        exact_group(before, hits, before, 0, 0),
        exact_run(hits, before - hits, 0),
        exact_run(hits, 0, 0),
    )
    exact = (
        sum(chance[h] * average(middle, exact_group(m, h, m, before, hits), h) for h in possible),
        min(average(low, exact_run(h, before + m - h, hits), h) for h in possible),
        max(average(high, exact_run(h, before, hits), h) for h in possible),
    )
    hist = Histograms(np.array([[before, n]]), np.array([[hits, r]]))
    values = all_ties(hist, lambda hist, ties: ranking.average_precision(hist, k, denominator="hits", ties=ties))
    assert values == pytest.approx([float(value) for value in exact], rel=1e-12)


def exact_group(n: int, r: int, m: int, before: int, hits: int) -> Fraction:
    """S(n, r, m; N, R0) of the specification, as a sum of fractions."""
    slope = Fraction(r - 1, n - 1) if n > 1 else Fraction(0)
    return sum((Fraction(r, n) * (hits + 1 + (i - 1) * slope) / (before + i) for i in range(1, m + 1)), Fraction(0))


def exact_run(count: int, before: int, hits: int) -> Fraction:
    return sum((Fraction(hits + i, before + i) for i in range(1, count + 1)), Fraction(0))


def test_expectation_is_the_mean_of_sampled_orders() -> None:
    random = np.random.default_rng(0)
    distances, gains = random.integers(0, 6, 60), random.integers(0, 3, 60) * (random.random(60) < 0.4)
    hist = single_query(distances, gains)
    orders = [oracle.random_order(distances, gains, random) for _ in range(1500)]
    for name, (closed_form, by_definition) in MEASURES.items():
        sampled = np.array([by_definition(order) for order in orders])
        error = sampled.std() / math.sqrt(len(sampled))
        value, low, high = all_ties(hist, closed_form)
        assert abs(value - sampled.mean()) <= 5 * error + 1e-12, name
        assert low - 1e-12 <= sampled.min() <= sampled.max() <= high + 1e-12, name


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_bounds_bracket_the_expectation(seed: int) -> None:
    hist = random_histograms(seed)
    for name, (closed_form, _) in MEASURES.items():
        value, low, high = (closed_form(hist, ties=ties) for ties in TIES)
        assert (low <= value + 1e-12).all(), name
        assert (value <= high + 1e-12).all(), name
        assert (low >= 0).all(), name
        assert (high <= 1 + 1e-12).all(), name


def random_histograms(seed: int) -> Histograms:
    random = np.random.default_rng(seed)
    bits, queries = int(random.integers(1, 20)), 5
    n = random.integers(0, 40, (queries, bits + 1)) * (random.random((queries, bits + 1)) < 0.7)
    n[:, 0] += n.sum(axis=1).max() + 1 - n.sum(axis=1)  # every query sees the same database
    r = random.binomial(n, random.random())
    most = random.binomial(r, 0.5)
    return Histograms(n, r, np.stack([r - most, most], axis=1))


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_without_ties_scikit_learn_agrees(items: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    relevant = random.random(items) < 0.4
    relevant[random.integers(items)] = True
    gains = relevant * random.integers(1, 4, items)
    distances = random.permutation(items)
    hist = single_query(distances, gains)
    for ties in TIES:
        assert ranking.average_precision(hist, ties=ties)[0] == pytest.approx(
            average_precision_score(relevant, -distances)
        )
        if items > 1:
            assert ranking.ndcg_at(hist, 7, ties=ties)[0] == pytest.approx(ndcg_score([gains], [-distances], k=7))


def test_a_perfect_and_an_inverted_ranking() -> None:
    perfect = single_query([0] * 4 + [8] * 6, [1] * 4 + [0] * 6)
    inverted = single_query([8] * 4 + [0] * 6, [1] * 4 + [0] * 6)
    for name, (closed_form, _) in MEASURES.items():
        best = all_ties(perfect, closed_form)
        if name.startswith(("AP", "nDCG")) and name not in {f"AP@{k}/R" for k in CUTS}:
            assert best == pytest.approx((1, 1, 1)), name
    worst = sum(i / (6 + i) for i in range(1, 5)) / 4
    assert all_ties(inverted, ranking.average_precision) == pytest.approx((worst,) * 3)
    assert all_ties(inverted, lambda hist, ties: ranking.average_precision(hist, 6, denominator="hits", ties=ties)) == (
        0,
        0,
        0,
    )


def test_a_cut_beyond_the_database_ends_there() -> None:
    hist = random_histograms(3)
    n = hist.database
    whole = ranking.average_precision(hist)
    for denominator in ("R", "hits", "min"):
        for k in (n, n + 1, 10 * n):
            assert np.allclose(ranking.average_precision(hist, k, denominator=denominator), whole, rtol=1e-12)
    assert np.array_equal(ranking.recall_at(hist, 10 * n), (hist.relevant > 0).astype(float))
    assert np.allclose(ranking.precision_at(hist, 10 * n), hist.relevant / (10 * n))


def test_a_query_without_relevant_items_scores_zero() -> None:
    hist = Histograms(np.array([[2, 3]]), np.array([[0, 0]]), np.zeros((1, 1, 2), np.int64))
    for name, (closed_form, _) in MEASURES.items():
        assert all_ties(hist, closed_form) == (0, 0, 0), name
    assert [ball(hist, 1)[0] for ball in (ranking.recall_in_ball, ranking.f1_in_ball)] == [0, 0]


@pytest.mark.parametrize(("gain", "value"), [(1, 1.0), (0, 0.0)])
def test_one_item(gain: int, value: float) -> None:
    hist = single_query([3], [gain], bits=8)
    for closed_form, name in (
        (MEASURES[name][0], name) for name in ("AP", "AP@1/hits", "AP@2/min", "P@1", "R@1", "nDCG@1")
    ):
        assert all_ties(hist, closed_form) == (value,) * 3, name


def test_an_empty_ball_has_precision_zero() -> None:
    hist = single_query([3, 4], [1, 0], bits=8)
    assert ranking.precision_in_ball(hist, 2)[0] == 0
    assert ranking.precision_in_ball(hist, 3)[0] == 1
    assert ranking.precision_in_ball(hist, 99)[0] == 0.5


@settings(deadline=None, max_examples=40)
@given(small_cases, st.integers(0, 4))
def test_the_ball_is_that_of_the_definition(items: list[tuple[int, int]], radius: int) -> None:
    distances, gains = zip(*items, strict=True)
    hist = single_query(distances, gains)
    balls = ranking.precision_in_ball, ranking.recall_in_ball, ranking.f1_in_ball
    assert [ball(hist, radius)[0] for ball in balls] == pytest.approx(oracle.in_ball(distances, gains, radius))


def test_everything_tied_is_the_mean_over_one_group() -> None:
    n, r = 1000, 37
    hist = Histograms(np.array([[0, n]]), np.array([[0, r]]))
    assert ranking.average_precision(hist)[0] == pytest.approx(float(exact_group(n, r, n, 0, 0) / r), rel=1e-13)


@pytest.mark.parametrize("before", [0, 1, 5, 63, 64, 65, 1000, 10**6])
@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 200])
def test_harmonic_spans_keep_their_precision(before: int, count: int) -> None:
    exact = sum((Fraction(1, before + i) for i in range(1, count + 1)), Fraction(0))
    span = tie_groups.harmonic_span(np.array([float(count)]), np.array([float(before)]))[0]
    assert span == pytest.approx(float(exact), rel=1e-13, abs=0)


def test_counts_beyond_32_bits() -> None:
    """Half of 8 thousand million items relevant, thoroughly mixed: every average is one half."""
    n = np.full((1, 4), 2**31, np.int64)
    hist = Histograms(n, n // 2, (n // 2)[:, None])
    k = 2**32 + 12345
    assert hist.database == 2**33
    assert ranking.average_precision(hist)[0] == pytest.approx(0.5, rel=1e-7)
    assert ranking.average_precision(hist, k, denominator="hits")[0] == pytest.approx(0.5, rel=1e-7)
    assert ranking.precision_at(hist, k)[0] == pytest.approx(0.5, rel=1e-12)
    assert ranking.recall_at(hist, k)[0] == pytest.approx(k / 2**33, rel=1e-12)
    assert ranking.hit_rate_at(hist, 3)[0] == pytest.approx(7 / 8)
    assert ranking.hit_rate_at(hist, k)[0] == 1
    assert ranking.precision_in_ball(hist, 2)[0] == 0.5
    assert ranking.ndcg_at(hist, 100)[0] == pytest.approx(0.5)
    low, high = (ranking.average_precision(hist, k, denominator="hits", ties=ties)[0] for ties in TIES[1:])
    assert low < 0.5 < high


def test_curves_by_radius_and_by_rank() -> None:
    hist = random_histograms(5)
    by_radius = ranking.curve_by_radius(hist)
    for radius in range(hist.bits + 1):
        assert by_radius.y[radius] == pytest.approx(ranking.precision_in_ball(hist, radius).mean())
        assert by_radius.x[radius] == pytest.approx(ranking.recall_in_ball(hist, radius).mean())
    by_rank = ranking.curve_by_rank(hist)
    assert by_rank.at[0] == 1
    assert by_rank.at[-1] == hist.database
    for place, k in enumerate(by_rank.at):
        assert by_rank.y[place] == pytest.approx(ranking.precision_at(hist, int(k)).mean())
        assert by_rank.x[place] == pytest.approx(ranking.recall_at(hist, int(k)).mean())


def test_measures_of_codes_do_not_depend_on_the_order_of_the_database() -> None:
    codes = make_codes(queries=6, items=300, bits=6, classes=4, multi_label=True)
    order = np.random.default_rng(1).permutation(300)
    query, database = pack(codes.query), pack(codes.database)
    one = histograms(query, database, codes.query_labels, codes.database_labels, bits=6, gains=True)
    other = histograms(query, database[order], codes.query_labels, codes.database_labels[order], bits=6, gains=True)
    for name, (closed_form, _) in MEASURES.items():
        for ties in TIES:
            assert np.array_equal(closed_form(one, ties=ties), closed_form(other, ties=ties)), name


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda hist: ranking.average_precision(hist, 0), "at least 1"),
        (lambda hist: ranking.average_precision(hist, denominator="k"), "known are R, hits and min"),
        (lambda hist: ranking.precision_at(hist, 1, ties="lucky"), "Unknown tie rule 'lucky'"),
        (lambda hist: ranking.precision_in_ball(hist, -1), "negative"),
        (lambda hist: ranking.ndcg_at(Histograms(hist.n, hist.r), 1), "gains=True"),
        (lambda hist: ranking.average_precision(Histograms(hist.n * 0, hist.r * 0)), "empty database"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Callable[[Histograms], np.ndarray], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        call(single_query([0, 1], [1, 0]))


def test_queries_together_and_in_parts_give_what_each_gives_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = make_codes(queries=9, items=300, bits=12, classes=4, multi_label=True)
    query, database = pack(codes.query), pack(codes.database)
    hist = histograms(query, database, codes.query_labels, codes.database_labels, bits=12, gains=True)
    assert hist.gains is not None
    for kept, counts in enumerate((hist.n, hist.r, *hist.gains.transpose(1, 0, 2))):
        counts[0, 5:] = 0  # a query with a shorter ranking, as where items are left out
        counts[1] *= kept == 0  # and one to which nothing is relevant
    for module in (ranking, tie_groups):
        monkeypatch.setattr(module, "TERMS", 7)
    shared = tie_groups.SharedHistograms.of(hist)
    alone = [Histograms(hist.n[[q]], hist.r[[q]], hist.gains[[q]]) for q in range(9)]
    for name, (closed_form, _) in MEASURES.items():
        for ties in TIES:
            each = [closed_form(one, ties=ties)[0] for one in alone]
            assert closed_form(shared, ties=ties) == pytest.approx(each, rel=1e-12, abs=1e-15), name
    curve = ranking.curve_by_rank(shared)
    ranks, found = (np.pad(np.cumsum(counts, axis=1), ((0, 0), (1, 0))) for counts in (hist.n, hist.r))
    hits = np.array([np.interp(curve.at, ranks[q], found[q]) for q in range(9)])
    assert np.array_equal(curve.y, (hits / curve.at).mean(axis=0))
