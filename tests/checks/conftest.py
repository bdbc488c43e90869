"""Checks on fewer kinds of inputs, for tests of what each kind shows."""

import pytest

from hashbench.checks import verdict


@pytest.fixture
def inputs(monkeypatch):
    """Return a function that limits the checks to the "first" kind of inputs that a method supports, or to "others"."""
    cases = verdict._cases

    def limited(kinds):
        def of(cls):
            supported = list(dict.fromkeys(case.inputs for case in cases(cls) if case.supports() is None))
            chosen = supported[:1] if kinds == "first" else supported[1:] or supported
            return (case for case in cases(cls) if case.inputs in chosen or not supported)

        monkeypatch.setattr(verdict, "_cases", of)

    return limited
