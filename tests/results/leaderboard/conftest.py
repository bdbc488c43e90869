from functools import partial

import pytest
from leaderboard_cases import store_runs


@pytest.fixture
def runs(tmp_path):
    """Return a function that stores the runs of one row in one setting, a run for each value."""
    return partial(store_runs, tmp_path)
