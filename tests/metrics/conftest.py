"""Fixtures of the tests of the metrics; the codes they run on are in metrics_cases.py."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["single-label", "multi-label"])
def multi_label(request: pytest.FixtureRequest) -> bool:
    return request.param == "multi-label"
