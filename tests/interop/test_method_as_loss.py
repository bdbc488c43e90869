"""Methods handed out as loss classes: in a training script of another suite's shape, and equal to a training here."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import hashbench
from hashbench import recipes
from hashbench.datasets.catalogue import load
from hashbench.datasets.loading.loader import TrainLoader
from hashbench.errors import HashbenchError
from hashbench.methods.contract import DeepMethod, Task, options, resolve_fields
from hashbench.methods.crh import CRH
from hashbench.networks.backbones import Identity
from hashbench.networks.network import HashNetwork
from hashbench.training.loop import Reports, train
from hashbench.training.trainset import TrainSet

CONFIG = {"n_class": 3, "num_train": 60, "epoch": 3, "batch_size": 20, "device": torch.device("cpu"), "bit_list": [16]}


class Listed(Dataset):
    """The toy as lists of that suite are read: image, multi-hot label, position."""

    def __init__(self, part):
        toy = load("toy")
        index = getattr(toy.split, part)
        self.images = torch.from_numpy(toy.store.inputs[index]).float() / 255
        self.labels = toy.store.labels[index]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, position):
        return self.images[position], self.labels[position], position


class Net(nn.Module):
    def __init__(self, bit):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, bit))

    def forward(self, x):
        return self.layers(x)


def train_val(config, bit, loss_class):
    """Train as the scripts of that suite do, and return the criterion, the net and the losses of the epochs."""
    device = config["device"]
    torch.manual_seed(0)
    train_loader = DataLoader(Listed("train"), batch_size=config["batch_size"], shuffle=True)
    config["num_train"] = len(train_loader.dataset)
    net = Net(bit).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    criterion = loss_class(config, bit)
    losses = []
    for _ in range(config["epoch"]):
        net.train()
        train_loss = 0.0
        for image, label, ind in train_loader:
            image = image.to(device)
            label = label.to(device)
            optimizer.zero_grad()
            u = net(image)
            loss = criterion(u, label.float(), ind, config)
            train_loss += loss.item()
            loss.backward()
            optimizer.step()
        losses.append(train_loss / len(train_loader))
    return criterion, net, losses


def test_a_script_of_that_shape_trains_with_it():
    config = {**CONFIG, "epoch": 12, "info": "[CRH]"}
    criterion, net, losses = train_val(config, 16, hashbench.as_loss("crh"))
    assert losses[-1] < 0.5 * losses[0]
    codes = {part: np.sign(net(Listed(part).images).detach().numpy()) for part in ("query", "database")}
    similar = codes["query"] @ codes["database"].T
    same = Listed("query").labels @ Listed("database").labels.T > 0
    assert similar[same].mean() > similar[~same].mean() + 8
    assert criterion.end_epoch()["classes_moved"] == 0.0  # the twelfth is the last: nothing moves


def test_it_equals_a_training_here():
    toy = load("toy")
    index = toy.split.train
    inputs = toy.store.inputs.reshape(150, -1).astype(np.float32) / 255
    loader = TrainLoader(inputs[index], toy.store.labels[index], batch_size=20, seed=4, device="cpu")
    data = TrainSet(loader, inputs, index, size=0, device=torch.device("cpu"), features=lambda: inputs)
    overrides = {"epochs": 4, "batch_size": 20, "augment": "none", "optimizer": "sgd", "schedule": "constant",
                 "gradient_clip": 0.0, "weight_decay": 0.0, "warmup_epochs": 0.0, "momentum": 0.0}  # fmt: skip
    recipe = recipes.load("scratch", overrides=overrides, multi_label=False)
    task = Task(3, 16, False, "vectors", 60, 4, 3, torch.device("cpu"), 4)
    heads = [nn.Linear(144, 16) for _ in range(2)]
    heads[1].load_state_dict(heads[0].state_dict())

    method = CRH(**resolve_fields("crh", options(CRH), {"quantization": 0.3}))
    method.setup(task, {})
    train(method, HashNetwork(Identity(144), heads[0], "fp32"), task=task, recipe=recipe, data=data,
          reports=Reports())  # fmt: skip

    criterion = hashbench.as_loss("crh", quantization=0.3)({**CONFIG, "epoch": 4, "seed": 4}, 16)
    optimizer = torch.optim.SGD(heads[1].parameters(), lr=recipe.learning_rate)
    for epoch in range(4):
        for batch in loader.epoch(epoch):
            optimizer.zero_grad()
            criterion(heads[1](batch.inputs), batch.labels, batch.index, {}).backward()
            optimizer.step()
    assert torch.equal(criterion.method.assignment, method.assignment)
    untrained = CRH()
    untrained.setup(task, {})
    assert not torch.equal(criterion.method.assignment, untrained.assignment)
    torch.testing.assert_close(heads[1].weight, heads[0].weight, rtol=1e-5, atol=1e-6)


class Counts(DeepMethod):
    """Notes its epochs, and what was summed in each."""

    def setup(self, task, prepared):
        self.task, self.ended = task, []
        self.own = nn.Parameter(torch.randn(3))

    def loss(self, out, batch):
        self.seen = (batch.epoch, batch.step)
        return {"a": out.mean(), "b": self.own.sum()}

    def epoch_sums(self, out, batch):
        return {"count": torch.tensor(float(len(out)), dtype=torch.float64)}

    def end_epoch(self, epoch, sums):
        self.ended.append((epoch, float(sums["count"])))
        return {"count": float(sums["count"])}


@pytest.fixture
def counts(fresh_methods):
    hashbench.method("counts")(Counts)
    return hashbench.as_loss("counts")


def call(criterion, *positions):
    u = torch.randn(len(positions), 16, requires_grad=True)
    return criterion(u, torch.eye(3)[[p % 3 for p in positions]], torch.tensor(positions), {})


def test_an_index_that_comes_again_begins_an_epoch(counts):
    criterion = counts({**CONFIG, "num_train": 6}, 16)
    call(criterion, 0, 1, 2)
    call(criterion, 3, 4)
    assert criterion.method.ended == []
    call(criterion, 5, 1)  # 1 again
    assert criterion.method.ended == [(0, 5.0)]
    assert criterion.method.seen == (1, 2)


def test_all_samples_seen_ends_an_epoch_before_the_next_step(counts):
    criterion = counts({**CONFIG, "num_train": 4}, 16)
    call(criterion, 0, 1)
    call(criterion, 2, 3)
    assert criterion.method.ended == []  # the backward pass may still need what an epoch's end changes
    call(criterion, 3, 0)
    assert criterion.method.ended == [(0, 4.0)]


def test_an_explicit_end_counts_once(counts):
    criterion = counts({**CONFIG, "num_train": 4}, 16)
    for _ in range(2):
        call(criterion, 0, 1)
        call(criterion, 2, 3)
        assert criterion.end_epoch() == {"count": 4.0}
    assert criterion.method.ended == [(0, 4.0), (1, 4.0)]
    with pytest.raises(HashbenchError, match="No sample was seen"):
        criterion.end_epoch()


def test_with_replacement_only_an_explicit_end_counts(counts):
    criterion = counts({**CONFIG, "num_train": 4, "notice_epochs": False}, 16)
    call(criterion, 0, 1)
    call(criterion, 1, 1)
    assert criterion.method.ended == []
    assert criterion.end_epoch() == {"count": 4.0}


def test_evaluation_is_not_noticed(counts):
    criterion = counts({**CONFIG, "num_train": 4}, 16)
    call(criterion, 0, 1)
    with torch.no_grad():
        call(criterion, 0, 1)
    criterion.eval()
    call(criterion, 0, 1)
    assert criterion.method.ended == []
    assert criterion.train().end_epoch() == {"count": 2.0}


def test_it_is_a_module_with_the_methods_parameters(counts):
    state = torch.get_rng_state()
    criterion = counts(CONFIG, 16)
    assert torch.equal(torch.get_rng_state(), state)  # the script's chance is its own
    assert [tuple(p.shape) for p in criterion.parameters()] == [(3,)]
    assert call(criterion, 0).shape == ()
    assert type(criterion).__name__ == "CountsLoss"


def test_what_the_config_says_reaches_the_method(counts):
    task = counts({**CONFIG, "dataset": "coco", "seed": 3, "num_train": 41}, 12).method.task
    assert (task.bits, task.seed, task.steps_per_epoch, task.epochs, task.dataset) == (12, 3, 2, 3, "coco")
    assert task.multi_label
    assert not counts({**CONFIG, "dataset": "cifar10-1"}, 12).method.task.multi_label
    assert counts({**CONFIG, "multi_label": True}, 12).method.task.multi_label


def test_what_is_missing_or_out_of_range_is_told(counts):
    for key in ("n_class", "num_train", "epoch", "batch_size"):
        with pytest.raises(HashbenchError, match=f"lacks '{key}'"):
            counts({k: v for k, v in CONFIG.items() if k != key}, 16)
    with pytest.raises(HashbenchError, match="ind reaches from 0 to 60"):
        call(counts(CONFIG, 16), 0, 60)


def _overriding(hook):
    return type("More", (Counts,), {hook: lambda self, *arguments: None})


@pytest.mark.parametrize("hook", ["prepare", "head", "training_step", "after_step", "codes", "parameter_groups"])
def test_methods_that_are_more_than_a_loss_refuse(fresh_methods, hook):
    hashbench.method("more")(_overriding(hook))
    with pytest.raises(HashbenchError, match=rf"more is more than a loss: it .* \({hook}\)"):
        hashbench.as_loss("more")


def test_refusals(fresh_methods):
    hashbench.method("fitted")(type("Fitted", (hashbench.Method,), {}))
    with pytest.raises(HashbenchError, match="fitted is no loss"):
        hashbench.as_loss("fitted")
    with pytest.raises(HashbenchError, match="Did you mean 'margin'"):
        hashbench.as_loss("crh", marign=1)
    with pytest.raises(HashbenchError, match="crh does not support this: 2 bits give 4 words"):
        hashbench.as_loss("crh")({**CONFIG, "n_class": 10}, 2)
    with pytest.raises(HashbenchError, match="passes of its own"):
        hashbench.as_loss("crh", code_source="fresh")(CONFIG, 16)
