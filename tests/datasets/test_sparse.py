"""Sparse rows: what names them, that batches of them are dense and nothing larger is, and runs equal to dense ones."""

import dataclasses
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

import hashbench
from hashbench.datasets import Store
from hashbench.datasets.loading.loader import TrainLoader, inference_batches
from hashbench.errors import HashbenchError
from hashbench.results.runs import RunDirectory
from hashbench.training import trainset

CLASSES = ("a", "b", "c")
LABELS = np.repeat(np.arange(3), 50)
ONE_HOT = np.eye(3, dtype=np.uint8)[LABELS]
NAMES = tuple(f"document {number}" for number in range(150))


def documents(seed=0, width=40):
    """Return counts of terms (150, width): each class prefers terms of its own."""
    random = np.random.default_rng(seed)
    rates = np.where(np.arange(width) % 3 == LABELS[:, None], 0.5, 0.05)
    return scipy.sparse.csr_matrix(random.poisson(rates).astype(np.float32))


@hashbench.dataset("toy-text", protocols="../toy.toml")
def toy_text(data_dir: Path | None) -> Store:
    return Store("toy-text", documents(), ONE_HOT, CLASSES, names=NAMES)


@hashbench.dataset("toy-text-dense", protocols="../toy.toml")
def toy_text_dense(data_dir: Path | None) -> Store:
    return Store("toy-text-dense", documents().toarray(), ONE_HOT, CLASSES, names=NAMES)


@hashbench.dataset("toy-text-unnamed", protocols="../toy.toml")
def toy_text_unnamed(data_dir: Path | None) -> Store:
    return Store("toy-text-unnamed", scipy.sparse.csr_array(documents()), ONE_HOT, CLASSES)


@pytest.fixture
def settings(tmp_path):
    return {"runs_dir": tmp_path / "runs", "epochs": 3, "progress": False, "device": "cpu"}


def store(inputs, labels=ONE_HOT):
    return Store("docs", inputs, labels, CLASSES)


def test_a_row_is_named_by_its_sorted_nonzeros():
    found = store(documents())
    assert found.kind == "text"
    row = documents().toarray()[7]
    (columns,) = np.nonzero(row)
    digest = sha256(columns.astype("<i8").tobytes() + row[columns].astype("<f4").tobytes()).digest()
    assert found.input_hashes[7] == digest
    assert found.content_hashes[7] == sha256(digest + ONE_HOT[7].tobytes()).digest()


def test_how_a_matrix_is_stored_changes_nothing():
    rows = documents()
    coo = rows.tocoo()
    random = np.random.default_rng(1).permutation(coo.nnz)
    unsorted = scipy.sparse.csr_matrix(rows.shape, dtype=np.float32)
    order = random[np.argsort(coo.row[random], kind="stable")]  # by row, in any order within one
    unsorted.data, unsorted.indices = coo.data[order], coo.col[order].astype(np.int32)
    unsorted.indptr = rows.indptr.copy()
    zeros = rows.copy()
    zeros.data = zeros.data.copy()
    with_zero = scipy.sparse.csr_matrix(
        (np.append(rows.data, np.float32(0)), np.append(rows.indices, 39 if rows[149, 39] == 0 else 38),
         np.append(rows.indptr[:-1], rows.nnz + 1)), rows.shape,
    )  # fmt: skip
    halves = scipy.sparse.csr_matrix(
        (np.repeat(rows.data / 2, 2), np.repeat(rows.indices, 2), rows.indptr * 2), rows.shape
    )
    before = unsorted.indices.copy()
    for other in (unsorted, with_zero, halves, scipy.sparse.csr_array(rows)):
        assert store(other).input_hashes == store(rows).input_hashes
        assert store(other).integrity == store(rows).integrity
    assert np.array_equal(unsorted.indices, before)  # the caller's matrix stays as it is
    changed = rows.copy()
    changed.data[0] += 1
    assert store(changed).integrity != store(rows).integrity


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (documents().tocsc(), r"sparse csc_matrix; give its rows: inputs\.tocsr\(\)"),
        (documents().astype(np.float64), "float64 of shape"),
    ],
)
def test_other_matrices_are_refused(inputs, sentence):
    with pytest.raises(HashbenchError, match=sentence):
        store(inputs)


@pytest.mark.parametrize("views", [1, 2])
def test_batches_are_those_of_dense_vectors(views):
    rows, index = documents(), np.random.default_rng(2).permutation(150)[:61]
    given = {"index": index, "batch_size": 8, "seed": 3, "device": "cpu", "augment": ["none"] * views}
    for epoch in (0, 1):
        pairs = zip(TrainLoader(rows, ONE_HOT[index], **given).epoch(epoch),
                    TrainLoader(rows.toarray(), ONE_HOT[index], **given).epoch(epoch), strict=True)  # fmt: skip
        for sparse, dense in pairs:
            assert all(torch.equal(*both) for both in zip(sparse.views, dense.views, strict=True))
            assert torch.equal(sparse.index, dense.index)
    found = [*inference_batches(rows, batch_size=7, device="cpu", index=index)]
    assert torch.equal(torch.cat(found), torch.from_numpy(rows.toarray()[index]))
    empty = scipy.sparse.csr_matrix((5, 9), dtype=np.float32)
    assert torch.equal(torch.cat([*inference_batches(empty, batch_size=2, device="cpu")]), torch.zeros(5, 9))


