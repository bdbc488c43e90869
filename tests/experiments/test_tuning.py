"""Tuning on validation queries: what is searched, what a trial sees, how a study goes on, and what runs state of it."""

import json
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

import hashbench
from hashbench.cli import main
from hashbench.errors import HashbenchError
from hashbench.experiments import tuning
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.jobs import Sweep
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan, plan_of
from hashbench.results.finding import find_runs
from hashbench.results.leaderboard.recomputing import commands
from hashbench.results.model_card import model_card
from hashbench.results.packing import pack
from hashbench.results.result import cell_of
from hashbench.results.runs import RunDirectory
from hashbench.results.studies import STUDY, Study, find_studies
from hashbench.results.tables.blocks import row_label
from hashbench.results.tables.comparison import Comparison
from hashbench.results.tables.description import describe
from hashbench.storage.notes import read_note, write_note
from hashbench.storage.strict_json import digest

TOY = {"backbone": "toy-backbone", "progress": False, "device": "cpu", "epochs": 1}
SPACE = """
[csq]
quantization = {low = 1e-5, high = 1.0, log = true}
[recipe]
learning_rate = {low = 1e-4, high = 1e-1, log = true}
batch_size = {choices = [16, 64]}
"""


@pytest.fixture
def space(tmp_path):
    def write(text=SPACE):
        path = tmp_path / "space.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A results folder with a study of csq on the toy, of four trials, and the two runs with its best settings."""
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "space.toml").write_text(SPACE)
    runs = folder / "runs"
    (study,) = hashbench.tune(["csq"], ["toy"], [8], space=folder / "space.toml", trials=4, runs_dir=runs, **TOY)
    results = hashbench.sweep(["csq"], ["toy"], [8], seeds=2, runs_dir=runs, tuned=runs, **TOY)
    return runs, study, results


def study_in(runs):
    (folder,) = find_studies(Path(runs))
    return Study.read(folder)


def tune(runs, space, trials, methods=("csq",), dataset="toy", bits=(8,), **more):
    return hashbench.tune(methods, [dataset], bits, space=space, trials=trials, runs_dir=runs, **{**TOY, **more})


def poisoned(path, of_test):
    """Own data whose test rows alone depend on `of_test`."""
    random = np.random.default_rng(0)
    labels = np.tile(np.arange(3), 40)
    features = np.eye(3)[labels] + random.normal(scale=0.8, size=(120, 3))
    part = np.repeat(["train", "test"], [90, 30])
    features[90:], labels[90:] = of_test(features[90:], labels[90:])
    np.savez(path, features=features.astype(np.float32), labels=labels, part=part)
    return f"arrays:{path}"


def test_what_the_test_rows_are_changes_no_trial(tmp_path, space):
    path = space("csq.quantization = {low = 1e-4, high = 10.0, log = true}")
    settings = {"backbone": None, "epochs": 2}
    clean = poisoned(tmp_path / "clean.npz", lambda features, labels: (features, labels))
    poison = poisoned(tmp_path / "poison.npz", lambda features, labels: (1e3 * features[::-1], (labels + 1) % 3))
    studies = [tune(tmp_path / "runs", path, 3, dataset=name, **settings)[0] for name in (clean, poison)]
    assert studies[0].id != studies[1].id  # the files are others, and that is known
    assert len({trial.value for trial in studies[0].trials}) > 1
    assert [t.value for t in studies[0].trials] == [t.value for t in studies[1].trials]
    assert [t.settings for t in studies[0].trials] == [t.settings for t in studies[1].trials]
    on_test = [hashbench.run("csq", name, bits=8, runs_dir=tmp_path / "runs", **{**TOY, **settings}).metrics["mAP@all"]
               for name in (clean, poison)]  # fmt: skip
    assert on_test[0] - on_test[1] > 0.05  # what a look at them would have told


