"""Trainings that begin with the weights of a finished run: which run, what is taken over, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from retrained import retrain

import hashbench
from hashbench.cli import main
from hashbench.errors import HashbenchError
from hashbench.experiments.execution import execute_run
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.jobs import Sweep
from hashbench.experiments.models import new_model
from hashbench.experiments.phases import code_and_run
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan, plan_of
from hashbench.experiments.reevaluation import Evaluator
from hashbench.experiments.repetition import check_rerun
from hashbench.experiments.starts import start_of
from hashbench.results.finding import find_runs
from hashbench.results.runs import RunDirectory
from hashbench.results.tables.comparison import Comparison
from hashbench.storage.files import sha256

TOY = {"backbone": "toy-backbone", "progress": False, "device": "cpu"}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """csq, of two seeds, from scratch: the folder of their runs."""
    folder = tmp_path_factory.mktemp("trained") / "runs"
    hashbench.sweep(["csq"], ["toy"], [8], seeds=2, runs_dir=folder, epochs=3, **TOY)
    return folder


@pytest.fixture
def runs(trained, tmp_path):
    """The same folder, for one test alone."""
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def planned(runs, method="cgat (base=csq)", *, bits=8, dataset="toy", start=None, seeds=1, **more):
    shared = {**TOY, "epochs": 1, "runs_dir": runs, "start_from": start or runs, **more}
    return plan([method], [dataset], [bits], seeds=seeds, settings=Settings(**shared))


def run_of(runs, seed=0):
    (folder,) = (runs / "toy@small" / "csq" / "8b").glob(f"s{seed}-*")
    return folder


@pytest.mark.parametrize("labels", ["one", "several"])
@pytest.mark.parametrize("base", ["dpsh", "csq", "orthohash", "crh"])
def test_network_and_method_begin_as_the_start_ended(base, labels, tmp_path):
    dataset = "toy"
    if labels == "several":
        random = np.random.default_rng(0)
        held = {"images": random.integers(0, 255, (60, 6, 6, 1), dtype=np.uint8)}
        np.savez(tmp_path / "tags.npz", **held, labels=random.integers(0, 2, (60, 4), dtype=np.uint8))
        dataset = f"arrays:{tmp_path}/tags.npz"
    runs = tmp_path / "runs"
    first = hashbench.run(base, dataset, bits=8, runs_dir=runs, epochs=2, **TOY)
    (run,) = planned(runs, f"cgat (base={base})", dataset=dataset).runs
    assert run.start.result.id == first.id
    model = new_model(run.experiment, CPU, width=16, prepared={}, start=run.start.state(CPU))
    before = hashbench.load(first.path, device="cpu")
    for part, ended in ((model.network, before.network), (model.method.base, before.method)):
        state, wanted = part.state_dict(), ended.state_dict()
        assert state.keys() == wanted.keys()
        assert all(torch.equal(state[name], wanted[name]) for name in wanted)
    fresh = new_model(run.experiment, CPU, width=16, prepared={})
    wanted = before.network.state_dict()
    assert any(not torch.equal(value, wanted[name]) for name, value in fresh.network.state_dict().items())


def test_what_a_method_copies_at_the_start_is_of_the_start(runs, fresh_methods):
    import copy

    @hashbench.method("twin")
    class Twin(hashbench.DeepMethod):
        base: hashbench.DeepMethod = hashbench.base_method("csq", "the loss")

        def attach(self, network, task):
            self.twin = copy.deepcopy(network).requires_grad_(False)

        def training_step(self, network, batch):
            return self.base.training_step(network, batch)

    (run,) = planned(runs, "twin").runs
    model = new_model(run.experiment, CPU, width=16, prepared={}, start=run.start.state(CPU))
    wanted = hashbench.load(run_of(runs), device="cpu").network.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in model.method.twin.state_dict().items())


def test_each_run_takes_the_start_of_its_seed_and_tables_tell_it_from_scratch(runs):
    settings = {**TOY, "runs_dir": runs, "epochs": 1}
    started = hashbench.sweep(["cgat (base=csq)"], ["toy"], [8], seeds=2, **settings, start_from=runs)
    scratch = hashbench.run("cgat (base=csq)", "toy", bits=8, **settings)
    for seed, result in enumerate(started):
        start = RunDirectory(run_of(runs, seed)).read_result()
        weights = sha256(run_of(runs, seed) / "model.pt")
        path = f"../../../csq/8b/{run_of(runs, seed).name}"
        assert result.provenance["start"] == {"id": start.id, "path": path, "weights_sha256": weights}
        assert start_of(RunDirectory(result.path), result).result.id == start.id
        spec = RunDirectory(result.path).read_spec()["identity"]
        assert spec["start"] == {"id": start.id, "cell": start.coords["cell"]}
        assert Experiment.from_identity(spec).id == result.id
    assert len({result.coords["cell"] for result in started}) == 1  # the seeds are averaged
    assert scratch.coords["cell"] != started[0].coords["cell"]
    (table,) = Comparison.of([*started, scratch]).tables
    assert {row.label: len(row.cells[0].values) for row in table.rows} == {
        "cgat (base=csq)": 1,
        "cgat (base=csq, start=csq for 3 epochs)": 2,
    }
    again = planned(runs, seeds=2)  # now that runs which were started lie in the folder themselves
    assert [run.experiment.id for run in again.runs] == [result.id for result in started]
    assert all(run.finished for run in again.runs)
    verified = CliRunner().invoke(main, ["verify", str(runs)])
    assert verified.exit_code == 0, verified.output


def test_a_method_goes_on_from_a_run_of_its_own(runs):
    result = hashbench.run("csq", "toy", bits=8, runs_dir=runs, epochs=1, **TOY, start_from=runs)
    assert result.coords["start"] == "csq for 3 epochs"
    after = hashbench.run("csq", "toy", bits=8, runs_dir=runs, epochs=2, **TOY, start_from=result.path)
    assert after.coords["start"] == "csq for 1 epoch after csq for 3 epochs"


def test_the_id_is_of_the_starts_content_wherever_it_lies(runs, tmp_path):
    moved = Path(shutil.copytree(runs, tmp_path / "elsewhere"))
    ids = {planned(runs, start=start).runs[0].experiment.id for start in (runs, moved, run_of(moved))}
    assert len(ids) == 1
    assert planned(runs, seeds=1).runs[0].experiment.id != _from_scratch(runs)


def _from_scratch(runs):
    (run,) = plan(["cgat (base=csq)"], ["toy"], [8], settings=Settings(**TOY, epochs=1, runs_dir=runs)).runs
    assert "start" not in run.experiment.identity
    return run.experiment.id


def test_other_processes_plan_the_same_starts(runs, monkeypatch):
    monkeypatch.chdir(runs.parent)
    made = planned(Path("runs"), seeds=2)
    text = Sweep.of(made, ["hashbench"]).text
    monkeypatch.chdir("/")
    theirs = plan_of(Sweep.from_text(text).request)
    assert [run.experiment.id for run in theirs.runs] == [run.experiment.id for run in made.runs]


def test_an_interrupted_training_goes_on_where_it_was(runs, monkeypatch):
    whole = hashbench.run("cgat (base=csq)", "toy", bits=8, **{**TOY, "epochs": 3}, runs_dir=runs, start_from=runs)
    codes = RunDirectory(whole.path).read_codes()
    shutil.rmtree(whole.path)
    made = planned(runs, epochs=3)
    log = RunDirectory.append_log

    def killed(self, entry):
        log(self, entry)
        if entry.get("epoch") == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, "append_log", killed)
        with pytest.raises(KeyboardInterrupt):
            execute_run(made, made.runs[0])
    again = planned(runs, epochs=3)
    result = execute_run(again, again.runs[0])
    assert result.id == whole.id
    now = RunDirectory(result.path).read_codes()
    assert all(np.array_equal(now[part], codes[part]) for part in codes)


def test_a_started_run_is_computed_anew_from_its_start(runs):
    result = hashbench.run("cgat (base=csq)", "toy", bits=8, runs_dir=runs, epochs=1, **TOY, start_from=runs)
    evaluator = Evaluator(device="cpu")
    assert [*check_rerun(result, evaluator)] == []
    shutil.rmtree(run_of(runs))
    with pytest.raises(HashbenchError, match=r"was started from .*csq/8b/s0-\w+, which is not there"):
        [*check_rerun(result, evaluator)]


def test_a_start_that_was_trained_again_leaves_the_run_stale(runs):
    def cgat(**more):
        shared = {**TOY, "epochs": 1, "runs_dir": runs, "start_from": runs, **more}
        return hashbench.run("cgat (base=csq)", "toy", bits=8, **shared)

    def state():
        return planned(runs).runs[0].status.state

    result = cgat()
    assert result.provenance["start"]["weights_sha256"] == sha256(run_of(runs) / "model.pt")
    assert state() == "finished"
    codes = RunDirectory(result.path).read_codes()
    retrain(run_of(runs))
    assert state() == "stale"
    with pytest.raises(HashbenchError, match="the run that it was started from was trained again since"):
        [*check_rerun(result, Evaluator(device="cpu"))]
    assert cgat().provenance["start"] == result.provenance["start"]  # loaded, as with any stale run
    again = cgat(rerun="stale")
    assert again.provenance["start"]["weights_sha256"] == sha256(run_of(runs) / "model.pt")
    assert state() == "finished"
    assert not np.array_equal(RunDirectory(again.path).read_codes()["database"], codes["database"])


def test_a_checkpoint_is_of_the_weights_that_its_training_began_with(runs):
    before = planned(runs).runs[0]
    then = code_and_run(before.experiment, before.start)
    retrain(run_of(runs))
    after = planned(runs).runs[0]
    assert after.experiment.id == before.experiment.id
    assert code_and_run(after.experiment, after.start) != then
    with pytest.raises(HashbenchError, match="was trained again meanwhile"):
        before.start.state(CPU)


def _other_weights(run):
    shutil.copy(run_of(run.parents[3], 1) / "model.pt", run / "model.pt")


REFUSED = {
    "no run of the bits": ({"bits": 16}, None, r"has 8 bits, not 16\); first train csq"),
    "no run of the seed": ({"seeds": 3}, None, "is of seed 0, not 2"),
    "another method": ({"method": "cgat (base=crh)"}, None, r"is of csq, not crh\)"),
    "other fields": ({"method": "cgat (base=csq, base.quantization=0.5)"}, None, "is of csq with other fields"),
    "another network": ({"backbone": "resnet-small"}, None, r"another network \(toy-backbone on images at native"),
    "other queries": (
        {"evaluate_on": "validation"},
        None,
        r"learned from toy@small \(test queries\), not toy@small \(v",
    ),
    "unfinished": ({}, lambda run: (run / "result.json").unlink(), "is of seed 1, not 0"),
    "weights not kept": ({}, lambda run: (run / "model.pt").unlink(), "There is no .*model.pt to start from"),
    "another's weights": ({}, _other_weights, "model.pt is not the file that this run's result was stored with"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_start_is_refused_before_anything_is_trained(case, runs):
    more, damage, said = REFUSED[case]
    if damage is not None:
        damage(run_of(runs))
    with pytest.raises(HashbenchError, match=said) as caught:
        planned(runs, **more)
    assert "\n" not in str(caught.value)
    assert not (runs / "toy@small" / "cgat").exists()


def test_a_start_that_could_be_two_runs_is_refused_and_one_that_is_named_is_taken(runs):
    hashbench.run("csq", "toy", bits=8, runs_dir=runs, epochs=1, **TOY)
    with pytest.raises(HashbenchError, match=r"could start from .*/s0-\w+ or from .*/s0-\w+; name the folder of one"):
        planned(runs)
    one = next(result for result in find_runs([runs])[0] if result.epoch["of"] == 1)
    (run,) = planned(runs, start=one.path).runs
    assert run.method == "cgat (base=csq, start=csq for 1 epoch)"
    (runs / "empty").mkdir()
    with pytest.raises(HashbenchError, match=r"There is no finished run below .*empty to start from"):
        planned(runs, start=runs / "empty")


@pytest.mark.parametrize(
    ("method", "reason"), [("itq", "fitted in one call, so there are no weights"), ("nhl", "its head is another than")]
)
def test_methods_that_cannot_start_are_skipped_with_the_reason(method, reason, runs):
    (run,) = planned(runs, method).runs
    assert reason in run.skipped


def test_a_result_that_names_another_start_than_its_spec_is_found(runs):
    result = hashbench.run("cgat (base=csq)", "toy", bits=8, runs_dir=runs, epochs=1, **TOY, start_from=runs)
    stored = json.loads((result.path / "result.json").read_text())
    stored["provenance"]["start"]["id"] = "0" * 64
    (result.path / "result.json").write_text(json.dumps(stored))
    verified = CliRunner().invoke(main, ["verify", str(result.path)])
    assert "do not agree on the run that it was started from" in verified.output


def test_the_command_line_starts_and_shows_it(runs, cli):
    shared = ["run", "--method", "cgat (base=csq)", "--dataset", "toy", "--bits", 8, "--epochs", 1, "--seeds", 2,
              "--backbone", "toy-backbone", "--device", "cpu", "--runs-dir", runs, "--start-from", runs]  # fmt: skip
    assert "cgat (base=csq, start=csq for 3 epochs)" in cli(*shared, "--dry-run").output
    Path("sweep.toml").write_text(f"method = 'cgat (base=csq)'\ndataset = 'toy'\nstart-from = '{runs}'\n")
    done = cli("run", "--config", "sweep.toml", *shared[5:-2]).output
    assert "cgat (base=csq, start=csq for 3 epochs)" in done
