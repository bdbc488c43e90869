"""Graphs of codes: equal codes hide no others, and what cannot be read is refused."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from hashbench.errors import HashbenchError
from hashbench.evaluation.folders import EncodedImage
from hashbench.search.contents import contents_of
from hashbench.search.ways import Exact, Graph, build_graph


@pytest.fixture(scope="module")
def contents():
    """Three codes that 300 images share each, and 100 others."""
    random = np.random.default_rng(0)
    codes = random.integers(0, 256, (103, 4), np.uint8)
    codes = codes[np.concatenate([np.repeat(np.arange(3), 300), np.arange(3, 103)])]
    images = {str(place): EncodedImage(1, 1, code.tobytes()) for place, code in enumerate(random.permutation(codes))}
    return contents_of({"f": images}, run="r", weights="w", bits=32, kind="flat", versions={})


def test_equal_codes_hide_no_others(contents):
    pytest.importorskip("faiss")
    graph = Graph(replace(contents, graph=build_graph(contents.codes)))
    for code in contents.codes[::97]:
        rows, distances = graph.nearest(code, 310)
        _, nearest = Exact(contents).nearest(code, 310)
        assert np.array_equal(np.sort(distances)[:310], nearest[:310])
        assert np.array_equal(np.unpackbits(contents.codes[rows] ^ code, axis=1).sum(axis=1), distances)
        assert len({*rows.tolist()}) == len(rows)


def test_other_graphs_are_refused(contents, monkeypatch):
    pytest.importorskip("faiss")
    with pytest.raises(HashbenchError, match="The graph of this index cannot be read"):
        Graph(replace(contents, graph=b"no graph"))
    with pytest.raises(HashbenchError, match="is of other codes"):
        Graph(replace(contents, graph=build_graph(contents.codes[:50])))
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(HashbenchError, match=r"needs faiss; install it with pip install 'hashbench\[faiss\]'"):
        build_graph(contents.codes)


def test_without_numba_one_sentence_says_the_way_out(contents, monkeypatch):
    monkeypatch.setitem(sys.modules, "hashbench.metrics.multi_index", None)
    with pytest.raises(HashbenchError, match=r"Search among codes needs numba .*pip install numba"):
        Exact(contents)