@pytest.mark.parametrize(("method", "backbone"), [("crh", None), ("crh", "mlp"), ("lsh", None), ("itq", None)])
def test_runs_on_sparse_and_dense_vectors_give_the_same_codes(settings, method, backbone):
    sparse, dense = (
        hashbench.run(method, name, bits=16, **settings, backbone=backbone) for name in ("toy-text", "toy-text-dense")
    )
    assert (sparse.coords["inputs"], dense.coords["inputs"]) == ("text", "vectors")
    assert sparse.coords["backbone"] == (backbone or "identity")
    assert sparse.metrics == dense.metrics
    assert sparse.metrics["mAP@all"] > 0.5
    codes = [RunDirectory(result.path).read_arrays("codes") for result in (sparse, dense)]
    for part in ("query", "database"):
        assert np.array_equal(codes[0][part], codes[1][part])
    if method == "crh":
        centers = [RunDirectory(result.path).read_arrays("centers")["similarity"] for result in (sparse, dense)]
        np.testing.assert_allclose(*centers, atol=1e-6)


def test_a_loaded_model_encodes_sparse_rows(settings):
    result = hashbench.run("crh", "toy-text", bits=16, **settings)
    model, rows = hashbench.load(result.path), documents()
    codes = model.encode(rows, batch_size=40)
    assert codes.shape == (150, 16)
    assert np.array_equal(codes, model.encode(rows.toarray()))
    with pytest.raises(HashbenchError, match=r"this run takes \(n, 40\)"):
        model.encode(rows[:, :30])


def test_splits_rest_on_the_rows_where_they_have_no_names(settings):
    from hashbench import datasets

    one = datasets.load("toy-text-unnamed")
    order = np.random.default_rng(4).permutation(150)
    moved = dataclasses.replace(one.store, inputs=one.store.inputs[order], labels=one.store.labels[order])
    from hashbench.datasets.splits import split

    other = split(moved, one.protocol)
    assert other.sha256 == one.split.sha256
    assert (one.store.inputs[one.split.query] != moved.inputs[other.query]).nnz == 0


def test_preparing_says_that_sparse_rows_are_not_kept(cli):
    printed = cli("prepare", "toy-text").output
    assert "toy-text: 150 inputs of 40, 3 classes" in printed
    assert "Its inputs are sparse rows, which are not kept: each start reads its files anew." in printed


def test_a_matrix_that_is_large_when_dense_is_refused(settings, monkeypatch):
    monkeypatch.setattr(trainset, "DENSE_BYTES", 4 * 60 * 40 - 1)
    with pytest.raises(HashbenchError, match=r"The training set as a dense matrix of 60 x 40 is larger than"):
        hashbench.run("lsh", "toy-text", bits=16, **settings)
    assert hashbench.run("crh", "toy-text", bits=16, **settings).metrics
    monkeypatch.setattr(trainset, "DENSE_BYTES", 4 * 60 * 40)
    assert hashbench.run("lsh", "toy-text", bits=16, **settings).metrics


LARGE = """
import resource, sys
from pathlib import Path
import numpy as np, scipy.sparse
import hashbench
from hashbench.datasets import Store

ROWS = WIDTH = 50_000

@hashbench.dataset("large", protocols={toml!r})
def large(data_dir):
    random = np.random.default_rng(0)
    columns = random.integers(0, WIDTH, (ROWS, 50))
    columns[:, :10] = columns[:, :10] // 2 + (np.arange(ROWS) % 2 * WIDTH // 2)[:, None]
    matrix = scipy.sparse.csr_matrix(
        (np.ones(ROWS * 50, np.float32), columns.ravel(), np.arange(ROWS + 1) * 50), (ROWS, WIDTH))
    return Store("large", matrix, np.eye(2, dtype=np.uint8)[np.arange(ROWS) % 2], ("a", "b"))

result = hashbench.run("crh", "large", bits=16, epochs=1, progress=False, device="cpu", runs_dir=Path(sys.argv[1]),
                       overrides={{"recipe": {{"batch_size": 64}}, "crh": {{"scale": 4}}}})
print(result.counts["database"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

PROTOCOL = """
about = "made in the tests"
num_classes = 2
citation = "none"
licence = "none"
source = "made in the tests"

[[protocol]]
name = "all"
summary = "all"
sizes = { train = 1000, query = 100, database = 48900 }
train_in_database = false
rule = "per-class-v1"
measures = ["mAP@all"]
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KB on Linux alone")
def test_what_is_ten_gigabytes_when_dense_never_is(tmp_path):
    (tmp_path / "large.toml").write_text(PROTOCOL)
    (tmp_path / "large.py").write_text(LARGE.format(toml=str(tmp_path / "large.toml")))
    command = [sys.executable, str(tmp_path / "large.py"), str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    database, kilobytes = map(int, done.stdout.split())
    assert database == 48_900
    assert kilobytes < 2e6
