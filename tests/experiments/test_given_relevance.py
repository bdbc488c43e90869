"""Runs whose relevance is given by pairs, from the user's file to the table; measures that protocols name."""

import dataclasses

import numpy as np
import pytest
import toy_dataset
from scipy import sparse

import hashbench
from hashbench.datasets import Store
from hashbench.datasets.catalogue import load
from hashbench.errors import HashbenchError
from hashbench.evaluation.encoding import count
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan
from hashbench.metrics import Histograms, evaluate, histograms, pack, table
from hashbench.results.runs import RunDirectory
from hashbench.system.distributed import SINGLE

TRAIN, QUERY, DATABASE = slice(0, 30), slice(30, 40), slice(40, 90)


def arrays(seed=0):
    """Features whose labels say nothing; gains of the nearest items, and the very nearest as junk."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(90, 12)).astype(np.float32)
    near = np.argsort(((features[QUERY, None] - features[None, DATABASE]) ** 2).sum(axis=2), axis=1)
    ask = np.arange(30, 40)
    relevance = [[q, 40 + near[q - 30, place], 2 if place < 3 else 1] for q in ask for place in range(1, 8)]
    return {
        "features": features,
        "labels": np.zeros(90, np.int64),
        "part": np.array(["train"] * 30 + ["query"] * 10 + ["database"] * 50),
        "relevance": np.array(relevance),
        "exclude": np.array([[q, 40 + near[q - 30, 0]] for q in ask]),
    }


NAMED = ("--dataset", "arrays:given.npz")


def save(made):
    np.savez("given.npz", **{name: array for name, array in made.items() if array is not None})


@pytest.fixture
def given(tmp_path, monkeypatch):
    """The working folder has the file of the arrays, which are returned."""
    monkeypatch.chdir(tmp_path)
    made = arrays()
    save(made)
    return made


def run(bits=16, **settings):
    return hashbench.run("lsh", "arrays:given.npz", bits=bits, progress=False, **settings)


def matrix(pairs, made):
    """Return pairs of rows as a dense matrix of the queries and the database in the file's order."""
    dense = np.zeros((90, 90), np.int64)
    dense[pairs[:, 0], pairs[:, 1]] = pairs[:, 2] if pairs.shape[1] == 3 else 1
    return sparse.csr_array(dense[QUERY, DATABASE])


def test_a_run_is_measured_by_the_pairs(given, cli):
    result = run()
    codes = RunDirectory(result.path).read_arrays("codes")
    split = load("arrays:given.npz").split
    by_row = np.zeros((90, codes["query"].shape[1]), np.uint8)
    by_row[split.query], by_row[split.database] = codes["query"], codes["database"]
    expected = evaluate(
        by_row[QUERY], by_row[DATABASE], relevance=matrix(given["relevance"], given),
        exclude=matrix(given["exclude"], given), encoding="packed", bounds=True,
        measures=[*result.metrics, *result.curves],
    )  # fmt: skip
    assert dict(expected) == pytest.approx(result.metrics)
    assert result.metrics["nDCG@100"] == pytest.approx(expected["nDCG@100"])  # graded, so it is among the measures
    assert result.curves["PR"]["y"] == pytest.approx(expected.curves["PR"]["y"])
    for name, bounds in expected.bounds.items():
        assert result.bounds[name] == pytest.approx(bounds)
    assert result.coords["relevance"] == "pairs, some left out"
    assert (result.counts["database"], result.counts["excluded"], result.counts["without_relevant"]) == (50, 10, 0)
    assert result.metrics["mAP@all"] > 0.2  # 7 of 49: pairs of the wrong items would give about 0.2
    assert "1 as stored, 0 with differences" in cli("verify", *NAMED).stdout
    assert "lsh" in cli("compare").stdout
    assert "nDCG@10" in cli("compare", "--measure", "nDCG@10").stdout


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda counts: counts | {"r": counts["r"][::-1]}, "the relevant items of"),
        (lambda counts: counts | {"excluded": counts["excluded"] + 1}, "not those of the database"),
        (lambda counts: counts | {"n": counts["n"] + 1}, "more items than there are"),
        (lambda counts: {"n": counts["n"], "r": counts["r"], "gains": counts["gains"]}, "the distances of 10 of 10"),
    ],
)
def test_verify_finds_what_has_drifted(given, cli, change, sentence):
    directory = RunDirectory(run().path)
    directory.write_arrays("histograms", **change(directory.read_arrays("histograms")))
    assert sentence in cli("verify", *NAMED, code=1).stdout


def test_verify_wants_the_same_pairs(given, cli):
    run()
    save(given | {"exclude": given["exclude"][1:]})
    assert "is here, but with other images or another split" in cli("verify", *NAMED, code=3).stdout


def test_the_identity_covers_the_pairs_and_not_their_order(given):
    def split_of(**changed):
        save(given | changed)
        return load("arrays:given.npz").split.sha256

    asked = split_of()
    regraded = given["relevance"].copy()
    regraded[0, 2] = 3
    others = {
        asked,
        split_of(relevance=regraded),
        split_of(relevance=given["relevance"][1:]),
        split_of(exclude=given["exclude"][1:]),
        split_of(exclude=None),
        split_of(exclude=None, relevance=None, labels=np.arange(90) % 2),
        split_of(relevance=given["exclude"], exclude=None),
    }
    assert len(others) == 7
    order = np.random.default_rng(5).permutation(90)
    place = np.argsort(order)
    moved = {name: given[name][order] for name in ("features", "labels", "part")}
    for name in ("relevance", "exclude"):
        pairs = given[name][::-1].copy()
        pairs[:, :2] = place[pairs[:, :2]]
        moved[name] = pairs
    assert split_of(**moved) == asked


