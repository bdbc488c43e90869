"""Seeds side by side: the loss mapped over them, and whole trainings, are what each seed has alone, to the bit."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hashbench import recipes
from hashbench.datasets.loading.batch import Batch
from hashbench.datasets.loading.loader import TrainLoader, steps_per_epoch
from hashbench.methods.contract import DeepMethod, Task
from hashbench.networks.backbones import Identity
from hashbench.networks.network import HashNetwork
from hashbench.registry import METHODS
from hashbench.storage.tensorfiles import load
from hashbench.system import seeds
from hashbench.training import same_bits
from hashbench.training.loop import Reports, Training, train
from hashbench.training.mapped_loss import MappedLoss
from hashbench.training.together import train_together, why_not_together

MAPPED = sorted(
    name
    for name, entry in METHODS.entries().items()
    if entry.builtin and getattr(METHODS.get(name), "maps_over_seeds", False)
)
COUNT, WIDTH, CLASSES, BITS = 48, 6, 10, 8
RECIPE = recipes.load(
    "frozen", overrides={"epochs": 3, "batch_size": 16, "learning_rate": 0.1}, multi_label=False
)  # it clips gradients


class Pull(DeepMethod):
    """The outputs of class c are pulled to the c-th own, learned center, in a place that the seed gives."""

    maps_over_seeds = True

    def setup(self, task, prepared):
        self.centers = nn.Parameter(torch.randn(task.num_classes, task.bits, generator=task.generator("centers")))
        self.register_buffer("shift", torch.randn(task.bits, generator=task.generator("shift")))

    def loss(self, out, batch):
        return {
            "pull": ((out - self.shift - batch.labels @ self.centers) ** 2).mean(),
            "small": 1e-3 * out.abs().mean(),
        }

    def epoch_sums(self, out, batch):
        return {"out": out.double().sum(dim=0)}

    def end_epoch(self, epoch, sums):
        self.shift.add_(1e-3 * sums["out"].float())
        return {"sum": float(sums["out"].sum())}


class OwnNumber(Pull):
    """Its loss reads a number that follows from the seed, which is no tensor."""

    def setup(self, task, prepared):
        super().setup(task, prepared)
        self.factor = 1.0 + task.seed

    def loss(self, out, batch):
        return {name: self.factor * term for name, term in super().loss(out, batch).items()}


class Draws(Pull):
    """Its head draws."""

    def head(self, width, task):
        return nn.Sequential(nn.Dropout(0.5), nn.Linear(width, task.bits))


class Waits(Pull):
    """Its loss waits for a value, which no function that is mapped can."""

    def loss(self, out, batch):
        terms = super().loss(out, batch)
        return terms if float(terms["pull"]) > 0 else {name: 0 * term for name, term in terms.items()}


class OwnRates(Pull):
    """Each seed has a learning rate of its own."""

    def parameter_groups(self, network, recipe):
        return [{"params": [*network.parameters(), *self.parameters()], "lr": 0.01 * (1 + self.task.seed)}]

    def setup(self, task, prepared):
        super().setup(task, prepared)
        self.task = task


class Remembers(Pull):
    """Its loss keeps a mean of what it has seen."""

    def setup(self, task, prepared):
        super().setup(task, prepared)
        self.register_buffer("mean", torch.zeros(task.bits), persistent=False)

    def loss(self, out, batch):
        terms = super().loss(out, batch)
        self.mean.mul_(0.9).add_(0.1 * out.detach().mean(dim=0))
        return terms


class Counts(Pull):
    """Its loss counts its calls."""

    calls = 0

    def loss(self, out, batch):
        self.calls += 1
        return super().loss(out, batch)


class Unused(Pull):
    """It has a parameter that its loss does not read, which weight decay would shrink if it had a gradient of 0."""

    def setup(self, task, prepared):
        super().setup(task, prepared)
        self.unused = nn.Parameter(torch.ones(3))


class RoundsOtherwise(Pull):
    """Mapped over seeds, it has other last digits in large values, as products of some sizes have in some."""

    def loss(self, out, batch):
        if torch._C._functorch.is_batchedtensor(out):
            out = out * torch.where(out.abs() > 2, 1 + 1e-6, 1.0)
        return super().loss(out, batch)


class RoundsOtherwiseLater(Pull):
    """The same, in all values, after two epochs."""

    def loss(self, out, batch):
        if torch._C._functorch.is_batchedtensor(out) and batch.epoch >= 2:
            out = out * (1 + 1e-6)
        return super().loss(out, batch)


class Data:
    """A training set of vectors in the order of a seed."""

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(COUNT, WIDTH, generator=generator)
        labels = nn.functional.one_hot(torch.randint(0, CLASSES, (COUNT,), generator=generator), CLASSES)
        self.loader = TrainLoader(inputs, labels, batch_size=16, seed=0, device="cpu").of_seed(seed)

    def batches(self, epoch=0):
        return self.loader.epoch(epoch)


def model(cls, seed, dtype=torch.float32):
    """A method and its network, fresh from the seed's streams."""
    task = Task(
        CLASSES, BITS, False, "vectors", COUNT, RECIPE.epochs, steps_per_epoch(COUNT, 16), torch.device("cpu"), seed
    )
    method = cls()
    seeds.seed_globals(seed, "init")
    similarity = torch.eye(CLASSES)
    method.setup(task, {"paper": similarity, "release": similarity})
    return method.to(dtype), HashNetwork(Identity((WIDTH,)), method.head(WIDTH, task), "fp32").to(dtype), task


