"""The command line: what users type, and one sentence with exit code 2 for what cannot be."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from hashbench.cli import main
from hashbench.cli.execution import ProgressLines
from hashbench.results.runs import RunDirectory


@pytest.fixture
def hashbench(tmp_path, monkeypatch):
    """Run the command in an empty folder; returns its result."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, code: int = 0):
        result = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return call


TOY = ("run", "--method", "crh", "--dataset", "toy", "--epochs", "2")


def test_run_prints_a_table_and_compare_prints_it_again(hashbench):
    ran = hashbench(*TOY, "--bits", "16,24", "--seeds", "2")
    assert re.search(r"crh ° +0\.\d+ ± 0\.\d+ \(2\) +0\.\d+ ± 0\.\d+ \(2\)", ran.stdout)
    compared = hashbench("compare")
    assert compared.stdout.strip() in ran.stdout
    for form, sign in (("markdown", "| crh"), ("latex", r"\toprule"), ("csv", "toy,small")):
        assert sign in hashbench("compare", "runs", "--format", form).stdout
    assert "P@H<=2" in hashbench("compare", "--measure", "P@H2").stdout


def test_dry_run_writes_nothing(hashbench, tmp_path):
    shown = hashbench(*TOY, "--bits", "1,16", "--dry-run").stdout
    assert "to do" in shown
    assert "cannot hold 3 classes" in shown
    assert not (tmp_path / "runs").exists()
    hashbench(*TOY, "--bits", "16")
    assert "finished" in hashbench(*TOY, "--bits", "16", "--dry-run").stdout


def test_a_cell_that_is_not_supported_is_skipped_in_a_grid(hashbench):
    ran = hashbench(*TOY, "--bits", "1,16")
    assert "skipped: crh on toy@small, 1 bits, seed 0" in ran.stderr


def test_the_papers_settings_are_the_methods_own(hashbench):
    shown = hashbench(*TOY, "--bits", "16", "--recipe", "paper", "--method", "csq,lsh", "--dry-run").stdout
    assert re.search(r"csq +16 +0 +to do", shown)
    assert "it states no published settings" in shown