def test_only_what_is_left_out_is_given(given):
    """Labels say what is relevant, here everything; the audit counts what it always does."""
    save(given | {"relevance": None})
    result = run()
    assert result.coords["relevance"] == "labels, some left out"
    assert (result.counts["excluded"], result.metrics["mAP@all"]) == (10, pytest.approx(1))


def test_shards_of_ranks_have_one_shape(given):
    """The largest gain may be in one rank's share alone; all ranks add up arrays of one shape."""
    data = load("arrays:given.npz")
    query, database = (pack(np.random.default_rng(0).random((n, 9)) < 0.5) for n in (10, 50))
    whole = count(query, database, data, SINGLE, bits=9)
    parts = [
        histograms(query, database[a:b], None, None, bits=9, gains=True, pairs=data.pairs.between(a, b)).arrays()
        for a, b in ((0, 1), (1, 50))
    ]
    assert parts[0]["gains"].shape == parts[1]["gains"].shape
    total = Histograms.from_arrays({name: parts[0][name] + parts[1][name] for name in parts[0]})
    assert all(np.array_equal(total.arrays()[name], array) for name, array in whole.arrays().items())


def test_queries_without_pairs_are_counted(given):
    save(given | {"relevance": given["relevance"][7:]})
    assert load("arrays:given.npz").audit.queries_without_relevant == 1
    with pytest.raises(HashbenchError, match="for no train item which others are relevant"):
        load("arrays:given.npz", evaluate_on="validation")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"part": None}, "holds relevance and exclude, but no 'part'"),
        ({"relevance": np.zeros((2, 4), int)}, r"relevance in .* is int64 of shape \(2, 4\)"),
        (
            {"exclude": np.zeros((2, 3), int)},
            r"exclude in .* is int64 of shape \(2, 3\); give integers \(pairs, 2\): the ",
        ),
        ({"relevance": np.array([[0.5, 1]])}, "is float64"),
        ({"relevance": np.array([[30, 90]])}, "names rows from 30 to 90 of 90"),
        ({"relevance": np.array([[30, 40, -1]])}, "values from -1 to -1; each is the gain"),
        ({"relevance": np.array([[30, 40], [30, 40]])}, "pair of query 30 and item 40 more than once"),
    ],
)
def test_pairs_of_the_user_that_fit_nothing_are_refused(given, changed, reason):
    save(given | changed)
    with pytest.raises(HashbenchError, match=reason):
        load("arrays:given.npz")


def test_pairs_of_a_store_must_be_of_all_inputs(cli):
    inputs, labels = np.zeros((3, 2), np.float32), np.ones((3, 1), np.uint8)
    with pytest.raises(HashbenchError, match=r"The pairs of toy cannot be used: relevance has the shape \(2, 3\)"):
        Store("toy", inputs, labels, ("a",), relevance=sparse.csr_array((2, 3)))
    with pytest.raises(HashbenchError, match="give a sparse matrix"):
        Store("toy", inputs, labels, ("a",), exclude=np.ones((3, 3)))


def test_a_prepared_store_would_lose_the_pairs(given, cli):
    assert "needs no preparation" in cli("prepare", "arrays:given.npz", code=2).output


# measures that a protocol names


@pytest.fixture
def named():
    """Return a function that gives the toy's first protocol other measures."""

    def name(*measures):
        first, *others = toy_dataset.toy.protocols
        changed = (dataclasses.replace(first, measures=measures), *others)
        object.__setattr__(toy_dataset.toy, "protocols", changed)

    protocols = toy_dataset.toy.protocols
    yield name
    object.__setattr__(toy_dataset.toy, "protocols", protocols)


@pytest.mark.parametrize(
    ("measures", "reason"),
    [
        (("mAP@al",), r"toy@small cannot be measured: Unknown measure 'mAP@al'\. Did you mean 'mAP@all'"),
        (("mAP@all", "mAP@1000"), "does not say what it divides by"),
        (("mAP@all", "mAP@10/fire"), "asks for 'mAP@10/fire', which needs the order of the database"),
        (("PR", "mAP@all"), "curve 'PR' as its default measure"),
    ],
)
def test_a_measure_that_no_run_can_have_is_refused_before_any(named, tmp_path, measures, reason):
    named(*measures)
    with pytest.raises(HashbenchError, match=reason):
        plan(["lsh"], ["toy"], [16], settings=Settings(runs_dir=tmp_path))


def test_a_protocol_may_name_a_plug_ins_measure_and_one_of_gains(named, monkeypatch, cli):
    monkeypatch.setattr(table, "_TABLE", dict(table._TABLE))

    @hashbench.measure("found@H<={radius}")
    def found(hist, radius):
        """Return whether anything relevant lies within the radius."""
        return hist.r[:, : radius + 1].any(axis=1).astype(float)

    named("found@H2", "nDCG@5", "P@H2")
    result = hashbench.run("lsh", "toy", bits=16, progress=False)
    assert result.coords["measure"] == "found@H<=2"
    assert {"found@H<=2", "nDCG@5", "P@H<=2"} <= result.metrics.keys()
    assert "found@H<=2" in cli("compare").stdout
    assert "found@H<=1" in cli("compare", "--measure", "found@H1").stdout
    assert "found.png" in cli("plot", "bits", "--measure", "found@H3", "-o", "found.png").stdout
    assert "1 as stored" in cli("verify").stdout
    table._TABLE.pop("found@H")
    assert "not checked in 1 of 1 run: measures from histograms: " in cli("verify", code=3).stdout
    assert "found@H<=2" in cli("compare").stdout  # as it was stored
