"""Tracks and rules of entry: each rule refuses its example, and says why."""

from dataclasses import replace

import pytest

from hashbench.results.leaderboard.entries import entries
from hashbench.results.runs import RunDirectory

SOUND = (0.5, 0.6, 0.7)


def nothing(result):
    return []


def only(found):
    (one,) = found
    return one


def test_three_seeds_that_keep_all_rules_are_an_entry(runs):
    found, refused = entries(runs(*SOUND), nothing)
    assert refused == []
    entry = only(found)
    assert (entry.track, entry.mean, entry.std) == ("few classes", pytest.approx(0.6), pytest.approx(0.1))
    assert str(entry.setting) == "fashion-mnist-10k@5k at 32 bits"


@pytest.mark.parametrize(
    ("values", "given", "reason"),
    [
        (SOUND[:2], {}, "it has 2 seeds, and an entry needs 3"),
        (SOUND, {"ties": "optimistic"}, "ties count as optimistic"),
        (SOUND, {"evaluated": "validation"}, "measured on validation queries"),
        (SOUND, {"provenance": {"split_sha256": "f" * 64}}, "not the canonical one of fashion-mnist-10k@5k"),
        (SOUND, {"dataset": "mirflickr", "protocol": "38"}, "does not state its canonical split"),
        (SOUND, {"protocol": "5k-draw2"}, "another draw of the split"),
        (SOUND, {"provenance": {"fidelity": None}}, "does not state the fidelity"),
        (SOUND, {"provenance": {"fidelity": "excellent"}}, "does not state the fidelity"),
        (SOUND, {"provenance": {"source_sha256": None}}, "does not state the source"),
        (SOUND, {"metrics": {"P@10": 0.5}}, "seed 0 lacks mAP@all"),
        (SOUND, {"provenance": {"labels": None, "family": "shallow"}}, "track is unclear"),
        (SOUND, {"data": {"num_classes": None}}, None),
    ],
)
def test_a_broken_rule_is_refused_with_its_reason(values, given, reason, runs):
    if reason is None:
        stored = runs(*values)
        spec = RunDirectory(stored[0].path).spec
        spec.write_text(spec.read_text().replace("multi_label", "several"))
        reason = "does not describe its data"
    else:
        stored = runs(*values, **given)
    found, refused = entries(stored, nothing)
    assert found == []
    assert reason in "; ".join(only(refused).reasons)
    assert only(refused).label == "crh"


def test_what_the_check_finds_is_a_reason(runs):
    found, refused = entries(runs(*SOUND), lambda result: ["P@10 differs"] if result.coords["seed"] == 1 else [])
    assert found == []
    assert only(refused).reasons == ("seed 1: P@10 differs",)


def test_a_reason_that_is_a_sentence_ends_like_the_others(runs):
    refused = only(entries(runs(*SOUND), lambda result: ["spec.json cannot be read; copy it anew."])[1])
    assert {reason[-4:] for reason in refused.reasons} == {"anew"}


def test_all_reasons_are_told(runs):
    refused = only(entries(runs(0.5, ties="optimistic", provenance={"fidelity": None}), nothing)[1])
    assert len(refused.reasons) == 3


def test_seeds_of_another_source_are_no_entry(runs):
    first, second, third = runs(*SOUND)
    third = replace(third, provenance={**third.provenance, "source_sha256": "9" * 64})
    found, refused = entries([first, second, third], nothing)
    assert found == []
    assert "its seeds differ in the source" in only(refused).reasons[0]


def test_a_copy_counts_once_and_another_number_is_refused(runs):
    stored = runs(*SOUND)
    assert only(entries([*stored, stored[0]], nothing)[0]).values == SOUND
    changed = replace(stored[0], metrics={"mAP@all": 0.9})
    found, refused = entries([*stored, changed], nothing)
    assert found == []
    assert "two copies of seed 0" in only(refused).reasons[0]


def test_two_seeds_and_a_copy_are_two_seeds(runs):
    stored = runs(*SOUND[:2])
    assert entries([*stored, stored[0]], nothing)[0] == []


def test_data_of_ones_own_have_no_canonical_split(make, tmp_path):
    own = [make(value, dataset="arrays:mine.npz", seed=seed, path=tmp_path) for seed, value in enumerate(SOUND)]
    assert "somebody's own" in "; ".join(only(entries(own, nothing)[1]).reasons)


def test_a_data_set_that_is_not_here_is_refused(make, tmp_path):
    other = [make(value, dataset="nowhere", seed=seed, path=tmp_path) for seed, value in enumerate(SOUND)]
    assert "nowhere@a is not known here" in "; ".join(only(entries(other, nothing)[1]).reasons)


@pytest.mark.parametrize(
    ("given", "track"),
    [
        ({"data": {"num_classes": 49}}, "few classes"),
        ({"data": {"num_classes": 50}}, "many classes"),
        ({"data": {"multi_label": True, "num_classes": 80}}, "several labels"),
        ({"protocol": "unseen"}, "unseen classes"),
        ({"provenance": {"labels": "withheld"}}, "unsupervised"),
        ({"provenance": {"labels": "withheld"}, "data": {"multi_label": True}}, "unsupervised"),
        ({"provenance": {"labels": "withheld"}, "inputs": "text"}, "text"),
        ({"provenance": {"labels": None}}, "few classes"),  # by the family pairwise, before labels were stated
    ],
)
def test_the_track_follows_from_the_result(given, track, runs):
    assert only(entries(runs(*SOUND, **given), nothing)[0]).track == track


def test_a_run_under_a_condition_is_of_the_track_attacked(runs):
    stored = []
    for result in runs(*SOUND):
        directory = RunDirectory(result.path).under("noise", result.id)
        directory.path.mkdir(parents=True)
        stored.append(replace(result, coords={**result.coords, "evaluated": "test, noise(sigma=0.1)"},
                              path=directory.path))  # fmt: skip
    entry = only(entries(stored, nothing)[0])
    assert (entry.track, entry.setting.condition) == ("attacked", "noise(sigma=0.1)")
    nearest = [replace(run, coords={**run.coords, "relevance": "neighbours in the pixels"}) for run in stored]
    assert "changes what is relevant" in only(entries(nearest, nothing)[1]).reasons[0]
    for condition, reason in (
        ("clean(queries=500)", "changes no query"),
        ("pgd(eps=8/255, surrogate=1a2b3c4d)", "made on another run"),
    ):
        others = [replace(run, coords={**run.coords, "evaluated": f"test, {condition}"}) for run in stored]
        assert reason in only(entries(others, nothing)[1]).reasons[0]
