"""Rankings by scores are measured as the definitions say, over all orders of equal scores."""

import numpy as np
import pytest
from scipy import sparse

from hashbench.metrics import oracle, parse
from hashbench.metrics.pairs import read_pairs
from hashbench.metrics.scored import score_histograms

MEASURES = {
    "mAP@all": lambda order: oracle.average_precision(order, None, "R"),
    "mAP@3/hits": lambda order: oracle.average_precision(order, 3, "hits"),
    "P@3": lambda order: oracle.precision(order, 3),
    "R@3": lambda order: oracle.recall(order, 3),
    "HR@2": lambda order: oracle.hit(order, 2),
    "nDCG@3": lambda order: oracle.ndcg(order, 3),
}


def case(queries=40, items=8, levels=4):
    drawn = np.random.default_rng(4)
    kinds = drawn.choice([0, 1, 2], (queries, items), p=[0.5, 0.25, 0.25])  # nothing, relevant, left out
    kinds[0], kinds[1], kinds[2] = 0, 1, 2
    scores = drawn.integers(0, levels, (queries, items)) / 7 - 0.2
    return kinds, scores


def test_measures_are_those_over_all_orders_of_equal_scores():
    kinds, scores = case()
    relevant, excluded = (sparse.csr_array((kinds == kind).astype(int)) for kind in (1, 2))
    pairs = read_pairs(relevant, excluded, queries=40, items=8)
    hist = score_histograms([scores[:7], scores[7:]], pairs, queries=40, items=8)
    assert np.array_equal(hist.ranked, (kinds != 2).sum(axis=1))
    assert np.array_equal(hist.relevant, (kinds == 1).sum(axis=1))
    assert np.array_equal(hist.excluded, (kinds == 2).sum(axis=1))
    for name, measure in MEASURES.items():
        for query in range(40):
            if query == 2:
                continue  # nothing is ranked for it
            kept = kinds[query] != 2
            expected = oracle.over_orders((-scores[query][kept]).tolist(), kinds[query][kept].tolist(), measure)
            found = [
                parse(name).per_query(hist, ties=ties)[query] for ties in ("expected", "pessimistic", "optimistic")
            ]
            assert found == pytest.approx(expected), (name, query)


def test_a_ranking_has_no_more_groups_than_its_relevant_items_make():
    relevant = sparse.csr_array(np.array([[0, 0, 0, 1, 0, 0]]))
    hist = score_histograms([np.arange(6.0)[None]], read_pairs(relevant, queries=1, items=6), queries=1, items=6)
    assert hist.n.tolist() == [[2, 1, 3]]
    assert hist.r.tolist() == [[0, 1, 0]]
    assert hist.excluded is None


def test_what_cannot_be_measured_is_refused():
    ones = sparse.csr_array(np.eye(2, dtype=int))
    pairs = read_pairs(ones, queries=2, items=2)
    for scores, reason in (
        ([np.zeros((1, 2))], "scores of 1 queries instead of 2"),
        ([np.zeros((3, 2))], "more than the 2 queries"),
        ([np.zeros((2, 3))], "not finite numbers of shape"),
        ([np.full((2, 2), np.nan)], "not finite numbers of shape"),
    ):
        with pytest.raises(ValueError, match=reason):
            score_histograms(scores, pairs, queries=2, items=2)
    with pytest.raises(ValueError, match="all of gain 1"):
        score_histograms([np.zeros((2, 2))], read_pairs(2 * ones, queries=2, items=2), queries=2, items=2)