def test_no_trial_reads_a_row_that_is_not_of_the_training_part(tmp_path, space, monkeypatch):
    """The positions that are encoded and counted are all training images of the protocol."""
    from hashbench.datasets import load
    from hashbench.experiments import phases

    train, seen = {*load("toy").split.train.tolist()}, list[int]()
    encode = phases.encode_rows

    def watched(model, inputs, index, world):
        seen.extend(index.tolist())
        return encode(model, inputs, index, world)

    monkeypatch.setattr(phases, "encode_rows", watched)
    tune(tmp_path / "runs", space(), 1)
    assert seen
    assert {*seen} <= train


def test_a_study_tries_settings_as_they_are_first_then_others_of_the_space(tuned):
    runs, study, _ = tuned
    first, *others = study.trials
    assert first.settings == {"csq.quantization": "0.0001", "recipe.batch_size": "64", "recipe.learning_rate": "0.002"}
    assert len({json.dumps(dict(trial.settings)) for trial in study.trials}) == 4
    for trial in others:
        assert 1e-5 <= float(trial.settings["csq.quantization"]) <= 1
        assert trial.settings["recipe.batch_size"] in ("16", "64")
    assert study.best.value == max(trial.value for trial in study.trials)
    assert study_in(runs) == study


def test_a_trial_is_the_validation_run_of_its_settings(tuned, tmp_path):
    _, study, _ = tuned
    trial = study.trials[2]
    overrides = {"csq": {"quantization": trial.settings["csq.quantization"]},
                 "recipe": {name.partition(".")[2]: text for name, text in trial.settings.items()
                            if name.startswith("recipe.")}}  # fmt: skip
    again = hashbench.run("csq", "toy", bits=8, runs_dir=tmp_path, evaluate_on="validation", overrides=overrides, **TOY)
    assert (again.id,) == trial.runs
    assert again.metrics["mAP@all"] == trial.value


def test_runs_state_their_tuning_and_lie_beside_untuned_rows(tuned, tmp_path):
    _, study, results = tuned
    for seed, result in enumerate(results):
        assert result.coords["seed"] == seed
        assert result.coords["recipe"] == "scratch(epochs=1)"
        recipe = {name.partition(".")[2]: text for name, text in study.best.settings.items()
                  if name.startswith("recipe.") and text != study.trials[0].settings[name]}  # fmt: skip
        assert recipe
        assert result.coords["tuned"] == {"trials": 4, "settings": study.best.settings, "recipe": recipe}
        stated = result.provenance["tuned"]
        assert (stated["id"], stated["trials"], stated["failed"]) == (study.id, 4, 0)
        assert stated["seconds"] == pytest.approx(sum(trial.seconds for trial in study.trials))
        assert (result.path / stated["path"]).resolve() == study.path.resolve()
        spec = RunDirectory(result.path).read_spec()["identity"]
        assert str(spec["recipe"]["learning_rate"]) == study.best.settings["recipe.learning_rate"]
        assert Experiment.from_identity(spec).id == result.id
    untuned = hashbench.run("csq", "toy", bits=8, runs_dir=tmp_path / "runs", **TOY)
    comparison = Comparison.of([untuned, *results])
    (table,) = comparison.tables  # one table: the recipe that they share is the same
    plain, row = table.rows
    assert plain.label == "csq"
    assert row.label == "csq (tuned)"
    best = f"recipe.learning_rate={study.best.settings['recipe.learning_rate']}"
    assert row_label(results[0]).endswith(f"{best}, tuned over 4 trials)")
    assert best in describe(results[0]).splitlines()[0]
    (note,) = (sentence for _, sentence in table.notes if sentence.startswith("Tuned"))
    assert f"{row.label}: 4 trials at 8 bits in" in note
    assert best in note.partition(", found ")[2]
    assert note.endswith("Not tuned: csq.")
    assert (row.cost.tuning_trials, plain.cost.tuning_trials) == (4, None)
    assert "tuning s" in comparison.render(cost=True)
    assert "tuning s" not in Comparison.of([untuned]).render(cost=True)
    assert "tuning_s" in comparison.render("csv").splitlines()[0]
    assert "tuning_s" not in Comparison.of([untuned]).render("csv")
    assert not any("Tuned" in sentence for _, sentence in Comparison.of([untuned]).tables[0].notes)
    frame = comparison.to_pandas()
    assert frame["tuning_trials"].tolist()[1:] == [4, 4]


