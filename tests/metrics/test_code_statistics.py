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
def test_the_separation_of_classes_is_that_of_all_pairs_of_items(tile: int, monkeypatch) -> None:
    monkeypatch.setattr(module, "TILE", tile)
    codes, labels = clustered()
    distances: dict[tuple[int, int], list[int]] = {}
    for i in range(40):
        for j in range(i):
            if labels[i].any() and labels[j].any():
                first, second = sorted((int(labels[i].argmax()), int(labels[j].argmax())))
                distances.setdefault((first, second), []).append(int((codes[i] != codes[j]).sum()))
    means = {classes: sum(found) / len(found) for classes, found in distances.items()}
    assert len(means) == 10 + 4  # all pairs of five classes, and the four that have two items
    inter = min(mean for (first, second), mean in means.items() if first != second)
    intra = max(mean for (first, second), mean in means.items() if first == second)
    expected = {"inter_distance_min": inter, "intra_distance_max": intra, "separation": inter / intra}
    assert class_separation(pack(codes), labels, 13) == pytest.approx(expected)
    assert inter / intra > 1


def test_classes_have_no_separation_where_nothing_is_to_compare() -> None:
    codes, labels = clustered()
    packed, several = pack(codes), labels.copy()
    several[0] = 1
    assert class_separation(packed, several, 13) == class_separation(packed, None, 13) == {}
    for of, known in (
        (np.zeros_like(labels), []),
        (np.eye(40), ["inter_distance_min"]),  # an item of each class
        (np.eye(6)[np.zeros(40, int)], ["intra_distance_max"]),  # one class
    ):
        found = class_separation(packed, of, 13)
        assert [name for name, value in found.items() if value is not None] == known
    alike = class_separation(pack(np.zeros((4, 13), bool)), np.eye(2)[[0, 0, 1, 1]], 13)
    assert alike == {"inter_distance_min": 0, "intra_distance_max": 0, "separation": None}
    with pytest.raises(ValueError, match="40 database codes do not belong to 39 rows of labels"):
        class_separation(packed, labels[1:], 13)
