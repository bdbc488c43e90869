"""What a sweep runs again, when, and that the old result stays until the new one is whole."""

import hashlib

import pytest

import hashbench
from hashbench.errors import HashbenchError
from hashbench.experiments import execution, phases, runner
from hashbench.experiments.planned import Request, Settings
from hashbench.experiments.planning import plan, plan_of
from hashbench.methods.contract import DeepMethod, method
from hashbench.results.runs import RunDirectory


@pytest.fixture
def settings(tmp_path):
    return {"runs_dir": tmp_path / "runs", "epochs": 2, "progress": False}


@pytest.fixture
def computed(monkeypatch):
    """The cells that are computed from here on."""
    cells = []
    compute = execution._compute_into

    def noted(directory, cell, plan):
        cells.append((cell.method, cell.bits))
        compute(directory, cell, plan)

    monkeypatch.setattr(execution, "_compute_into", noted)
    return cells


@pytest.fixture
def moody(fresh_methods):
    """A method that fails at 16 bits as long as its mood is bad."""

    @method("moody")
    class Moody(DeepMethod):
        mood = "bad"

        def loss(self, out, batch):
            if self.mood == "bad" and out.shape[1] == 16:
                raise ValueError("in a bad mood")
            return {"all": out.square().mean()}

    return Moody


def states(made):
    return [cell.status.state for cell in made.runs]


def swept(settings, rerun="missing", methods=("moody",), bits=(16, 24)):
    made = plan(methods, ["toy"], bits, settings=Settings(**settings, rerun=rerun))
    return made, runner.execute(made)


def test_missing_cells_are_those_without_a_result_the_failed_ones_too(settings, computed, moody):
    made, outcome = swept(settings)
    assert [str(cell) for cell, _ in outcome.failures] == ["moody on toy@small, 16 bits, seed 0"]
    assert states(made) == ["failed", "finished"]
    assert made.runs[0].status.note == "ValueError: in a bad mood"
    moody.mood = "good"
    swept(settings, bits=(16, 24, 32))
    assert computed == [("moody", 16), ("moody", 24), ("moody", 16), ("moody", 32)]


def test_failed_runs_the_failed_cells_alone(settings, computed, moody):
    swept(settings)
    computed.clear()
    moody.mood = "good"
    made, outcome = swept(settings, "failed", bits=(16, 24, 32))
    assert computed == [("moody", 16)]
    assert states(made) == ["finished", "finished", "to do"]
    assert [result.coords["bits"] for result in outcome.results] == [16, 24]
    assert not made.runs[0].directory.failure.exists()


def test_a_cell_that_failed_in_another_process_of_the_sweep_is_not_tried_again(settings, computed, moody):
    made, other = (plan(["moody"], ["toy"], [16], settings=Settings(**settings)) for _ in range(2))
    runner.execute(other)
    ((_, error),) = runner.execute(made).failures
    assert "since this sweep was planned: ValueError: in a bad mood" in str(error)
    assert computed == [("moody", 16)]


def test_stale_results_are_shown_and_kept_unless_asked_for(settings, computed, monkeypatch):
    swept(settings, methods=["crh"])
    monkeypatch.setattr(
        "hashbench.experiments.resolving.source_sha256", lambda cls: hashlib.sha256(b"changed").hexdigest()
    )
    made, outcome = swept(settings, methods=["crh"], bits=(16, 24, 32))
    assert computed == [("crh", 16), ("crh", 24), ("crh", 32)]
    assert states(made) == ["stale", "stale", "stale"]  # the new one too: what made it is not what we say there is
    assert "has changed since, but not its version" in made.runs[0].status.note
    before = [result.provenance["started"] for result in outcome.results]
    monkeypatch.setattr(phases, "provenance", lambda *a, **k: {"started": "anew", "source_sha256": "0"})
    _, outcome = swept(settings, "stale", methods=["crh"])
    assert [result.provenance["started"] for result in outcome.results] == ["anew", "anew"]
    assert "anew" not in before


