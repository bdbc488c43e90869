"""True neighbours as what is relevant: by scikit-learn, with ties; kept in the cache; and runs measured by them."""

import shutil

import numpy as np
import pytest
from scipy import sparse
from sklearn.neighbors import NearestNeighbors
from toy_dataset import ToyBackbone

import hashbench
from hashbench.datasets import load
from hashbench.errors import HashbenchError
from hashbench.evaluation.conditions import neighbours
from hashbench.evaluation.conditions.contract import FixedFeatures
from hashbench.evaluation.conditions.neighbours import Neighbours
from hashbench.experiments.relevance import relevance_under
from hashbench.metrics import unpack
from hashbench.results.runs import RunDirectory
from hashbench.storage.cache import cache_root

FEATURES = {"recipe": "frozen", "backbone": "toy-backbone", "overrides": {"recipe": {"size": "0"}}}
QUERY, DATABASE = np.arange(60, 80)[::-1], np.arange(50)


def vectors(seed=0, rows=80, width=6):
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def found(inputs, left_out=None, **fields):
    features = FixedFeatures(inputs, QUERY, DATABASE, left_out)
    return Neighbours(**fields).relevance(features).toarray()


def nearest(inputs, k, metric="euclidean", query=QUERY, database=DATABASE):
    """Return the neighbours by scikit-learn's exhaustive search, (Q, N); no distances are equal."""
    search = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(inputs[database].astype(np.float64))
    return search.kneighbors_graph(inputs[query].astype(np.float64)).toarray()


# Which items they are


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("tile", [1 << 23, 150, 1])
def test_they_are_scikit_learns(monkeypatch, metric, make, tile):
    monkeypatch.setattr(neighbours, "TILE", tile)  # one tile, several queries and items in each, one each
    inputs = vectors()
    inputs[np.abs(inputs) < 0.3] = 0
    for k in (1, 7, 49):
        assert np.array_equal(found(make(inputs), k=k, metric=metric), nearest(inputs, k, metric))


def test_the_metrics_and_the_default_are_different_questions():
    inputs = vectors() * np.linspace(1, 9, 80, dtype=np.float32)[:, None]
    assert not np.array_equal(found(inputs, k=7, metric="cosine"), found(inputs, k=7))
    assert Neighbours() == Neighbours(k=100, metric="euclidean")


def test_all_that_are_as_near_as_the_last_are_relevant():
    inputs = np.random.default_rng(0).integers(0, 3, size=(80, 4)).astype(np.float32)
    squared = ((inputs[QUERY, None] - inputs[None, DATABASE]) ** 2).sum(axis=2)  # integers: exact
    expected = squared <= np.sort(squared, axis=1)[:, 6, None]
    assert (expected.sum(axis=1) > 7).sum() > 10
    for scale in (1, 0.1, 1e-3, 1e4):
        assert np.array_equal(found(inputs * np.float32(scale), k=7), expected)


def test_multiples_of_a_vector_are_equally_near_by_the_cosine():
    inputs = vectors()
    integers = np.random.default_rng(1).integers(-99, 99, size=(10, 6))  # whose multiples are exact
    inputs[:50] = integers.repeat(5, axis=0) * np.tile([1, 3, 7, 11, 1000], 10)[:, None]
    rows = found(inputs, k=3, metric="cosine").reshape(20, 10, 5)
    assert (rows.sum(axis=(1, 2)) == 5).all()
    assert (rows.sum(axis=2).max(axis=1) == 5).all()


def test_a_vector_of_zeros_has_no_direction():
    inputs = vectors()
    inputs[[3, 70]] = 0
    rows = found(inputs, k=48, metric="cosine")
    assert not rows[:, 3].any()
    assert not rows[list(QUERY).index(70)].any()
    assert rows.sum() == 19 * 48
    assert found(inputs, k=49)[list(QUERY).index(70), 3]  # by the distance it is the nearest of all


def test_what_is_left_out_takes_no_place():
    inputs = vectors()
    first = nearest(inputs, 5)
    rows = found(inputs, sparse.csr_array(first), k=7)
    assert np.array_equal(rows, nearest(inputs, 12) - first)


