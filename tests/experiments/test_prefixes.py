"""Several code lengths from one training: computed once, whoever comes first, and one result for each length."""

import json
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from retrained import retrain

import hashbench
from hashbench.errors import HashbenchError
from hashbench.experiments import execution, runner
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.jobs import Job
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan
from hashbench.methods.contract import DeepMethod, Method, method, option
from hashbench.metrics import evaluate
from hashbench.results.runs import RunDirectory
from hashbench.storage.locks import LockWatch, RunLocked

BITS = (8, 16, 32)


@pytest.fixture
def nested(fresh_methods):
    """A method whose loss is a sum over the code lengths that are asked for."""

    @method("nested")
    class Nested(DeepMethod):
        prefixes = True
        share: float = option(1.0, "weight of the shorter lengths")
        mood = "good"

        def supports(self, task):
            return "4 bits are too few." if 4 in task.lengths else None

        def setup(self, task, prepared):
            self.lengths = task.lengths
            words = torch.randint(0, 2, (task.num_classes, task.bits), generator=task.generator("words"))
            self.register_buffer("words", 2.0 * words - 1)

        def loss(self, out, batch):
            if self.mood == "bad":
                raise ValueError("in a bad mood")
            gap = (batch.labels @ self.words - out).square()
            *shorter, whole = (gap[:, :bits].mean() for bits in self.lengths)
            return {"whole": whole, "shorter": self.share * sum(shorter, torch.zeros(()))}

    return Nested


@pytest.fixture
def settings(tmp_path):
    return {"runs_dir": tmp_path / "runs", "epochs": 2, "progress": False}


@pytest.fixture
def trained(monkeypatch):
    """The code lengths of the trainings from here on."""
    lengths, compute = [], execution.compute

    def noted(experiment, *arguments, **more):
        lengths.append(experiment.bits)
        return compute(experiment, *arguments, **more)

    monkeypatch.setattr(execution, "compute", noted)
    return lengths


def planned(settings, bits=BITS, rows=("nested",), **more):
    return plan([*rows], ["toy"], [*bits], settings=Settings(**settings, **more))


def swept(settings, bits=BITS, **more):
    outcome = runner.execute(planned(settings, bits, **more))
    outcome.raise_first_failure()
    return outcome.results


def test_one_training_gives_a_result_for_each_length(nested, settings, trained):
    results = swept(settings)
    assert trained == [32]
    assert [result.coords["bits"] for result in results] == [*BITS]
    whole = results[-1]
    codes = RunDirectory(whole.path).read_arrays("codes")
    for result in results[:-1]:
        bits = result.coords["bits"]
        kept = RunDirectory(result.path).read_arrays("codes")
        for part in ("query", "database"):
            expected = np.unpackbits(codes[part], axis=1)[:, :bits]
            assert (np.unpackbits(kept[part], axis=1, count=bits) == expected).all()
        assert {path.name for path in result.path.iterdir()} == {
            "spec.json", "result.json", "codes.npz", "histograms.npz", "names.json.gz",
        }  # fmt: skip
        of = result.provenance["prefix_of"]
        assert of == {"id": whole.id, "path": f"../../32b/{whole.path.name}"}
        assert (result.time["train"], result.time["prepare"], result.time["encode"]) == (0, 0, 0)
        assert (result.images_per_s, result.peak_memory_mb) == (None, None)
        assert result.epoch == whole.epoch
    assert "prefix_of" not in whole.provenance
    assert whole.time["train"] > 0


def test_the_measures_of_a_prefix_are_those_of_its_codes(nested, settings):
    results = swept(settings)
    made = planned(settings)
    (dataset,) = made.datasets.values()
    split, labels = dataset.split, dataset.store.labels
    for result in results:
        kept, bits = RunDirectory(result.path).read_arrays("codes"), result.coords["bits"]
        query, database = (np.unpackbits(kept[part], axis=1, count=bits).astype(bool) for part in ("query", "database"))
        again = evaluate(query, database, labels[split.query], labels[split.database], measures=["mAP@all"])
        assert again["mAP@all"] == pytest.approx(result.metrics["mAP@all"])


