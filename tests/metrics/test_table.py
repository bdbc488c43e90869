"""The table of measures: what follows from its entries, and entries of plug-ins."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_cases import make_codes, single_query

import hashbench
from hashbench.cli import main
from hashbench.metrics import evaluate, evaluate_histograms, histograms, oracle, pack, parse, table

ROOT = Path(__file__).parents[2]


def hits_at(hist: hashbench.Histograms, k: int, *, ties: str) -> np.ndarray:
    """Return whether one of the first k items is relevant: the chance of it, or the best and the worst order.

    In a group of n items, r of them relevant, m of which are kept: 1 - C(n - r, m) / C(n, m).
    """
    values = np.zeros(hist.queries)
    for q in range(hist.queries):
        missed, left = 1.0, k
        for n, r in zip(hist.n[q].tolist(), hist.r[q].tolist(), strict=True):
            m = min(n, left)
            left -= m
            none = math.comb(n - r, m) / math.comb(n, m)
            missed *= {"expected": none, "optimistic": float(r == 0 or m == 0), "pessimistic": float(none > 0)}[ties]
        values[q] = 1 - missed
    return values


def fallout(hist: hashbench.Histograms, radius: int) -> np.ndarray:
    """Return the share of the irrelevant items that lie within the radius."""
    irrelevant = hist.n - hist.r
    return irrelevant[:, : radius + 1].sum(axis=1) / np.maximum(1, irrelevant.sum(axis=1))


def mean_gain(hist: hashbench.Histograms) -> np.ndarray:
    """Return the mean gain of all items."""
    assert hist.gains is not None
    return hist.gains.sum(axis=2) @ np.arange(1, hist.gains.shape[1] + 1) / hist.ranked


def roc(hist: hashbench.Histograms) -> hashbench.Curve:
    """Return the curve of recall over fallout by radius."""
    radii = np.arange(hist.bits + 1)
    fallouts, recalls = ([of(hist, int(at)).mean() for at in radii] for of in (fallout, table.ranking.recall_in_ball))
    return hashbench.Curve(np.array(fallouts), np.array(recalls), radii)


@pytest.fixture
def fresh_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget after the test what it added."""
    monkeypatch.setattr(table, "_TABLE", dict(table._TABLE))


@pytest.fixture
def plug_ins(fresh_table: None) -> None:
    hashbench.measure("Hit@{k}")(hits_at)
    hashbench.measure("fallout@H<={radius}")(fallout)
    hashbench.measure("gain", gains=True)(mean_gain)
    hashbench.measure("ROC", curve=True)(roc)


def test_every_entry_is_named_guessed_and_in_the_docs() -> None:
    documented = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    shown = [name for entry in table.entries() for name in entry.shown()]
    assert shown == [name for name in documented if name in shown]
    measures_of_docs = [name for name in documented if "@" in name or name.startswith("PR")]
    assert measures_of_docs == shown
    for entry in table.entries():
        for name in [*entry.shown(), *entry.guesses()]:
            assert (parse(name).entry, str(parse(name))) == (entry, name)
            with pytest.raises(ValueError, match=re.escape(f"Did you mean '{name}'?")):
                parse(name.swapcase())
        assert all(name in table.forms() for name in entry.shown())
        assert entry.summary
        assert "(Q" not in entry.summary


@pytest.mark.parametrize("name", ["P@{}", "mAP@{}/R", "nDCG@{}", "P@H<={}"])
@pytest.mark.parametrize("digits", [19, 5000])
def test_numbers_beyond_an_integer_are_refused(name: str, digits: int) -> None:
    with pytest.raises(ValueError, match=f"has a number of {digits} digits; write one of 18 at most"):
        parse(name.format("9" * digits))
    parse(name.format("9" * 18))


def case() -> tuple[np.ndarray, ...]:
    codes = make_codes(queries=8, items=120, bits=6, classes=4, multi_label=True)
    return codes.query, codes.database, codes.query_labels, codes.database_labels


