"""Relevance by pairs and pairs left out: against every order, against labels, and against items that are not there."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_cases import Codes, make_codes
from scipy import sparse

from hashbench.cli import main
from hashbench.metrics import Scores, evaluate, kernels_numba, kernels_torch, oracle, pack, pairs, read_array

BITS = 8
CUTS = (1, 2, 4, 9)
NAMES = [
    "mAP@all", *(f"mAP@{k}/{rule}" for k in CUTS for rule in ("hits", "R", "min")),
    *(f"{kind}@{k}" for kind in ("P", "R", "nDCG") for k in CUTS), *(f"{kind}@H<=1" for kind in ("P", "R", "F1")),
]  # fmt: skip
BACKENDS = ("numba", "torch")


def by_definition(name: str) -> Callable[[list[int], list[int]], tuple[float, float, float]]:
    """Return mean, minimum and maximum of a measure over all orders of tied items, from distances and gains."""
    kind, _, rest = name.partition("@")
    if rest.startswith("H"):
        place = ("P", "R", "F1").index(kind)
        return lambda distances, gains: (oracle.in_ball(distances, gains, 1)[place],) * 3
    cut, _, rule = rest.partition("/")
    k = None if cut == "all" else int(cut)
    measure = {
        "mAP": lambda order: oracle.average_precision(order, k, rule or "R"),
        "P": lambda order: oracle.precision(order, k),
        "R": lambda order: oracle.recall(order, k),
        "nDCG": lambda order: oracle.ndcg(order, k),
    }[kind]
    return lambda distances, gains: oracle.over_orders(distances, gains, measure)


@st.composite
def small_cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Codes of few bits, gains and pairs left out: rankings of different lengths, also of none."""
    queries, items = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    gains = random.integers(1, 4, (queries, items)) * (random.random((queries, items)) < random.random())
    left_out = random.random((queries, items)) < random.choice([0, 0.3, 0.7])
    return random.random((queries, 2)) < 0.5, random.random((items, 2)) < 0.5, gains, left_out


@settings(deadline=None, max_examples=60)
@given(small_cases(), st.sampled_from(BACKENDS))
def test_every_measure_is_that_over_all_orders_of_what_is_left(case, backend) -> None:
    query, database, gains, left_out = case
    if left_out.all():
        return
    given = {"relevance": sparse.csr_array(gains), "exclude": sparse.csr_array(left_out), "backend": backend}
    asked = {"measures": NAMES, "per_query": True, **given}
    by_ties = [evaluate(query, database, ties=ties, **asked) for ties in ("expected", "pessimistic", "optimistic")]
    for q in range(len(query)):
        kept = ~left_out[q]
        distances = (query[q] != database[kept]).sum(axis=1).tolist()
        for name in NAMES:
            expected = by_definition(name)(distances, gains[q][kept].tolist())
            found = [scores.per_query[name][q] for scores in by_ties]
            assert found == pytest.approx(expected, abs=1e-12), (name, q)


def label_pairs(codes: Codes) -> np.ndarray:
    return oracle.pairwise(codes.query, codes.database, codes.query_labels, codes.database_labels)[1]


def same(one: Scores, other: Scores) -> bool:
    """Whether all that was measured is equal to the bit."""
    each = one.per_query.keys() == other.per_query.keys() and all(
        np.array_equal(one.per_query[name], other.per_query[name]) for name in one.per_query
    )
    return each and (one.means, one.bounds, one.curves) == (other.means, other.bounds, other.curves)


