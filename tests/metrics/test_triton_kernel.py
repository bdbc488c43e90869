"""The Triton kernel under Triton's interpreter, which takes its place on the CPU, and what compiles for a GPU.

The interpreter must be chosen before Triton is imported, so these tests run in a process of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from metrics_cases import Codes, make_codes
from scipy import sparse

from hashbench.metrics import hamming, histograms, kernels_torch, pack
from hashbench.metrics.pairs import read_pairs

pytest.importorskip("triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="needs TRITON_INTERPRET=1")
compiled = pytest.mark.skipif(INTERPRETED, reason="compiles for a GPU")


def count(codes: Codes, backend: str, **settings):
    arrays = pack(codes.query), pack(codes.database), codes.query_labels, codes.database_labels
    return histograms(*arrays, bits=codes.query.shape[1], backend=backend, **settings).arrays()


def assert_same(codes: Codes, **settings) -> None:
    found, expected = (count(codes, backend, **settings) for backend in ("triton", "numba"))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == np.int64
        assert np.array_equal(found[name], values), name


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make programs of few items: several of them for a tile, and several blocks for a program."""
    from hashbench.metrics import kernels_triton

    for name, value in {"BLOCK": 32, "ITEMS": 64, "CHECKED": 3}.items():
        monkeypatch.setattr(kernels_triton, name, value)


@compiled
@pytest.mark.slow
def test_under_the_interpreter() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "." * 10 in ran.stdout  # they were not skipped


@interpreted
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("bits", [1, 13, 32, 65])
def test_every_length_is_counted_as_on_the_cpu(bits: int, multi_label: bool) -> None:
    # The items are neither a multiple of a block nor of a program's.
    codes = make_codes(queries=3, items=161, bits=bits, classes=5, multi_label=multi_label)
    assert_same(codes, gains=True)


@interpreted
@pytest.mark.usefixtures("small")
def test_the_longest_codes_are_counted_as_on_the_cpu() -> None:
    assert_same(make_codes(queries=1, items=33, bits=1024, classes=3, multi_label=True))


@interpreted
@pytest.mark.usefixtures("small")
def test_relevance_at_its_edges() -> None:
    assert_same(make_codes(queries=2, items=70, bits=20, classes=130, multi_label=True), gains=True)  # five words
    one = make_codes(queries=1, items=33, bits=24, classes=3, multi_label=False)
    assert_same(one)
    assert_same(Codes(one.query, one.database, one.query_labels + 2**40, one.database_labels))  # none is relevant
    assert_same(Codes(one.query, one.database[:0], one.query_labels, one.database_labels[:0]))


@interpreted
@pytest.mark.usefixtures("small")
def test_more_levels_than_one_histogram_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    from hashbench.metrics import kernels_triton

    monkeypatch.setattr(kernels_triton, "MOST_BINS", 64)  # two levels of 25 distances at a time
    codes = make_codes(queries=3, items=70, bits=24, classes=40, multi_label=True)
    assert codes.query_labels.sum(axis=1).max() >= 4
    assert_same(codes, gains=True)


@interpreted
@pytest.mark.usefixtures("small")
def test_a_database_in_a_file_is_counted_tile_by_tile(tmp_path, monkeypatch, multi_label: bool) -> None:
    from hashbench.metrics import kernels_triton

    monkeypatch.setattr(kernels_triton, "TILE_ITEMS", 50)
    codes = make_codes(queries=3, items=161, bits=24, classes=4, multi_label=multi_label)
    np.save(tmp_path / "database.npy", pack(codes.database))
    database, seen = np.load(tmp_path / "database.npy", mmap_mode="r"), []
    found = histograms(pack(codes.query), database, codes.query_labels, codes.database_labels, bits=24,
                       backend="triton", gains=True, progress=seen.append)  # fmt: skip
    expected = count(codes, "numba", gains=True)
    assert all(np.array_equal(values, expected[name]) for name, values in found.arrays().items())
    assert seen == [50, 50, 50, 11]


@interpreted
@pytest.mark.usefixtures("small")
def test_pairs_are_left_out(multi_label: bool) -> None:
    codes = make_codes(queries=3, items=40, bits=12, classes=4, multi_label=multi_label)
    left_out = sparse.csr_array(np.random.default_rng(0).random((3, 40)) < 0.3)
    assert_same(codes, pairs=read_pairs(None, left_out, never_itself=False, queries=3, items=40), gains=True)


@interpreted
@pytest.mark.usefixtures("small")
def test_a_kernel_that_miscounts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from hashbench.metrics.kernels_triton import TritonCounter

    words = TritonCounter._words
    monkeypatch.setattr(TritonCounter, "_words", lambda self, rows: words(self, rows) & 0xFF)
    with pytest.raises(ValueError, match=r"Triton cannot count on 'cpu' \(it counts otherwise than torch\)"):
        count(make_codes(queries=5, items=9, bits=24, classes=3, multi_label=False), "triton")


@compiled
@pytest.mark.parametrize("why", ["is not installed", "compiles for CUDA devices"])
def test_where_triton_cannot_torch_counts_with_one_warning(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = make_codes(queries=3, items=20, bits=9, classes=4, multi_label=False)
    expected = count(codes, "torch")
    plain = kernels_torch.TorchCounter
    monkeypatch.setattr(hamming, "_check_device", lambda name: None)
    monkeypatch.setattr(kernels_torch, "TorchCounter", lambda *of, **how: plain(*of, **{**how, "device": "cpu"}))
    if why == "is not installed":
        monkeypatch.setitem(sys.modules, "hashbench.metrics.kernels_triton", None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = count(codes, "auto", device="cuda:0")
    assert all(np.array_equal(found[name], values) for name, values in expected.items())
    assert [str(warning.message)[:31] for warning in caught] == ["Triton cannot count on 'cuda:0'"]
    with pytest.raises(ValueError, match=r"Triton cannot count on 'cuda:0' .*use backend torch"):
        count(codes, "triton", device="cuda:0")


@compiled
@pytest.mark.parametrize("label_words", [0, 3])
def test_the_kernel_compiles_for_a_gpu(label_words: int) -> None:
    """Down to the machine code of a device; popcounts become the instruction, and no histogram goes to memory."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from hashbench.metrics import kernels_triton

    sizes = {"WORDS": 2, "LABEL_WORDS": label_words, "WIDTH": 65, "LEVELS": 4, "SPAN": 4, "BINS": 512}
    sizes |= {"ITEMS": kernels_triton.ITEMS, "BLOCK": kernels_triton.BLOCK}
    labels = "*i32" if label_words else "*i64"
    types = {"queries": "*i32", "query_labels": labels, "database": "*i32", "labels": labels, "counts": "*i64"}
    types |= {"items": "i32", **dict.fromkeys(sizes, "constexpr")}
    source = ASTSource(kernels_triton._count, types, sizes)
    built = triton.compile(source, target=GPUTarget("cuda", 80, 32)).asm
    assert len(built["cubin"]) > 1000
    assert "popc.b32" in built["ptx"]
    assert "ld.local" not in built["ptx"]
