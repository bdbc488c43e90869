from __future__ import annotations

import numpy as np
import pytest
from metrics_cases import Codes, make_codes

from hashbench.metrics import code_statistics, histograms, oracle, pack
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
