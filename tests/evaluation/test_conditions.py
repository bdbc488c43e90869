"""Conditions: what they do to images, by other means; what they may know; and a finished run measured under them."""

import io
import json
import shutil
from itertools import product

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from retrained import retrain
from scipy.ndimage import gaussian_filter
from torch import Tensor

import hashbench
from hashbench import datasets
from hashbench.cli import listing, main
from hashbench.errors import HashbenchError
from hashbench.evaluation import encoding
from hashbench.evaluation.conditions.contract import as_identity, as_text
from hashbench.experiments.reevaluation import parse_condition
from hashbench.metrics import unpack
from hashbench.registry import CONDITIONS
from hashbench.results.runs import RunDirectory
from hashbench.storage.strict_json import digest
from hashbench.system import seeds

FEATURES = {"recipe": "frozen", "backbone": "toy-backbone", "overrides": {"recipe": {"size": "0"}}}


@pytest.fixture
def fresh_conditions(monkeypatch):
    """Forget after the test what conditions it registered."""
    for name in ("_local", "_loaded", "_former"):
        monkeypatch.setattr(CONDITIONS, name, dict(getattr(CONDITIONS, name)))


@pytest.fixture
def run(tmp_path):
    return hashbench.run("crh", "toy", bits=12, epochs=2, progress=False, runs_dir=tmp_path / "runs")


def pictures(count=6, channels=3, height=20, width=20):
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0))


def changed(text, images, *, seed=3, first=0):
    """Return images under a condition, the first of them at place `first` of the query set."""
    condition = parse_condition(text)
    places = range(first, first + len(images))
    queries = hashbench.Queries(images, places, condition.info.name, seed, model=None)
    return condition.apply(queries)


# What they do, by other means


def test_noise_is_drawn_image_by_image_and_clipped():
    images = pictures()
    expected = []
    for place, image in enumerate(images):
        drawn = torch.randn(image.shape, generator=seeds.generator(3, "condition", "noise", place))
        expected.append(np.clip(image.numpy() + np.float32(0.3) * drawn.numpy(), 0, 1))
    assert np.allclose(changed("noise(sigma=0.3)", images), np.stack(expected), atol=1e-6)
    assert 0.09 < (changed("noise", torch.full((4, 3, 64, 64), 0.5)) - 0.5).std() < 0.11  # the stated default


@pytest.mark.parametrize("sigma", [0.13, 0.7, 1.0, 6.0])  # the last kernel is wider than the image
@pytest.mark.parametrize("size", [(20, 20), (9, 31), (1, 12)])
def test_blur_is_scipys(sigma, size):
    images = pictures(height=size[0], width=size[1])
    expected = gaussian_filter(images.double().numpy(), sigma=(0, 0, sigma, sigma), mode="mirror", truncate=4.0)
    assert np.allclose(changed(f"blur(sigma={sigma})", images), expected, atol=1e-6)
    assert torch.equal(changed("blur", images), changed("blur(sigma=1)", images))


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows(channels):
    images = pictures(channels=channels)
    found = changed("jpeg(quality=20)", images)
    for image, one in zip(images, found, strict=True):
        pixels = np.round(image.numpy() * 255).astype(np.uint8).transpose(1, 2, 0)
        file = io.BytesIO()
        Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels).save(file, "JPEG", quality=20)
        back = np.asarray(Image.open(file)).reshape(pixels.shape).transpose(2, 0, 1)
        assert np.array_equal(one, back.astype(np.float32) / np.float32(255))
    assert not torch.equal(found, changed("jpeg(quality=40)", images))
    assert torch.equal(changed("jpeg", images), changed("jpeg(quality=30)", images))


