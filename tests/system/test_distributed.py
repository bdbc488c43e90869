"""Runs that two processes share, started by torchrun on the CPU, against the same runs by one process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import distributed_runs
import numpy as np
import pytest
import torch

from hashbench.cli import main
from hashbench.datasets import catalogue as datasets
from hashbench.errors import HashbenchError
from hashbench.metrics import Histograms, evaluate_histograms, histograms
from hashbench.results.runs import RunDirectory
from hashbench.system import distributed
from hashbench.system.distributed import SINGLE, World

pytestmark = pytest.mark.xdist_group("ranks")  # all of one process: most share the runs
SCRIPT = Path(distributed_runs.__file__)


def torchrun(what: str, folder: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    arguments = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT), what, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HASHBENCH_CACHE": str(cache)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What two processes made, and one: run directories by run and method, the cached features, the exchanges."""
    found: list[dict[str, Any]] = []
    for processes in (2, 1):
        folder, cache = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("cache")
        if processes == 2:
            ended = torchrun("runs", folder, cache)
            assert ended.returncode == 0, ended.stderr
            exchanges = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
            left = {path.stem: torch.load(path, weights_only=True) for path in folder.glob("*.pt")}
        else:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("HASHBENCH_CACHE", str(cache))
                for name in distributed_runs.RUNS:
                    main(distributed_runs.command(name, folder), standalone_mode=False)
        runs = [RunDirectory(path.parent) for path in sorted(folder.rglob("result.json"))]
        found.append({f"{run.path.relative_to(folder).parts[0]}/{run.path.parts[-3]}": run for run in runs})
        features = {("views" if "views" in file.name else "images"): np.load(file)
                    for file in cache.rglob("features/*.npy")}  # fmt: skip
        assert len([*cache.rglob("features/*.npy")]) == 2
        found[-1]["features"] = features
    found[0] |= {"exchanges": exchanges, "left": left}
    return found[0], found[1]


SHARED = ["trained/crh", "trained/csq", "trained/dpn", "sums/crh", "frozen/shc", "frozen/itq", "frozen/classifier",
          "views/classifier", "memory/rank-memory"]  # fmt: skip
SPLIT = ["batch-norm/csq", "pairs/pairs", "memory/own-batch-norm"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
def test_two_processes_train_what_one_trains(both, name: str) -> None:
    """The same id, the same weights and centers within float tolerance, the same losses, the same codes."""
    two, one = (runs[name] for runs in both)
    assert two.path.name == one.path.name
    state, expected = (torch.load(run.model, weights_only=True) for run in (two, one))
    for part in ("method", "network"):
        for key, value in (expected[part] or {}).items():
            torch.testing.assert_close(state[part][key], value, rtol=1e-3, atol=1e-4)
    for line, other in zip(two.read_log(), one.read_log(), strict=True):
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert line["diagnostics"] == pytest.approx(other["diagnostics"], rel=1e-4)
    codes, expected_codes = (run.read_arrays("codes")["database"] for run in (two, one))
    assert (np.unpackbits(codes ^ expected_codes)).mean() < 0.01
    assert two.read_result().provenance["processes"] == 2
    assert one.read_result().provenance["processes"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rank-memory", "own-batch-norm"])
def test_a_memory_is_whole_and_the_same_on_all_ranks(both, name: str) -> None:
    """So is every buffer of a method, also what a rank drew or took of its own share."""
    first, second = (both[0]["left"][f"{name}-{rank}"] for rank in range(2))
    stored = torch.load(both[0][f"memory/{name}"].model, weights_only=True)["method"]
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
        assert torch.equal(value, stored[key]), key
    labels = datasets.load("toy")
    assert torch.equal(first["labels"], torch.from_numpy(labels.store.labels[labels.split.train]) > 0)
    steps = first["steps"].tolist()
    if name == "own-batch-norm":
        assert steps == list(range(1000, 1060))  # by the fresh pass after the last epoch
    else:
        assert [steps.count(step) for step in range(8, 12)] == [19, 19, 19, 3]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trained/crh", "sums/crh"])
def test_reassignment_is_that_of_the_whole_training_set(both, name: str) -> None:
    """CRH's sums over both ranks choose the same centers, in every epoch."""
    states = [torch.load(runs[name].model, weights_only=True)["method"] for runs in both]
    assert torch.equal(states[0]["centers"], states[1]["centers"])
    assert torch.equal(states[0]["assignment"], states[1]["assignment"])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SHARED, *SPLIT])
def test_histograms_are_those_of_one_process_on_the_same_codes(both, name: str) -> None:
    run, data = both[0][name], datasets.load("toy")
    codes, stored = run.read_arrays("codes"), Histograms.from_arrays(run.read_arrays("histograms"))
    assert len(codes["query"]) == 15
    assert len(codes["database"]) == 75
    labels = data.store.labels[data.split.query], data.store.labels[data.split.database]
    counted = histograms(codes["query"], codes["database"], *labels, bits=16)
    assert np.array_equal(stored.n, counted.n)
    assert np.array_equal(stored.r, counted.r)
    result = run.read_result()
    assert evaluate_histograms(counted, list(result.metrics)).metrics == result.metrics