def test_the_lengths_are_in_the_identity_of_such_methods_alone(nested, settings):
    first, *_, last = planned(settings).runs
    assert first.experiment.identity["lengths"] == [8, 16, 32]
    assert Experiment.from_identity(json.loads(json.dumps(first.experiment.identity))).id == first.experiment.id
    assert planned(settings, (32, 8, 16)).runs[0].experiment.id == last.experiment.id
    assert planned(settings, (8, 32)).runs[0].experiment.id != first.experiment.id
    assert planned(settings, (8,)).runs[0].experiment.identity["lengths"] == [8]
    (crh,) = planned(settings, (16,), rows=("crh",)).runs
    assert "lengths" not in crh.experiment.identity


def test_the_task_names_all_lengths(nested, settings):
    from hashbench.experiments.models import task_of

    device = torch.device("cpu")
    tasks = [task_of(run.experiment, device) for run in planned(settings).runs]
    assert {(task.bits, task.lengths) for task in tasks} == {(32, BITS)}
    (crh,) = planned(settings, (16,), rows=("crh",)).runs
    assert task_of(crh.experiment, device).lengths == (16,)


def test_a_prefix_run_loads_and_encodes_by_the_model_of_its_training(nested, settings, cli, tmp_path):
    short, _, whole = swept(settings)
    images = torch.rand(5, 1, 12, 12)
    model = hashbench.load(short.path)
    assert model.encode(images).shape == (5, 8)
    assert (model.encode(images) == hashbench.load(whole.path).encode(images)[:, :8]).all()
    moved = tmp_path / "moved"
    shutil.move(settings["runs_dir"], moved)
    short_path = moved / short.path.relative_to(settings["runs_dir"])
    assert hashbench.load(short_path).encode(images).shape == (5, 8)
    folder = tmp_path / "photos"
    folder.mkdir()
    from PIL import Image

    Image.fromarray(np.zeros((12, 12), np.uint8)).save(folder / "a.png")
    cli("encode", short_path, folder)
    with np.load("codes.npz") as kept:
        assert (kept["codes"].shape, kept["bits"]) == ((1, 1), 8)
    shutil.rmtree(moved / whole.path.relative_to(settings["runs_dir"]))
    with pytest.raises(HashbenchError, match=r"holds the first 8 bits of the codes of .*32b.*, which is not there"):
        hashbench.load(short_path)


def test_a_prefix_run_without_its_trainings_weights(nested, settings):
    short, _, whole = swept(settings)
    (whole.path / "model.pt").unlink()
    with pytest.raises(HashbenchError, match=r"There is no .*32b.*model\.pt"):
        hashbench.load(short.path)


def test_another_training_in_the_place_of_its_own_is_refused(nested, settings):
    short, other, whole = swept(settings)
    shutil.copy(other.path / "result.json", whole.path / "result.json")
    with pytest.raises(HashbenchError, match=r"is of another run \(nested on toy@small, 16 bits"):
        hashbench.load(short.path)


def test_a_training_of_other_weights_is_refused_until_its_lengths_are_run_again(nested, settings, cli, tmp_path):
    """The training was replaced by another machine's alone: its model does not give the codes of the shorter length."""
    short, _, whole = swept(settings)
    retrain(whole.path)
    told = r"does not hold the first 8 bits of the codes that .*32b.* has now; run it again with --rerun all"
    with pytest.raises(HashbenchError, match=told):
        hashbench.load(short.path)
    with pytest.raises(HashbenchError, match=told):
        hashbench.evaluate_run(short, under="noise")
    assert re.search(told, cli("export", short.path, "short.zip", code=2).stderr)
    again = swept(settings, rerun="all")[0]
    assert hashbench.load(again.path).bits == 8
    cli("export", again.path, "short.zip")
    assert hashbench.load("short.zip").bits == 8