def test_a_measure_of_a_plug_in_is_like_ours(plug_ins: None) -> None:
    scores = evaluate(*case(), measures=["Hit@5", " fallout@H2", "gain", "ROC", "mAP@all"], bounds=True, per_query=True)
    assert list(scores) == ["Hit@5", "fallout@H<=2", "gain", "mAP@all"]
    assert list(scores.bounds) == ["Hit@5", "mAP@all"]
    low, high = scores.bounds["Hit@5"]
    assert low < scores["Hit@5"] < high
    assert scores.counts["empty_within_2"] == 0
    assert len(scores.curves["ROC"]["x"]) == 7
    distances, shared = oracle.pairwise(*case())
    near = [((shared[q] == 0) & (distances[q] <= 2)).sum() / (shared[q] == 0).sum() for q in range(8)]
    assert scores.per_query["fallout@H<=2"] == pytest.approx(near)
    assert scores["gain"] == pytest.approx(shared.mean())
    with pytest.raises(ValueError, match=r"Did you mean 'Hit@100'\?.*PR, PR@k, Hit@100, fallout@H<=2, gain, ROC \(and"):
        parse("hit@100")
    with pytest.raises(ValueError, match="the curves are PR, PR@k and ROC"):
        parse("Hit@5").curve(histograms(pack(case()[0]), pack(case()[1]), *case()[2:], bits=6))
    with pytest.raises(ValueError, match="at least 1"):
        parse("Hit@0")


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=6), st.integers(1, 7))
def test_the_bounds_of_a_plug_in_are_its_own_ties(items: list[tuple[int, int]], k: int) -> None:
    distances, gains = zip(*items, strict=True)
    entry = table.Entry("Hit@{k}", hits_at)
    found = [float(entry.function(single_query(distances, gains), k=k, ties=ties)[0])
             for ties in ("expected", "pessimistic", "optimistic")]  # fmt: skip
    expected = oracle.over_orders(distances, gains, lambda order: float(any(gain > 0 for gain in order[:k])))
    assert found == pytest.approx(expected)


def test_the_measure_of_the_docs(fresh_table: None) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    (code,) = re.findall(r"```python\n([^`]*@hashbench\.measure.*?)```", page, re.DOTALL)
    exec(code, {"__name__": "my_package"})
    scores = evaluate(*case(), measures=["fallout@H2"], per_query=True)
    expected = fallout(histograms(pack(case()[0]), pack(case()[1]), *case()[2:], bits=6), 2)
    assert scores.per_query["fallout@H<=2"].tolist() == expected.tolist()


def test_a_cut_of_all(fresh_table: None) -> None:
    @hashbench.measure("share@{k|all}")
    def share(hist: hashbench.Histograms, k: int | None) -> np.ndarray:
        return np.full(hist.queries, 1.0 if k is None else 1 / k)

    hist = single_query([0, 1], [1, 0])
    assert evaluate_histograms(hist, ["share@all", "share@4"]).metrics == {"share@all": 1.0, "share@4": 0.25}


def test_defined_again_in_its_module_the_newer_one_counts(plug_ins: None) -> None:
    hashbench.measure("gain")(lambda hist: np.full(hist.queries, 0.5))
    assert parse("gain").value(single_query([0], [1])) == 0.5


def strangers(hist: hashbench.Histograms) -> np.ndarray:
    return np.zeros(hist.queries)