def test_all_computes_each_cell_once_however_many_processes_ask(settings, computed):
    swept(settings, methods=["crh"])
    made, other = (plan(["crh"], ["toy"], [16, 24], settings=Settings(**settings, rerun="all")) for _ in range(2))
    computed.clear()
    first, second = runner.execute(made), runner.execute(other)
    assert computed == [("crh", 16), ("crh", 24)]
    assert list(first.results) == list(second.results)


@pytest.mark.parametrize("when", ["while computing", "before the old result goes", "between two files", "at the end"])
def test_the_old_result_stays_until_the_new_one_is_whole(settings, monkeypatch, when):
    old = hashbench.run("crh", "toy", bits=16, **settings)
    folder = RunDirectory(old.path)

    class Killed(BaseException):
        pass

    def dies(*arguments, **more):
        raise Killed

    def dies_at(count):
        replace, calls = runner_os.replace, []

        def replaced(source, target):
            if source.parent.name == "again" and target.parent.name != "again":
                calls.append(target.name)
                if len(calls) == count:
                    raise Killed
            replace(source, target)

        return replaced

    import os as runner_os

    with monkeypatch.context() as patch:
        if when == "while computing":
            patch.setattr(phases, "evaluate_histograms", dies)
        elif when == "before the old result goes":
            patch.setattr(RunDirectory, "replace_with", dies)
        else:
            patch.setattr("os.replace", dies_at(2 if when == "between two files" else 6))
        with pytest.raises(Killed):
            hashbench.run("crh", "toy", bits=16, **settings, rerun="all")
    if "between" not in when and "end" not in when:
        assert folder.read_result() == old
    again = hashbench.run("crh", "toy", bits=16, **settings)
    assert again.metrics == old.metrics
    new = when != "while computing"
    if when == "before the old result goes":
        assert again == old  # finished is finished; whoever claims the run next puts the new one there
        again = hashbench.run("crh", "toy", bits=16, **settings, rerun="all")
    assert (again.time != old.time) == new
    assert {path.name for path in old.path.iterdir()} >= {"result.json", "codes.npz", "histograms.npz", "model.pt"}


def test_a_failed_rerun_keeps_the_result(settings, moody):
    moody.mood = "good"
    _, outcome = swept(settings, bits=[16])
    moody.mood = "bad"
    made, failed = swept(settings, "all", bits=[16])
    assert [str(error) for _, error in failed.failures] == ["in a bad mood"]
    assert made.runs[0].directory.read_result() == outcome.results[0]


def test_another_source_does_not_go_on_from_a_checkpoint(settings, monkeypatch):
    def stop(self, line):
        RunDirectory_append(self, line)
        if line.get("epoch") == 1:
            raise KeyboardInterrupt

    RunDirectory_append = RunDirectory.append_log
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "append_log", stop)
        patch.setattr(phases, "source_sha256", lambda *classes: "0" * 64)
        with pytest.raises(KeyboardInterrupt):
            hashbench.run("crh", "toy", bits=16, **{**settings, "epochs": 3})
    result = hashbench.run("crh", "toy", bits=16, **{**settings, "epochs": 3})
    log = RunDirectory(result.path).read_log()
    assert any("belongs to another run, or to other code" in line.get("warning", "") for line in log)


def test_a_request_travels_to_another_process_and_makes_the_same_plan(settings):
    import pickle

    made = plan(["crh", "csq"], ["toy"], [16, 1], settings=Settings(**settings))
    request = pickle.loads(pickle.dumps(made.request))
    assert isinstance(request, Request)
    again = plan_of(request)
    assert [str(cell) for cell in again.runs] == [str(cell) for cell in made.runs]
    result = execution.execute_run(again, again.runs[0])
    assert made.runs[0].directory.read_result() == result
    with pytest.raises(HashbenchError, match="cannot hold 3 classes"):
        execution.execute_run(again, again.runs[1])


def test_an_unknown_rerun(settings):
    with pytest.raises(HashbenchError, match=r"Unknown --rerun 'fail'\. Did you mean 'failed'"):
        hashbench.run("crh", "toy", bits=16, **settings, rerun="fail")