ALL = {"measures": [*NAMES, "PR", "PR@k"], "per_query": True, "bounds": True}


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles and several slices of pairs in each."""
    monkeypatch.setattr(kernels_numba, "TILE_ITEMS", 64)
    monkeypatch.setattr(kernels_torch, "TILE_BITS", {"cpu": 64 * BITS})
    monkeypatch.setattr(pairs, "AT_A_TIME", 100)


@pytest.mark.parametrize("backend", BACKENDS)
def test_pairs_made_of_labels_give_the_values_of_the_labels(backend, multi_label: bool) -> None:
    codes = make_codes(queries=12, items=203, bits=BITS, classes=5, multi_label=multi_label)
    by_label = evaluate(codes.query, codes.database, codes.query_labels, codes.database_labels, backend=backend, **ALL)
    shared = label_pairs(codes)
    for kind in (sparse.csr_array, sparse.csc_matrix, sparse.lil_array, sparse.coo_matrix):
        by_pair = evaluate(codes.query, codes.database, relevance=kind(shared), backend=backend, **ALL)
        assert same(by_label, by_pair)
        assert by_pair.counts == by_label.counts


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("by_pairs", [False, True], ids=["labels", "pairs"])
def test_what_is_left_out_is_as_if_it_were_not_there(backend, by_pairs: bool, multi_label: bool) -> None:
    codes = make_codes(queries=7, items=150, bits=BITS, classes=4, multi_label=multi_label)
    left_out = np.random.default_rng(1).random((7, 150)) < np.linspace(0.05, 0.99, 7)[:, None]
    gains = label_pairs(codes)
    labels = () if by_pairs else (codes.query_labels, codes.database_labels)
    relevance = {"relevance": sparse.csr_array(gains)} if by_pairs else {}
    asked = {**ALL, "backend": backend}
    scores = evaluate(codes.query, codes.database, *labels, exclude=sparse.csr_array(left_out), **relevance, **asked)
    radius_curve, low = [], {name: [] for name in scores.bounds}
    for q in range(7):
        kept, one = ~left_out[q], slice(q, q + 1)
        rest = () if by_pairs else (codes.query_labels[one], codes.database_labels[kept])
        there = {"relevance": sparse.csr_array(gains[one][:, kept])} if by_pairs else {}
        alone = evaluate(codes.query[one], codes.database[kept], *rest, **there, **asked)
        for name in scores:
            assert scores.per_query[name][q] == pytest.approx(alone[name], abs=1e-14), name
        radius_curve.append(alone.curves["PR"]["y"])
        for name in low:
            low[name].append(alone.bounds[name][0])
    assert scores.curves["PR"]["y"] == pytest.approx(np.mean(radius_curve, axis=0))
    for name, values in low.items():
        assert scores.bounds[name][0] == pytest.approx(np.mean(values)), name
    assert scores.counts["excluded"] == left_out.sum()
    assert scores.counts["database"] == 150
    by_rank = scores.curves["PR@k"]
    assert by_rank["at"][-1] == 150 - left_out.sum(axis=1).min()
    for place, k in enumerate(by_rank["at"]):
        each = evaluate(
            codes.query, codes.database, *labels, exclude=sparse.csr_array(left_out), measures=[f"P@{k}", f"R@{k}"],
            **relevance,
        )  # fmt: skip
        assert (each[f"R@{k}"], each[f"P@{k}"]) == pytest.approx((by_rank["x"][place], by_rank["y"][place]))


def test_never_itself_is_the_diagonal_left_out(multi_label: bool) -> None:
    codes = make_codes(queries=1, items=90, bits=BITS, classes=4, multi_label=multi_label)
    given = codes.database, codes.database, codes.database_labels, codes.database_labels
    diagonal = sparse.dia_array(np.eye(90))
    scores = evaluate(*given, never_itself=True, **ALL)
    assert same(scores, evaluate(*given, exclude=diagonal, **ALL))
    alone = evaluate(
        codes.database[:1], codes.database[1:], codes.database_labels[:1], codes.database_labels[1:], **ALL
    )
    for name in alone:
        assert scores.per_query[name][0] == pytest.approx(alone[name], abs=1e-14)
    more = sparse.csr_array(np.random.default_rng(0).random((90, 90)) < 0.1)
    both = evaluate(*given, exclude=more, never_itself=True, **ALL)
    assert same(both, evaluate(*given, exclude=(more + diagonal) != 0, **ALL))
    assert scores["mAP@all"] < evaluate(*given)["mAP@all"]  # itself, at distance 0, is what flatters


def test_an_item_that_is_relevant_and_left_out_is_left_out() -> None:
    query, database = np.zeros((1, 3), bool), np.array([[0, 0, 0], [0, 0, 1], [0, 1, 1]], bool)
    relevance = sparse.csr_array([[1, 0, 1]])
    scores = evaluate(query, database, relevance=relevance, exclude=sparse.csr_array([[1, 0, 0]]))
    assert scores["mAP@all"] == 1 / 2
    assert scores.notes[-1] == (
        "Pairs: 1 relevant pairs, 0 of 1 queries without any; 1 pairs left out (1 of them were given as relevant, "
        "which they are not then)."
    )


class TestLargeDatabases:
    """In files, in shards and by several processes, pairs count as they do at once."""

    @pytest.fixture
    def files(self, tmp_path, monkeypatch) -> dict[str, np.ndarray]:
        codes = make_codes(queries=9, items=203, bits=16, classes=6, multi_label=True)
        random = np.random.default_rng(0)
        left_out = random.random((9, 203)) < 0.2
        monkeypatch.chdir(tmp_path)
        for name, array in {"q": pack(codes.query), "d": pack(codes.database)}.items():
            np.save(f"{name}.npy", array)
        gains = label_pairs(codes)
        gains[4, 200] = 5  # the largest gain is in one shard alone
        sparse.save_npz("relevance.npz", sparse.csr_array(gains))
        sparse.save_npz("junk.npz", sparse.csr_array(left_out))
        return {"relevance": sparse.csr_array(gains), "exclude": sparse.csr_array(left_out)}

    ASKED = ("--measure", "mAP@all", "--measure", "mAP@30/hits", "--measure", "nDCG@20", "--measure", "PR")

    def test_processes(self, files, monkeypatch) -> None:
        monkeypatch.setattr("hashbench.metrics.large.shards.SMALLEST", 20)
        arrays, asked = [read_array("q.npy"), read_array("d.npy")], {"encoding": "packed", **ALL}
        assert same(evaluate(*arrays, workers=2, **files, **asked), evaluate(*arrays, **files, **asked))

    @pytest.mark.parametrize("own_files", [False, True])
    def test_shards(self, files, own_files: bool) -> None:
        given = ["--relevance", "relevance.npz", "--exclude", "junk.npz", "--encoding", "packed", *self.ASKED]
        whole = hashbench("evaluate", "q.npy", "d.npy", *given, "--per-query", "whole.npz")
        for number, rows in ((1, slice(0, 80)), (2, slice(80, 203))):
            shard = ["--shard", f"{number}/2", "--output", f"{number}.npz"]
            if not own_files:
                hashbench("evaluate", "q.npy", "d.npy", *given, *shard)
                continue
            np.save("part.npy", np.load("d.npy")[rows])
            sparse.save_npz("part-r.npz", files["relevance"][:, rows])
            sparse.save_npz("part-x.npz", files["exclude"][:, rows])
            here = ["--relevance", "part-r.npz", "--exclude", "part-x.npz", "--encoding", "packed", *self.ASKED]
            hashbench("evaluate", "q.npy", "part.npy", *here, *shard, "--own-files")
        assert hashbench("merge", "1.npz", "2.npz", *self.ASKED, "--per-query", "merged.npz") == whole
        with np.load("merged.npz") as merged, np.load("whole.npz") as expected:
            assert all(np.array_equal(merged[name], expected[name]) for name in expected)

    def test_shards_of_other_pairs_do_not_belong_together(self, files) -> None:
        given = ["q.npy", "d.npy", "--encoding", "packed", "--relevance", "relevance.npz"]
        hashbench("evaluate", *given, "--shard", "1/2", "--output", "1.npz")
        hashbench("evaluate", *given, "--exclude", "junk.npz", "--shard", "2/2", "--output", "2.npz")
        assert "or the pairs that were given" in refusal("merge", "1.npz", "2.npz")
        own = ["evaluate", "d.npy", "d.npy", "--encoding", "packed", "--relevance", "wide.npz", "--never-itself"]
        sparse.save_npz("wide.npz", sparse.csr_array((203, 203)))
        assert "do not say which" in refusal(*own, "--shard", "1/2", "--own-files", "--output", "1.npz")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, r"Nothing says which items are relevant \(neither"),
        ({"query_labels": np.zeros(3)}, r"\(only the query labels do\)"),
        ({"relevance": sparse.csr_array((3, 4)), "query_labels": np.zeros(3)}, "Both labels and relevance"),
        ({"relevance": sparse.csr_array((3, 4)), "labels": "integers"}, "Both labels and relevance"),
        ({"relevance": np.ones((3, 4))}, "type ndarray; give a sparse matrix of scipy"),
        ({"relevance": sparse.csr_array((4, 3))}, r"shape \(4, 3\), but there are 3 queries and 4 items"),
        ({"relevance": sparse.csr_array(np.full((3, 4), 0.5))}, "values from 0.5 to 0.5; each is the gain"),
        ({"relevance": sparse.csr_array(np.full((3, 4), -1))}, "values from -1 to -1; each is the gain"),
        ({"relevance": sparse.csr_array(np.full((3, 4), np.nan))}, "each is the gain"),
        ({"relevance": sparse.csr_array(np.full((3, 4), np.inf))}, "each is the gain"),
        ({"relevance": sparse.csr_array(np.full((3, 4), 300))}, "integer from 1 to 255"),
        (
            {"relevance": sparse.coo_array(([1, 1], ([2, 2], [1, 1])), shape=(3, 4))},
            "relevance holds the pair of query 2 and item 1 more than once",
        ),
        ({"relevance": sparse.csr_array((3, 4)), "exclude": sparse.csr_array((3, 3))}, "exclude has the shape"),
        ({"relevance": sparse.csr_array((3, 4)), "never_itself": True}, "3 queries and 4 items; only where"),
        ({"relevance": sparse.csr_array((3, 4)), "measures": ["mAP@2/fire"]}, "as published code computes it"),
        ({"relevance": sparse.csr_array((3, 4)), "mode": "dcmh"}, "as published code computes it"),
        ({"relevance": sparse.csr_array((3, 4)), "exclude": sparse.csr_array(np.ones((3, 4)))}, "nothing to rank"),
    ],
)
def test_what_could_mean_two_things_is_refused(given: dict, reason: str) -> None:
    codes = make_codes(queries=3, items=4, bits=BITS, classes=3, multi_label=False)
    with pytest.raises(ValueError, match=reason) as caught:
        evaluate(codes.query, codes.database, **given)
    assert "\n" not in str(caught.value)


def hashbench(*arguments: str) -> str:
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def refusal(*arguments: str) -> str:
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 2
    assert ran.output.splitlines()[-1].startswith("Error: "), ran.output
    return ran.output


@pytest.fixture
def small(tmp_path, monkeypatch) -> Codes:
    """The files q.npy and d.npy in the working folder: 3 queries, 4 items."""
    monkeypatch.chdir(tmp_path)
    codes = make_codes(queries=3, items=4, bits=BITS, classes=3, multi_label=False)
    np.save("q.npy", codes.query)
    np.save("d.npy", codes.database)
    return codes


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.txt", "0 1 2\n2 3 1\n\n1\t0   3\n"),
        ("r.csv", "query,item,gain\n0,1,2\n2, 3,1\n1,0,3\n"),
        ("r.tsv", "query\titem\tgain\n0\t1\t2\n2\t3\t1\n1\t0\t3"),
    ],
)
def test_pairs_as_lines_of_text(small: Codes, tmp_path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    matrix = sparse.coo_array(([2, 1, 3], ([0, 2, 1], [1, 3, 0])), shape=(3, 4))
    expected = evaluate(small.query, small.database, relevance=matrix, measures=["nDCG@2"])
    ran = CliRunner().invoke(
        main, ["evaluate", "q.npy", "d.npy", "--relevance", name, "--measure", "nDCG@2", "--per-query", "each.npz"]
    )
    assert f"{name}: 3 pairs of query, item and gain, positions from 0." in ran.stderr
    with np.load("each.npz") as values:
        assert math.isclose(values["nDCG@2"].mean(), expected["nDCG@2"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0 1\n3 0\n", "line 2: there is no query 3 with item 0: queries are numbered 0 to 2, items 0 to 3"),
        ("0 4\n", "line 1: there is no query 0 with item 4"),
        ("0 1\n1 1\n0,1\n", "line 3: the pair of query 0 and item 1 stands there already"),
        ("0 1 1\n1 1\n", "line 2: it has 2 numbers, those before 3"),
        ("0 1 0\n", "the gain is 0"),
        ("0 1 0.5\n", "is no pair"),
        ("0 -1\n", "is no pair"),
        ("0\n", "is no pair"),
        ("item query\n", "is no pair"),
        ("query item\n", "holds no pair"),
        ("", "holds no pair"),
        ("0 1 999\n", "integer from 1 to 255"),
    ],
)
def test_lines_that_are_no_pairs_are_named(small: Codes, tmp_path, text: str, reason: str) -> None:
    (tmp_path / "r.txt").write_text(text)
    assert reason in refusal("evaluate", "q.npy", "d.npy", "--relevance", "r.txt")


def test_files_that_hold_no_pairs_are_one_sentence(small: Codes, tmp_path) -> None:
    np.savez("other.npz", a=np.ones(2))
    (tmp_path / "cut.npz").write_bytes(b"no file")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for name, reason in [
        ("nowhere.npz", "does not exist"),
        ("nowhere.txt", "does not exist"),
        ("other.npz", "cannot be read"),
        ("cut.npz", "cannot be read"),
        ("binary.txt", "cannot be read"),
        ("q.npy", "is not one of the kinds of file that hold pairs"),
    ]:
        assert reason in refusal("evaluate", "q.npy", "d.npy", "--relevance", name)


def test_the_commands_of_the_docs(small: Codes, tmp_path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    commands = re.findall(r"^    hashbench (evaluate .*(?:--relevance|--never-itself).*)$", page, re.MULTILINE)
    assert len(commands) == 2
    for name, array in (("query_codes", small.query), ("database_codes", small.database)):
        np.save(f"{name}.npy", array)
    np.save("database_labels.npy", small.database_labels)
    sparse.save_npz("relevant.npz", sparse.csr_array(np.eye(3, 4)))
    (tmp_path / "junk.csv").write_text("0,1\n")
    for command in commands:
        assert "mAP@all" in hashbench(*command.split())


def test_the_command_leaves_out_and_never_ranks_itself(small: Codes, tmp_path) -> None:
    np.save("l.npy", small.database_labels)
    (tmp_path / "junk.txt").write_text("0 1\n2 3\n")
    hashbench("evaluate", "d.npy", "d.npy", "l.npy", "l.npy", "--never-itself", "--exclude", "junk.txt",
              "--per-query", "each.npz")  # fmt: skip
    left_out = np.eye(4)
    left_out[[0, 2], [1, 3]] = 1
    labels = small.database_labels
    expected = evaluate(
        small.database, small.database, labels, labels, exclude=sparse.csr_array(left_out), per_query=True
    )
    with np.load("each.npz") as values:
        assert np.array_equal(values["mAP@all"], expected.per_query["mAP@all"])