def test_finished_lengths_are_loaded_and_missing_ones_computed_without_training(nested, settings, trained):
    results = swept(settings)
    shutil.rmtree(results[1].path)
    assert [result.id for result in swept(settings)] == [result.id for result in results]
    assert trained == [32]


def test_all_trains_once_again_and_evaluates_all_lengths(nested, settings, trained):
    before = swept(settings)
    after = swept(settings, rerun="all")
    assert trained == [32, 32]
    assert all(one.time != other.time for one, other in zip(before, after, strict=True))
    assert after[0].provenance["prefix_of"] == before[0].provenance["prefix_of"]
    made, other = planned(settings, rerun="all"), planned(settings, rerun="all")
    for each in (made, other):  # two processes that were started at once
        runner.execute(each).raise_first_failure()
    assert trained == [32, 32, 32]


def test_stale_trains_once_again(nested, settings, trained, monkeypatch):
    swept(settings)
    swept(settings, rerun="stale")
    assert trained == [32]
    monkeypatch.setattr("hashbench.experiments.resolving.source_sha256", lambda cls: "0" * 64)
    assert [run.status.state for run in planned(settings).runs] == ["stale"] * 3
    swept(settings, rerun="stale")
    assert trained == [32, 32]


def test_a_length_that_is_computed_later_states_the_source_of_its_training(nested, settings, monkeypatch):
    short, *_ = swept(settings)
    shutil.rmtree(short.path)
    monkeypatch.setattr("hashbench.system.provenance.source_sha256", lambda *classes: "0" * 64)
    again, *_, whole = swept(settings)
    assert again.provenance["source_sha256"] == whole.provenance["source_sha256"] != "0" * 64


def test_whoever_comes_first_trains(nested, settings, trained):
    """An engine may compute the jobs in any order, one process or several."""
    made = planned(settings)
    execution.execute_run(made, made.runs[0])
    assert trained == [32]
    assert [run.finished for run in made.runs] == [True, False, True]
    execution.execute_run(made, made.runs[1])
    execution.execute_run(made, made.runs[2])
    assert trained == [32]


def test_two_processes_at_two_lengths_train_once(nested, settings, trained):
    made = planned(settings)
    with made.runs[2].directory.lock(), pytest.raises(RunLocked):
        execution.execute_run(made, made.runs[0], watch=LockWatch())
    assert not made.runs[0].directory.failure.exists()
    began, errors = threading.Barrier(2), []

    def process(at):
        began.wait()
        outcome = runner.execute(planned(settings))
        errors.extend(outcome.failures)

    threads = [threading.Thread(target=process, args=(at,)) for at in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert trained == [32]


def test_who_waits_for_a_training_says_so(nested, settings, capsys):
    from hashbench.cli.execution import ProgressLines

    made = planned(settings)
    with made.runs[2].directory.lock(), ProgressLines(made, bar=False) as lines:
        lines.held(made.runs[0])
    assert "nested on toy@small, 8 bits, seed 0 waits for its training at 32 bits." in capsys.readouterr().err


def test_a_job_tells_what_lay_in_the_trainings_folder(nested, settings):
    swept(settings)
    made = planned(settings)
    job = Job.from_text(Job.of(0, made.runs[0]).text)
    assert job.training == made.runs[2].snapshot
    assert job.training.result is not None
    assert job == Job.of(0, made.runs[0])
    shutil.rmtree(made.runs[2].directory.path)
    later = planned(settings).runs[0]
    assert job.as_planned(later).training.snapshot == job.training != later.training.snapshot


def test_a_training_that_fails_fails_all_its_lengths_once(nested, settings, trained):
    nested.mood = "bad"
    outcome = runner.execute(planned(settings))
    assert trained == [32]
    told = {run.bits: str(error) for run, error in outcome.failures}
    assert told[32] == "in a bad mood"
    assert "its training at 32 bits failed: it has failed since this sweep was planned: ValueError: in a bad" in told[8]
    assert [run.status.state for run in planned(settings).runs] == ["failed"] * 3
    nested.mood = "good"
    assert len(swept(settings, rerun="failed")) == 3
    assert trained == [32, 32]
    assert [run.status.state for run in planned(settings).runs] == ["finished"] * 3


def test_a_training_that_a_length_needs_is_computed_whatever_is_asked_to_be_run_again(nested, settings, trained):
    nested.mood = "bad"
    made = planned(settings)
    runner.execute(made)
    shutil.rmtree(made.runs[2].directory.path)
    nested.mood = "good"
    assert [result.coords["bits"] for result in swept(settings, rerun="failed")] == [8, 16]
    assert trained == [32, 32]


def test_a_training_goes_on_from_its_checkpoint(nested, settings, monkeypatch):
    expected = swept({**settings, "runs_dir": settings["runs_dir"].parent / "straight"})
    append = RunDirectory.append_log

    def stop(self, line):
        append(self, line)
        if line.get("epoch") == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "append_log", stop)
        with pytest.raises(KeyboardInterrupt):
            swept(settings)
    (checkpoint,) = settings["runs_dir"].rglob("checkpoint.pt")
    assert checkpoint.parent.parent.name == "32b"
    assert [result.metrics for result in swept(settings)] == [result.metrics for result in expected]


