"""What TensorBoard reads back from a run: its log by epoch and its measures, whole and once."""

import pytest

from hashbench.errors import HashbenchError
from hashbench.results import scalars
from hashbench.results.runs import RunDirectory

reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

RUN = ("run", "--method", "crh,lsh", "--dataset", "toy", "--bits", 8, "--epochs", 2, "--eval-every", 2, "--quiet")


def read(folder):
    """Return {tag: [(step, value), ...]} of all event files in a folder."""
    found = reading.EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@pytest.fixture(scope="module")
def expected():
    return lambda run: {
        **{f"final/{name}": value for name, value in run.read_result().metrics.items()},
        **{f"loss/{name}": value for name, value in run.read_log()[-1]["loss"].items()},
    }


def test_a_sweep_is_read_back_and_finished_runs_are_written_too(cli, tmp_path, expected):
    ran = cli(*RUN, "--log-to", "tensorboard")
    (crh,), (lsh,) = ([*(tmp_path / "runs").glob(f"*/{method}/*/*/")] for method in ("crh", "lsh"))
    run = RunDirectory(crh)
    found = read(crh / "tensorboard")
    log = run.read_log()
    assert [step for step, _ in found["learning_rate"]] == [0, 1]
    assert found["seconds"] == [(entry["epoch"], pytest.approx(entry["seconds"])) for entry in log]
    assert [step for step, _ in found["measures/mAP@all"]] == [1]
    for tag, value in expected(run).items():
        assert found[tag][-1] == pytest.approx((1, value))
    metrics = RunDirectory(lsh).read_result().metrics
    assert read(lsh / "tensorboard") == {f"final/{k}": [(0, pytest.approx(v))] for k, v in metrics.items()}
    again = cli(*RUN, "--log-to", "tensorboard:elsewhere/logs")
    assert "already finished" in again.stderr
    assert read(tmp_path / "elsewhere/logs" / crh.relative_to(tmp_path / "runs")) == found
    assert [*(tmp_path / "elsewhere").rglob("*.part")] == []
    assert "Warning" not in ran.stderr + again.stderr
    cli("compare")  # the folders are no runs


@pytest.fixture
def run(make, stored):
    return RunDirectory(stored(make()).path)


def test_a_run_that_is_written_again_is_there_once(run, tmp_path):
    run.append_log({"epoch": 0, "loss": {"a": 2.0}, "diagnostics": {"text": "b", "none": None, "flag": True}})
    for _ in range(2):
        place = scalars.write_scalars(run, runs_dir=tmp_path / "runs")
    assert len([*place.iterdir()]) == 1
    assert read(place) == {"loss/a": [(0, 2.0)], "final/mAP@all": [(0, pytest.approx(0.5))]}


def test_what_another_training_replaces_has_no_scalars_left(run, tmp_path):
    place = scalars.write_scalars(run, runs_dir=tmp_path / "runs")
    newer = run.again
    newer.path.mkdir()
    newer.result.write_bytes(run.result.read_bytes())
    run.replace_with(newer)
    assert run.finished
    assert not place.exists()


@pytest.mark.parametrize("target", ["wandb", "tensorboard:", "", "tensorboards"])
def test_another_target_is_refused(target):
    with pytest.raises(HashbenchError, match="write tensorboard or tensorboard:FOLDER"):
        scalars.scalars_folder(target)


def test_without_tensorboard_nothing_is_run(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'hashbench[tensorboard]'" in cli(*RUN, "--log-to", "tensorboard", code=2).stderr
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_written_leaves_the_sweep_whole(cli, tmp_path):
    (tmp_path / "file").write_text("")
    ran = cli("run", "--method", "lsh", "--dataset", "toy", "--bits", 8, "--quiet", "--log-to", "tensorboard:file/x")
    assert "Warning: lsh on toy@" in ran.stderr
    assert "mAP@all" in ran.stdout
