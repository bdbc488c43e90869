"""Loss classes `Loss(config, bit)` from a file: built as their suite builds them, trained, hashed, resumed or not."""

import json
import logging

import numpy as np
import pytest
import torch
from torch import nn

import hashbench
from hashbench import recipes
from hashbench.checks.verdict import check
from hashbench.cli import main
from hashbench.datasets import catalogue as datasets
from hashbench.datasets.loading.loader import TrainLoader
from hashbench.errors import HashbenchError
from hashbench.experiments.settings import parse_value
from hashbench.interop.loss_as_method import remarks
from hashbench.interop.module_state import AttributeState
from hashbench.interop.targets import resolve_method
from hashbench.methods.contract import Task
from hashbench.networks.backbones import Identity
from hashbench.networks.network import HashNetwork
from hashbench.results.runs import RunDirectory
from hashbench.system.provenance import source_sha256
from hashbench.training.loop import Reports, train
from hashbench.training.trainset import TrainSet

pytestmark = pytest.mark.usefixtures("fresh_methods")

MEMORY = '''
import random
import numpy as np
import torch
from settings import common  # a file beside this one

def get_config():
    return common({
        "alpha": 1, "lambda": 0.1, "info": "[Memory]", "margin": 0.5, "loss": "l2", "dataset": "cifar10", "n_class": 99,
        "GPU": True, "device": torch.device("cuda:1"), "net": torch.nn.Linear, "bit_list": [48], "wide": float("inf"),
    })

class MemoryLoss(torch.nn.Module):
    """Outputs agree with those seen last for the same labels."""

    def __init__(self, config, bit):
        super().__init__()
        self.U = torch.zeros(config["num_train"], bit)
        self.Y = torch.zeros(config["num_train"], config["n_class"])
        self.weight = torch.nn.Parameter(torch.ones(bit))
        self.start = random.random() + np.random.rand()
        self.steps = 0
        if config["GPU"]:
            self.U, self.Y = self.U.cuda(), self.Y.cuda()
        self.U = self.U.to(config["device"])

    def forward(self, u, y, ind, config):
        self.U[ind, :] = u.data
        self.Y[ind, :] = y.float()
        self.steps += 1
        same = (y @ self.Y.t() > 0).float()
        product = (u * self.weight) @ self.U.t() / 2
        pairs = (torch.nn.functional.softplus(product) - same * product).mean()
        decay = config["lambda"] / (1 + 0.01 * self.steps)
        return pairs + config["alpha"] * decay * (u - u.sign()).pow(2).mean() + 0 * self.start
'''
SETTINGS = "def common(config):\n    config['topK'] = -1\n    return config\n"


@pytest.fixture
def file(tmp_path):
    """Return a function that writes a loss file with its neighbour and returns its path as text."""

    def write(text=MEMORY, name="memory.py"):
        (tmp_path / "settings.py").write_text(SETTINGS)
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def task(**changes):
    values = {"num_classes": 3, "bits": 8, "multi_label": False, "inputs": "images", "num_train": 20, "epochs": 2,
              "steps_per_epoch": 5, "device": torch.device("cpu"), "seed": 0, "dataset": "toy"}  # fmt: skip
    return Task(**values | changes)


def batch(step=0):
    index = torch.arange(4)
    return hashbench.Batch(views=(), labels=torch.eye(3)[[0, 1, 2, 0]], index=index, epoch=0, step=step)


def test_the_config_is_the_files_with_what_the_run_knows_better(file):
    method = resolve_method(f"{file()}:MemoryLoss")(alpha=2)
    method.setup(task(), {})
    stated = {"alpha": 2, "lambda": 0.1, "info": "[Memory]", "topK": -1, "bit_list": [48], "net": nn.Linear}
    known = {"n_class": 3, "num_train": 20, "dataset": "toy", "device": torch.device("cpu"), "bit": 8, "GPU": False}
    assert {key: method.config[key] for key in stated | known} == stated | known
    assert method.criterion.U.shape == (20, 8)


