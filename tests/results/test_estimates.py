"""How long a run takes: by finished runs of its kind, scaled from runs alike, and what is left of a sweep."""

import copy
import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from hashbench.results.runs import RunDirectory
from hashbench.results.sweeps.estimates import Estimates, TimeLeft, Work, duration, seconds_left
from hashbench.results.sweeps.run_status import RunStatus
from hashbench.storage.strict_json import digest

IDENTITY = {
    "engine": 1,
    "method": {"name": "crh", "version": 1, "fields": {"heads": 2}},
    "data": {"dataset": "toy", "protocol": "a", "num_train": 1000, "shape": [3, 32, 32]},
    "recipe": {"epochs": 10, "learning_rate": 0.1, "backbone": "resnet-small", "size": 0},
    "weights": None,
    "inputs": "images",
    "bits": 16,
    "seed": 0,
}
TIME = {"data": 1.0, "prepare": 20.0, "train": 100.0, "encode": 8.0, "evaluate": 6.0, "store": 2.0, "total": 140.0}


def work(*, queries=100, database=900, **changes):
    """The work of IDENTITY with `part__key=value` changed."""
    identity = copy.deepcopy(IDENTITY)
    for place, value in changes.items():
        part, _, key = place.partition("__")
        if key:
            identity[part][key] = value
        else:
            identity[part] = value
    return Work.of(identity, queries=queries, database=database)


@pytest.fixture
def finished(make):
    """Return a function that makes a finished run with the given phases."""

    def one(epochs=10, provenance=None, **time):
        return dataclasses.replace(make(epochs=epochs, provenance=provenance), time=TIME | time)

    return one


def estimates(*runs):
    known = Estimates()
    for done, result in runs:
        known.add(done, result)
    return known


def test_runs_of_one_kind_take_as_long(finished):
    known = estimates(*((work(seed=seed), finished(total=total)) for seed, total in enumerate((100.0, 140.0, 900.0))))
    for changes in ({}, {"seed": 7}, {"bits": 64}, {"method__fields": {}}):
        found = known.estimate(work(**changes))
        assert (found.seconds, found.source) == (140.0, "finished")


def test_an_interrupted_run_counts_its_training_whole(finished):
    assert estimates((work(), finished(total=30.0))).estimate(work()).seconds == 100.0


SCALED = {
    # training and preparation (120), encoding (8), evaluation (6), and 140 - 134 = 6 for the rest
    "epochs": ({"recipe__epochs": 30}, 3 * 120 + 8 + 6 + 6),
    "images": ({"data__num_train": 500, "data__protocol": "b"}, 0.5 * 120 + 8 + 6 + 6),
    "queries": ({"queries": 300, "data__dataset": "other"}, 120 + 8 * 1200 / 1000 + 6 * 3 + 6),
    "database": ({"database": 1900, "data__dataset": "other"}, 120 + 8 * 2 + 6 * 1900 / 900 + 6),
    "all": ({"recipe__epochs": 5, "data__num_train": 4000, "queries": 50}, 2 * 120 + 8 * 0.95 + 6 * 0.5 + 6),
}


@pytest.mark.parametrize("what", SCALED)
def test_other_epochs_and_images_are_scaled(finished, what):
    changes, seconds = SCALED[what]
    found = estimates((work(), finished())).estimate(work(**changes))
    assert found.seconds == pytest.approx(seconds)
    assert found.source == "scaled"
    assert str(found).endswith(" (scaled)")


def test_the_same_kind_goes_before_a_scaled_one(finished):
    known = estimates((work(), finished()), (work(recipe__epochs=30), finished(total=777.0)))
    assert known.estimate(work(recipe__epochs=30)).seconds == 777.0


def test_of_a_fitted_method_epochs_are_nothing(finished):
    known = estimates((work(), finished(epochs=0, prepare=0.0, total=120.0)))
    assert known.estimate(work(recipe__epochs=30)).seconds == 120.0
    assert known.estimate(work(data__num_train=2000)).seconds == 2 * 100.0 + 20.0


def test_what_was_prepared_before_is_not_in_the_total(finished):
    cached = finished(provenance={"prepared_from_cache": True}, total=120.0)
    assert estimates((work(), cached)).estimate(work(recipe__epochs=30)).seconds == 3 * 100.0 + 20.0


@pytest.mark.parametrize("changes", [
    {"recipe__learning_rate": 0.2, "recipe__epochs": 30}, {"recipe__backbone": "vgg16"}, {"inputs": "features"},
    {"data__shape": [3, 64, 64]}, {"weights": "a.pth"}, {"method__name": "csq"},
])  # fmt: skip
def test_other_runs_say_nothing(finished, changes):
    assert estimates((work(), finished())).estimate(work(**changes)) is None


def test_a_probe_goes_after_finished_runs_and_before_scaled_ones(finished):
    known, other = estimates((work(), finished())), work(recipe__epochs=30)
    for asked in (work(), other):
        known.add_probe(asked, 50.0)
    assert known.estimate(work()).source == "finished"
    assert str(known.estimate(other)) == "50 s (probed)"
    assert known.estimate(work(recipe__epochs=20)).source == "scaled"


def test_finished_runs_are_found_by_their_spec(finished, tmp_path):
    for name in ("s0", "s1"):
        directory = RunDirectory(tmp_path / "toy@a/crh/16b" / name)
        directory.path.mkdir(parents=True)
        directory.write_result(dataclasses.replace(finished(), id=digest(IDENTITY)))
    directory.write_spec({"identity": IDENTITY, "how": {}})  # the other lacks its spec
    assert Estimates.of(tmp_path).estimate(work(seed=9)).seconds == 140.0
    assert Estimates.of(tmp_path / "nowhere").estimate(work()) is None


RUNNING, TO_DO = RunStatus("running"), RunStatus("to do")


def test_what_is_left_is_shared_by_those_that_run():
    assert str(TimeLeft.of([(TO_DO, 40.0), (TO_DO, 20.0)])) == "about 60 s left"
    assert TimeLeft.of([(RUNNING, 30.0), (RUNNING, 30.0), (TO_DO, 60.0)]).seconds == 60.0
    assert TimeLeft.of([(RUNNING, 90.0), (RUNNING, 10.0)]).seconds == 90.0  # the longest one is not shared
    left = TimeLeft.of([(RUNNING, None), (RUNNING, 60.0), (TO_DO, 60.0), (TO_DO, None)])
    assert (left.runs, left.running, left.seconds, left.unknown) == (4, 2, 60.0, 2)
    assert str(left) == "about 60 s left and 2 runs of unknown length"
    assert str(TimeLeft.of([(TO_DO, None)])) == ""
    assert str(TimeLeft.of([])) == ""


def test_a_running_run_has_less_left_by_what_it_has_run(finished):
    estimate = estimates((work(), finished())).estimate(work())
    since = (datetime.now(UTC) - timedelta(seconds=60)).isoformat(timespec="seconds")
    assert seconds_left(RunStatus("running", since=since), estimate) == pytest.approx(80.0, abs=3)
    long_ago = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    assert seconds_left(RunStatus("running", since=long_ago), estimate) == 0.0
    for unknown in ("", "yesterday", "2026-01-01T00:00:00"):  # no time zone: not to be compared
        assert seconds_left(RunStatus("running", since=unknown), estimate) == 140.0
    assert seconds_left(TO_DO, None) is None


def test_durations_are_as_people_say_them():
    assert [duration(s) for s in (0.2, 99, 600, 7260)] == ["1 s", "99 s", "10 min", "2 h 1 min"]