@pytest.mark.parametrize(
    ("fields", "change", "sentence"),
    [
        ({"k": 50}, None, r"neighbours\(k=50\) is not possible: the database has 50 items"),
        ({"k": 0}, None, r"neighbours\(k=0\) is not possible; give 1 or more"),
        ({"k": 3}, np.nan, "NaN or infinite values have no neighbours"),
        ({"k": 3, "metric": "cosine"}, np.inf, "NaN or infinite values have no neighbours"),
    ],
)
def test_what_has_no_neighbours_is_refused(fields, change, sentence):
    inputs = vectors()
    if change is not None:
        inputs[4, 1] = change
    with pytest.raises(HashbenchError, match=sentence):
        found(inputs, **fields)


# Kept


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array])
def test_they_are_computed_once_for_the_same_features(monkeypatch, caplog, make):
    inputs, computed = make(vectors()), []
    relevance = Neighbours.relevance
    monkeypatch.setattr(Neighbours, "relevance", lambda *given: computed.append(1) or relevance(*given))

    def pairs(k=7, inputs=inputs, database=DATABASE, left_out=None, **how):
        return relevance_under(Neighbours(k=k), FixedFeatures(inputs, QUERY, database, left_out), **how).pairs

    first = pairs()
    assert pairs().fingerprint == first.fingerprint
    assert len(computed) == 1
    pairs(anew=True)
    assert len(computed) == 2
    junk, changed = sparse.csr_array(nearest(vectors(), 5)), vectors()
    changed[QUERY[3]] *= -1
    others = [pairs(k=8), pairs(inputs=make(changed)), pairs(database=DATABASE[::-1]), pairs(left_out=junk)]
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 5
    assert len(computed) == 6
    for path in (cache_root() / "relevance").glob("*.pt"):
        whole = path.read_bytes()
        path.write_bytes(whole[:700] + bytes([whole[700] ^ 1]) + whole[701:])
    assert pairs().fingerprint == first.fingerprint
    assert "is damaged and is computed anew" in caplog.text
    assert len(computed) == 7  # and not the others


def test_nothing_is_kept_of_what_was_broken_off(monkeypatch):
    def killed(*given):
        raise KeyboardInterrupt

    features = FixedFeatures(vectors(), QUERY, DATABASE)
    with monkeypatch.context() as patched:
        patched.setattr(Neighbours, "_nearest", killed)
        with pytest.raises(KeyboardInterrupt):
            relevance_under(Neighbours(k=7), features)
    assert not [*(cache_root() / "relevance").glob("*.pt")]
    assert len(relevance_under(Neighbours(k=7), features).pairs.relevant) == 7 * 20


# Runs


@pytest.fixture
def images(tmp_path):
    """A run whose truth is in the features of a fixed backbone."""
    return hashbench.run("lsh", "toy", bits=12, progress=False, runs_dir=tmp_path / "runs", **FEATURES)


def arrays():
    """Write vectors of three classes as own data, some pairs left out; return the name of the set, and its inputs."""
    made = {"features": vectors(rows=120), "labels": np.arange(120) % 3}
    made["part"] = np.array(["train"] * 30 + ["query"] * 20 + ["database"] * 70)
    made["exclude"] = np.array([[30 + at, 50 + at] for at in range(20)])
    np.savez("mine.npz", **made)
    return "arrays:mine.npz"


def expected(run, relevance, exclude=None, measures=("mAP@all", "R@9")):
    codes = RunDirectory(run.path).read_codes()
    parts = (unpack(codes[part], 12) for part in ("query", "database"))
    pairs = {"relevance": sparse.csr_array(relevance)} | ({} if exclude is None else {"exclude": exclude})
    return hashbench.evaluate(*parts, measures=measures, **pairs)


@pytest.mark.parametrize("made", ["features", "pixels"])
def test_a_run_on_images_is_measured_by_the_neighbours_in_what_no_training_changed(tmp_path, images, made):
    if made == "pixels":
        images = hashbench.run("lsh", "toy", bits=12, progress=False, runs_dir=tmp_path / "runs")
    data = load("toy")
    inputs = data.store.inputs.reshape(len(data.store.inputs), -1) / 255
    if made == "features":
        inputs = inputs @ ToyBackbone((1, 12, 12)).weight.detach().numpy().T
    relevance = nearest(inputs, 9, "cosine", data.split.query, data.split.database)
    result = hashbench.evaluate_run(images, under="neighbours(k=9, metric=cosine)")
    scores = expected(images, relevance)
    assert {name: result.metrics[name] for name in scores} == pytest.approx(dict(scores))
    assert result.metrics["mAP@all"] != pytest.approx(images.metrics["mAP@all"], abs=0.01)
    assert result.metrics.keys() == {*images.metrics, "R@9"}
    assert result.coords["evaluated"] == "test, neighbours(k=9, metric=cosine)"
    where = "toy-backbone (toy_dataset.py, native size)" if made == "features" else "the pixels"
    assert result.coords["relevance"] == f"neighbours in {where}"
    assert result.diagnostics == {"changed_codes": 0, "flipped_bits": 0, "relevant_items": 9}