@pytest.mark.slow
@pytest.mark.parametrize("name", SPLIT)
def test_the_world_is_in_the_identity_where_a_rank_sees_less(both, name: str) -> None:
    two, one = (runs[name] for runs in both)
    assert two.path.name != one.path.name
    assert two.read_spec()["identity"] == {**one.read_spec()["identity"], "world": 2}


@pytest.mark.slow
@pytest.mark.parametrize(("of", "rows"), [("images", 150), ("views", 2 * 60)])
def test_features_are_brought_together(both, of, rows) -> None:
    two, one = (runs["features"][of] for runs in both)
    assert two.shape == (rows, 16)
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_exchanges(both) -> None:
    first, second = both[0]["exchanges"]
    assert first == second
    assert first == {
        "share": [0, 1, 2, 3, 4],
        "empty": [[1.0, 1.0]] * 3,
        "summed": {"a": [0.2, 0.4]},
        "gradients": [[3.0, 6.0], [5.0], None],
        "shares": [[0, 1, 2, 3, 4], [[True, False]] * 5, [0, 1, 2]],  # the last are too few for two
        "first": {"rank": 0},
        "equal": [0],
    }


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_run_which_goes_on_later(tmp_path, monkeypatch) -> None:
    ended = torchrun("death", tmp_path / "runs", tmp_path / "cache")
    assert ended.returncode != 0
    assert "the same command goes on from the last checkpoint" in ended.stderr
    assert 'Traceback (most recent call last):\n  File "' + str(SCRIPT) not in ended.stderr
    (checkpoint,) = (tmp_path / "runs").rglob("checkpoint.pt")
    run = RunDirectory(checkpoint.parent)
    assert not run.finished
    assert "goes on from the last checkpoint" in (run.path / "FAILED.json").read_text()
    assert len(run.read_log()) == 2
    for folder in ("runs", "alone"):  # the world is not in this run's identity: one process may end it
        arguments = ["run", "--method", "mortal", "--backbone", "toy-backbone", *distributed_runs.COMMON]
        main([*arguments, "--runs-dir", str(tmp_path / folder)], standalone_mode=False)
    states = [torch.load(file, weights_only=True) for file in sorted(tmp_path.rglob("model.pt"))]
    assert len(states) == 2
    assert [line["epoch"] for line in run.read_log()] == [0, 1, 2]
    for key, value in states[0]["network"].items():
        torch.testing.assert_close(states[1]["network"][key], value, rtol=1e-3, atol=1e-4)


def test_shares_cover_every_sample_once() -> None:
    for size in (1, 2, 3, 8):
        ranks = [World(rank, size) for rank in range(size)]
        for count in (0, 1, 5, 64, 1001):
            rows = [np.arange(count)[world.share(count)] for world in ranks]
            assert np.concatenate(rows).tolist() == list(range(count))
            cuts = [world.batch_share(10, 10 + count) for world in ranks]
            weights = [
                world.weight(stop - start, count) for world, (start, stop) in zip(ranks, cuts, strict=True) if count
            ]
            if count:
                assert sum(weights) == pytest.approx(1)
                assert all(stop - start >= min(2, count) for start, stop in cuts)
    assert SINGLE.batch_share(3, 4) == (3, 4)


def test_each_rank_has_a_device_of_its_own(monkeypatch) -> None:
    assert distributed.local_device("cuda:1") == "cuda:1"
    monkeypatch.setattr("torch.distributed.is_torchelastic_launched", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert distributed.local_device("auto") == distributed.local_device("cuda") == "cuda:1"
    assert distributed.local_device("cpu") == "cpu"
    with pytest.raises(HashbenchError, match="leave out '--device cuda:0'"):
        distributed.local_device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(HashbenchError, match="3 processes here, but there are 2 CUDA devices; say --nproc-per-node 2"):
        distributed.local_device("auto")


def test_a_method_that_keeps_what_it_saw_is_left_to_one_device(tmp_path, monkeypatch, fresh_methods) -> None:
    import hashbench
    from hashbench.experiments import planned, planning

    @hashbench.method("keeper")
    class Keeper(distributed_runs.Pairs):
        def after_step(self, network, batch): ...

    monkeypatch.setattr("hashbench.system.distributed.world", lambda: World(0, 2))
    hashbench.method("keeps-none")(type("KeepsNone", (Keeper,), {"keeps_samples": ()}))
    settings = planned.Settings(runs_dir=tmp_path, device="cpu")
    methods = ["keeper", "keeps-none", "rank-memory", "pairs"]
    cell, *others = planning.plan(methods, ["toy"], [16], settings=settings).runs
    assert "declare keeps_samples, or train it on one device" in str(cell.skipped)
    assert [other.skipped for other in others] == [None] * 3