def test_trials_are_in_no_table_and_their_own_folder_shows_them(tuned):
    runs, study, results = tuned
    assert {result.id for result in find_runs([runs])[0]} == {result.id for result in results}
    assert {result.part for result in find_runs([study.path])[0]} == {"validation"}


def test_verify_compares_runs_with_their_study(tuned, tmp_path):
    runs = Path(shutil.copytree(tuned[0], tmp_path / "runs"))

    def verify(code):
        ran = CliRunner().invoke(main, ["verify", str(runs)])
        assert ran.exit_code == code, ran.output
        return ran.output

    verify(0)
    study = study_in(runs)
    file = (study.path / STUDY).read_bytes()
    best = study.trials.index(study.best)
    worse = [t if n != best else type(t)(t.settings, 0.0, t.seconds, t.runs) for n, t in enumerate(study.trials)]
    Study(study.path, study.subject, study.asked, tuple(worse)).write()
    assert f"trial {best} is not what its runs" in verify(1)
    (study.path / STUDY).write_bytes(file.replace(b'"asked": 4', b'"asked": 3'))
    assert "torn or altered" in verify(1)
    (study.path / STUDY).write_bytes(file)
    shutil.rmtree(study.runs_dir)
    assert "the runs of trial 0 are not in" in verify(3)
    shutil.rmtree(study.path)
    assert "there is no study" in verify(3)


def test_verify_notices_a_result_that_makes_its_tuning_cheaper(tuned, tmp_path):
    runs = Path(shutil.copytree(tuned[0], tmp_path / "runs"))
    result = next((runs / "toy@small").rglob("s0-*/result.json"))
    stored = json.loads(result.read_text())
    stored["provenance"]["tuned"]["seconds"] = 0.5
    stored["coords"]["tuned"]["trials"] = 1
    result.write_text(json.dumps(stored))
    ran = CliRunner().invoke(main, ["verify", str(runs)])
    assert ran.exit_code == 1
    assert "seconds is 0.5 in the result" in ran.output
    assert "do not agree on the trials behind the settings" in ran.output


def test_verify_notices_settings_that_are_not_those_tuned(tuned, tmp_path):
    runs = Path(shutil.copytree(tuned[0], tmp_path / "runs"))
    spec = next((runs / "toy@small").rglob("s0-*/spec.json"))
    stored = json.loads(spec.read_text())
    stored["identity"]["recipe"]["learning_rate"] = 0.5
    spec.write_text(json.dumps(stored))
    result = json.loads((spec.parent / "result.json").read_text())  # altered so as to fit
    result["id"] = digest(stored["identity"])
    result["coords"]["cell"] = cell_of(stored["identity"])
    (spec.parent / "result.json").write_text(json.dumps(result))
    spec.parent.rename(spec.parent.with_name(f"s0-{result['id'][:8]}"))
    ran = CliRunner().invoke(main, ["verify", str(runs)])
    assert ran.exit_code == 1
    assert "identity: recipe.learning_rate is 0.5 in spec.json, and" in ran.output
    assert ran.output.count("s0-") == 1 + ran.output.count("missing: ")  # and nothing else of it is found