@pytest.mark.parametrize(
    ("form", "function", "settings", "reason"),
    [
        ("P@{k}", lambda hist, k: 0, {}, "cannot be told from 'P@{k}' of hashbench.metrics.ranking"),
        ("map@{k}", lambda hist, k: 0, {}, "cannot be told from 'mAP@"),
        ("hit@{k}", lambda hist, k: 0, {}, "cannot be told from 'Hit@{k}'"),
        ("Hit", lambda hist: 0, {}, "cannot be told from 'Hit@{k}'"),
        ("PR@k", lambda hist: 0, {}, "is no form"),
        ("RR@{m}", lambda hist, m: 0, {}, "is no form"),
        ("RR@{k}[/{rule}]", lambda hist, k, rule: 0, {}, "is no form"),
        ("1", lambda hist: 0, {}, "is no form"),
        ("RR@{k}", lambda hist: 0, {}, r"must have the parameters \(hist, k\).* it has \(hist\)"),
        ("RR", lambda hist, k: 0, {}, r"must have the parameters \(hist\)"),
        ("RR", lambda: 0, {}, r"must have the parameters \(hist\)"),
        ("RR", lambda hist, ties: 0, {"curve": True}, "has no bounds"),
    ],
)
def test_entries_that_do_not_fit_are_refused(plug_ins: None, form, function, settings, reason) -> None:
    before = [*table.entries()]
    function.__module__ = "elsewhere"
    with pytest.raises(ValueError, match=re.escape(reason) if "{" in reason else reason):
        hashbench.measure(form, **settings)(function)
    assert [*table.entries()] == before


@pytest.mark.parametrize(
    ("function", "curve", "reason"),
    [
        (lambda hist: 1 / 0, False, "'bad' failed: ZeroDivisionError"),
        (lambda hist: np.zeros(hist.queries + 1), False, "one finite value for each of 1 queries"),
        (lambda hist: np.full(hist.queries, np.nan), False, "0 where it is undefined"),
        (lambda hist: 0.5, False, "one finite value"),
        (lambda hist: ([0], [1]), True, r"must give a hashbench\.Curve; it gave tuple"),
    ],
)
def test_a_function_that_does_not_give_what_it_should(fresh_table: None, function, curve, reason) -> None:
    hashbench.measure("bad", curve=curve)(function)
    with pytest.raises(ValueError, match=reason):
        evaluate_histograms(single_query([0], [1]), ["bad"])


PLUG_IN = """
import numpy as np
import hashbench

@hashbench.measure("best@{k}")
def best(hist, k):
    \"\"\"Return one.\"\"\"
    return np.ones(hist.queries)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_table: None):
    """Return a function that puts a distribution with a measure on the path."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(text: str, *, module: str = "their_measures", target: str = "best") -> None:
        (tmp_path / f"{module}.py").write_text(text)
        metadata = tmp_path / f"{module}-2.5.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 2.5\n")
        (metadata / "entry_points.txt").write_text(f"[hashbench.measures]\nbest = {module}:{target}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return put


def test_an_installed_measure_is_found_and_imported_only_then(install) -> None:
    install(PLUG_IN)
    parse("mAP@all")
    assert "their_measures" not in sys.modules
    assert evaluate(*case(), measures=["best@7"])["best@7"] == 1
    shown = CliRunner().invoke(main, ["list", "measures"]).output
    assert re.search(r"best@100 +their_measures +none +one\.", shown)
    assert re.search(r"P@H<=2 +hashbench +none", shown)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import nothing_like_it", "does not load: ModuleNotFoundError"),
        ("raise SystemExit", "does not load: SystemExit"),
        ("", "does not load: AttributeError"),
        ("def best(hist): pass", "lacks the decorator @hashbench.measure"),
        (PLUG_IN.replace("best@{k}", "P@{k}"), "cannot be told from 'P@{k}'"),
    ],
)
def test_a_broken_measure_is_named_and_breaks_nothing(install, text: str, reason: str) -> None:
    install(text)
    assert evaluate(*case(), measures=["mAP@5/R"])
    with pytest.raises(ValueError, match=r"Unknown measure 'best@7'.*from their_measures 2\.5") as caught:
        parse("best@7")
    assert reason in str(caught.value)
    assert reason in CliRunner().invoke(main, ["list", "measures"]).output


def test_known_names_import_no_plug_in_and_the_package_no_table() -> None:
    """Neither `import hashbench` nor names of our own look for entry points."""
    script = """
import sys, importlib.metadata
import hashbench
assert "hashbench.metrics" not in sys.modules
def never(**group): raise AssertionError(group)
importlib.metadata.entry_points = never
from hashbench.metrics import parse
parse("mAP@1000/hits"), parse("P@H2"), parse("PR@k")
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
