"""No run's id changes by a move or a rename: ids hold names, versions and contents, and nothing of where code lies."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from recorded_ids import REQUESTS, ids_of

ROOT = Path(__file__).parents[2]
RECORDED = json.loads(Path(__file__).with_name("recorded_ids.json").read_text())


def test_enough_experiments_of_every_kind_are_recorded():
    assert sum(map(len, RECORDED)) >= 50
    assert len(RECORDED) == len(REQUESTS)


@pytest.mark.parametrize("number", range(len(REQUESTS)))
def test_ids_have_not_moved(number):
    assert ids_of(REQUESTS[number]) == RECORDED[number]


def test_the_studys_table_is_printed_as_ever():
    command = [sys.executable, "-m", "hashbench", "compare", "results/test.zip"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed == Path(__file__).with_name("compared_results.txt").read_text()