def test_interrupting_ends_with_one_sentence(hashbench, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("hashbench.experiments.runner.execute", interrupt)
    assert "the same command goes on from here" in hashbench(*TOY, "--bits", "16", code=130).stderr


def test_show_tells_measures_and_provenance(hashbench, tmp_path):
    hashbench(*TOY, "--bits", "16")
    (run,) = (path.parent for path in tmp_path.rglob("result.json"))
    shown = hashbench("show", run).stdout
    for part in ("crh on toy@small, 16 bits, seed 0", "mAP@all", "source_sha256"):
        assert part in shown


def test_encode_writes_packed_codes_and_names(hashbench, tmp_path):
    hashbench(*TOY, "--bits", "12")
    (run,) = (path.parent for path in tmp_path.rglob("result.json"))
    photos = tmp_path / "photos" / "inner"
    photos.mkdir(parents=True)
    for name in ("b.png", "a.png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(photos / name)
    (photos / "notes.txt").write_text("no image")
    (photos / "album.png").mkdir()
    (photos / "._a.png").write_bytes(b"what macOS leaves")
    said = hashbench("encode", run, photos.parent, "--output", "codes.npz")
    assert said.stdout == "codes.npz: codes of 2 images.\n"
    assert said.stderr == "Files passed over: 1 ending in .txt, 1 hidden.\n"
    with np.load("codes.npz", allow_pickle=False) as stored:
        assert stored["files"].tolist() == ["inner/a.png", "inner/b.png"]
        assert stored["codes"].shape == (2, 2)
        assert stored["bits"] == 12
    deep = np.full((8, 8), 40_000, np.uint16)  # Pillow's conversion would cut it to white
    for name, content in (("broken.png", b"no png"), ("deep.png", None)):
        Image.fromarray(deep).save(photos / name) if content is None else (photos / name).write_bytes(content)
        refused = hashbench("encode", run, photos.parent, "--output", "other.npz", code=2)
        assert f"1 image below {photos.parent} cannot be decoded: inner/{name} (" in refused.stderr
        assert not Path("other.npz").exists()
        said = hashbench("encode", run, photos.parent, "--output", "other.npz", "--skip-broken")
        assert "1 image could not be decoded; other.skipped.jsonl lists what was left out" in said.stderr
        assert np.array_equal(np.load("other.npz")["codes"], np.load("codes.npz")["codes"])
        Path("other.npz").unlink()
        (photos / name).unlink()


@pytest.fixture
def arrays(tmp_path):
    """Codes and labels as scripts save them, in the folder that the command runs in."""
    random = np.random.default_rng(0)
    for part, count in (("tst", 20), ("trn", 200)):
        labels = random.integers(0, 4, count)
        np.save(tmp_path / f"{part}_label.npy", np.eye(4, dtype=np.float32)[labels])
        real = random.normal(size=(count, 24)) + np.sign(np.random.default_rng(1).normal(size=(4, 24)))[labels]
        np.save(tmp_path / f"{part}_binary.npy", np.sign(real).astype(np.float32))
    return "tst_binary.npy", "trn_binary.npy", "tst_label.npy", "trn_label.npy"


def test_curves_alone_make_no_file_of_single_queries(hashbench, arrays):
    ran = hashbench("evaluate", *arrays, "--measure", "PR", "--per-query", "each.npz", code=2)
    assert "PR at" in ran.stdout
    assert "each.npz is not written, for a curve has no value for each query; add a measure" in ran.stderr
    assert not Path("each.npz").exists()


def test_evaluate_measures_the_arrays_of_other_suites(hashbench, arrays):
    ran = hashbench("evaluate", *arrays, "--measure", "mAP@all", "--measure", "PR", "--per-query", "each.npz")
    assert "taken as {-1, +1}" in ran.stderr
    value = float(re.search(r"mAP@all +(0\.\d+)", ran.stdout).group(1))
    with np.load("each.npz", allow_pickle=False) as stored:
        assert stored["mAP@all"].shape == (20,)
        assert stored["mAP@all"].mean() == pytest.approx(value, abs=1e-4)
    np.savez("all.npz", q=np.load("tst_binary.npy") > 0, d=np.load("trn_binary.npy") > 0)
    again = hashbench("evaluate", "all.npz:q", "all.npz:d", *arrays[2:], "--measure", "mAP@all")
    assert f"{value:.4f}" in again.stdout
    assert "mAP@all/deephash-pytorch" in hashbench("evaluate", *arrays, "--mode", "deephash-pytorch").stdout


@pytest.mark.parametrize("name", ["d", "my.key", "layer:0", "d.npy"])
def test_a_name_in_a_file_may_hold_dots_and_colons(hashbench, arrays, name):
    query, database, *labels = arrays
    expected = hashbench("evaluate", *arrays).stdout
    np.savez("all.v1.npz", **{"q": np.load(query), name: np.load(database)})
    assert hashbench("evaluate", "all.v1.npz:q", f"all.v1.npz:{name}", *labels).stdout == expected
    np.save("8:00.npy", np.load(database))
    np.save("all.v1.npz:x.npy", np.load(database))
    for file in ("8:00.npy", "all.v1.npz:x.npy"):  # colons of a path
        assert hashbench("evaluate", query, file, *labels).stdout == expected


def test_evaluate_says_how_many_queries_count_as_zero(hashbench, arrays):
    codes, labels = np.load("trn_binary.npy"), np.load("tst_label.npy")
    far = np.where(np.arange(24) < 3, -codes[0], codes[0])  # 3 bits from every item
    np.save("trn_binary.npy", np.repeat(codes[:1], len(codes), axis=0))
    np.save("tst_binary.npy", np.concatenate([codes[:1].repeat(18, axis=0), [far, far]]))
    np.save("tst_label.npy", np.concatenate([np.eye(5, dtype=np.float32)[4:], np.pad(labels, ((0, 0), (0, 1)))[1:]]))
    np.save("trn_label.npy", np.pad(np.load("trn_label.npy"), ((0, 0), (0, 1))))
    said = hashbench("evaluate", *arrays, "--measure", "mAP@all,P@H<=2").stderr
    assert "1 of 20 queries have no relevant item and count as 0." in said
    assert "2 of 20 queries have nothing within Hamming radius 2: they count as 0." in said
    assert "radius" not in hashbench("evaluate", *arrays, "--measure", "mAP@all").stderr


BAD_ARRAYS = {
    "missing": lambda: Path("tst_binary.npy").unlink(),
    "empty": lambda: Path("tst_binary.npy").write_bytes(b""),
    "no array": lambda: Path("tst_binary.npy").write_bytes(b"text"),
    "nan": lambda: np.save("tst_binary.npy", np.full((20, 24), np.nan)),
    "three values": lambda: np.save("tst_binary.npy", np.tile([-1, 0, 1], (20, 8))),
    "other bits": lambda: np.save("tst_binary.npy", np.ones((20, 16), bool)),
    "other count": lambda: np.save("tst_binary.npy", np.ones((19, 24), bool)),
    "flat": lambda: np.save("tst_binary.npy", np.ones(20, bool)),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_evaluate_refuses_what_is_ambiguous_or_broken(hashbench, arrays, case):
    BAD_ARRAYS[case]()
    refused = hashbench("evaluate", *arrays, code=2)
    assert refused.stderr.startswith("Error: ")
    assert len(refused.stderr.strip().splitlines()) == 1


def test_evaluate_takes_measures_with_commas_between_them(hashbench, arrays):
    apart = hashbench("evaluate", *arrays, "--measure", "mAP@all", "--measure", "P@5")
    assert hashbench("evaluate", *arrays, "--measure", "mAP@all,P@5").stdout == apart.stdout
    assert "has an empty name" in hashbench("evaluate", *arrays, "--measure", "mAP@all,,P@5", code=2).stderr


def test_doubtful_codes_are_a_warning_beside_the_scores(hashbench, arrays):
    np.save("tst_binary.npy", np.ones((20, 24), bool))
    ran = hashbench("evaluate", *arrays)
    assert "\nWarning: All 20 query codes are one and the same word" in ran.stderr
    ran = hashbench("evaluate", *arrays, "--shard", "1/1", "--output", "part.npz")
    assert "\nWarning: All 20 query codes are one and the same word" in ran.stderr


@pytest.mark.parametrize("place", [".", "..", "folder", "tst_label.npy", "./tst_label.npy", "pipe", "tst_label.npy/a"])
def test_what_is_no_new_file_is_not_written(hashbench, arrays, place, tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo("pipe")  # as a device would be: no file to take the place of
    before = sorted(tmp_path.iterdir()), Path("tst_label.npy").read_bytes()
    for option in (["--per-query", place], ["--shard", "1/2", "--output", place]):
        refused = hashbench("evaluate", *arrays, *option, code=2)
        assert re.match("Error: .*(name a file|name another|folder is needed)", refused.stderr)
        assert len(refused.stderr.splitlines()) == 1
    assert (sorted(tmp_path.iterdir()), Path("tst_label.npy").read_bytes()) == before


def test_a_device_that_is_not_there_is_one_sentence(hashbench, arrays):
    for more in (["--device", "nope"], ["--device", "cuda:99", "--backend", "torch"]):
        refused = hashbench("evaluate", *arrays, *more, code=2).stderr
        assert re.fullmatch(r"Error: The device '\S+' is not there .*choose `--device cpu`\.\n", refused)


@pytest.mark.parametrize("kind", ["methods", "datasets", "backbones", "recipes"])
def test_list_shows_what_there_is(hashbench, kind):
    known = {"methods": "arXiv:2511.12162", "datasets": "cifar10@54k", "backbones": "resnet34", "recipes": "frozen"}
    assert known[kind] in hashbench("list", kind).stdout


BAD = {
    "method": (("--method", "chr"), "Did you mean 'crh'"),
    "empty method": (("--method", "crh,,crh"), "--method 'crh,,crh' has an empty name"),
    "data set": (("--dataset", "cifar1O"), "Did you mean 'cifar10'"),
    "protocol": (("--dataset", "cifar10@54"), "Did you mean 'cifar10@54k'"),
    "backbone": (("--backbone", "resnet43"), "Did you mean 'resnet34'"),
    "recipe": (("--recipe", "scrach"), "Did you mean 'scratch'"),
    "field": (("--set", "crh.marign=1"), "Did you mean 'margin'"),
    "field's value": (("--set", "crh.margin=wide"), "'wide' is not a value for margin"),
    "setting": (("--set", "margin=1"), "not of the form"),
    "owner": (("--set", "csq.margin=1"), "owner of a --set"),
    "recipe field": (("--set", "recipe.lr=1"), "Unknown recipe field 'lr'"),
    "bits 0": (("--bits", "0"), "0 is not possible"),
    "bits -8": (("--bits", "-8"), "-8 is not possible"),
    "bits 1e9": (("--bits", "1e9"), "'1e9' is not a number of bits"),
    "bits abc": (("--bits", "abc"), "'abc' is not a number of bits"),
    "bits empty": (("--bits", ""), "an empty value is not a number of bits"),
    "bits gap": (("--bits", "16,,32"), "an empty value is not a number of bits"),
    "few bits": (
        ("--dataset", "fashion-mnist-10k", "--bits", "2"),
        "2 bits give 4 words, which cannot hold 10 classes",
    ),
    "epochs": (("--epochs", "-1"), "epochs=-1 is not possible"),
    "no epochs": (("--epochs", "0"), "epochs=0 is not possible"),
    "epochs for ever": (("--epochs", "1000000000000"), "give 1 to 1,000,000"),
    "batch": (("--set", "recipe.batch_size=10000000000000"), "batch_size=1e+13 is not possible"),
    "rate": (("--set", "recipe.learning_rate=nan"), "'nan' is not a value for learning_rate"),
    "betas": (("--set", "recipe.betas=2,3"), "betas=2.0,3.0 is not possible"),
    "momentum": (("--set", "recipe.momentum=5"), "momentum=5.0 is not possible"),
    "step factor": (("--set", "recipe.step_factor=-1"), "step_factor=-1.0 is not possible"),
    "capitals of a method": (("--method", "Crh"), "Did you mean 'crh'"),
    "capitals of a data set": (("--dataset", "CIFAR10"), "Did you mean 'cifar10'"),
    "capitals of a backbone": (("--backbone", "ResNet18"), "Did you mean 'resnet18'"),
    "capitals of a field": (("--set", "crh.Heads=1"), "Did you mean 'heads'"),
    "many seeds": (("--seeds", "10000000"), "This sweep has 10,000,000 runs, and 50,000 are planned at a time"),
    "seeds": (("--seeds", "0"), "--seeds 0 is not possible"),
    "device": (("--device", "gpu"), "There is no device 'gpu'"),
    "missing data": (("--dataset", "cifar10", "--data-dir", "."), "cifar-10"),
    "no data folder": (("--dataset", "cifar10", "--data-dir", "nowhere"), "nowhere does not exist"),
    "vit at 32": (("--backbone", "identity"), "takes vectors and text, not images"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(hashbench, tmp_path, case, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", _no_network)
    changes, sentence = BAD[case]
    arguments = dict(zip(TOY[1::2], TOY[2::2], strict=True)) | {"--bits": "16"} | dict([changes[:2], changes[-2:]])
    refused = hashbench("run", *(part for pair in arguments.items() for part in pair), code=2)
    lines = refused.stderr.strip().splitlines()
    assert lines[-1].startswith("Error: ")
    assert sentence in lines[-1]
    assert not list(tmp_path.rglob("result.json"))


def _no_network(*args, **kwargs):
    raise OSError("no network")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none(hashbench):
    refused = hashbench(*TOY, "--bits", "16", "--device", "cuda", code=2)
    assert "CUDA devices: 0" in refused.stderr


def test_a_file_in_place_of_the_runs_directory(hashbench):
    Path("taken").write_text("")
    refused = hashbench(*TOY, "--bits", "16", "--runs-dir", "taken", code=2)
    assert "Cannot write taken" in refused.stderr
    assert Path("taken").read_text() == ""


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_runs_directory_that_is_not_ours(hashbench):
    Path("theirs").mkdir(mode=0o555)
    refused = hashbench(*TOY, "--bits", "16", "--runs-dir", "theirs", code=2)
    assert "name a folder you may write to" in refused.stderr


def test_a_cell_that_another_process_is_at_is_waited_for(hashbench, monkeypatch):
    dry = hashbench(*TOY, "--bits", "16", "--dry-run").stdout
    directory = RunDirectory(Path(re.search(r"runs/\S+", dry).group()))
    lock = directory.lock()
    lock.__enter__()
    assert "running" in hashbench(*TOY, "--bits", "16", "--dry-run").stdout
    held = ProgressLines.held

    def show_and_release(self, run):
        held(self, run)
        lock.__exit__(None, None, None)

    monkeypatch.setattr(ProgressLines, "held", show_and_release)
    ran = hashbench(*TOY, "--bits", "16,24")
    waiting = f"crh on toy@small, 16 bits, seed 0 is running elsewhere (by process {os.getpid()}"
    assert ran.stderr.index(waiting) < ran.stderr.index("24 bits")
    assert directory.finished


@pytest.mark.parametrize("what", ["compare", "show"])
def test_results_that_are_not_there(hashbench, what):
    assert "nowhere" in hashbench(what, "nowhere", code=2).stderr


def test_an_unknown_measure(hashbench):
    hashbench(*TOY, "--bits", "16")
    assert "mAP@1000/hits" in hashbench("compare", "--measure", "mAP@1000", code=2).stderr


def test_debug_keeps_the_traceback(hashbench):
    result = CliRunner().invoke(main, ["--debug", "run", "--method", "chr", "--dataset", "toy"])
    assert "Unknown method" in str(result.exception)


def test_every_commands_help_ends_with_examples():
    for name, command in main.commands.items():
        text = CliRunner().invoke(main, [name, "--help"]).stdout
        assert f"hashbench {name}" in text.rpartition("Examples:")[2], command


@pytest.mark.parametrize("probe", [(), ("--probe",)])
def test_a_dry_run_asks_the_network_for_nothing(hashbench, monkeypatch, probe):
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("it asks the network"))
    arguments = ("run", "--method", "lsh", "--dataset", "cifar10", "--bits", "16")
    said = hashbench(*arguments, "--dry-run", *probe, code=2).stderr
    assert "CIFAR-10 is not in" in said
    assert "a dry run downloads nothing; `hashbench prepare` and the run itself do" in said
    monkeypatch.setattr("urllib.request.urlopen", _no_network)
    assert "cannot be downloaded (no network)" in hashbench(*arguments, code=2).stderr


def test_registered_names_with_protocols_are_a_list():
    from hashbench.cli.options import dataset_is_there, names

    given = "cifar10@54k,cifar100@45k,movielens-100k@80-20"
    found = names("--dataset", given, is_there=lambda name: dataset_is_there(name, None))
    assert found == given.split(",")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("{m}:A (how=a),csq", ["{m}:A (how=a)", "csq"]),
        ('"{m}:A (how=a)",csq', ["{m}:A (how=a)", "csq"]),
        ('"{m}:A (how=a)","{m}:A (how=b)"', ["{m}:A (how=a)", "{m}:A (how=b)"]),
        ("{m}:A (how=a),{m}:A (how=b, c=1),crh (heads=1)", ["{m}:A (how=a)", "{m}:A (how=b, c=1)", "crh (heads=1)"]),
        ("csq,{m}:A", ["csq", "{m}:A"]),
        ("a={m}:A,b={m}:B", ["a={m}:A", "b={m}:B"]),
        ("csq,a={m}:A", ["csq", "a={m}:A"]),
        ("{c}:A (how=a),csq", ["{c}:A (how=a)", "csq"]),
    ],
)
def test_rows_of_a_class_in_a_file_stand_anywhere_in_a_list(hashbench, given, wanted):
    from hashbench.cli.options import method_is_there, names

    files = {"m": "m.py", "c": "m,n.py"}
    for file in files.values():
        Path(file).touch()
    found = names("--method", given.format(**files), is_there=method_is_there)
    assert found == [name.format(**files) for name in wanted]