def test_every_kind_of_setting_is_tuned_and_verified(tmp_path, space):
    path = space("""
[recipe]
nesterov = {choices = [true, false]}
betas = {choices = [[0.9, 0.999], [0.5, 0.9]]}
weight_decay = {choices = [0, "1/4"]}
schedule = {choices = ["cosine", "constant"]}
batch_size = {low = 16, high = 64}
[csq]
center_draws = {choices = [20, 21]}
""")
    runs = tmp_path / "runs"
    (study,) = tune(runs, path, 2)
    assert {trial.settings["recipe.betas"] for trial in study.trials} <= {"0.9,0.999", "0.5,0.9"}
    assert {trial.settings["recipe.nesterov"] for trial in study.trials} <= {"true", "false"}
    hashbench.sweep(["csq"], ["toy"], [8], runs_dir=runs, tuned=runs, **TOY)
    ran = CliRunner().invoke(main, ["verify", str(runs)])
    assert ran.exit_code == 0, ran.output


def test_an_interrupted_study_goes_on_as_if_it_had_not_been(tuned, tmp_path, space, monkeypatch):
    whole = tuned[1]
    computed = tuning.execute

    def interrupted(plan):
        if len(study_in(tmp_path / "runs").trials) == 2:
            raise KeyboardInterrupt
        return computed(plan)

    monkeypatch.setattr(tuning, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "runs", space(), 4)
    monkeypatch.undo()
    with pytest.raises(HashbenchError, match="has 2 of 4 trials; give the same"):
        hashbench.sweep(["csq"], ["toy"], [8], runs_dir=tmp_path / "runs", tuned=tmp_path / "runs", **TOY)
    (study,) = tune(tmp_path / "runs", space(), 4)
    assert study.id == whole.id
    assert [(t.settings, t.value) for t in study.trials] == [(t.settings, t.value) for t in whole.trials]


def test_more_trials_go_on_and_runs_of_fewer_stay_true(tuned, tmp_path, space):
    runs = Path(shutil.copytree(tuned[0], tmp_path / "runs"))
    (study,) = tune(runs, space(), 5)
    assert study.trials[:4] == tuned[1].trials
    assert len(study.trials) == 5
    ran = CliRunner().invoke(main, ["verify", str(runs)])
    assert ran.exit_code == 0, ran.output
    (planned,) = plan(["csq"], ["toy"], [8], settings=Settings(**TOY, runs_dir=runs, tuned=runs)).runs
    assert planned.experiment.tuned["trials"] == 5
    assert not planned.finished
    assert tune(runs, space(), 3) == [study]  # fewer than there are: nothing is tried, and nothing is lost


def test_fewer_trials_than_an_interrupted_command_asked_for_are_all_that_a_run_needs(tuned, tmp_path, space):
    runs = Path(shutil.copytree(tuned[0], tmp_path / "runs"))
    replace(study_in(runs), asked=6).write()  # interrupted after four
    settings = Settings(**TOY, runs_dir=runs, tuned=runs)
    with pytest.raises(HashbenchError, match="has 4 of 6 trials"):
        plan(["csq"], ["toy"], [8], settings=settings)
    (study,) = tune(runs, space(), 3)
    assert study.trials == tuned[1].trials
    (planned,) = plan(["csq"], ["toy"], [8], settings=settings).runs
    assert planned.experiment.tuned["trials"] == 4
    assert planned.finished


def test_another_seed_of_the_sampler_is_another_study(tuned, tmp_path, space):
    (study,) = tune(tmp_path / "runs", space(), 2, sampler_seed=1)
    assert study.id != tuned[1].id
    assert study.trials[0].settings == tuned[1].trials[0].settings
    assert study.trials[1].settings != tuned[1].trials[1].settings