def test_plain_values_are_fields_and_the_rest_is_not(file):
    cls = resolve_method(f"{file()}:MemoryLoss")
    assert {*hashbench.methods.contract.options(cls)} == {"alpha", "lambda_", "margin", "topK", "source"}
    assert parse_value(cls, "alpha", "0.5") == 0.5  # although the file says 1
    assert isinstance(parse_value(cls, "alpha", "2"), int)
    method = cls(lambda_=0.7)
    method.setup(task(), {})
    assert method.config["lambda"] == 0.7
    assert method.info.name == "MemoryLoss"


def test_what_one_run_writes_into_its_config_is_not_seen_by_the_next(file):
    writes = MEMORY.replace("self.steps = 0", "self.steps = 0; config['bit_list'].append(bit); config['seen'] = 1")
    cls = resolve_method(f"{file(writes)}:MemoryLoss")
    for _ in range(2):
        method = cls()
        assert "seen" not in cls.stated
        method.setup(task(), {})
        assert method.config["bit_list"] == [48, 8]


def test_chance_while_building_comes_from_the_seed(file):
    cls = resolve_method(f"{file()}:MemoryLoss")
    starts = []
    for seed in (0, 0, 1):
        method = cls()
        method.setup(task(seed=seed), {})
        starts.append(method.criterion.start)
    assert starts[0] == starts[1] != starts[2]


def test_scripts_globals_are_there(file):
    text = MEMORY.replace('config["lambda"] /', 'globals()["config"]["lambda"] * globals()["bit"] / 8 /')
    method = resolve_method(f"{file(text)}:MemoryLoss")()
    method.setup(task(), {})
    method.loss(torch.randn(4, 8), batch())["loss"].item()


def test_a_training_here_equals_the_loop_of_its_suite(file):
    cls = resolve_method(f"{file()}:MemoryLoss")
    toy = datasets.load("toy")
    index = toy.split.train
    inputs = toy.store.inputs.reshape(150, -1).astype(np.float32) / 255
    loader = TrainLoader(inputs[index], toy.store.labels[index], batch_size=20, seed=4, device="cpu")
    overrides = {"epochs": 3, "optimizer": "sgd", "momentum": 0.9, "schedule": "constant", "warmup_epochs": 0.0,
                 "weight_decay": 0.0, "gradient_clip": 0.0, "augment": "none"}  # fmt: skip
    recipe = recipes.load("scratch", overrides=overrides, multi_label=False)
    known = {"num_train": 60, "steps_per_epoch": 3, "epochs": 3, "seed": 4}
    heads = [nn.Linear(144, 8) for _ in range(2)]
    heads[1].load_state_dict(heads[0].state_dict())

    method = cls()
    method.setup(task(**known), {})
    data = TrainSet(loader, inputs, index, size=0, device=torch.device("cpu"), features=lambda: inputs)
    network = HashNetwork(Identity(144), heads[0], "fp32")
    train(method, network, task=task(**known), recipe=recipe, data=data, reports=Reports())

    config = cls.module.get_config() | {"num_train": 60, "n_class": 3, "device": torch.device("cpu"), "GPU": False}
    criterion = cls.module.MemoryLoss(config, 8)
    own = [*heads[1].parameters(), *criterion.parameters()]
    optimizer = torch.optim.SGD(own, lr=recipe.learning_rate, momentum=0.9)
    for epoch in range(3):
        for batch in loader.epoch(epoch):
            optimizer.zero_grad()
            criterion(heads[1](batch.inputs), batch.labels, batch.index, config).backward()
            optimizer.step()
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert torch.equal(method.criterion.U, criterion.U)


def test_keeps_the_contract(file, monkeypatch):
    monkeypatch.setattr("hashbench.checks.verdict.BITS", (12,))
    verdict = check(f"{file()}:MemoryLoss")
    assert verdict.ok, verdict.render()
    assert "ok       a resumed training equals an uninterrupted one" in verdict.render()


SETTLED = {"epochs": 3, "progress": False, "bits": 16}