def training(cls, seed, reports=None):
    method, network, task = model(cls, seed)
    return Training(method, network, task, RECIPE, Data(seed), reports or Reports())


def state(one):
    return {**one.method.state_dict(), **{f"network.{k}": v for k, v in one.network.state_dict().items()}}


def alone(cls, seed, reports=None):
    method, network, task = model(cls, seed)
    train(method, network, task=task, recipe=RECIPE, data=Data(seed), reports=reports or Reports())
    return {**method.state_dict(), **{f"network.{name}": value for name, value in network.state_dict().items()}}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


def test_the_methods_that_say_so_have_hooks_that_allow_it():
    assert {"crh", "csq", "dpn", "shc", "classifier"} <= {*MAPPED}
    assert all(why_not_together(METHODS.get(name)) is None for name in MAPPED)


def test_the_docs_name_them():
    page = (Path(__file__).parents[2] / "docs" / "many-machines.md").read_text()
    row = page.split("| trained side by side |")[1].splitlines()[2]
    assert sorted(row.split("|")[1].strip().split(", ")) == MAPPED


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", MAPPED)
def test_loss_and_gradient_are_those_of_each_seed_alone(method, dtype):
    models = [model(METHODS.get(method), seed, dtype) for seed in range(3)]
    batches = [next(Data(seed).batches()) for seed in range(3)]
    batches = [Batch((b.inputs.to(dtype),), b.labels.to(dtype), b.index, 0, 7, b.whole) for b in batches]
    expected, gradients = [], []
    for (one, network, _), batch in zip(models, batches, strict=True):
        terms = one.loss(network.head(batch.inputs), batch)
        parameters = [*network.parameters(), *one.parameters()]
        gradients.append(torch.autograd.grad(sum(terms.values()), parameters))
        expected.append(torch.stack([*terms.values()]))
    outs = torch.stack([network.head(batch.inputs) for (_, network, _), batch in zip(models, batches, strict=True)])
    terms = MappedLoss([one for one, _, _ in models])(outs, batches)
    torch.testing.assert_close(torch.stack([*terms.values()], dim=1), torch.stack(expected), rtol=1e-6, atol=0)
    total = torch.stack([*terms.values()]).sum()
    for (one, network, _), its in zip(models, gradients, strict=True):
        found = torch.autograd.grad(total, [*network.parameters(), *one.parameters()], retain_graph=True)
        for mine, theirs in zip(found, its, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6 * float(theirs.abs().max()))


@pytest.mark.parametrize("cls", [Pull, METHODS.get("crh"), METHODS.get("orthohash")])
def test_a_training_does_not_depend_on_those_beside_it(cls):
    expected = {seed: alone(cls, seed) for seed in range(5)}
    for group in ((0, 1), (4, 2, 0), (0, 1, 2, 3, 4)):
        trainings = [training(cls, seed) for seed in group]
        assert train_together(trainings, bar=None)
        for seed, one in zip(group, trainings, strict=True):
            assert_same(state(one), expected[seed])
            assert one.progress.beside == len(group) - 1