@pytest.mark.parametrize(
    ("share", "size", "covered"), [(0.25, (20, 20), 100), (0.1, (12, 12), 16), (0.25, (8, 20), 40)]
)
def test_occlusion_covers_one_whole_rectangle(share, size, covered):
    images = 0.4 * pictures(count=200, height=size[0], width=size[1])  # nothing in them is grey
    found = changed(f"occlusion(share={share})", images)
    corners = set()
    for image, one in zip(images, found, strict=True):
        grey = (one == 0.5).all(dim=0)
        rows, columns = np.flatnonzero(grey.any(dim=1)), np.flatnonzero(grey.any(dim=0))
        assert int(grey.sum()) == covered == len(rows) * len(columns)
        assert len(rows) / len(columns) == size[0] / size[1]
        assert torch.equal(one[:, ~grey], image[:, ~grey])
        corners.add((rows[0], columns[0]))
    last = {(row, column) for row in (0, size[0] - len(rows)) for column in (0, size[1] - len(columns))}
    assert len(corners) > 30
    assert {row for row, _ in last} <= {row for row, _ in corners}  # every place can be drawn, the ends too
    assert {column for _, column in last} <= {column for _, column in corners}


@pytest.mark.parametrize("text", ["noise(sigma=0)", "blur(sigma=0)", "occlusion(share=0)", "clean"])
def test_no_severity_is_no_change_to_the_bit(text):
    images = pictures()
    assert torch.equal(changed(text, images), images)


@pytest.mark.parametrize("text", ["noise", "occlusion"])
def test_what_is_drawn_follows_from_the_seed_and_the_place_alone(text):
    images = pictures(count=7)
    whole = changed(text, images)
    pieces = [changed(text, images[at : at + 3], first=at) for at in range(0, 7, 3)]
    assert torch.equal(torch.cat(pieces), whole)
    assert not torch.equal(changed(text, images, seed=4), whole)
    assert not torch.equal(changed(text, images, first=1), whole)


@pytest.mark.parametrize("text", [name for name in CONDITIONS if not CONDITIONS.get(name).attack])
def test_the_images_that_come_in_are_left_as_they_are(text):
    images = pictures()
    before = images.clone()
    found = changed(text, images)
    assert torch.equal(images, before)
    assert (found.shape, found.dtype) == (images.shape, images.dtype)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1


# As they are typed


def test_one_condition_has_one_text_and_one_identity():
    written = ["noise", "noise()", "noise (sigma=0.1)", "noise(sigma=.10)", "noise(sigma=1/10)"]
    assert {as_text(as_identity(parse_condition(text))) for text in written} == {"noise(sigma=0.1)"}
    assert len({digest(as_identity(parse_condition(text))) for text in written}) == 1
    assert parse_condition("noise(sigma=8/255)").sigma == 8 / 255
    texts = ["noise(sigma=8/255)", "noise(sigma=2)", "jpeg(quality=30)", "clean", "blur(sigma=0.123456789)"]
    assert [as_text(as_identity(parse_condition(text))) for text in texts] == texts