def test_what_the_training_cannot_do_is_skipped_at_all_lengths(nested, settings):
    made = planned(settings, (4, 16), rows=("nested", "lsh"))
    assert [run.skipped for run in made.runs] == ["4 bits are too few."] * 2 + [None] * 2


def test_the_command_line_shows_verifies_and_compares(nested, cli, tmp_path):
    arguments = ["run", "--method", "nested", "--dataset", "toy", "--bits", "8,16,32", "--epochs", 1, "--quiet"]
    assert "3 of 3 runs to compute" in cli(*arguments, "--dry-run").output
    cli(*arguments)
    assert "0 of 3 runs to compute" in cli(*arguments, "--dry-run").output
    planned_again = cli(*arguments, "--dry-run", "--rerun", "all").output
    assert "3 of 3 runs to compute" in planned_again
    assert "unknown" not in planned_again
    assert "3 runs: 3 as stored" in cli("verify").output
    assert "codes from the training's" not in cli("verify").output
    assert "3 runs: 3 as stored" in cli("verify", "--model", "--rerun", 3).output
    status = cli("status").output
    for place in ("toy@small/nested/8b", "toy@small/nested/16b", "toy@small/nested/32b"):
        assert place in status
    header = next(line for line in cli("compare").output.splitlines() if "32 bits" in line)
    assert "8 bits" in header
    assert "16 bits" in header
    (short,) = Path("runs/toy@small/nested/8b").iterdir()
    text = (short / "result.json").read_text()
    for key, other, sentence in (
        ("id", "0" * 64, "the run of 32 bits that it names is not that of spec.json"),
        ("path", "../gone", "codes from the training's: the training's run is not there"),
    ):
        result = json.loads(text)
        result["provenance"]["prefix_of"][key] = other
        (short / "result.json").write_text(json.dumps(result))
        assert sentence in cli("verify", code=1 if key == "id" else 3).output
    result = json.loads(text)
    del result["provenance"]["prefix_of"]
    (short / "result.json").write_text(json.dumps(result))
    assert "do not agree on whether its codes are the first bits" in cli("verify", code=1).output
    (short / "result.json").write_text(text)
    with np.load(short / "codes.npz") as kept:
        codes = dict(kept)
    np.savez_compressed(short / "codes.npz", **{**codes, "database": ~codes["database"]})
    assert "the codes of the database are not the first bits of those in" in cli("verify", code=1).output
    (whole,) = Path("runs/toy@small/nested/32b").iterdir()
    shutil.rmtree(whole)
    np.savez_compressed(short / "codes.npz", **codes)
    verified = cli("verify", code=3).output
    assert "2 runs: 0 as stored, 0 with differences, 2 not wholly checked" in verified
    assert "missing: 1 planned run without a result (toy@small/nested/32b/" in verified
    assert "not checked in 2 of 2 runs: codes from the training's: the training's run is not there" in verified


