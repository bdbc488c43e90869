"""A sweep before and while it runs: the table of --dry-run, --probe, the bar over all runs, and what status says."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tqdm import tqdm

import hashbench
from hashbench.cli.execution import ProgressLines
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan
from hashbench.results.runs import RunDirectory
from hashbench.storage.strict_json import document

pytestmark = pytest.mark.usefixtures("fresh_methods")
TOY = ("run", "--method", "crh", "--dataset", "toy", "--epochs", "2", "--bits", "12")


def run(bits=12, **changes):
    return RunDirectory(hashbench.run("crh", "toy", bits=bits, epochs=2, progress=False, **changes).path)


def takes(directory, **seconds):
    """Rewrite how long a finished run has taken."""
    data = json.loads(directory.result.read_text())
    data["time"] = dict.fromkeys(data["time"], 0.0) | seconds
    directory.result.write_text(document(data))
    return directory


def files():
    return sorted(str(path) for path in Path().rglob("*"))


# the table


def test_seeds_are_one_line(cli):
    takes(run(), total=600.0)
    run(seed=1)
    shown = cli(*TOY, "--seeds", "5", "--dry-run").stdout
    assert re.search(r"crh +12 +0-4 +2 finished, 3 to do +3 x 5 min +runs/toy@small/crh/12b\n", shown)
    assert shown.strip().endswith("3 of 5 runs to compute, about 15 min one after another.")
    (row,) = [line for line in cli(*TOY, "--seeds", "2", "--dry-run").stdout.splitlines() if line.startswith("toy")]
    assert re.search(r"crh +12 +0-1 +finished +runs/toy@small/crh/12b$", row)


def test_seeds_that_cannot_run_have_their_reason_once(cli):
    shown = cli(*TOY, "--seeds", "3", "--bits", "1,12", "--dry-run").stdout
    assert len(re.findall(r"crh +1 +0-2 +skipped .*cannot hold 3 classes", shown)) == 1
    assert re.search(r"crh +12 +0-2 +to do +unknown +runs", shown)


def test_other_epochs_and_images_are_scaled_and_marked(cli):
    takes(run(), total=100.0, train=90.0)
    shown = cli(*TOY, "--epochs", "20", "--bits", "24", "--dry-run").stdout
    assert re.search(r"crh +24 +0 +to do +15 min \(scaled\)", shown)  # 10 times the training, and 10 s
    halved = cli(*TOY, "--evaluate-on", "validation", "--dry-run").stdout
    num_train = len(
        plan(["crh"], ["toy"], [12], settings=Settings(evaluate_on="validation")).datasets["toy@small"].split.train
    )
    assert re.search(rf"to do +{10 + 90 * num_train // 60} s \(scaled\)", halved)
    exact = cli(*TOY, "--bits", "24", "--dry-run").stdout
    assert re.search(r"crh +24 +0 +to do +2 min +runs", exact)
    assert "scaled" not in cli(*TOY, "--epochs", "3", "--set", "recipe.learning_rate=0.1", "--dry-run").stdout


# --probe


def test_a_probe_times_each_kind_and_keeps_nothing(cli, monkeypatch):
    """Of 3 steps an epoch for 50 epochs, 20 are taken; 100 ms each, they make 15 s."""
    hashbench.method("slow")(type("Slow", (hashbench.DeepMethod,), {"loss": loss}))
    steps.clear()
    Clock(monkeypatch)
    before = files()
    ran = cli("run", "--method", "slow,crh,lsh", "--dataset", "toy", "--bits", "12,16", "--seeds", "2",
              "--epochs", "50", "--set", "recipe.batch_size=20", "--dry-run", "--probe")  # fmt: skip
    assert files() == before
    assert not [*Path(hashbench.storage.cache.cache_root()).rglob("*")]
    assert steps == [12] * 20  # once for its kind, of which the shortest codes are first
    assert re.search(r"slow +12 +0-1 +to do +2 x 15 s \(probed\)", ran.stdout)
    assert re.search(r"slow +16 +0-1 +to do +2 x 15 s \(probed\)", ran.stdout)
    assert re.search(r"lsh +12 +0-1 +to do +unknown", ran.stdout)
    assert "of which nothing is kept: 2 kinds of runs.\n" in ran.stdout
    assert "Not probed: lsh on toy@small, 12 bits, seed 0: it is fitted in one call" in ran.stdout
    assert ran.stderr.count("probing ") == 3


steps = []


class Clock:
    """A clock that each step of the method `slow` moves by 100 ms, and nothing else."""

    now = 0.0

    def __init__(self, monkeypatch):
        monkeypatch.setattr("time.perf_counter", lambda: Clock.now)


def loss(self, out, batch):
    Clock.now += 0.1
    steps.append(out.shape[1])
    return {"a": (out**2).mean()}


def test_preparation_is_part_of_a_probe(cli, monkeypatch):
    """20 of its 100 steps are taken, and then 20 of the 100 of its training: 20 s in all."""

    def prepare(self, task, data, tools):
        network = tools.train(3, lambda out, batch: loss(self, out, batch))
        return {"outputs": tools.outputs(network)}

    def setup(self, task, prepared):
        assert prepared["outputs"].shape == (60, 3)

    hashbench.method("slow")(type("Slow", (hashbench.DeepMethod,), {"loss": loss, "prepare": prepare, "setup": setup}))
    Clock(monkeypatch)
    steps.clear()
    ran = cli("run", "--method", "slow", "--dataset", "toy", "--bits", "12", "--epochs", "50", "--dry-run", "--probe",
              "--set", "recipe.batch_size=30")  # fmt: skip
    assert steps == [3] * 20 + [12] * 20
    assert re.search(r"slow +12 +0 +to do +20 s \(probed\)", ran.stdout)
    assert not [*Path(hashbench.storage.cache.cache_root()).rglob("*")]


def test_a_frozen_backbone_is_probed_without_its_features(cli):
    ran = cli("run", "--method", "crh", "--dataset", "toy", "--bits", "12", "--recipe", "frozen", "--backbone",
              "toy-backbone", "--dry-run", "--probe", "--epochs", "3")  # fmt: skip
    assert re.search(r"to do +\d+ s \(probed\)", ran.stdout)
    assert not [*Path(hashbench.storage.cache.cache_root()).rglob("*")]


def test_a_preparation_is_probed_with_random_features(cli, monkeypatch):
    """Of 6 batches 4 are passed, in 3 s each; 18 steps take 1.8 s; and 90 codes 3.6 s: 23 s in all."""
    given = []

    def prepare(self, task, data, tools):
        given.extend([data.features(), *tools.view_features()])
        return {}

    def forward(self, images):
        Clock.now += 0 if self.training else 3
        return images.flatten(1) @ self.weight.T

    hashbench.method("looks")(type("Looks", (hashbench.DeepMethod,), {"loss": loss, "prepare": prepare}))
    Clock(monkeypatch)
    monkeypatch.setattr("toy_dataset.ToyBackbone.forward", forward)
    ran = cli("run", "--method", "looks", "--dataset", "toy", "--bits", "12", "--recipe", "finetune", "--backbone",
              "toy-backbone", "--dry-run", "--probe", "--epochs", "3", "--set", "recipe.batch_size=10",
              "--set", "recipe.size=0")  # fmt: skip
    assert [tuple(found.shape) for found in given] == [(60, 16)] * 2
    assert re.search(r"to do +23 s \(probed\)", ran.stdout)
    assert not [*Path(hashbench.storage.cache.cache_root()).rglob("*")]


def test_what_is_known_is_not_probed(cli):
    takes(run(), total=600.0)
    ran = cli(*TOY, "--bits", "24", "--dry-run", "--probe")
    assert "probing" not in ran.stderr
    assert "probe" not in ran.stdout.lower()
    assert "10 min" in ran.stdout


def test_a_method_that_fails_fails_its_probe_alone(cli):
    def fails(self, out, batch):
        raise KeyError("tau")

    hashbench.method("fails")(type("Fails", (hashbench.DeepMethod,), {"loss": fails}))
    ran = cli("run", "--method", "fails,crh", "--dataset", "toy", "--bits", "12", "--dry-run", "--probe")
    assert "Not probed: fails on toy@small, 12 bits, seed 0: KeyError: 'tau'" in ran.stdout
    assert re.search(r"crh +12 +0 +to do +\d+ \w+ \(probed\)", ran.stdout)


def test_a_probe_belongs_to_a_dry_run(cli):
    assert "--probe belongs to --dry-run" in cli(*TOY, "--probe", code=2).stderr


# the bar


@pytest.fixture
def bars(monkeypatch):
    """All texts beside the bar over the runs."""
    shown = []
    monkeypatch.setattr(tqdm, "set_postfix_str", lambda self, text="", refresh=True: shown.append(text))
    return shown


def lines(made, **settings):
    shown = ProgressLines(made, bar=True)
    shown.begin(len(made.runs))
    return shown


def test_what_is_left_is_what_finished_runs_say_of_the_others(cli, bars, capsys):
    """100 s for each of crh, then 10 s; csq is unknown until one has finished."""
    takes(run(), total=100.0)
    made = plan(["crh", "csq"], ["toy"], [12, 16], settings=Settings(epochs=2, progress=False))
    finished, crh, *csq = made.runs
    with lines(made) as shown:
        shown.finished(finished, finished.status)
        shown.started(crh)
        assert bars[-1] == "about 2 min left and 2 runs of unknown length"
        takes(RunDirectory(hashbench.run("crh", "toy", bits=16, epochs=2, progress=False).path), total=20.0)
        shown.ended(crh, None)
        assert bars[-1] == ""  # nothing is known of csq
        shown.started(csq[0])
        takes(RunDirectory(hashbench.run("csq", "toy", bits=12, epochs=2, progress=False).path), total=30.0)
        shown.ended(csq[0], None)
        assert bars[-1] == "about 30 s left"
        shown.ended(csq[1], "boom")
        assert bars[-1] == "1 failed"
    written = capsys.readouterr().err
    assert re.search(
        r"\[2/4\] crh on toy@small, 16 bits, seed 0 -> \S+ \(about 2 min left and 2 runs of unknown", written
    )
    assert re.search(r"\[4/4\] csq on toy@small, 16 bits, seed 0 failed: boom\n", written)


def test_runs_that_are_computed_at_a_time_share_what_is_left(cli, bars):
    takes(run(), total=100.0)
    made = plan(["crh"], ["toy"], [16, 24, 32, 48], settings=Settings(epochs=2, progress=False))
    with lines(made) as shown:
        shown.tick(made.runs)
        assert bars[-1] == "about 7 min left"
        with made.runs[0].directory.lock(), made.runs[1].directory.lock():
            shown.tick(made.runs)
            assert re.fullmatch(r"about (3 min|200 s) left, 2 running", bars[-1])


def test_the_bar_has_no_guess_of_its_own(cli, capsys):
    made = plan(["crh"], ["toy"], [16, 24], settings=Settings(epochs=2, progress=False))
    with lines(made) as shown:
        shown.ended(made.runs[0], "boom")
        text = str(shown._bar)
    assert "1/2 runs [00:00" in text
    assert "run/s" not in text
    assert "<" not in text


# status


def test_status_tells_what_is_left_of_the_sweep(cli):
    sweep = [*TOY[:-1], "12,24", "--seeds", "2", "--quiet"]
    cli(*sweep)
    folders = [RunDirectory(path.parent) for path in sorted(Path().rglob("24b/*/result.json"))]
    for directory in [RunDirectory(path.parent) for path in Path().rglob("12b/*/result.json")]:
        takes(directory, total=600.0)
    assert "left" not in cli("status").stdout
    folders[0].result.unlink()  # interrupted
    assert cli("status").stdout.endswith("\n\n1 run to finish, 1 at a time: about 10 min left.\n")
    RunDirectory(folders[1].path.rename(folders[1].path.with_name("elsewhere"))).result.unlink()
    assert cli("status").stdout.endswith(
        "\n\n3 runs to finish, 1 at a time: about 20 min left and 1 run of unknown length.\n"
    )


def test_status_takes_off_what_has_run(cli):
    cli(*TOY[:-1], "12,24", "--quiet")
    first, second = (RunDirectory(path.parent) for path in sorted(Path().rglob("result.json")))
    takes(first, total=600.0)
    second.result.unlink()
    log = second.read_log()
    second.log.unlink()
    with second.lock():
        assert "1 run to finish, 1 at a time: about 10 min left." in cli("status").stdout
        early = (datetime.now(UTC) - timedelta(minutes=4)).isoformat(timespec="seconds")
        lock = second.path / "lock"
        lock.write_text(re.sub(r'"started": *"[^"]+"', f'"started": "{early}"', lock.read_text()))
        assert "about 6 min left." in cli("status").stdout
        second.append_log({**log[0], "seconds": 30.0})  # by its own pace, one of two epochs is left
        assert "about 30 s left." in cli("status").stdout.splitlines()[-1]


def test_status_reads_what_older_versions_recorded(cli):
    cli(*TOY, "--quiet")
    (note,) = Path("runs/.sweeps").glob("*.json")
    data = json.loads(note.read_text())
    data["runs"] |= {"toy@small/crh/12b/s1-0": {}, "toy@small/crh/12b/s2-0": 3}
    note.write_text(json.dumps(data))
    shown = cli("status").stdout
    assert re.search(r"toy@small/crh/12b +1 +2", shown)
    assert "left" not in shown
