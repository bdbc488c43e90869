from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from metrics_cases import make_codes, single_query

from hashbench.metrics import Histograms, Measure, evaluate_histograms, histograms, pack, parse, ranking

NAMES = [
    *("mAP@all", "mAP@1000/hits", "mAP@5000/R", "mAP@1000/min", "mAP@1000/deephash-pytorch", "mAP@all/dcmh"),
    *("P@100", "R@1", "nDCG@10", "P@H<=2", "R@H<=0", "F1@H<=3", "PR", "PR@k"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_parses_back_to_itself(name: str) -> None:
    assert str(parse(name)) == name
    assert parse(str(parse(name))) == parse(name)


@pytest.mark.parametrize(
    ("typed", "name"),
    [("P@H2", "P@H<=2"), ("F1@H10", "F1@H<=10"), ("mAP@all/hits", "mAP@all"), ("mAP@all/R", "mAP@all"), (" PR ", "PR")],
)
def test_other_ways_to_type_a_name(typed: str, name: str) -> None:
    assert str(parse(typed)) == name


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("map@all", "Did you mean 'mAP@all'"),
        ("MAP@1000/hits", "Did you mean 'mAP@1000/hits'"),
        ("ndcg@100", "Did you mean 'nDCG@100'"),
        ("P@h<=2", "Did you mean 'P@H<=2'"),
        ("accuracy", "Measures are written mAP@all"),
        ("mAP@1000", r"write mAP@1000/hits .* mAP@1000/R .* mAP@1000/min"),
        ("mAP@1000/k", "known are R, hits, min, deephash-pytorch"),
        ("P@0", "at least 1"),
        ("mAP@0/R", "at least 1"),
        ("P@", "Measures are written"),
        ("", "Measures are written"),
    ],
)
def test_other_names_are_refused_with_the_way_out(typed: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(typed)


def case() -> Histograms:
    codes = make_codes(queries=8, items=120, bits=6, classes=4, multi_label=True)
    labels = codes.query_labels, codes.database_labels
    return histograms(pack(codes.query), pack(codes.database), *labels, bits=6, gains=True)


def test_a_measure_is_what_its_name_says() -> None:
    hist = case()
    by_name = {
        "mAP@all": ranking.average_precision(hist),
        "mAP@5/hits": ranking.average_precision(hist, 5, denominator="hits"),
        "mAP@5/R": ranking.average_precision(hist, 5, denominator="R"),
        "mAP@5/min": ranking.average_precision(hist, 5, denominator="min"),
        "P@5": ranking.precision_at(hist, 5),
        "R@5": ranking.recall_at(hist, 5),
        "HR@5": ranking.hit_rate_at(hist, 5),
        "nDCG@5": ranking.ndcg_at(hist, 5),
        "P@H<=1": ranking.precision_in_ball(hist, 1),
        "R@H<=1": ranking.recall_in_ball(hist, 1),
        "F1@H<=1": ranking.f1_in_ball(hist, 1),
    }
    assert len({values.mean() for values in by_name.values()}) == len(by_name)
    for name, values in by_name.items():
        assert np.array_equal(parse(name).per_query(hist), values), name
        assert parse(name).value(hist) == values.mean()
    measure = parse("mAP@5/hits")
    for ties in ("optimistic", "pessimistic"):
        expected = ranking.average_precision(hist, 5, denominator="hits", ties=ties)
        assert np.array_equal(measure.per_query(hist, ties=ties), expected)
    assert measure.bounds(hist) == tuple(measure.value(hist, ties=ties) for ties in ("pessimistic", "optimistic"))


def test_curves_have_points_and_values_have_none() -> None:
    hist = case()
    assert np.array_equal(parse("PR").curve(hist).y, ranking.curve_by_radius(hist).y)
    assert np.array_equal(parse("PR@k").curve(hist).at, ranking.curve_by_rank(hist).at)
    with pytest.raises(ValueError, match="'PR' is a curve"):
        parse("PR").per_query(hist)
    with pytest.raises(ValueError, match="not a curve"):
        parse("P@1").curve(hist)
    with pytest.raises(ValueError, match="database's order"):
        parse("mAP@10/fire").value(hist)


def test_an_evaluation_is_plain_data() -> None:
    hist = case()
    found = evaluate_histograms(hist, ["mAP@all", parse("P@H2"), "PR"])
    low, high = parse("mAP@all").bounds(hist)
    assert dataclasses.asdict(found) == {
        "metrics": {"mAP@all": parse("mAP@all").value(hist), "P@H<=2": parse("P@H2").value(hist)},
        "bounds": {"mAP@all": [low, high]},
        "curves": {"PR": {name: getattr(parse("PR").curve(hist), name).tolist() for name in ("x", "y", "at")}},
        "counts": {"queries": 8, "database": 120, "without_relevant": 0, "empty_within_2": 0},
        "ties": "expected",
    }
    assert type(found.metrics["mAP@all"]) is float


def test_queries_without_relevant_items_and_empty_balls_are_counted() -> None:
    one, other = single_query([3, 3], [1, 0], bits=4), single_query([0, 4], [0, 0], bits=4)
    hist = Histograms(np.concatenate([one.n, other.n]), np.concatenate([one.r, other.r]))
    counts = evaluate_histograms(hist, ["P@H<=1"]).counts
    assert counts == {"queries": 2, "database": 2, "without_relevant": 1, "empty_within_1": 1}


def test_bounds_are_left_out_on_request() -> None:
    assert evaluate_histograms(case(), [Measure("P", k=3)], bounds=False).bounds == {}
