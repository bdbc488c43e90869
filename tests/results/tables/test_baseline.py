"""Differences to a baseline, which of them are tested, and what the legend says."""

import numpy as np
import pytest
from scipy import stats

from hashbench.errors import HashbenchError
from hashbench.metrics.histograms import Histograms
from hashbench.metrics.measures import parse
from hashbench.results.tables.baseline import Baseline
from hashbench.results.tables.comparison import Comparison

SEEDS = {
    "crh": [0.50, 0.51, 0.52, 0.53],
    "csq": [0.60, 0.61, 0.62, 0.63],
    "dpn": [0.49, 0.52, 0.50, 0.55],
    "itq": [0.10, 0.11, 0.12, 0.10],
}


def runs(make, values=SEEDS, **coords):
    return [make(v, method=m, seed=seed, **coords) for m, several in values.items() for seed, v in enumerate(several)]


def table(results, name="crh", test="seeds", **options):
    (found,) = Comparison.of(results, against=Baseline(name, test), **options).tables
    return found


def row(table, label):
    return next(row for row in table.rows if row.label == label)


def note(table, start):
    (sentence,) = [sentence for mark, sentence in table.notes if f"{mark} {sentence}".strip().startswith(start)]
    return sentence


def test_the_baseline_comes_first_and_has_no_difference(make):
    found = table(runs(make), "dpn")
    assert [row.label for row in found.rows] == ["dpn", "crh", "csq", "itq"]
    assert found.baseline == "dpn"
    assert (found.rows[0].cells[0].difference, found.rows[0].cells[0].p) == (None, None)


def test_differences_are_those_of_means(make):
    found = table(runs(make))
    for method, values in SEEDS.items():
        if method != "crh":
            expected = np.mean(values) - np.mean(SEEDS["crh"])
            assert row(found, method).cells[0].difference == pytest.approx(expected)


def test_p_is_welch_s_corrected_over_the_table(make):
    found = table(runs(make))
    raw = {m: stats.ttest_ind(v, SEEDS["crh"], equal_var=False).pvalue for m, v in SEEDS.items() if m != "crh"}
    smallest, middle, largest = sorted(raw, key=raw.get)
    cells = {method: row(found, method).cells[0] for method in raw}
    assert cells[smallest].p == pytest.approx(3 * raw[smallest])
    assert cells[middle].p == pytest.approx(2 * raw[middle])
    assert cells[largest].p == pytest.approx(raw[largest])
    assert {method: cell.significance for method, cell in cells.items()} == {"csq": "above", "dpn": "", "itq": "below"}
    legend = note(found, "↑ ↓ significantly above or below crh")
    assert "Welch's t-test over seeds (two-sided, n = 4), Holm-corrected over the 3 tests of this table" in legend
    assert "alpha 0.05" in legend


def test_the_family_is_the_table_not_the_column(make):
    one = table(runs(make, bits=16))
    two = table(runs(make, bits=16) + runs(make, bits=32))
    assert row(two, "itq").cells[0].p == pytest.approx(2 * row(one, "itq").cells[0].p)


def test_fewer_than_four_seeds_are_not_tested_and_the_note_says_so(make):
    values = {"crh": [0.5, 0.51, 0.52], "csq": [0.9, 0.91, 0.92, 0.93]}
    for baseline in values:
        found = table(runs(make, values), baseline)
        (cell,) = found.rows[1].cells
        assert (cell.p, cell.significance) == (None, "")
        assert cell.difference is not None
        assert note(found, "Differences not tested") == "Differences not tested: 1 with fewer than 4 seeds on a side."
        assert found.test == ""
        assert not any(mark.startswith("↑") for mark, _ in found.notes)


def test_seeds_that_all_agree_are_not_tested(make):
    found = table(runs(make, {"crh": [0.5] * 4, "csq": [0.4] * 4, "dpn": [0.1, 0.2, 0.1, 0.2]}))
    assert row(found, "csq").cells[0].p is None
    assert row(found, "dpn").cells[0].p is not None
    assert "1 whose seeds all agree on both sides" in note(found, "Differences not tested")


def test_a_cell_that_either_side_lacks_has_no_difference(make):
    found = table([make(bits=16), make(bits=32, method="csq"), make(bits=16, method="csq")])
    assert [cell.difference for cell in row(found, "csq").cells] == [0.0, None]


def test_a_variant_is_named_by_its_label(make):
    results = [make(fields={"reassign": False}), make(0.6, method="csq")]
    assert table(results, "crh (reassign=false)").baseline == "crh (reassign=false)"
    assert table(results, "crh").baseline == "crh (reassign=false)"  # the only one of its method
    both = [*results, make(fields={"heads": 1})]
    with pytest.raises(HashbenchError, match=r"'crh' may be any of 'crh \(heads=1\)', 'crh \(reassign=false\)'"):
        table(both, "crh")
    assert table([*both, make()], "crh").baseline == table([*both, make()], "crh ()").baseline == "crh"
    with pytest.raises(HashbenchError, match=r"Unknown baseline 'crh \(\)'"):
        table(both, "crh ()")


