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
from hashbench.networks.backbones import Identity
from hashbench.networks.network import HashNetwork
from hashbench.registry import METHODS
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


#: Methods, fields, and the buffer that an epoch's end changes (of csq none).
LENT = [("crh", {"quantization": 0.3}, "assignment"), ("csq", {"quantization": 0.05}, None),
        ("dpn", {"adaptive": True}, "centers")]  # fmt: skip


@pytest.mark.filterwarnings("ignore:As a loss, dpn leaves out its head")
@pytest.mark.parametrize(("name", "fields", "moved"), LENT, ids=[name for name, *_ in LENT])
def test_it_equals_a_training_here(name, fields, moved):
    toy = load("toy")
    index = toy.split.train
    inputs = toy.store.inputs.reshape(150, -1).astype(np.float32) / 255
    loader = TrainLoader(inputs[index], toy.store.labels[index], batch_size=20, seed=4, device="cpu")
    data = TrainSet(loader, inputs, index, size=0, device=torch.device("cpu"), features=lambda: inputs)
    overrides = {"epochs": 4, "batch_size": 20, "augment": "none", "optimizer": "sgd", "schedule": "constant",
                 "gradient_clip": 0.0, "weight_decay": 0.0, "warmup_epochs": 0.0, "momentum": 0.0}  # fmt: skip
    recipe = recipes.load("scratch", overrides=overrides, multi_label=False)
    task = Task(3, 16, False, "vectors", 60, 4, 3, torch.device("cpu"), 4)
    cls = METHODS.get(name)
    method, untrained = (cls(**resolve_fields(name, options(cls), fields)) for _ in range(2))
    method.setup(task, {})
    untrained.setup(task, {})
    heads = [method.head(144, task) for _ in range(2)]
    heads[1].load_state_dict(heads[0].state_dict())
    train(method, HashNetwork(Identity(144), heads[0], "fp32"), task=task, recipe=recipe, data=data,
          reports=Reports())  # fmt: skip

    criterion = hashbench.as_loss(name, **fields)({**CONFIG, "epoch": 4, "seed": 4}, 16)
    optimizer = torch.optim.SGD(heads[1].parameters(), lr=recipe.learning_rate)
    for epoch in range(4):
        for batch in loader.epoch(epoch):
            optimizer.zero_grad()
            criterion(heads[1](batch.inputs), batch.labels, batch.index, {}).backward()
            optimizer.step()
    criterion.end_epoch()  # the last one has no next that would end it
    there, here = criterion.method.state_dict(), method.state_dict()
    assert there.keys() == here.keys()
    assert all(torch.equal(there[buffer], here[buffer]) for buffer in here)
    if moved:
        assert not torch.equal(here[moved], untrained.state_dict()[moved])
    for one, other in zip(heads[1].parameters(), heads[0].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


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
    assert not task.multi_label
    assert counts({**CONFIG, "multi_label": True}, 12).method.task.multi_label


def test_samples_of_several_labels_are_told_by_the_data(counts):
    """The name of the data set decides nothing: what the config does not say is refused when it is seen."""
    u, several, ind = torch.randn(2, 16), torch.tensor([[1, 0, 0], [1, 0, 1]]), torch.tensor([0, 1])
    for stated in ({"dataset": "coco"}, {"dataset": "cifar10-1", "multi_label": False}):
        criterion = counts({**CONFIG, **stated}, 16)
        call(criterion, 2, 3)
        with pytest.raises(HashbenchError, match=r"A sample has several labels, .*'multi_label': True"):
            criterion(u, several, ind, {})
    counts({**CONFIG, "multi_label": True}, 16)(u, several, ind, {})


def test_what_is_missing_or_out_of_range_is_told(counts):
    for key in ("n_class", "num_train", "epoch", "batch_size"):
        with pytest.raises(HashbenchError, match=f"lacks '{key}'"):
            counts({k: v for k, v in CONFIG.items() if k != key}, 16)
    with pytest.raises(HashbenchError, match="ind reaches from 0 to 60"):
        call(counts(CONFIG, 16), 0, 60)


Y = torch.eye(3)[[0, 1, 2, 0]]
OTHER = {
    "signs": ({"y": 2 * Y - 1}, r"hold other values than 0 and 1; .*for -1 and \+1 give y > 0\."),
    "soft": ({"y": 0.9 * Y}, r"hold other values than 0 and 1; give multi-hot labels\."),
    "NaN": ({"y": Y * float("nan")}, "hold other values than 0 and 1"),
    "class numbers": ({"y": Y.argmax(dim=1)}, r"shape \(4,\) .*\(4, 3\), torch.nn.functional.one_hot\(.*, 3\)"),
    "a column": ({"y": Y.argmax(dim=1)[:, None]}, r"shape \(4, 1\) .*one_hot"),
    "other classes": ({"y": torch.eye(5)[:4]}, r"shape \(4, 5\) for 4 outputs and config\['n_class'\] 3"),
    "one row": ({"y": Y[:1]}, r"labels y have the shape \(1, 3\) for 4 outputs.* \(4, 3\)\."),
    "other bits": ({"u": torch.randn(4, 8)}, r"shape \(4, 8\), and the loss is for 16 bits; give \(n, 16\)"),
    "flat outputs": ({"u": torch.randn(16)}, r"shape \(16,\), and the loss is for 16 bits"),
    "few positions": ({"ind": torch.arange(2)}, r"ind is int64 of the shape \(2,\) for 4 outputs"),
    "float positions": ({"ind": torch.arange(4.0)}, "ind is float32"),
}


@pytest.mark.filterwarnings("ignore:As a loss, dpn leaves out its head")
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", ["crh", "csq", "dpn"])
@pytest.mark.parametrize(("given", "sentence"), OTHER.values(), ids=OTHER)
def test_what_is_no_output_label_or_position_is_refused(name, multi_label, given, sentence):
    criterion = hashbench.as_loss(name)({**CONFIG, "multi_label": multi_label}, 16)
    right = {"u": torch.randn(4, 16), "y": Y, "ind": torch.arange(4)}
    for _ in range(2):  # values on a CPU in every call
        criterion(**right)
        with pytest.raises(HashbenchError, match=sentence):
            criterion(**{**right, **given})
    assert (criterion._epoch, criterion._step) == (1, 2)  # a call that is refused counts for nothing


def _overriding(hook):
    return type("More", (Counts,), {hook: lambda self, *arguments: None})


class LinearHead(Counts):
    def head(self, width, task):
        return nn.Sequential(nn.Linear(width, task.bits))


class BareHead(Counts):
    def head(self, width, task):
        return nn.Linear(width, task.bits, bias=False)


class DrawnHead(Counts):
    def head(self, width, task):
        linear = nn.Linear(width, task.bits)
        nn.init.zeros_(linear.weight)
        return linear


class NormedHead(Counts):
    def head(self, width, task):
        return nn.Sequential(nn.Linear(width, task.bits), nn.BatchNorm1d(task.bits))


class WideHead(Counts):
    def head(self, width, task):
        return nn.Linear(width, 2 * task.bits)


class HeadOfSetup(Counts):
    def head(self, width, task):
        return nn.Linear(width, len(self.centers))


def test_a_head_that_is_the_default_leaves_nothing_out(fresh_methods, recwarn):
    for cls in (LinearHead, Counts):
        hashbench.method("mine")(type("Mine", (cls,), {}))
        assert hashbench.as_loss("mine").left_out == ()
    assert hashbench.as_loss("csq").left_out == ()
    assert not recwarn


@pytest.mark.parametrize(("cls", "bias"), [(BareHead, "layer without bias, whose"), (DrawnHead, "layer whose")])
def test_a_head_that_only_initialises_is_left_out_and_said_to_be(fresh_methods, cls, bias):
    hashbench.method("mine")(type("Mine", (cls,), {"__doc__": "What it does."}))
    with pytest.warns(UserWarning, match="As a loss, mine leaves out its head") as caught:
        made = hashbench.as_loss("mine")
    assert len(caught) == 1
    (said,) = made.left_out
    assert bias in said
    assert made.__doc__ == f"What it does.\n\n{caught[0].message}"
    criterion = made(CONFIG, 16)
    assert type(criterion.method.head(5, criterion.task)) is nn.Linear  # the sentence's way out


@pytest.mark.parametrize("cls", [NormedHead, WideHead, HeadOfSetup])
def test_a_head_that_is_more_refuses(fresh_methods, cls):
    hashbench.method("mine")(type("Mine", (cls,), {}))
    with pytest.raises(HashbenchError, match=r"mine is more than a loss: its head (has layers|cannot be made)"):
        hashbench.as_loss("mine")


def test_three_layers_of_csq_refuse():
    with pytest.raises(HashbenchError, match=r"csq is more than a loss: .*\(Linear, ReLU, Linear, ReLU, Linear\)"):
        hashbench.as_loss("csq", head_layers=3)


@pytest.mark.parametrize("hook", ["prepare", "attach", "training_step", "after_step", "codes", "parameter_groups"])
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
