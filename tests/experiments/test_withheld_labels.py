"""The runner gives no labels to an unsupervised method: one that looks for them wherever it can records what it saw."""

import pytest
import torch

import hashbench

HOOKS = {"prepare", "tools", "fresh", "training_step", "after_step", "epoch_sums", "fresh pass"}


def recorder(seen):
    """Return a method that notes the labels that each of its hooks is given."""

    class Recorder(hashbench.DeepMethod):
        def prepare(self, task, data, tools):
            def loss(out, batch):
                seen.setdefault("tools", []).append(batch.labels)
                return {"size": out.square().mean()}

            seen["prepare"] = [data.labels, *(batch.labels for batch in data.batches())]
            seen["fresh"] = [batch.labels for batch in data.fresh()]
            tools.train(2, loss)
            return {}

        def training_step(self, network, batch):
            seen.setdefault("training_step", []).append(batch.labels)
            out = network(batch.inputs)
            return {"size": out.square().mean()}, out

        def after_step(self, network, batch):
            seen.setdefault("after_step", []).append(batch.labels)

        def epoch_sums(self, out, batch):
            seen.setdefault("epoch_sums" if self.training_now else "fresh pass", []).append(batch.labels)
            return {}

        def wants_fresh_pass(self, epoch):
            self.training_now = False
            return True

        def end_epoch(self, epoch, sums):
            self.training_now = True
            return {}

        training_now = True

    return Recorder


@pytest.mark.parametrize("recipe", ["scratch", "frozen"])
@pytest.mark.parametrize("supervised", [False, True])
def test_labels_are_withheld_from_unsupervised_methods(recipe, supervised, tmp_path, fresh_methods):
    seen = {}
    cls = recorder(seen)
    cls.supervised = supervised
    hashbench.method("recorder")(cls)
    run = hashbench.run("recorder", "toy", bits=8, epochs=2, recipe=recipe, runs_dir=tmp_path, progress=False,
                        backbone="toy-backbone", overrides={"recipe": {"size": 0}})  # fmt: skip
    assert run.provenance["labels"] == ("used" if supervised else "withheld")
    assert seen.keys() == HOOKS
    for hook, labels in seen.items():
        assert labels, hook
        assert all(torch.is_tensor(given) == supervised for given in labels), hook


def test_labels_are_withheld_from_unsupervised_methods_that_are_fitted(tmp_path, fresh_methods):
    seen = []

    class Fitted(hashbench.Method):
        supervised = False

        def fit(self, task, data):
            seen.extend([data.labels, *(batch.labels for batch in data.batches()), *(b.labels for b in data.fresh())])

        def encode(self, inputs):
            return inputs[:, :8] > 0.5

    hashbench.method("fitted")(Fitted)
    hashbench.run("fitted", "toy", bits=8, recipe="scratch", runs_dir=tmp_path, progress=False)
    assert len(seen) >= 3
    assert all(labels is None for labels in seen)