def test_a_baseline_that_is_nowhere_is_refused(make):
    with pytest.raises(HashbenchError, match=r"Unknown baseline 'chr'\. Did you mean 'crh'\?"):
        table(runs(make), "chr")
    with pytest.raises(HashbenchError, match="Unknown test 'query'"):
        Baseline("crh", "query")


def test_a_table_without_the_baseline_says_so(make):
    results = [*runs(make), make(dataset="other", method="csq")]
    _, other = Comparison.of(results, against=Baseline("crh")).tables
    assert other.baseline is None
    assert other.rows[0].cells[0].difference is None
    assert other.notes == (("", "crh has no run under these conditions, so there is no difference."),)


# Over queries


@pytest.fixture
def queried(make, stored):
    """Store runs of methods whose queries find more or less, and return them with their histograms."""

    def store(better, *, seeds=2, queries=60, seed=0, **coords):
        rng = np.random.default_rng(seed)
        found, kept = [], {}
        for method, shift in better.items():
            for number in range(seeds):
                r = rng.binomial(20, np.clip(rng.normal(0.4 + shift, 0.1, (queries, 33)), 0, 1))
                hist = Histograms(np.full((queries, 33), 20), r)
                value = parse("P@100").value(hist)
                result = make(method=method, seed=number, metrics={"P@100": value}, measure="P@100", **coords)
                kept.setdefault(method, []).append(hist)
                found.append(stored(result, **hist.arrays()))
        return found, kept

    return store


def test_queries_are_tested_in_pairs_each_with_its_mean_over_seeds(queried):
    results, hists = queried({"crh": 0, "csq": 0.03, "dpn": 0.3})
    found = table(results, test="queries")
    means = {m: np.mean([parse("P@100").per_query(h) for h in several], axis=0) for m, several in hists.items()}
    raw = {
        m: stats.permutation_test(
            (means[m], means["crh"]),
            lambda a, b, axis: np.mean(a - b, axis=axis),
            permutation_type="samples",
            n_resamples=10_000,
            random_state=0,
        ).pvalue
        for m in ("csq", "dpn")
    }
    assert row(found, "dpn").cells[0].p == pytest.approx(2 * raw["dpn"], abs=0.001)
    assert row(found, "csq").cells[0].p == pytest.approx(raw["csq"], abs=0.03)
    legend = note(found, "↑ ↓ significantly above or below crh")
    assert "paired randomisation test over 60 queries" in legend
    assert "10,000 random sign flips" in legend
    assert "not about other seeds or trainings" in legend
    assert (found.test, row(found, "dpn").cells[0].significance) == ("queries", "above")


def test_queries_of_runs_without_histograms_are_not_tested(queried, make):
    results, _ = queried({"crh": 0, "csq": 0.1})
    (results[-1].path / "histograms.npz").unlink()
    comparison = Comparison.of(results, against=Baseline("crh", "queries"))
    (found,) = comparison.tables
    assert row(found, "csq").cells[0].p is None
    assert note(found, "Differences not tested") == "Differences not tested: 1 without histograms of every run."
    assert comparison.problems[0].startswith("P@100 of each query is unknown for 1 of 4 runs; the first: There is no")


def test_different_numbers_of_queries_are_not_tested(queried):
    results = [*queried({"crh": 0})[0], *queried({"csq": 0.1}, queries=50)[0]]
    found = table(results, test="queries")
    assert row(found, "csq").cells[0].p is None
    assert "1 measured with different numbers of queries" in note(found, "Differences not tested")


def test_other_splits_are_other_tables(queried):
    results = [
        *queried({"crh": 0}, provenance={"split_sha256": "a" * 64})[0],
        *queried({"csq": 0.3}, provenance={"split_sha256": "b" * 64})[0],
    ]
    comparison = Comparison.of(results, against=Baseline("crh", "queries"))
    assert [[row.label for row in table.rows] for table in comparison.tables] == [["crh"], ["csq"]]


def test_a_measure_that_no_query_has_is_not_tested(queried):
    results, _ = queried({"crh": 0, "csq": 0.1})
    for result in results:
        result.metrics["mAP@10/hashnet"] = 0.5
    comparison = Comparison.of(results, measures=["mAP@10/hashnet"], against=Baseline("crh", "queries"))
    assert row(comparison.tables[0], "csq").cells[0].p is None
    assert "database's order" in comparison.problems[0]
