from __future__ import annotations

import numpy as np
import pytest
from metrics_cases import Codes, make_codes

from hashbench.metrics import class_separation, code_statistics, histograms, oracle, pack
from hashbench.metrics import statistics as module


def statistics_of(codes: Codes) -> dict[str, float | int | None]:
    packed, labels = (pack(codes.query), pack(codes.database)), (codes.query_labels, codes.database_labels)
    return code_statistics(packed[1], histograms(*packed, *labels, bits=codes.query.shape[1]))


@pytest.mark.parametrize("bits", [2, 12, 70])
def test_statistics_are_those_of_their_definitions(bits: int, multi_label: bool, monkeypatch) -> None:
    monkeypatch.setattr(module, "TILE", 7)
    codes = make_codes(queries=9, items=60, bits=bits, classes=5, multi_label=multi_label)
    codes.database[:, 0] = True  # a bit that never changes
    found = statistics_of(codes)
    share = codes.database.mean(axis=0)
    with np.errstate(invalid="ignore"):
        correlation = np.nan_to_num(np.corrcoef(codes.database.T.astype(float)))
    distances, shared = oracle.pairwise(codes.query, codes.database, codes.query_labels, codes.database_labels)
    tied = [
        np.mean(
            [relevant == other for relevant in distances[q][shared[q] > 0] for other in distances[q][shared[q] == 0]]
        )
        for q in range(9)
    ]
    pairs = [(shared[q] > 0).sum() * (shared[q] == 0).sum() for q in range(9)]
    assert found == pytest.approx(
        {
            "bit_balance": (1 - np.abs(2 * share - 1)).mean(),
            "bit_correlation": np.abs(correlation[np.triu_indices(bits, k=1)]).mean(),
            "distinct_codes": len({tuple(row) for row in codes.database}),
            "intra_distance": distances[shared > 0].mean(),
            "inter_distance": distances[shared == 0].mean(),
            "tied_share": np.average(tied, weights=pairs),
        }
    )


def test_what_is_undefined_is_none() -> None:
    codes = Codes(np.zeros((1, 1), bool), np.zeros((2, 1), bool), np.array([1]), np.array([1, 1]))
    found = statistics_of(codes)
    assert [found[name] for name in ("bit_correlation", "inter_distance", "tied_share")] == [None, None, None]
    assert (found["bit_balance"], found["distinct_codes"], found["intra_distance"]) == (0, 1, 0)


def test_codes_of_another_database_are_refused() -> None:
    codes = make_codes(queries=2, items=6, bits=8, classes=3, multi_label=False)
    hist = histograms(pack(codes.query), pack(codes.database), codes.query_labels, codes.database_labels, bits=8)
    with pytest.raises(ValueError, match="5 database codes do not belong to histograms of 6 items"):
        code_statistics(pack(codes.database[:5]), hist)


def clustered() -> tuple[np.ndarray, np.ndarray]:
    """Codes (40, 13) and labels (40, 6): class 4 has one item, class 5 none, and three rows are of no class."""
    codes = make_codes(queries=1, items=40, bits=13, classes=4, multi_label=False, seed=2)
    labels = np.eye(6, dtype=np.uint8)[(codes.database_labels + 5) // 3]
    labels[7] = np.eye(6, dtype=np.uint8)[4]
    labels[[3, 20, 39]] = 0
    return codes.database, labels


@pytest.mark.parametrize("tile", [1, 7, 100])
def test_the_separation_of_classes_is_that_of_its_definition(tile: int, monkeypatch) -> None:
    monkeypatch.setattr(module, "TILE", tile)
    codes, labels = clustered()
    classes = [[codes[i].tolist() for i in range(40) if labels[i, c]] for c in range(5)]
    means = [[sum(bits) / len(items) for bits in zip(*items, strict=True)] for items in classes]

    def distance(first: list[float], second: list[float]) -> float:
        return sum(abs(x - y) for x, y in zip(first, second, strict=True))

    inter = [distance(first, second) for i, first in enumerate(means) for second in means[:i]]
    intra = [np.mean([distance(item, mean) for item in items]) for items, mean in zip(classes, means, strict=True)]
    expected = {"inter_distance_min": min(inter), "intra_distance_max": max(intra)}
    expected["separation"] = min(inter) / max(intra)
    assert class_separation(pack(codes), labels, 13) == pytest.approx(expected)
    assert len(classes[4]) == 1
    assert min(inter) < np.mean(inter)
    assert max(intra) > np.mean(intra)


def test_classes_of_one_code_each_are_their_hamming_distance_apart() -> None:
    words = np.array([[0, 0, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=bool)
    codes, labels = np.repeat(words, 4, axis=0), np.repeat(np.eye(3, dtype=np.uint8), 4, axis=0)
    assert class_separation(pack(codes), labels, 5) == {
        "inter_distance_min": 2,
        "intra_distance_max": 0,
        "separation": None,
    }
    codes[0, 0] = True  # one of the first four: 3/4 + 3 x 1/4 over 4, in the first bit
    assert class_separation(pack(codes), labels, 5) == pytest.approx(
        {"inter_distance_min": 2, "intra_distance_max": 0.375, "separation": 2 / 0.375}
    )


def test_classes_have_no_separation_where_nothing_is_to_compare() -> None:
    codes, labels = clustered()
    packed, several = pack(codes), labels.copy()
    several[0] = 1
    assert class_separation(packed, several, 13) == class_separation(packed, None, 13) == {}
    nothing = dict.fromkeys(("inter_distance_min", "intra_distance_max", "separation"))
    assert class_separation(packed, np.zeros_like(labels), 13) == nothing
    one = class_separation(packed, np.eye(6)[np.zeros(40, int)], 13)
    assert [name for name, value in one.items() if value is not None] == ["intra_distance_max"]
    assert class_separation(packed[:0], labels[:0], 13) == nothing
    with pytest.raises(ValueError, match="40 database codes do not belong to 39 rows of labels"):
        class_separation(packed, labels[1:], 13)
