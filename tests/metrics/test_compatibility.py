"""Each mode against a literal, slow re-statement of the published script."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from metrics_cases import Codes, make_codes

from hashbench.metrics import compatibility, histograms, kernels_numba, pack
from hashbench.metrics.compatibility import Mode


def ranked_relevance(codes: Codes, q: int) -> np.ndarray:
    """Relevance of the database in the order of query q's distances, ties as the database has them."""
    distance = 0.5 * (codes.query.shape[1] - signs(codes.query)[q] @ signs(codes.database).T)
    if codes.query_labels.ndim == 1:
        relevant = codes.query_labels[q] == codes.database_labels
    else:
        relevant = codes.query_labels[q].astype(int) @ codes.database_labels.T.astype(int) > 0
    return relevant[np.argsort(distance, kind="stable")].astype(float)


def signs(codes: np.ndarray) -> np.ndarray:
    return np.where(codes, 1.0, -1.0)


def deephash_pytorch(codes: Codes, k: int | None) -> float:
    """CalcTopMap of DeepHash-pytorch's utils/tools.py, topk = -1 for the whole ranking."""
    topk = -1 if k is None else k
    topkmap = 0.0
    for q in range(len(codes.query)):
        gnd = ranked_relevance(codes, q)
        tgnd = gnd[0:topk]
        tsum = int(np.sum(tgnd))
        if tsum == 0:
            continue
        count = np.linspace(1, tsum, tsum)
        tindex = np.asarray(np.where(tgnd == 1)) + 1.0
        topkmap += np.mean(count / tindex)
    return topkmap / len(codes.query)


def hashnet(codes: Codes, k: int | None) -> float:
    """mean_average_precision of HashNet's test.py."""
    assert k is not None
    each = []
    for q in range(len(codes.query)):
        match = ranked_relevance(codes, q)[:k]
        relevant = np.sum(match)
        precision = np.cumsum(match) / np.arange(1, len(match) + 1)
        if relevant != 0:
            each.append(np.sum(precision * match) / relevant)
    return float(np.mean(each)) if each else float("nan")


def fire(codes: Codes, k: int | None) -> float:
    """Average precision over the hits of the top k, 0 without any."""
    each = []
    for q in range(len(codes.query)):
        match = ranked_relevance(codes, q)[:k]
        at = np.flatnonzero(match) + 1
        each.append(np.mean(np.arange(1, len(at) + 1) / at) if len(at) else 0.0)
    return float(np.mean(each))


def dcmh(codes: Codes, k: int | None) -> float:
    """calc_map of DCMH's utils, over the first min(k, R) relevant items."""
    each = 0.0
    for q in range(len(codes.query)):
        gnd = ranked_relevance(codes, q)
        tsum = int(np.sum(gnd))
        if tsum == 0:
            continue
        total = min(k, tsum) if k is not None else tsum
        count = np.arange(1, total + 1).astype(float)
        tindex = np.nonzero(gnd)[0][:total] + 1.0
        each += np.mean(count / tindex)
    return each / len(codes.query)


LITERAL: dict[Mode, Callable[[Codes, int | None], float]] = {
    "deephash-pytorch": deephash_pytorch,
    "hashnet": hashnet,
    "fire": fire,
    "dcmh": dcmh,
}


def in_mode(codes: Codes, mode: Mode, k: int | None) -> np.ndarray:
    bits = codes.query.shape[1]
    given = pack(codes.query), pack(codes.database), codes.query_labels, codes.database_labels
    return compatibility.average_precision(*given, hist=histograms(*given, bits=bits), mode=mode, k=k)


@pytest.mark.parametrize(
    ("mode", "k"),
    [(mode, k) for mode in LITERAL for k in (1, 7, 60, 200, 1000, None) if not (mode == "hashnet" and k is None)],
)
@pytest.mark.parametrize("bits", [4, 70])
def test_a_mode_is_the_script_it_is_named_after(mode: Mode, k: int | None, bits: int, multi_label: bool) -> None:
    codes = make_codes(queries=25, items=200, bits=bits, classes=70, multi_label=multi_label)
    codes.query_labels[:3] = False if multi_label else -1  # without relevant items
    values = in_mode(codes, mode, k)
    assert compatibility.mean(values) == pytest.approx(LITERAL[mode](codes, k), rel=1e-12)


def test_the_modes_tell_themselves_apart() -> None:
    """Relevant items at ranks 1, 3 and 4 of four."""
    database = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 1, 1]], bool)
    codes = Codes(np.zeros((1, 3), bool), database, np.array([1]), np.array([1, 0, 1, 1]))
    assert in_mode(codes, "fire", None) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert in_mode(codes, "deephash-pytorch", None) == pytest.approx((1 + 2 / 3) / 2)
    assert in_mode(codes, "fire", 2) == 1
    assert in_mode(codes, "dcmh", 2) == pytest.approx((1 + 2 / 3) / 2)


def test_ties_follow_the_order_of_the_database() -> None:
    codes = Codes(np.zeros((1, 2), bool), np.zeros((3, 2), bool), np.array([1]), np.array([0, 1, 0]))
    assert in_mode(codes, "fire", None) == 0.5


def test_hashnet_drops_queries_without_a_hit() -> None:
    codes = make_codes(queries=4, items=50, bits=8, classes=3, multi_label=False)
    codes.query_labels[1] = 99
    values = in_mode(codes, "hashnet", 50)
    assert np.isnan(values).tolist() == [False, True, False, False]
    codes.query_labels[:] = 99
    assert np.isnan(compatibility.mean(in_mode(codes, "hashnet", 50)))


def test_ranks_go_on_from_one_tile_to_the_next(monkeypatch, multi_label: bool) -> None:
    codes = make_codes(queries=40, items=500, bits=6, classes=5, multi_label=multi_label)
    whole = in_mode(codes, "fire", 100)
    monkeypatch.setattr(kernels_numba, "TILE_ITEMS", 64)
    assert np.allclose(in_mode(codes, "fire", 100), whole, rtol=1e-12)


def test_a_mode_without_all_says_so() -> None:
    codes = make_codes(queries=2, items=5, bits=4, classes=3, multi_label=False)
    with pytest.raises(ValueError, match="hashnet has no mAP@all"):
        in_mode(codes, "hashnet", None)
    with pytest.raises(ValueError, match="Unknown compatibility mode 'csq'"):
        in_mode(codes, "csq", None)  # type: ignore[arg-type]