def test_a_run_has_the_classs_name_and_the_files_hash(file, tmp_path):
    path, settled = file(), {**SETTLED, "runs_dir": tmp_path / "runs"}
    result = hashbench.run(f"{path}:MemoryLoss", "toy", **settled)
    assert result.path.relative_to(tmp_path / "runs").parts[:3] == ("toy@small", "MemoryLoss", "16b")
    assert result.coords["method"] == "MemoryLoss"
    assert result.coords["fields"] == {}
    sha256 = source_sha256(resolve_method(f"{path}:MemoryLoss"))
    spec = json.loads((result.path / "spec.json").read_text())
    assert spec["identity"]["method"]["fields"]["source"] == sha256
    assert result.provenance["source_sha256"] == sha256
    assert result.provenance["plugin"] == {"distribution": path, "version": ""}
    changed = hashbench.run(f"{file(MEMORY + '# another state')}:MemoryLoss", "toy", **settled)
    assert changed.id != result.id


def test_own_parameters_are_trained(file, tmp_path):
    result = hashbench.run(f"{file()}:MemoryLoss", "toy", runs_dir=tmp_path / "runs", **SETTLED)
    weights = torch.load(result.path / "model.pt", weights_only=True)["method"]["criterion.weight"]
    assert not torch.equal(weights, torch.ones(16))


def test_loading_a_run_takes_the_file_by_name_only(file, tmp_path, monkeypatch):
    path = file()
    result = hashbench.run(f"{path}:MemoryLoss", "toy", runs_dir=tmp_path / "runs", **SETTLED)
    images = torch.zeros(2, 1, 12, 12)
    codes = hashbench.load(result.path, method=f"{path}:MemoryLoss").encode(images)
    monkeypatch.setattr(hashbench.registry.METHODS, "_local", {})  # as in another process
    monkeypatch.setattr(hashbench.registry.METHODS, "_loaded", {})
    with pytest.raises(HashbenchError, match=r"'MemoryLoss', which is not there; .* --method path/file.py:MemoryLoss"):
        hashbench.load(result.path)
    with pytest.raises(HashbenchError, match="was trained by 'MemoryLoss', which is not crh"):
        hashbench.load(result.path, method="crh")
    assert (hashbench.load(result.path, method=f"{path}:MemoryLoss").encode(images) == codes).all()
    with pytest.raises(HashbenchError, match=r"memory\.py has changed"):
        hashbench.load(result.path, method=f"{file(MEMORY + '#')}:MemoryLoss")


class Killed(Exception):
    pass


def killed_in_epoch_2(target, monkeypatch, runs_dir):
    append = RunDirectory.append_log
    with monkeypatch.context() as patched:

        def append_log(self, line):
            if line.get("epoch") == 1:
                raise Killed
            append(self, line)

        patched.setattr(RunDirectory, "append_log", append_log)
        with pytest.raises(HashbenchError, match="Killed"):
            hashbench.run(target, "toy", runs_dir=runs_dir, **SETTLED)


def test_memories_are_in_the_checkpoint(file, tmp_path, monkeypatch):
    target = f"{file()}:MemoryLoss"
    whole = hashbench.run(target, "toy", runs_dir=tmp_path / "whole", **SETTLED)
    killed_in_epoch_2(target, monkeypatch, tmp_path / "killed")
    resumed = hashbench.run(target, "toy", runs_dir=tmp_path / "killed", **SETTLED)
    states = [torch.load(r.path / "model.pt", weights_only=True) for r in (whole, resumed)]
    extra = [state["method"]["_extra_state"] for state in states]
    assert extra[0]["config"]["dataset"] == "toy"
    assert torch.equal(extra[0]["criterion.U"], extra[1]["criterion.U"])
    assert extra[0]["criterion.steps"] == extra[1]["criterion.steps"] == 3 * 1  # 60 images, one step of 60 an epoch
    assert torch.equal(states[0]["network"]["head.weight"], states[1]["network"]["head.weight"])


def test_a_run_that_cannot_resume_says_so_and_starts_over(file, tmp_path, monkeypatch, caplog):
    chance = MEMORY.replace("self.steps = 0", "self.steps = 0; self.rng = np.random.default_rng(0)")
    target = f"{file(chance)}:MemoryLoss"
    with caplog.at_level(logging.WARNING):
        killed_in_epoch_2(target, monkeypatch, tmp_path / "runs")
    (sentence,) = [record.getMessage() for record in caplog.records]
    assert sentence == (
        "MemoryLoss cannot resume, an interrupted run starts over: its attribute 'criterion.rng' holds a Generator, "
        "which a checkpoint cannot keep."
    )
    assert not [*(tmp_path / "runs").rglob("checkpoint.pt")]
    result = hashbench.run(target, "toy", runs_dir=tmp_path / "runs", **SETTLED)
    log = [json.loads(line) for line in (result.path / "log.jsonl").read_text().splitlines()]
    assert [line.get("epoch", line.get("warning")) for line in log][-4:] == [0, sentence, 1, 2]


