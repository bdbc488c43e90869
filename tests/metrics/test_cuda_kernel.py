"""The kernels for a GPU count what the CPU counts; needs one: pytest -m gpu. Needs no numba."""

from __future__ import annotations

import numpy as np
import pytest
from metrics_cases import make_codes

from hashbench.metrics import histograms, pack

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("backend", ["triton", "torch"])
@pytest.mark.parametrize("bits", [12, 64, 1000])
def test_cuda_counts_the_same(bits: int, backend: str, multi_label: bool) -> None:
    codes = make_codes(queries=300, items=70_001, bits=bits, classes=70, multi_label=multi_label)
    arrays = pack(codes.query), pack(codes.database), codes.query_labels, codes.database_labels
    there = histograms(*arrays, bits=bits, gains=True, backend=backend, device="cuda")
    here = histograms(*arrays, bits=bits, gains=True)
    for name, values in here.arrays().items():
        assert np.array_equal(there.arrays()[name], values)
