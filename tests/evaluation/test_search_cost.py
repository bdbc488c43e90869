"""search-cost of runs: counts that follow from the codes, what is kept, what is said."""

import json
import sys

import numpy as np
import pytest

import hashbench
from hashbench.errors import HashbenchError
from hashbench.evaluation.search_cost import Search, search_cost
from hashbench.results.runs import RunDirectory
from hashbench.results.search_costs import FILE, read_search_cost
from hashbench.system.processor import processor


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = hashbench.run("lsh", "toy", bits=16, progress=False, runs_dir=tmp_path_factory.mktemp("runs"))
    return RunDirectory(made.path)


def test_counts_are_those_of_the_codes(run):
    (cost,) = search_cost(run, [Search(radius=3)], tables=2)["searches"]
    query, database = (np.unpackbits(run.read_codes()[part], axis=1) for part in ("query", "database"))
    apart = query[:, None] ^ database
    within = (apart.sum(axis=2) <= 3).sum(axis=1)
    # Radius 3 with two tables: within one bit of the query in either.
    met = [(apart[:, :, part].sum(axis=2) <= 1) for part in (slice(0, 8), slice(8, 16))]
    assert cost["search"] == "radius 3"
    assert cost["found"] == {"mean": within.mean(), "p95": np.quantile(within, 0.95)}
    assert cost["buckets"] == {"mean": 18.0, "p95": 18.0}
    assert cost["candidates"]["mean"] == pytest.approx((met[0].sum() + met[1].sum()) / len(query))
    assert cost["compared"]["mean"] == pytest.approx((met[0] | met[1]).sum() / len(query))
    assert all(seconds > 0 for seconds in cost["seconds"].values())


def test_it_is_kept_and_read_back_for_these_codes_alone(run, tmp_path):
    found = search_cost(run, [Search(neighbours=5)], queries=4)
    assert read_search_cost(run) == found
    assert (found["queries"], found["database"], found["bits"], sum(found["tables"])) == (4, 75, 16, 16)
    stored = json.loads((run.path / FILE).read_text())
    other = RunDirectory(hashbench.run("lsh", "toy", bits=16, seed=1, progress=False, runs_dir=tmp_path).path)
    assert read_search_cost(other) is None
    (other.path / FILE).write_text(json.dumps(stored))
    assert read_search_cost(other) is None  # of other codes
    (other.path / FILE).write_text("{")
    with pytest.raises(HashbenchError, match=r"search-cost.json cannot be read .*; delete it and measure again"):
        read_search_cost(other)


def test_faiss_is_left_out_where_it_is_not(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    for search in (Search(radius=1), Search(neighbours=3)):
        (cost,) = search_cost(run, [search])["searches"]
        assert [*cost["seconds"]] == ["multi-index", "linear scan"]


def test_faiss_finds_as_many(run):
    faiss = pytest.importorskip("faiss")
    from hashbench.evaluation.search_cost import _faiss

    codes = run.read_codes()
    assert faiss
    for radius in (0, 2, 3, 18):  # by the last, more bits of a substring than it has: FAISS would never end
        (cost,) = search_cost(run, [Search(radius=radius)], tables=2)["searches"]
        ways = _faiss(Search(radius=radius), 16, 2, codes["database"], 1)
        assert [*ways] == ["FAISS flat", *["FAISS hash"] * (radius <= 3), "FAISS multi-hash"]
        for way in ways.values():
            limits, *_ = way(codes["query"])
            assert np.diff(limits.astype(int)).mean() == cost["found"]["mean"]


def test_the_command_prints_a_table_for_each_search(run, cli):
    said = cli("search-cost", run.path, "--radius", "1", "--neighbours", "2,3", "--queries", "5").stdout
    for text in ("radius 1", "nearest 2", "nearest 3", "toy@small", "multi-index µs", "first 5 queries", "mAP@all 0.",
                 processor()):  # fmt: skip
        assert text in said


def test_the_command_says_that_faiss_is_left_out(run, cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    said = cli("search-cost", run.path, "--radius", "1", "--queries", "5").stdout
    assert "FAISS is not installed and is left out; install it with pip install 'hashbench[faiss]'." in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--radius", "-1"), "--radius takes whole numbers from 0 on, and '-1' is none"),
        (("--neighbours", "0"), "--neighbours takes whole numbers from 1 on, and '0' is none"),
        (("--radius", "1,,2"), "has an empty name"),
        (("--tables", "17"), "Codes of 16 bits can have 1 to 16 tables, not 17"),
        (("--method", "crh"), "Unknown method 'crh'"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(run, cli, arguments, sentence):
    assert sentence in cli("search-cost", run.path, *arguments, code=2).stderr