BROKEN = {
    "no scalar": (MEMORY.replace("return pairs +", "return u +"), r"returned a loss of shape \(4, 8\)"),
    "no tensor": (MEMORY.replace("return pairs", "return 1 #"), "returned a loss of type int"),
    "missing value": (
        MEMORY.replace('config["alpha"]', 'config["beta"]'),
        r"forward.* raised KeyError: 'beta'.*get_config",
    ),
    "constructor": (MEMORY.replace("self.steps = 0", "1 / 0"), r"MemoryLoss\(config, bit\) raised ZeroDivisionError"),
    "get_config": (
        MEMORY.replace("return common(", "return {}['cifar'] and common("),
        r"get_config\(\) of .* raised KeyError",
    ),
    "no dict": (MEMORY.replace("return common(", "return len("), "returned .*; it must return a dict"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_a_loss_does_wrong_is_one_sentence(file, case):
    text, sentence = BROKEN[case]

    def use():
        method = resolve_method(f"{file(text)}:MemoryLoss")()
        method.setup(task(), {})
        method.loss(torch.randn(4, 8), batch())

    with pytest.raises(HashbenchError, match=sentence):
        use()


def test_a_file_without_get_config(file):
    text = MEMORY.replace("def get_config", "def other").replace('config["alpha"] * decay', "decay").replace(
        'config["lambda"]', "0.1").replace('config["GPU"]', "False")  # fmt: skip
    method = resolve_method(f"{file(text)}:MemoryLoss")()
    method.setup(task(), {})
    assert method.loss(torch.randn(4, 8), batch())["loss"].ndim == 0


def test_on_the_command_line(file, tmp_path, monkeypatch):
    from click.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    file()
    ran = CliRunner().invoke(main, ["run", "--method", "memory.py:MemoryLoss,crh", "--dataset", "toy", "--bits", "16",
                                    "--epochs", "1", "--set", "MemoryLoss.lambda_=0.2"])  # fmt: skip
    assert ran.exit_code == 0, ran.output
    assert "MemoryLoss (lambda_=0.2)" in ran.output
    assert "crh" in ran.output


EPOCHS = """
import torch

class EpochLoss(torch.nn.Module):
    def __init__(self, config, bit):
        super().__init__()
        self.told, self.calls = [], []

    def begin_epoch(self, epoch):
        self.told.append((epoch, len(self.calls)))
        self.scale = 1.0 / (1 + len(self.told))

    def forward(self, u, y, ind, config):
        self.calls.append(len(ind))
        return (self.scale * u - 1).pow(2).mean()
"""


def test_a_loss_is_told_where_an_epoch_begins(file, tmp_path, monkeypatch):
    """Once, before its first batch; after a kill too, and what it keeps is as without the kill."""
    target = f"{file(EPOCHS, 'epochs.py')}:EpochLoss"
    settled = {**SETTLED, "overrides": {"recipe": {"batch_size": 20}}}
    monkeypatch.setitem(SETTLED, "overrides", settled["overrides"])
    whole = hashbench.run(target, "toy", runs_dir=tmp_path / "whole", **SETTLED)
    killed_in_epoch_2(target, monkeypatch, tmp_path / "killed")
    resumed = hashbench.run(target, "toy", runs_dir=tmp_path / "killed", **SETTLED)
    states = [torch.load(r.path / "model.pt", weights_only=True) for r in (whole, resumed)]
    for state in states:
        assert state["method"]["_extra_state"]["criterion.told"] == [(0, 0), (1, 3), (2, 6)]
    assert torch.equal(states[0]["network"]["head.weight"], states[1]["network"]["head.weight"])


def test_what_begin_epoch_does_wrong_is_one_sentence(file):
    method = resolve_method(f"{file(EPOCHS.replace('self.told.append', 'self.tell'))}:EpochLoss")()
    method.setup(task(), {})
    with pytest.raises(HashbenchError, match=r"EpochLoss\.begin_epoch\(epoch\) raised AttributeError"):
        method.loss(torch.randn(4, 8), batch())


#: As CSQ, DPN and DSHSD of DeepHash-pytorch do: the name of the data set says whether samples have several labels.
NAMED = """
import torch

class NamedLoss(torch.nn.Module):
    def __init__(self, config, bit):
        super().__init__()
        self.one_label = config["dataset"] not in {"nuswide_21", "nuswide_21_m", "coco"}
        self.targets = torch.arange(float(config["n_class"] * bit)).reshape(-1, bit)

    def forward(self, u, y, ind, config):
        assert self.one_label == ("nuswide" not in config["dataset"])
        target = self.targets[y.argmax(axis=1)] if self.one_label else y @ self.targets
        return (u - target).abs().mean()
"""


@pytest.mark.parametrize(("name", "several", "given"), [
    ("fashion-mosaic", True, "nuswide_21"), ("coco", True, "nuswide_21"), ("mirflickr", True, "nuswide_21"),
    ("toy", False, "toy"), ("coco", False, "single-label"), ("my-nuswide-cats", False, "single-label"),
])  # fmt: skip
def test_several_labels_are_told_by_the_data(file, name, several, given):
    cls = resolve_method(f"{file(NAMED)}:NamedLoss")
    method = cls()
    asked = task(dataset=name, multi_label=several)
    method.setup(asked, {})
    assert method.config["dataset"] == given
    labels = torch.tensor([[1.0, 0, 1]])
    u, targets = torch.zeros(1, 8), torch.arange(24.0).reshape(3, 8)
    wanted = targets[0] + targets[2] if several else targets[0]
    found = method.loss(u, hashbench.Batch(views=(), labels=labels, index=torch.tensor([0]), epoch=0, step=0))
    assert float(found["loss"]) == float(wanted.mean())
    said = [sentence for sentence in remarks(cls, asked) if "config['dataset']" in sentence]
    assert said == ([] if given == name else [
        f"it reads config['dataset'], which is '{given}' here instead of '{name}', because losses of its shape decide "
        f"by it that samples have {'several labels' if several else 'one label'}."
    ])  # fmt: skip


def test_only_where_numbers_moved_is_the_version_another(file):
    versions = {text: resolve_method(f"{file(text)}:{name}").info.version
                for text, name in ((MEMORY, "MemoryLoss"), (NAMED, "NamedLoss"), (EPOCHS, "EpochLoss"))}  # fmt: skip
    assert [*versions.values()] == [1, 2, 2]
    assert remarks(resolve_method(f"{file()}:MemoryLoss"), task(dataset="coco", multi_label=True)) == []


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.shared = [self.fc.weight]
        self.memory = torch.zeros(3)
        self.nested = {"seen": [torch.zeros(2), 0], "kind": nn.Linear, 1: "one"}
        self.config = {"function": len, "device": torch.device("cpu")}


def test_attributes_come_back_in_their_own_memory():
    before, after = Holder(), Holder()
    before.memory += 1
    before.nested["seen"][1] = 7
    before.nested["seen"][0] += 2
    before.late = torch.ones(4)
    state = AttributeState.of(before)
    assert state.missing is None
    memory, nested = after.memory, after.nested
    with torch.no_grad():
        after.fc.weight.zero_()
    AttributeState(state.values).restore(after, device=torch.device("cpu"))
    assert after.memory is memory
    assert after.memory.tolist() == [1, 1, 1]
    assert after.nested is nested
    assert after.nested["seen"][0].tolist() == [2, 2]
    assert after.nested["seen"][1] == 7
    assert after.nested["kind"] is nn.Linear
    assert after.late.tolist() == [1] * 4
    assert after.shared[0] is after.fc.weight


@pytest.mark.parametrize("value", [object(), {object(): 1}, [set()], torch.Generator()])
def test_what_cannot_be_held_is_named(value):
    holder = Holder()
    holder.odd = value
    state = AttributeState.of(holder)
    assert state.missing.startswith("its attribute 'odd' holds a ")
    assert "memory" in state.values
