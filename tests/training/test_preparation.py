"""The cache of preparations: what is damaged there, or of something else, is prepared anew."""

import zipfile

import pytest
import torch
from toy_dataset import ToyBackbone

import hashbench
from hashbench.errors import HashbenchError
from hashbench.methods.contract import DeepMethod, method
from hashbench.storage.cache import cache_root
from hashbench.storage.tensorfiles import save

PREPARED = torch.linspace(0, 1, 64)


@pytest.fixture
def run(tmp_path, fresh_methods):
    """Run a method that prepares a tensor; returns what it was given and whether that came from the cache."""
    given = []

    @method("preparing")
    class Preparing(DeepMethod):
        prepared_by = ()

        def prepare(self, task, data, tools):
            return {"values": PREPARED.clone()}

        def setup(self, task, prepared):
            given.append(prepared["values"].clone())

        def loss(self, out, batch):
            return {"all": out.square().mean()}

    def call(seed=0):
        given.clear()
        runs = tmp_path / str(len([*tmp_path.iterdir()]))
        result = hashbench.run("preparing", "toy", bits=8, seed=seed, epochs=1, runs_dir=runs, progress=False)
        assert all(torch.equal(values, PREPARED) for values in given)
        return result.provenance["prepared_from_cache"]

    return call


def kept():
    (path,) = (cache_root() / "prepared").glob("*.pt")
    return path


def flip(path):
    whole = path.read_bytes()
    at = whole.index(PREPARED.numpy().tobytes())
    path.write_bytes(whole[:at] + bytes(32) + b"\x7f" * 32 + whole[at + 64 :])


DAMAGES = {
    "flipped bytes": (flip, "is damaged"),
    "torn": (lambda path: path.write_bytes(path.read_bytes()[:-700]), "is damaged"),
    "empty": (lambda path: path.write_bytes(b""), "is damaged"),
    "zeros": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "is damaged"),
    "of something else": (
        lambda path: save({"tensors": {"values": torch.zeros(64)}, "seconds": 0.0}, path, of="0" * 64),
        "belongs to another run, or to other code or data",
    ),
    "from before it was marked": (
        lambda path: torch.save({"tensors": {"values": torch.zeros(64)}, "seconds": 0.0}, path),
        "does not say what it belongs to",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_cannot_be_used_is_prepared_anew_with_a_warning(run, caplog, damage):
    assert not run()
    assert run()
    change, reason = DAMAGES[damage]
    change(kept())
    assert not run()
    assert f"{kept()} {reason}" in caplog.text
    assert "and is prepared anew." in caplog.text
    assert zipfile.ZipFile(kept()).testzip() is None
    assert run()


def test_what_a_killed_process_left_half_written_is_removed(run):
    run()
    kept().with_name(".preparing-0123.pt.4711-0123abcd.part").write_bytes(b"half")
    assert run()
    assert not run(seed=1)
    assert not [*(cache_root() / "prepared").glob(".*.part")]


@pytest.mark.parametrize(("recipe", "width"), [("finetune", 16), ("scratch", 144)])
def test_view_features_are_fixed_features_of_the_views_of_the_first_epoch(recipe, width, tmp_path, fresh_methods):
    seen = []

    @method("two-views")
    class TwoViews(DeepMethod):
        supervised = False
        views = 2
        view_augments = ("", "pad-crop-flip-jitter")

        def prepare(self, task, data, tools):
            seen.extend(tools.view_features())
            weight = ToyBackbone((1, 12, 12)).weight.T if width == 16 else torch.eye(144)
            wanted = torch.zeros(2, task.num_train, width)
            for batch in data.batches():
                for view, images in enumerate(batch.views):
                    wanted[view, batch.index] = images.flatten(1) @ weight
            assert not torch.equal(wanted[0], wanted[1])
            torch.testing.assert_close(torch.stack(seen), wanted, rtol=1e-5, atol=1e-5)
            return {}

        def training_step(self, network, batch):
            first, second = (network(view) for view in batch.views)
            return {"apart": (first - second).square().mean()}, first

    hashbench.run("two-views", "toy", bits=8, epochs=1, recipe=recipe, backbone="toy-backbone", runs_dir=tmp_path,
                  overrides={"recipe": {"size": 0, "augment": "pad-crop", "precision": "fp32"}},
                  progress=False)  # fmt: skip
    assert [tuple(features.shape) for features in seen] == [(60, width)] * 2
    assert not any(features.requires_grad for features in seen)


def test_a_field_that_is_read_and_not_declared_is_refused(tmp_path, fresh_methods):
    @method("reading")
    class Reading(DeepMethod):
        scale: float = 1.0
        bias: float = 0.0
        prepared_by = ("bias",)

        def prepare(self, task, data, tools):
            return {"values": PREPARED * self.scale + self.bias}

        def loss(self, out, batch):
            return {"all": self.scale * out.square().mean()}

    with pytest.raises(HashbenchError, match=r"Reading reads its field scale, .* prepared_by = \('bias', 'scale'\)"):
        hashbench.run("reading", "toy", bits=8, epochs=1, runs_dir=tmp_path / "refused", progress=False)
    Reading.prepared_by = ("bias", "scale")
    assert hashbench.run("reading", "toy", bits=8, epochs=1, runs_dir=tmp_path / "runs", progress=False).metrics