def test_a_diverged_trial_counts_and_is_said(cli, space, monkeypatch):
    path = space("recipe.learning_rate = {choices = [0.002, 1e30]}")
    arguments = ("--dataset", "toy", "--bits", 8, "--backbone", "toy-backbone", "--epochs", 2)
    ran = cli("tune", "--method", "csq", *arguments, "--space", path, "--trials", 2)
    assert "[2/2] csq on toy@small: recipe.learning_rate=1e+30: failed: csq on toy@small, 8 bits" in ran.output
    assert "2 trials (1 failed) in" in ran.output
    study = study_in("runs")
    assert study.trials[1].value is None
    assert "became nan in epoch" in study.trials[1].reason
    assert cli("tune", "--method", "csq", *arguments, "--space", path, "--trials", 2).output.count("[") == 0
    path = space("recipe.learning_rate = {choices = [1e30, 1e31]}")
    ran = cli("tune", "--method", "csq", *arguments, "--space", path, "--trials", 2, code=2)
    assert "failed, the first because: csq on toy@small" in ran.output


def test_a_full_disk_ends_the_command_and_not_the_trial(tmp_path, space, monkeypatch):
    def full(*arguments, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hashbench.results.runs.RunDirectory.write_arrays", full)
    with pytest.raises(HashbenchError, match="The trial does not count"):
        tune(tmp_path / "runs", space(), 2)
    assert study_in(tmp_path / "runs").trials == ()


def test_the_commands_tune_several_rows_alike_and_run_what_they_found(cli, space):
    path = space(SPACE + "[dpsh]\nquantization = {low = 0.01, high = 1.0}\n")
    ran = cli("tune", "--method", "csq,dpsh", "--dataset", "toy", "--bits", "8,12", "--backbone", "toy-backbone",
              "--epochs", 1, "--space", path, "--trials", 2)  # fmt: skip
    studies = [Study.read(folder) for folder in find_studies(Path("runs"))]
    assert [len(study.trials) for study in studies] == [2, 2]
    assert [len(study.trials[0].runs) for study in studies] == [2, 2]  # both lengths in each trial
    command = ran.stdout.splitlines()[-1].split()
    assert command[:2] == ["hashbench", "run"]
    ran = cli(*command[1:])
    assert "Tuned on validation queries: 2 trials at 8, 12 bits for each row, in " in ran.output
    assert cli(*command[1:]).output.count("4 of 4 runs already finished.") == 1
    cli("verify", "runs")


def test_what_is_made_of_tuned_runs_keeps_saying_so(tuned, tmp_path):
    runs, study, _ = (Path(shutil.copytree(tuned[0], tmp_path / "runs")), *tuned[1:])
    results = find_runs([runs])[0]
    under = hashbench.evaluate_run(results[0], under="noise(sigma=0.1)", device="cpu")
    assert (under.path / under.provenance["tuned"]["path"]).resolve() == study_in(runs).path.resolve()
    assert "tuned over 4 trials" in row_label(under)
    (table,) = Comparison.of([*results, under], conditions=True).tables
    assert [row.label for row in table.rows] == ["csq (tuned)"]
    assert any(note.startswith("Tuned on validation queries: csq: 4 trials at 8 bits") for _, note in table.notes)
    ran = CliRunner().invoke(main, ["verify", str(runs)])
    assert ran.exit_code == 0, ran.output
    card = model_card(results[0], RunDirectory(results[0].path).read_spec()["identity"])
    assert f"recipe.learning_rate={study.best.settings['recipe.learning_rate']}" in card.replace("\\", "")
    told = commands(SimpleNamespace(runs=results))
    assert f"# first into `runs`: the study .tuning/toy@small/csq/{study.id[:8]}" in told
    command = next(line for line in told if line.startswith("hashbench run"))
    arguments = shlex.split(command)[1:]
    assert arguments[arguments.index("--method") + 1] == "csq"
    ran = CliRunner().invoke(main, [*arguments, "--runs-dir", str(runs), "--tuned", str(runs), "--dry-run"])
    assert ran.exit_code == 0, ran.output
    assert "0 of 2 runs to compute" in ran.output


def test_a_worker_makes_the_same_plan_of_tuned_runs(tuned):
    runs, _, results = tuned
    made = plan(["csq"], ["toy"], [8], seeds=2, settings=Settings(**TOY, runs_dir=runs, tuned=runs))
    assert [run.experiment.id for run in made.runs] == [result.id for result in results]
    again = plan_of(Sweep.from_text(Sweep.of(made, []).text).request)
    assert [run.experiment.id for run in again.runs] == [result.id for result in results]


def test_a_packed_study_is_taken_as_its_folder_is(tuned, tmp_path):
    runs, study, results = tuned
    packed = tmp_path / "runs.zip"
    pack([runs], packed)
    assert [Study.read(folder) for folder in find_studies(packed)] == [
        replace(study, path=packed / study.path.relative_to(runs))
    ]
    again = hashbench.sweep(["csq"], ["toy"], [8], seeds=2, runs_dir=tmp_path / "runs", tuned=packed, **TOY)
    assert [result.id for result in again] == [result.id for result in results]
    assert [result.metrics for result in again] == [result.metrics for result in results]
    ran = CliRunner().invoke(main, ["verify", str(tmp_path / "runs")])
    assert ran.exit_code == 0, ran.output
    with pytest.raises(HashbenchError, match=r"There is no study below .*toy@small"):
        list(plan(["csq"], ["toy"], [8], settings=Settings(**TOY, tuned=packed / "toy@small")).runs)


def test_a_study_of_another_row_is_not_taken(tuned):
    runs, study, _ = tuned
    for change, words in [({"epochs": 2}, "differs in recipe.epochs"), ({"methods": ["dpsh"]}, "is of csq"),
                          ({"datasets": ["toy@searched"]}, "is of toy@small")]:  # fmt: skip
        request = {"methods": ["csq"], "datasets": ["toy"]} | {k: v for k, v in change.items() if k != "epochs"}
        settings = Settings(**{**TOY, "epochs": change.get("epochs", 1)}, runs_dir=runs, tuned=runs)
        with pytest.raises(HashbenchError, match=f"no study in .* fits .*{words}"):
            plan(request["methods"], request["datasets"], [8], settings=settings)
    settings = Settings(**TOY, runs_dir=runs, tuned=runs)
    with pytest.raises(
        HashbenchError, match=r"csq \(quantization=0.5\) on toy@small, 8 bits: .*differs in csq.quantization[)];"
    ):
        plan(["csq", "csq (quantization=0.5)"], ["toy"], [8], settings=settings)
    other = Path(shutil.copytree(study.path, runs.parent / "other" / ".tuning" / study.path.name))
    with pytest.raises(HashbenchError, match="There is no study below"):
        plan(["csq"], ["toy"], [8], settings=Settings(**TOY, runs_dir=runs, tuned=other / "trials"))


def test_a_study_of_other_data_is_taken_where_that_is_asked_for_and_said(tuned, tmp_path):
    study = tuned[1]
    runs = Path(shutil.copytree(tuned[0], tmp_path / "runs"))
    other = {"runs_dir": runs, "tuned": runs, "tuned_on": "toy@small"}
    (result,) = hashbench.sweep(["csq"], ["toy@searched"], [8], **TOY, **other)
    assert result.coords["tuned"]["data"] == "toy@small"
    assert result.provenance["tuned"]["id"] == study.id
    (row,) = Comparison.of([result]).tables[0].rows
    assert row.label == "csq (tuned on toy@small)"
    assert row_label(result).endswith("tuned over 4 trials on toy@small)")
    assert any("--tuned runs --tuned-on toy@small" in line for line in commands(SimpleNamespace(runs=[result])))
    (own,) = plan(["csq"], ["toy"], [8], settings=Settings(**TOY, **other)).runs
    assert own.experiment.id == tuned[2][0].id  # its own data's study, so nothing is to be said
    ran = CliRunner().invoke(main, ["verify", str(result.path)])
    assert ran.exit_code == 0, ran.output
    stored = json.loads((result.path / "result.json").read_text())
    del stored["coords"]["tuned"]["data"]
    (result.path / "result.json").write_text(json.dumps(stored))
    ran = CliRunner().invoke(main, ["verify", str(result.path)])
    assert ran.exit_code == 1
    assert "do not agree on the data behind the settings" in ran.output
    assert "tuning: the settings are of toy@small, which the result does not say" in ran.output
    with pytest.raises(HashbenchError, match=r"no study of toy@large below .*; there are those of toy@small"):
        plan(["csq"], ["toy"], [8], settings=Settings(**TOY, **{**other, "tuned_on": "toy@large"}))
    with pytest.raises(HashbenchError, match=r"--tuned-on says .* give both, or neither"):
        plan(["csq"], ["toy"], [8], settings=Settings(**TOY, **{**other, "tuned": None}))


def test_of_two_studies_that_of_the_code_length_counts_else_neither(tuned, tmp_path, space):
    runs = Path(shutil.copytree(tuned[0], tmp_path / "runs"))
    (other,) = tune(runs, space(), 1, bits=(12,))
    settings = Settings(**TOY, runs_dir=runs, tuned=runs)
    taken = [plan(["csq"], ["toy"], [bits], settings=settings).runs[0].study.id for bits in (8, 12)]
    assert taken == [tuned[1].id, other.id]
    with pytest.raises(HashbenchError, match="16 bits could take its settings from"):
        plan(["csq"], ["toy"], [16], settings=settings)
    (run,) = plan(["csq"], ["toy"], [16], settings=Settings(**TOY, runs_dir=runs, tuned=other.path)).runs
    assert run.study.id == other.id


@pytest.mark.parametrize(
    ("of_trial", "key", "value"),
    [
        (True, "value", "high"),
        (True, "settings", [1]),
        (True, "runs", [1]),
        (False, "trials", None),
        (False, "asked", "4"),
    ],
)
def test_a_study_whose_entries_are_of_other_kinds_is_refused(tuned, tmp_path, of_trial, key, value):
    study = tuned[1]
    (copy := tmp_path / study.path.name).mkdir()
    note = read_note(study.path / STUDY)
    (note["trials"][1] if of_trial else note)[key] = value
    write_note(copy / STUDY, note)
    with pytest.raises(HashbenchError, match="put a whole copy in its place"):
        Study.read(copy)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no entry, so there is nothing to tune"),
        ("[csq]\n", "has no entry, so there is nothing to tune"),
        (
            "csq.quantisation = {low = 0.1, high = 1.0}",
            "Unknown field of csq 'quantisation'. Did you mean 'quantization'",
        ),
        ("recipe.lr = {low = 0.1, high = 1.0}", "Unknown recipe field 'lr'"),
        ("recipe.epochs = {low = 1, high = 5}", "recipe.epochs is not searched: rows that differ in it"),
        ("cqs.quantization = {low = 0.1, high = 1.0}", "Unknown owner of an entry 'cqs'. Did you mean 'csq'"),
        ("quantization = {low = 0.1, high = 1.0}", "'quantization' has no owner; write recipe.quantization"),
        ("dpsh.quantization = {low = 0.1, high = 1.0}", "has no entry for csq"),
        ("csq.quantization = 0.1", "csq.quantization = 0.1 is no entry of a space"),
        ("csq.quantization = {low = 0.1}", "lacks low or high"),
        ("csq.quantization = {low = 0.1, hihg = 1.0}", "Unknown key of csq.quantization 'hihg'. Did you mean 'high'"),
        ("csq.quantization = {low = 1.0, high = 0.1}", "low = 1.0 is not below high = 0.1"),
        ("csq.quantization = {low = -1e308, high = 1e308}", "from -1e+308 to 1e+308 is too far to draw from"),
        ("csq.quantization = {low = 0.1, high = 0.10001}", "low and high are one number to 4 digits"),
        ("csq.quantization = {low = 0.0, high = 0.1, log = true}", "low = 0.0 has no logarithm"),
        ("csq.quantization = {low = 0.1, high = 1.0, log = 1}", "log is true or false"),
        ("csq.quantization = {low = 0.1, high = 1.0, choices = [1]}", "choices and bounds"),
        ("csq.quantization = {choices = [0.1]}", "choices is a list of two or more"),
        ("csq.quantization = {choices = [0.1, 0.10]}", "choices has a value twice"),
        ("csq.quantization = {choices = [0.1, 'much']}", "csq.quantization: 'much' is not a value for quantization"),
        ("csq.quantization = {low = nan, high = 0.1}", "space.toml: csq.quantization: 'nan' is not a value for"),
        ("csq.quantization_term = {low = 0, high = 1}", "takes no numbers, so it has no bounds"),
        ("recipe.batch_size = {low = 1.5, high = 8}", "'1.5' is not a value for batch_size"),
        ("recipe.batch_size = {low = 0, high = 8}", "recipe.batch_size=0 is in the space, and not possible"),
        ("recipe.batch_size = {low = 8, high = 8.0}", "is not a value for batch_size"),
        ("recipe.batch_size = {choices = [8, 16]}", "--trials 3 is more than the 2 settings"),
        ("[csq\n", "is not TOML"),
        ("csq" + ".a" * 2000 + " = 1", "its tables nest too deeply"),
        ('"csq.quantization" = {low = 0.1, high = 1.0}\n[csq]\nquantization = {low = 0.1, high = 1.0}', "twice"),
    ],
)
def test_a_space_that_is_none_is_refused_before_any_trial(tmp_path, space, text, words):
    with pytest.raises(HashbenchError) as error:
        tune(tmp_path / "runs", space(text), 3)
    assert words in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_without_optuna_the_way_out_is_said(tmp_path, space, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(HashbenchError, match=r"pip install 'hashbench\[tune\]'"):
        tune(tmp_path / "runs", space(), 2)


def test_what_is_given_is_not_searched(tmp_path, space):
    with pytest.raises(HashbenchError, match=r"csq\.quantization has a value in the command"):
        tune(tmp_path / "runs", space(), 2, methods=["csq (quantization=0.2)"])
    with pytest.raises(HashbenchError, match=r"recipe\.batch_size has a value in the command"):
        tune(tmp_path / "runs", space(), 2, overrides={"recipe": {"batch_size": 8}})


def test_data_without_validation_queries_are_refused_with_the_way_out(tmp_path, space):
    random = np.random.default_rng(0)
    labels = np.concatenate([np.tile(np.arange(3), 3), np.tile(np.arange(3), 10)])
    part = np.repeat(["train", "test"], [9, 30])
    np.savez(tmp_path / "few.npz", features=random.normal(size=(39, 4)).astype(np.float32), labels=labels, part=part)
    with pytest.raises(HashbenchError, match="has no validation queries, and nothing is tuned on test queries"):
        tune(tmp_path / "runs", space(), 2, dataset=f"arrays:{tmp_path}/few.npz", backbone=None)
    with pytest.raises(HashbenchError, match="pairs of users and items, which are not tuned"):
        tune(tmp_path / "runs", space(), 2, dataset="movielens-100k")


def test_a_base_and_two_code_lengths_of_one_training_are_tuned(tmp_path, space):
    path = space("nhl.base.quantization = {low = 1e-4, high = 1.0, log = true}")
    runs = tmp_path / "runs"
    (study,) = tune(runs, path, 2, methods=["nhl (base=csq)"], bits=(8, 12))
    results = hashbench.sweep(["nhl (base=csq)"], ["toy"], [8, 12], runs_dir=runs, tuned=runs, **TOY)
    assert [result.coords["bits"] for result in results] == [8, 12]
    assert {result.provenance["tuned"]["id"] for result in results} == {study.id}
    ran = CliRunner().invoke(main, ["verify", str(runs)])
    assert ran.exit_code == 0, ran.output