REFUSED = {
    "noize": "Unknown condition 'noize'. Did you mean 'noise'?",
    "noise(sigm=1)": "Unknown field of noise 'sigm'. Did you mean 'sigma'?",
    "noise(0.1)": "'noise(0.1)' is no condition; write for example 'noise(sigma=0.1)'",
    "noise(sigma=0.1, sigma=0.2)": "gives sigma twice",
    "noise(sigma=much)": "'much' is not a value for sigma, which takes a number",
    "noise(sigma=1/0)": "'1/0' is not a value for sigma",
    "noise(sigma=-1)": "noise(sigma=-1) is not possible; give 0 or more",
    "blur(sigma=-1)": "blur(sigma=-1) is not possible",
    "jpeg(quality=0)": "jpeg(quality=0) is not possible; give 1 to 95",
    "jpeg(quality=30.5)": "'30.5' is not a value for quality, which takes a whole number",
    "occlusion(share=1.5)": "occlusion(share=1.5) is not possible",
    "clean(sigma=1)": "Unknown field of clean 'sigma'",
    "noise(sigma=0.1": "Unknown condition 'noise(sigma=0.1'",
    "": "Unknown condition ''",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_means_no_condition_is_one_sentence(text):
    with pytest.raises(HashbenchError) as refused:
        parse_condition(text)
    assert REFUSED[text] in str(refused.value)


def test_jpeg_of_two_channels_is_refused():
    with pytest.raises(HashbenchError, match="grey or RGB images, and these have 2 channels"):
        changed("jpeg", pictures(channels=2))


# A run under a condition


def same_numbers(one, other):
    return all(getattr(one, part) == getattr(other, part) for part in ("metrics", "bounds", "curves", "counts"))


@pytest.mark.parametrize(
    ("made", "text"),
    [("vectors", "clean"), *product(["images", "features", "pixels"], ["clean", "noise(sigma=0)"])],
)
def test_clean_gives_the_runs_own_numbers_to_the_bit(tmp_path, monkeypatch, made, text):
    method, name, how = "crh", "toy", {}
    if made == "features":
        how = FEATURES
    elif made == "pixels":
        method = "lsh"
    elif made == "vectors":
        name = vectors(tmp_path)
    run = hashbench.run(method, name, bits=12, epochs=2, progress=False, runs_dir=tmp_path / "runs", **how)
    assert run.coords["inputs"] == made
    found = hashbench.evaluate_run(run, under=text, dataset=name)
    assert same_numbers(found, run)
    assert found.code_stats == run.code_stats
    assert found.diagnostics == {"changed_codes": 0.0, "flipped_bits": 0.0}


def vectors(folder):
    """Write vectors of three classes, and return the name of the data set that they are."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 60)
    features = (random.normal(size=(180, 6)) + 3 * np.eye(3).repeat(2, axis=1)[labels]).astype(np.float32)
    np.savez(folder / "mine.npz", features=features, labels=labels)
    return f"arrays:{folder / 'mine.npz'}"


def test_images_alone_can_be_changed(tmp_path):
    name = vectors(tmp_path)
    run = hashbench.run("crh", name, bits=12, epochs=2, progress=False, runs_dir=tmp_path / "runs")
    with pytest.raises(HashbenchError, match=r"'noise' changes images, and arrays:mine@\w+ holds vectors; `hashbench"):
        hashbench.evaluate_run(run, under="noise", dataset=name)
    assert not (run.path / "under").exists()


@pytest.mark.parametrize("how", [{}, FEATURES], ids=["images", "features"])
def test_the_numbers_are_those_of_the_changed_images_against_the_stored_database(tmp_path, how):
    run = hashbench.run("crh", "toy", bits=12, epochs=2, progress=False, runs_dir=tmp_path / "runs", seed=1, **how)
    found = hashbench.evaluate_run(run.path, under="noise(sigma=0.4)")
    data = datasets.load("toy")
    images = torch.from_numpy(data.store.inputs[data.split.query]).float() / 255
    codes = hashbench.load(run.path).encode(changed("noise(sigma=0.4)", images, seed=1))
    stored = RunDirectory(run.path).read_codes()
    labels = (data.store.labels[part].argmax(axis=1) for part in (data.split.query, data.split.database))
    scores = hashbench.evaluate(codes, unpack(stored["database"], 12), *labels, measures=[*run.metrics])
    assert {name: pytest.approx(value) for name, value in scores.items()} == found.metrics
    flipped = codes != unpack(stored["query"], 12)
    assert found.diagnostics["changed_codes"] == flipped.any(axis=1).mean() > 0
    assert found.diagnostics["flipped_bits"] == flipped.sum(axis=1).mean()


def test_the_batch_size_changes_nothing(run, monkeypatch):
    whole = hashbench.evaluate_run(run, under="noise(sigma=0.4)")
    RunDirectory(whole.path).result.unlink()
    monkeypatch.setattr(encoding, "ENCODE_BATCH", 4)
    assert same_numbers(hashbench.evaluate_run(run, under="noise(sigma=0.4)"), whole)


def test_the_result_says_what_it_is_and_where_it_comes_from(run):
    found = hashbench.evaluate_run(run, under="noise")
    assert found.coords == {
        **run.coords,
        "evaluated": "test, noise(sigma=0.1)",
        "cell": digest({"condition": as_identity(parse_condition("noise")), "run": run.coords["cell"]}),
    }
    assert (found.part, found.condition) == ("test", "noise(sigma=0.1)")
    assert (run.part, run.condition) == ("test", "")
    directory = RunDirectory(found.path)
    assert directory.path == run.path / "under" / f"noise-{found.id[:8]}"
    assert {path.name for path in directory.path.iterdir()} == {
        "result.json", "spec.json", "histograms.npz", "codes.npz"
    }  # fmt: skip
    identity = {"condition": {"name": "noise", "version": 1, "fields": {"sigma": 0.1}}, "run": run.id, "seed": 0}
    assert directory.read_spec()["identity"] == identity
    assert digest(identity) == found.id
    assert found.provenance["split_sha256"] == run.provenance["split_sha256"]
    assert found.epoch == run.epoch
    assert {*directory.read_arrays("codes")} == {"query"}  # the database's lie in the run
    assert {*directory.read_codes()} == {"query", "database"}


def test_what_is_finished_is_loaded(run, monkeypatch):
    found = hashbench.evaluate_run(run, under="noise")
    monkeypatch.setattr("hashbench.experiments.reevaluation.encode_under", None)
    assert hashbench.evaluate_run(run, under="noise(sigma=.1)") == found


def test_no_file_is_stored_twice(run):
    clean = hashbench.evaluate_run(run, under="clean")
    zero = hashbench.evaluate_run(run, under="noise(sigma=0)")
    blank = [hashbench.evaluate_run(run, under=text) for text in ("occlusion(share=1)", "noise(sigma=0.4)")]
    for name in ("histograms.npz", "codes.npz"):
        files = [(each.path / name).stat().st_ino for each in (run, clean, zero, *blank)]
        assert files[0] == files[1] == files[2]
        assert len({*files}) == 3


def test_where_files_cannot_have_two_names_they_are_copied(run, monkeypatch):
    monkeypatch.setattr("os.link", lambda *names: (_ for _ in ()).throw(PermissionError(1, "no")))
    directory = RunDirectory(run.path).under("clean", "0" * 64)
    directory.path.mkdir(parents=True)
    stored = RunDirectory(run.path).read_arrays("histograms")
    directory.share_arrays("histograms", [RunDirectory(run.path)], stored)
    assert all(np.array_equal(array, stored[name]) for name, array in directory.read_arrays("histograms").items())
    assert [path.name for path in directory.path.iterdir()] == ["histograms.npz"]


def test_a_run_that_is_run_again_has_nothing_under_conditions(run, tmp_path):
    found = hashbench.evaluate_run(run, under="noise")
    hashbench.run("crh", "toy", bits=12, epochs=2, progress=False, runs_dir=tmp_path / "runs", rerun="all")
    assert not found.path.exists()
    assert hashbench.find_runs([tmp_path])[0][0].id == run.id
    again = hashbench.evaluate_run(run, under="noise")
    assert same_numbers(again, found)


def test_a_run_that_is_run_again_meanwhile_is_not_mixed_with_the_old_one(run, monkeypatch):
    def replaced(*arguments, **named):
        (run.path / "result.json").write_text((run.path / "result.json").read_text() + " ")
        return np.zeros((15, 2), dtype=np.uint8), None

    monkeypatch.setattr("hashbench.experiments.reevaluation.encode_under", replaced)
    with pytest.raises(HashbenchError, match=r"was computed again meanwhile; evaluate it again"):
        hashbench.evaluate_run(run, under="noise")
    assert not [*(run.path / "under").rglob("*.*")]


def test_what_was_measured_with_other_weights_is_left_out_by_name_and_measured_anew(run, tmp_path):
    """A run that another machine trained has the same id, and may be copied over this one."""
    runs, told = tmp_path / "runs", "than the run has now; measure it again with `hashbench evaluate-run`, or delete"
    noise, near = (hashbench.evaluate_run(run, under=text) for text in ("noise(queries=10)", "neighbours(k=5)"))
    stated = {name: run.provenance["files"][name] for name in ("codes.npz", "model.pt")}
    assert noise.provenance["measured_with"] == stated
    assert near.provenance["measured_with"] == {"codes.npz": stated["codes.npz"]}  # its model encodes nothing
    retrain(run.path)
    found, problems = hashbench.find_runs([runs])
    assert [result.id for result in found] == [run.id]
    assert [problem.partition(" than ")[0] for problem in problems] == [
        f"{near.path} was measured with another codes.npz",
        f"{noise.path} was measured with another codes.npz and model.pt",
    ]
    assert all(told in problem for problem in problems)
    with pytest.raises(HashbenchError, match=r"noise-\w+ was measured with another codes.npz and model.pt"):
        RunDirectory(noise.path).read_result()
    for command in ("pack {} -o packed.zip", "freeze {} -o frozen", "compare --conditions {}", "show {}"):
        place = noise.path if "show" in command else runs
        ran = CliRunner().invoke(main, command.format(place).split())
        assert (ran.exit_code, told in ran.stderr) == (2, True), command
    compared = CliRunner().invoke(main, ["compare", str(runs)])
    assert compared.stderr.count("Warning") == 2
    assert "under" not in compared.stdout
    with pytest.warns(UserWarning, match="was measured with other codes or weights, and is measured anew"):
        again = hashbench.evaluate_run(run, under="noise(queries=10)")
    assert again.id == noise.id
    assert not same_numbers(again, noise)
    RunDirectory(noise.path).result.unlink()
    assert same_numbers(hashbench.evaluate_run(run, under="noise(queries=10)"), again)
    assert [problem.partition(" was ")[0] for problem in hashbench.find_runs([runs])[1]] == [str(near.path)]


def test_the_same_weights_from_elsewhere_keep_what_was_measured_with_them(run, tmp_path, recwarn):
    found = hashbench.evaluate_run(run, under="noise")
    hashbench.run("crh", "toy", bits=12, epochs=2, progress=False, runs_dir=tmp_path / "other")
    shutil.copytree(tmp_path / "other", tmp_path / "runs", dirs_exist_ok=True)
    assert hashbench.evaluate_run(run, under="noise") == found
    assert not recwarn.list


@pytest.mark.parametrize("lost", ["measured_with", "files", "model.pt", "codes.npz"])
def test_what_is_not_stated_or_not_here_is_taken_as_before(run, lost):
    """Runs and results from before they stated it, and runs whose arrays or weights were deleted, stay readable."""
    found = hashbench.evaluate_run(run, under="noise")
    if lost in ("model.pt", "codes.npz"):
        (run.path / lost).unlink()
    else:
        path = (found if lost == "measured_with" else run).path / "result.json"
        stored = json.loads(path.read_text())
        del stored["provenance"][lost]
        path.write_text(json.dumps(stored))
    results, problems = hashbench.find_runs([run.path])
    assert [result.id for result in results] == [run.id, found.id]
    assert problems == []
    assert same_numbers(hashbench.evaluate_run(run, under="noise"), found)


def test_a_run_that_does_not_state_its_files_is_known_by_the_files(run):
    path = run.path / "result.json"
    stored = json.loads(path.read_text())
    del stored["provenance"]["files"]
    path.write_text(json.dumps(stored))
    hashbench.evaluate_run(run, under="noise")
    assert hashbench.find_runs([run.path])[1] == []
    retrain(run.path)
    path.write_text(json.dumps(stored))
    (problem,) = hashbench.find_runs([run.path])[1]
    assert "was measured with another codes.npz and model.pt" in problem


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (lambda run: (run.path / "model.pt").unlink(), "There is no .*model.pt; run again to have the weights"),
        (lambda run: (run.path / "codes.npz").unlink(), "There is no .*codes.npz"),
        (lambda run: (run.path / "result.json").unlink(), "There is no .*result.json"),
    ],
)
def test_what_a_run_must_have_kept(run, broken, sentence):
    broken(run)
    with pytest.raises(HashbenchError, match=sentence):
        hashbench.evaluate_run(run.path, under="noise")


def test_other_data_than_the_runs_are_refused(run):
    directory = RunDirectory(run.path)
    spec = directory.read_spec()
    spec["identity"]["data"]["split_sha256"] = "0" * 64
    directory.write_spec(spec)
    with pytest.raises(HashbenchError, match="toy@small is here, but with other images or another split"):
        hashbench.evaluate_run(run, under="noise")


def test_a_run_under_a_condition_is_no_run(run):
    found = hashbench.evaluate_run(run, under="noise")
    for named in (found, found.path):
        with pytest.raises(HashbenchError, match="is a run under a condition already; name the run itself"):
            hashbench.evaluate_run(named, under="blur")


# Plug-ins


@pytest.mark.usefixtures("fresh_conditions")
@pytest.mark.parametrize("how", [{}, FEATURES], ids=["images", "features"])
def test_an_attack_knows_labels_and_database_and_follows_gradients(tmp_path, how):
    seen = []

    @hashbench.condition("away", version=2)
    class Away(hashbench.Condition):
        """One signed step of each query's outputs away from the centroid of its class in the database."""

        attack = True
        eps: float
        steps: int = 2

        def apply(self, queries: hashbench.Queries) -> Tensor:
            seen.append(queries)
            signs = queries.database_codes.float() * 2 - 1
            centroid = (queries.labels.float() @ queries.database_labels.float().T @ signs).sign()
            images = queries.images.clone().requires_grad_()
            for _ in range(self.steps):
                loss = -(torch.tanh(queries.model.outputs(images)) * centroid).sum()
                (gradient,) = torch.autograd.grad(loss, images)
                step = images + self.eps / self.steps * gradient.sign()
                images = step.clamp(queries.images - self.eps, queries.images + self.eps).clamp(0, 1)
                images = images.detach().requires_grad_()
            return images

    run = hashbench.run("crh", "toy", bits=16, epochs=4, progress=False, runs_dir=tmp_path / "runs", **how)
    found = hashbench.evaluate_run(run, under="away(eps=32/255)")
    assert found.coords["evaluated"] == "test, away(eps=32/255, steps=2) v2"
    blind = hashbench.evaluate_run(run, under="noise(sigma=32/255)")
    assert found.metrics["mAP@all"] < blind.metrics["mAP@all"] - 0.05
    data = datasets.load("toy")
    assert torch.equal(torch.cat([each.labels for each in seen]), torch.from_numpy(data.store.labels[data.split.query]))
    assert np.array_equal(seen[0].database_labels, data.store.labels[data.split.database])
    codes = unpack(RunDirectory(run.path).read_arrays("codes")["database"], 16)
    assert np.array_equal(seen[0].database_codes, codes)
    assert seen[0].database_codes.dtype == torch.bool
    with pytest.raises(HashbenchError, match=r"'away' needs eps; write away\(eps=...\)"):
        parse_condition("away(steps=3)")
    fitted = hashbench.run("lsh", "toy", bits=16, progress=False, runs_dir=tmp_path / "runs")
    with pytest.raises(HashbenchError, match="'lsh' has no network, so there are no outputs to differentiate"):
        hashbench.evaluate_run(fitted, under="away(eps=32/255)")


@pytest.mark.usefixtures("fresh_conditions")
def test_a_condition_that_is_no_attack_is_told_no_labels(run):
    seen = []

    @hashbench.condition("curious")
    class Curious(hashbench.Condition):
        def apply(self, queries):
            seen.append(queries)
            assert not torch.is_grad_enabled()
            return queries.images.flip(3)

    hashbench.evaluate_run(run, under="curious")
    (queries,) = seen
    assert (queries.labels, queries.database_codes, queries.database_labels) == (None, None, None)
    assert (queries.images.shape, queries.places, queries.seed) == ((15, 1, 12, 12), range(15), 0)


WRONG = {
    "another shape": (lambda images: images[:, :, 1:], r"returned torch.float32 \(15, 1, 11, 12\) where"),
    "another type": (lambda images: images.double(), "returned torch.float64"),
    "an array": (lambda images: images.numpy(), "returned ndarray"),
    "out of range": (lambda images: images * 2, r"returned images outside of \[0, 1\]"),
    "no numbers": (lambda images: images / 0 * 0, r"returned images outside of \[0, 1\]"),
}


@pytest.mark.usefixtures("fresh_conditions")
@pytest.mark.parametrize("what", WRONG)
def test_what_is_returned_must_be_images(run, what):
    change, sentence = WRONG[what]

    @hashbench.condition("wrong")
    class Wrong(hashbench.Condition):
        def apply(self, queries):
            return change(queries.images)

    with pytest.raises(HashbenchError, match=f"The condition 'wrong' {sentence}"):
        hashbench.evaluate_run(run, under="wrong")
    assert not [*(run.path / "under").rglob("result.json")]


@pytest.mark.usefixtures("fresh_conditions")
def test_what_cannot_be_a_condition():
    with pytest.raises(HashbenchError, match=r"Plain is no condition; derive it from hashbench\.Condition"):

        @hashbench.condition("plain")
        class Plain:
            pass

    for name in ("a, b", "a(b)", ""):
        with pytest.raises(HashbenchError, match="cannot name a condition"):
            hashbench.condition(name)(type("Named", (hashbench.Condition,), {}))
    with pytest.raises(HashbenchError, match="The condition name 'noise' is taken by hashbench"):
        hashbench.condition("noise")(type("Noise", (hashbench.Condition,), {"__module__": __name__}))
    with pytest.raises(TypeError, match=r"Bare must define apply\(queries\)"):
        hashbench.condition("bare")(type("Bare", (hashbench.Condition,), {}))().apply(None)


PLUGIN = """
import hashbench

@hashbench.condition("{name}")
class Dark(hashbench.Condition):
    '''Half as bright.'''
    share: float = 0.5

    def apply(self, queries):
        return queries.images * (1 - self.share)
"""


@pytest.mark.usefixtures("fresh_conditions")
def test_a_plugin_of_another_distribution_is_listed_and_runs(tmp_path, monkeypatch, run):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "their_conditions.py").write_text(PLUGIN.format(name="dark"))
    metadata = tmp_path / "theirs-2.5.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 2.5\n")
    points = "[hashbench.conditions]\ndark = their_conditions:Dark\nwrong = their_conditions:hashbench\n"
    (metadata / "entry_points.txt").write_text(points)
    shown = " ".join(listing.conditions().split())
    assert "dark theirs 2.5 1 images no share=0.5 Half as bright." in shown
    assert "is no class under @hashbench.condition" in shown
    assert hashbench.evaluate_run(run, under="dark(share=0.2)").condition == "dark(share=0.2)"


def test_the_list_states_the_default_severities():
    shown = " ".join(listing.conditions().split())
    for text in (
        "blur",
        "sigma=1",
        "eps=8/255",
        "clean",
        "images, vectors, text",
        "quality=30",
        "sigma=0.1",
        "share=0.25",
    ):
        assert text in shown


def test_what_is_stored_is_strict_json(run):
    found = hashbench.evaluate_run(run, under="occlusion(share=0.3)")
    stored = json.loads((found.path / "result.json").read_text())
    assert stored["coords"]["evaluated"] == "test, occlusion(share=0.3)"
    assert hashbench.Result.from_json(stored) == found
