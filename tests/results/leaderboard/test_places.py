"""Places, by hand: who is ranked, over which settings, and with whom."""

import pytest

from hashbench.results.leaderboard.entries import entries
from hashbench.results.leaderboard.ranking import rankings


@pytest.fixture
def ranked(runs):
    """Return a function from method -> bits -> value to the rankings; three equal seeds each."""

    def rank(table, *, reconstructed=False, more=(), **given):
        results = [run for method, row in table.items() for bits, value in row.items()
                   for run in runs(value, value, value, method=method, bits=bits, **given)]  # fmt: skip
        found, refused = entries([*results, *more], lambda result: [])
        assert refused == []
        return rankings(found, reconstructed=reconstructed)[0]

    return rank


def places(ranking):
    return {row.label: (row.place, row.mean_rank) for row in ranking.ranked}


def test_the_mean_rank_by_hand(ranked):
    (ranking,) = ranked(
        {
            "crh": {16: 0.7, 32: 0.8, 64: 0.6},  # ranks 1, 1, 3
            "csq": {16: 0.5, 32: 0.7, 64: 0.7},  # 3, 2.5, 2
            "dpn": {16: 0.6, 32: 0.7, 64: 0.9},  # 2, 2.5, 1
            "shc": {16: 0.4, 32: 0.1, 64: 0.1},  # 4, 4, 4
        }
    )
    assert places(ranking) == {
        "crh": (1, pytest.approx(5 / 3)),
        "dpn": (2, pytest.approx(5.5 / 3)),
        "csq": (3, pytest.approx(7.5 / 3)),
        "shc": (4, pytest.approx(4.0)),
    }
    assert [row.label for row in ranking.rows] == ["crh", "dpn", "csq", "shc"]
    assert [setting.bits for setting in ranking.settings] == [16, 32, 64]
    assert (ranking.test.rows, ranking.test.settings) == (4, 3)


def test_equal_mean_ranks_share_a_place(ranked):
    (ranking,) = ranked({"crh": {16: 0.7, 32: 0.1}, "csq": {16: 0.1, 32: 0.7}, "dpn": {16: 0.05, 32: 0.05}})
    assert places(ranking) == {"crh": (1, 1.5), "csq": (1, 1.5), "dpn": (3, 3.0)}


def test_a_row_that_lacks_a_setting_is_listed_with_what_it_lacks(ranked):
    (ranking,) = ranked({"crh": {16: 0.7, 32: 0.8}, "csq": {16: 0.5, 32: 0.7}, "dpn": {16: 0.9}})
    assert places(ranking) == {"crh": (1, 1.0), "csq": (2, 2.0)}
    assert ranking.rows[-1].label == "dpn"
    assert ranking.rows[-1].not_ranked == "not in: fashion-mnist-10k@5k at 32 bits"


def test_a_setting_of_fewer_than_half_of_the_rows_does_not_count(ranked):
    (ranking,) = ranked({"crh": {16: 0.7, 32: 0.8}, "csq": {16: 0.5}, "dpn": {16: 0.4}})
    assert places(ranking) == {"crh": (1, 1.0), "csq": (2, 2.0), "dpn": (3, 3.0)}
    assert ([s.bits for s in ranking.settings], [s.bits for s in ranking.further]) == ([16], [32])


@pytest.mark.parametrize("apart", [{"backbone": "resnet18"}, {"recipe": "scratch(epochs=5)"}, {"inputs": "pixels"},
                                   {"engine": 2}, {"epochs": 5}, {"provenance": {"weights_sha256": "3" * 64}},
                                   {"provenance": {"labels": "withheld"}}])  # fmt: skip
def test_rows_of_another_backbone_or_recipe_are_ranked_apart(apart, ranked, runs):
    more = runs(0.9, 0.9, 0.9, method="dpn", bits=16, **apart)
    found = ranked({"crh": {16: 0.7}, "csq": {16: 0.5}}, more=more)
    assert sorted([[row.label for row in ranking.ranked] for ranking in found]) == [["crh", "csq"], ["dpn"]]


def test_documents_with_and_without_labels_are_ranked_apart(ranked, runs):
    more = runs(0.9, 0.9, 0.9, method="vdsh", bits=16, inputs="text", provenance={"labels": "withheld"})
    found = ranked({"crh": {16: 0.7}, "csq": {16: 0.5}}, more=more, inputs="text")
    assert [[row.label for row in ranking.ranked] for ranking in found] == [["crh", "csq"], ["vdsh"]]


def test_a_method_without_epochs_stands_beside_those_that_are_trained(ranked, runs):
    more = runs(0.6, 0.6, 0.6, method="itq-cca", bits=16, epochs=0)
    (ranking,) = ranked({"crh": {16: 0.7}, "csq": {16: 0.5}}, more=more)
    assert [row.label for row in ranking.ranked] == ["crh", "itq-cca", "csq"]


@pytest.mark.parametrize(("fidelity", "listed", "asked"), [("reconstructed", True, False), ("unstated", True, True),
                                                           ("account", False, False), ("sibling", False, False),
                                                           ("reference", False, False)])  # fmt: skip
def test_fidelity_decides_who_is_ranked(fidelity, listed, asked, ranked, runs):
    more = runs(0.9, 0.9, 0.9, method="dpn", bits=16, provenance={"fidelity": fidelity})
    table = {"crh": {16: 0.7}, "csq": {16: 0.5}}
    (ranking,) = ranked(table, more=more)
    assert ("dpn" in places(ranking)) is not listed
    assert "dpn" in [row.label for row in ranking.rows]
    (ranking,) = ranked(table, more=more, reconstructed=True)
    assert ("dpn" in places(ranking)) is not asked


def test_variants_of_a_method_are_rows_of_their_own(ranked, runs):
    more = runs(0.9, 0.9, 0.9, method="crh", bits=16, fields={"reassign": False})
    (ranking,) = ranked({"crh": {16: 0.7}}, more=more)
    assert [row.label for row in ranking.ranked] == ["crh (reassign=false)", "crh"]


def test_runs_that_differ_in_what_no_page_names_are_refused(runs):
    results = [*runs(0.5, 0.5, 0.5, bits=16), *runs(0.5, 0.5, 0.5, bits=16, cell="7" * 64)]
    found, refused = entries(results, lambda result: [])
    assert refused == []
    board, refused = rankings(found)
    assert board == []
    assert {"differ in something that no page names" in each.reasons[0] for each in refused} == {True}
    assert len(refused) == 2