def test_it_logs_what_a_training_alone_does(tmp_path):
    logs, checkpoints = {}, {}
    for how in ("alone", "together"):
        logs[how] = [], []
        checkpoints[how] = [tmp_path / f"{how}{seed}.pt" for seed in range(2)]
        reports = [
            Reports(log=log.append, checkpoint=path, of="x")
            for log, path in zip(logs[how], checkpoints[how], strict=True)
        ]
        if how == "alone":
            for seed in range(2):
                alone(Pull, seed, reports[seed])
        else:
            assert train_together([training(Pull, seed, reports[seed]) for seed in range(2)], bar=None)
    for one, other in zip(logs["alone"], logs["together"], strict=True):
        assert [{**line, "seconds": 0} for line in one] == [{**line, "seconds": 0} for line in other]
    last = load(checkpoints["together"][0], of="x")
    assert (last["progress"]["epochs_done"], last["progress"]["beside"]) == (RECIPE.epochs, 1)


def test_an_interrupted_one_goes_on_from_its_checkpoints(tmp_path):
    class Stop(Exception):
        pass

    def reports(seed, stop=False):
        def log(line):
            if stop and seed == 1 and line["epoch"] == 1:
                raise Stop

        return Reports(log=log, checkpoint=tmp_path / f"{seed}.pt", of="x")

    with pytest.raises(Stop):
        train_together([training(Pull, seed, reports(seed, stop=True)) for seed in range(2)], bar=None)
    ahead, behind = (training(Pull, seed, reports(seed)) for seed in range(2))
    assert (ahead.progress.epochs_done, behind.progress.epochs_done) == (2, 1)
    for seed, one in enumerate((ahead, behind)):
        assert_same(state(train_to_the_end(one, seed, reports(seed))), alone(Pull, seed))


def train_to_the_end(one, seed, reports):
    train(one.method, one.network, task=one.task, recipe=RECIPE, data=Data(seed), reports=reports)
    return one


@pytest.mark.parametrize("cls", [OwnNumber, Draws, Waits, OwnRates, Remembers, Counts, Unused, RoundsOtherwise])
def test_what_would_not_be_the_same_is_left_as_it_is(cls):
    trainings = [training(cls, seed) for seed in range(2)]
    before = [{name: value.clone() for name, value in state(one).items()} for one in trainings]
    assert not train_together(trainings, bar=None)
    for one, expected in zip(trainings, before, strict=True):
        assert_same(state(one), expected)
        assert one.progress.epochs_done == 0


def test_what_is_no_more_the_same_goes_on_alone(tmp_path):
    reports = [Reports(checkpoint=tmp_path / f"{seed}.pt", of="x") for seed in range(2)]
    cls = RoundsOtherwiseLater
    assert not train_together([training(cls, seed, reports[seed]) for seed in range(2)], bar=None)
    for seed in range(2):
        one = training(cls, seed, reports[seed])
        assert (one.progress.epochs_done, one.progress.beside) == (2, 1)
        assert_same(state(train_to_the_end(one, seed, reports[seed])), alone(cls, seed))


def test_methods_that_say_nothing_or_act_after_steps_are_trained_alone():
    assert "maps_over_seeds" in why_not_together(DeepMethod)
    acts = type("Acts", (Pull,), {"after_step": lambda self, network, batch: None})
    assert "after_step" in why_not_together(acts)
    assert why_not_together(Pull) is None


@pytest.mark.parametrize("count", [33, 40, 47])
def test_every_size_of_a_batch_is_tried(monkeypatch, count):
    tried = set()
    given = same_bits._step
    monkeypatch.setattr(same_bits, "_step", lambda m, outs, b: (tried.add(outs.shape[1]), given(m, outs, b))[1])
    monkeypatch.setattr(sys.modules[__name__], "COUNT", count)
    trainings = [training(Pull, seed) for seed in range(2)]
    train_together(trainings, bar=None)
    assert tried == {len(batch.index) for batch in Data(0).batches()}
