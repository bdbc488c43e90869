"""What tables compute of histograms is kept, and a file that changed is read again."""

import inspect
import os
import sys
from dataclasses import replace

import numpy as np
import pytest

from hashbench.metrics import Histograms, histograms, measures, ranking, table
from hashbench.metrics.measures import parse
from hashbench.results.finding import find_runs
from hashbench.results.runs import RunDirectory
from hashbench.results.tables import recomputed
from hashbench.results.tables.comparison import Comparison

COUNTS = np.random.default_rng(0).integers(1, 9, (2, 5, 33))
N, R = COUNTS.sum(axis=0), COUNTS[0]


@pytest.fixture
def run(make, stored, monkeypatch):
    """A run whose stored value is that of its histograms, and whose files count as old enough to be known again."""
    monkeypatch.setattr(recomputed, "RESTED", -60.0)
    hist, measure = Histograms(N, R), parse("mAP@all")
    made = make(measure.value(hist), metrics={"mAP@all": measure.value(hist)})
    return RunDirectory(stored(made, n=N, r=R).path)


def shown(run):
    """The table of the run's result as it is read now, and what is said beside it."""
    comparison = Comparison.of(find_runs([run.path])[0])
    return comparison.render("text"), comparison.problems


@pytest.fixture
def reads(monkeypatch):
    """Count how often histograms are read."""
    found, plain = [], RunDirectory.read_histograms
    monkeypatch.setattr(
        RunDirectory, "read_histograms", lambda self, bits: found.append(self.path) or plain(self, bits)
    )
    return found


def test_histograms_are_read_once_a_version(run, reads):
    first = shown(run)
    assert "contradicts" not in first[0]
    assert shown(run) == first
    assert len(reads) == 1
    os.utime(run.histograms)
    assert shown(run) == first
    assert len(reads) == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the time of a file's change is Linux's")
def test_damage_is_noticed_whatever_its_size_and_time(run):
    shown(run)
    before = run.histograms.stat()
    content = bytearray(run.histograms.read_bytes())
    content[len(content) // 2] ^= 255
    with open(run.histograms, "r+b") as file:
        file.write(content)
    os.utime(run.histograms, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run.histograms.stat().st_size == before.st_size
    _, problems = shown(run)
    assert "could not be held against the histograms" in problems[0]


def test_stored_bounds_that_the_histograms_contradict_are_called_so(run):
    result = run.read_result()
    text, _ = shown(run)
    assert "contradicts" not in text
    comparison = Comparison.of([replace(result, bounds={"mAP@all": (0.01, 0.99)})])
    (note,) = [words for _, words in comparison.tables[0].notes if "contradicts" in words]
    assert "seed 0 (its bounds by ties)" in note


def test_another_stored_value_is_held_against_what_is_known(run, reads):
    shown(run)
    text = run.result.read_text()
    (value,) = run.read_result().metrics.values()
    run.result.write_text(text.replace(f'"mAP@all": {value!r}', '"mAP@all": 0.9'))
    assert run.read_result().metrics == {"mAP@all": 0.9}
    assert f"0.9000 stored, {value:.4f} by its" in " ".join(shown(run)[0].split())
    assert len(reads) == 1


def test_what_was_written_just_now_is_read_again(run, reads, monkeypatch):
    """Within the resolution of a file's times a second change would not be seen."""
    monkeypatch.setattr(recomputed, "RESTED", 60.0)
    assert shown(run) == shown(run)
    assert len(reads) == 2


def test_a_damaged_note_is_as_none_and_nothing_stays_of_runs_that_are_gone(run, reads, make, stored):
    first = shown(run)
    (note,) = recomputed.cache_root().glob("recomputed/*.json")
    note.write_text(note.read_text().replace("0.", "1."))
    assert shown(run) == first
    assert len(reads) == 2
    value = float(parse("mAP@all").value(Histograms(N, R)))
    other = RunDirectory(stored(make(value, metrics={"mAP@all": value}, seed=1), n=N, r=R).path)
    run.histograms.unlink()
    shown(other)
    assert str(other.histograms) in note.read_text()
    assert str(run.histograms) not in note.read_text()


@pytest.mark.parametrize("module", [histograms, measures, ranking, table])
def test_other_code_of_measures_computes_anew(run, reads, monkeypatch, module):
    shown(run)
    source = inspect.getsource
    monkeypatch.setattr(inspect, "getsource", lambda of: source(of) + ("#" if of is module else ""))
    recomputed._version.cache_clear()
    shown(run)
    recomputed._version.cache_clear()
    assert len(reads) == 2