def test_rows_of_other_lengths_are_kept_apart(nested, settings):
    swept(settings)
    swept(settings, (8, 32))
    comparison = hashbench.compare(settings["runs_dir"], measures=["mAP@all"])
    (table,) = comparison.tables
    labels = ["nested (trained for 8 16 32 bits)", "nested (trained for 8 32 bits)"]
    assert [row.label for row in table.rows] == labels
    assert comparison.problems == ()


def test_estimates_take_no_prefix_run_for_a_training(nested, settings):
    from hashbench.results.sweeps.estimates import Estimate, Estimates, Work

    *shorter, whole = swept(settings)
    known = Estimates.of(settings["runs_dir"])
    works = [
        Work.of(RunDirectory(run.path).read_spec()["identity"], queries=1, database=1) for run in (*shorter, whole)
    ]
    expected = Estimate(max(whole.time["total"], whole.time["train"]), "finished")
    assert [known.estimate(work) for work in works] == [*[Estimate(0.0, "finished")] * len(shorter), expected]


def test_the_checks_train_for_several_lengths(nested, monkeypatch):
    monkeypatch.setattr("hashbench.checks.verdict.BITS", (12,))
    verdict = hashbench.check(nested)
    assert verdict.ok, verdict.render()
    assert "it trains for one code length as for several" in verdict.render()


def test_the_checks_find_a_loss_that_cannot_do_with_one_length(nested, monkeypatch):
    monkeypatch.setattr("hashbench.checks.verdict.BITS", (12,))
    loss = nested.loss

    def needs_two(self, out, batch):
        self.lengths[1]
        return loss(self, out, batch)

    monkeypatch.setattr(nested, "loss", needs_two)
    failed = [line for line in hashbench.check(nested).lines if line.state == "FAILED"]
    assert [line.what for line in failed] == ["it trains for one code length as for several"]


def test_a_fitted_method_may_have_prefixes(fresh_methods, settings, trained):
    @method("planes")
    class Planes(Method):
        prefixes = True
        supervised = False

        def fit(self, task, data):
            width = data.features().shape[1]
            self.register_buffer("planes", torch.randn(width, task.bits, generator=task.generator("planes")))

        def encode(self, inputs):
            return inputs @ self.planes >= 0

    results = swept(settings, rows=("planes",))
    assert trained == [32]
    assert [result.coords["bits"] for result in results] == [*BITS]
    assert hashbench.load(results[0].path).encode(torch.rand(2, 1, 12, 12)).shape == (2, 8)
    assert hashbench.check(Planes).ok


@pytest.mark.parametrize(("bits", "skipped"), [([8, 16], False), ([4, 8], True)])
def test_seeds_of_a_cell_are_planned_as_each_is_alone(nested, tmp_path, bits, skipped):
    methods = ["nested", "csq", "lsh"]
    settings = Settings(runs_dir=tmp_path, epochs=1)
    together = plan(methods, ["toy"], bits, seeds=3, settings=settings).runs
    alone = [plan(methods, ["toy"], bits, first_seed=seed, settings=settings).runs for seed in range(3)]
    assert list(together) == [run for cell in zip(*alone, strict=True) for run in cell]
    assert [run.seed for run in together[:3]] == [0, 1, 2]
    assert any(run.skipped for run in together) == skipped
    assert any(run.training for run in together) != skipped
