"""Runs over users and items, from a file to the table; and that nothing of it is imported where images are learned."""

import json

import numpy as np
import pytest
import test_imports
from pair_cases import write_pairs
from scipy import sparse

import hashbench
from hashbench.datasets.interactions.loading import load
from hashbench.errors import HashbenchError
from hashbench.experiments import tracks
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan
from hashbench.methods import PairMethod, PairScorer
from hashbench.metrics import unpack
from hashbench.results.runs import RunDirectory
from hashbench.results.tables.comparison import Comparison

pytestmark = pytest.mark.usefixtures("fresh_methods")
MEASURES = ["HR@10", "nDCG@10", "R@20", "mAP@all", "P@10"]
OF_PAIRS = ("hashbench.datasets.interactions", "hashbench.experiments.pair_", "baselines.recommendation")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with the toy as toy.csv, and two methods: codes from the pairs, scores of popularity."""
    monkeypatch.chdir(tmp_path)
    write_pairs("toy.csv")

    @hashbench.method("drawn", version=3, fidelity="reference")
    class Drawn(PairMethod):
        shift: float = hashbench.option(0.0, "of the threshold")

        def supports(self, task):
            return "it has too few words." if task.bits > 32 else None

        def fit(self, task, pairs):
            import torch

            columns = torch.randn(task.num_columns, task.bits, generator=task.generator("columns"))
            self.register_buffer("rows", torch.from_numpy(np.asarray(pairs @ columns.numpy())))
            self.register_buffer("columns", columns)
            pairs.data[:] = 0  # which no other run may notice

        def row_codes(self):
            return self.rows >= self.shift

        def column_codes(self):
            return self.columns >= self.shift

    @hashbench.method("counted", fidelity="reference")
    class Counted(PairScorer):
        def fit(self, task, pairs):
            import torch

            self.register_buffer("counts", torch.from_numpy(np.asarray((pairs != 0).sum(axis=0))).double())
            self.rows = task.num_rows

        def scores(self, rows):
            return self.counts.expand(len(range(*rows.indices(self.rows))), -1)

    return tmp_path


def relevance(data):
    """Return the relevant pairs of the queries, and their training pairs, as sparse matrices."""
    store, found = data.store, []
    for which in (data.is_relevant, data.is_train):
        dense = np.zeros((len(store.users), len(store.items)), int)
        dense[store.user[which], store.item[which]] = 1
        found.append(sparse.csr_array(dense[data.query]))
    return found


@pytest.mark.parametrize("protocol", ["leave-one-out", "80-20"])
def test_the_measures_are_those_of_the_stored_codes(folder, protocol):
    result = hashbench.run("drawn", f"pairs:toy.csv@{protocol}", bits=12, progress=False)
    data, codes = load(f"pairs:toy.csv@{protocol}"), RunDirectory(result.path).read_codes(12)
    relevant, excluded = relevance(data)
    given = (unpack(codes[part], 12) for part in ("query", "database"))
    again = hashbench.evaluate(*given, relevance=relevant, exclude=excluded, measures=MEASURES, bounds=True)
    assert {name: result.metrics[name] for name in MEASURES} == pytest.approx(dict(again))
    for name in MEASURES:
        assert result.bounds[name] == pytest.approx(again.bounds[name])
    assert result.counts["train"] == data.train.nnz
    names = RunDirectory(result.path).read_names()
    assert names["query"] == [data.store.users[user] for user in data.query]
    assert names["database"] == [*data.store.items]


def test_scores_are_measured_as_their_ranking_and_said_to_be_no_codes(folder):
    result = hashbench.run("counted", "pairs:toy.csv@80-20", bits=12, progress=False)
    data = load("pairs:toy.csv@80-20")
    relevant, excluded = (matrix.toarray() for matrix in relevance(data))
    counts = (data.train.toarray() != 0).sum(axis=0)
    chance, drawn = np.random.default_rng(0), []
    for _ in range(400):  # orders of equal counts
        hits = []
        for query in range(len(data.query)):
            kept = chance.permutation(np.flatnonzero(excluded[query] == 0))
            first = kept[np.argsort(-counts[kept], kind="stable")][:10]
            hits.append(relevant[query, first].any())
        drawn.append(np.mean(hits))
    assert result.metrics["HR@10"] == pytest.approx(np.mean(drawn), abs=0.01)
    assert result.bounds["HR@10"][0] <= min(drawn) <= max(drawn) <= result.bounds["HR@10"][1]
    assert not result.has_codes
    assert not RunDirectory(result.path).codes.exists()
    other = hashbench.run("drawn", "pairs:toy.csv@80-20", bits=12, progress=False)
    text = str(Comparison.of([result, other]))
    assert "† ranked by real scores: it has no codes." in text
    assert "learned from pairs of users and items" in text


def test_a_finished_run_is_loaded_and_the_identity_holds_what_changes_numbers(folder):
    settings = {"bits": 12, "progress": False}
    first = hashbench.run("drawn", "pairs:toy.csv", **settings)
    stored = (first.path / "result.json").read_bytes()
    assert hashbench.run("drawn", "pairs:toy.csv", **settings).id == first.id
    assert (first.path / "result.json").read_bytes() == stored
    identity = json.loads((first.path / "spec.json").read_text())["identity"]
    assert identity["method"] == {"name": "drawn", "version": 3, "fields": {"shift": 0.0}}
    assert identity["data"]["protocol"] == "leave-one-out"
    others = [
        hashbench.run("drawn", "pairs:toy.csv", **settings, overrides={"drawn": {"shift": "1.0"}}),
        hashbench.run("drawn", "pairs:toy.csv", **settings, seed=1),
        hashbench.run("drawn", "pairs:toy.csv@80-20", **settings),
        hashbench.run("drawn", "pairs:toy.csv", **settings, evaluate_on="validation"),
    ]
    assert len({result.id for result in (first, *others)}) == 5
    assert (others[1].coords["cell"] == first.coords["cell"], others[0].coords["cell"] == first.coords["cell"]) == (
        True, False,
    )  # fmt: skip
    write_pairs("toy.csv", [("a", "x", "1", "1"), ("a", "y", "1", "2")])
    assert hashbench.run("drawn", "pairs:toy.csv", **settings).id != first.id


def test_the_recorded_identity_has_the_recorded_id():
    from hashbench.experiments.pair_track import PairExperiment

    data = {
        "dataset": "toy", "protocol": "80-20", "integrity": "1" * 64, "split_sha256": "2" * 64, "evaluated": "test",
        "shape": [40, 30], "num_train": 300,
    }  # fmt: skip
    assert PairExperiment("dcf", 1, {"alpha": 1e-3}, data, 16, 0).id[:16] == "d2cca6af97e163b7"


def test_a_sweep_says_what_does_not_go_together(folder):
    for given, reason in (
        ({"method": "lsh"}, "it learns from inputs, and this data set has pairs"),
        ({"bits": 48}, "it has too few words"),
        ({"recipe": "scratch"}, "--recipe does not apply to toy@leave-one-out"),
        ({"epochs": 3}, "--epochs does not apply"),
        ({"backbone": "identity"}, "--backbone does not apply"),
        ({"overrides": {"recipe": {"batch_size": "3"}}}, "--set recipe does not apply"),
        ({"overrides": {"drawn": {"shit": "1"}}}, "Did you mean 'shift'"),
        ({"dataset": "pairs:none.csv"}, "There is no file none.csv"),
    ):
        wanted = {"method": "drawn", "dataset": "pairs:toy.csv", "bits": 12, **given}
        with pytest.raises(HashbenchError, match=reason):
            hashbench.run(wanted.pop("method"), wanted.pop("dataset"), **wanted)
    with pytest.raises(HashbenchError, match="it learns from pairs of two kinds of things"):
        hashbench.run("drawn", "toy", bits=12)
    assert not (folder / "runs").exists()


def test_other_commands_take_such_runs_or_say_why_not(folder, cli):
    run = cli("run", "--method", "drawn,counted", "--dataset", "pairs:toy.csv@80-20,pairs:toy.csv", "--bits", "12")
    assert "HR@10" in run.stdout
    shown = cli("verify", "--dataset", "pairs:toy.csv").stdout
    assert "4 runs: 4 as stored" in shown
    (codes,) = folder.glob("runs/toy@80-20/drawn/12b/s0-*")
    (scores,) = folder.glob("runs/toy@80-20/counted/12b/s0-*")
    assert "which of the data set's names" in cli("export", codes, "codes.npz").stdout
    assert "has no codes to write" in cli("export", scores, "codes.npz", code=2).stderr
    assert "no network to take along; export its codes" in cli("export", codes, "run.zip", code=2).stderr
    assert not (folder / "run.zip").exists()
    searched = cli("search-cost", codes, scores, "--radius", "1")
    assert (
        f"{scores.relative_to(folder)} ranks by real scores and has no codes to search; it is left" in searched.stderr
    )
    assert " drawn " in searched.stdout
    assert "These runs rank by real scores" in cli("search-cost", scores, code=2).stderr
    assert "no track takes users and items" in cli("leaderboard", codes, "-o", "site").stderr
    assert "has no network to load" in cli("evaluate-run", codes, "--under", "noise", code=2).stderr
    with pytest.raises(HashbenchError, match="has no network to load"):
        hashbench.load(codes)
    planned = cli("run", "--method", "drawn", "--dataset", "pairs:toy.csv", "--bits", "16", "--dry-run").stdout
    assert "1 of 1 run to compute, about" in planned  # as long as the finished run of its kind
    stored = codes / "histograms.npz"
    arrays = dict(np.load(stored))
    arrays["n"][0, 0] += 1
    np.savez_compressed(stored, **arrays)
    assert "differ" in cli("verify", "--dataset", "pairs:toy.csv", code=1).stdout


def test_no_file_of_the_image_path_imports_what_is_of_pairs(tmp_path, monkeypatch):
    def is_of_pairs(module):
        return module.startswith(OF_PAIRS)

    found = [
        (module, name)
        for module in test_imports.MODULES
        if not is_of_pairs(module)
        for name in test_imports.imports(module)
        if is_of_pairs(name)
    ]
    assert found == []
    assert any(map(is_of_pairs, test_imports.MODULES))
    monkeypatch.setattr(tracks, "import_module", None)  # by which alone a track is imported
    made = plan(["lsh"], ["toy"], [12], settings=Settings(runs_dir=tmp_path))
    assert made.runs[0].experiment.inputs == "pixels"