def test_a_run_on_vectors_is_measured_by_the_neighbours_among_the_items_that_are_ranked(cli):
    name = arrays()
    run = hashbench.run("lsh", name, bits=12, progress=False)
    data = load(name)
    query, database = data.split.query, data.split.database
    junk = data.store.exclude.tocsr()[query][:, database]
    relevance = np.zeros((20, 70))
    for at in range(20):
        ranked = np.flatnonzero(junk[[at]].toarray()[0] == 0)
        relevance[at, ranked] = nearest(data.store.inputs, 9, "euclidean", query[[at]], database[ranked])
    result = hashbench.evaluate_run(run, under="neighbours(k=9)", dataset=name)
    scores = expected(run, relevance, junk)
    assert {name: result.metrics[name] for name in scores} == pytest.approx(dict(scores))
    assert result.coords["relevance"] == "neighbours in the vectors, some left out"
    assert "1 as stored" in cli("verify", "--dataset", name, result.path).stdout


def test_no_model_is_needed_and_tables_keep_the_truths_apart(cli, images):
    images.path.joinpath("model.pt").unlink()
    hashbench.evaluate_run(images, under="neighbours(k=9)")
    shown = cli("evaluate-run", images.path, "--under", "neighbours(k=9, metric=cosine)").stdout
    assert shown.count("toy@small: mAP@all") == 2
    tables = " ".join(cli("compare", "runs").stdout.split())
    assert tables.count("toy@small: mAP@all") == 3
    where = "relevance by neighbours in toy-backbone (toy_dataset.py, native size), ties expected"
    for metric in ("euclidean", "cosine"):
        assert f"test queries under neighbours(k=9, metric={metric}), {where}" in tables


def test_verify_counts_the_neighbours_again(cli, images):
    result = hashbench.evaluate_run(images, under="neighbours(k=9)")
    shutil.rmtree(cache_root() / "relevance")
    assert "2 runs: 2 as stored" in cli("verify", "runs").stdout
    directory = RunDirectory(result.path)
    counted = directory.read_arrays("histograms")
    directory.write_arrays("histograms", **counted | {"r": counted["r"][::-1]})
    assert "the relevant items of" in cli("verify", "runs", code=1).stdout


def test_verify_compares_what_the_neighbours_are_in(cli, images):
    result = hashbench.evaluate_run(images, under="neighbours(k=9)")
    text = (result.path / "result.json").read_text()
    (result.path / "result.json").write_text(text.replace("neighbours in toy-backbone", "neighbours in resnet34"))
    shown = cli("verify", "runs", code=1).stdout
    assert "relevance is 'neighbours in resnet34 (toy_dataset.py" in shown
    (result.path / "result.json").write_text(text.replace(result.provenance["features_sha256"], "0" * 64))
    assert "the fixed features here are others than the result's" in cli("verify", "runs", code=3).stdout


def test_other_weights_are_refused(images, monkeypatch):
    monkeypatch.setattr("hashbench.experiments.relevance.weights_name", lambda name: "other.pth")
    with pytest.raises(HashbenchError, match=r"'toy-backbone' with the weights toy_dataset\.py, and here it has"):
        hashbench.evaluate_run(images, under="neighbours(k=9)")
    assert not [*images.path.glob("under/*/*.*")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("neighbours(k=0)", "neighbours(k=0) is not possible"),
        ("neighbours(k=75)", "the database has 75 items, and of these fewer must be relevant; give a smaller k."),
        ("neighbours(metric=manhattan)", "'manhattan' is not a value for metric, which takes euclidean or cosine"),
        ("neighbours(n=5)", "Unknown field of neighbours 'n'"),
    ],
)
def test_what_means_no_neighbours_is_one_sentence(cli, images, text, sentence):
    assert sentence in cli("evaluate-run", "runs", "--under", text, code=2).output
