"""Hooks on a CUDA device that is not there: what lies elsewhere, and what waits, is named with its line."""

import copy
import inspect
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import hashbench
from hashbench.checks import verdict
from hashbench.checks.fake_cuda import CUDA, FakeCuda
from hashbench.checks.gpu_pass import missing_device
from hashbench.checks.verdict import check
from hashbench.methods.contract import DeepMethod, Method

pytestmark = pytest.mark.skipif(missing_device() is not None, reason=str(missing_device()))

LIES, WAITS = "on a GPU, its tensors lie on the task's device", "on a GPU, no step waits for the device"


@pytest.fixture(autouse=True)
def short(monkeypatch, fresh_methods):
    monkeypatch.setattr(verdict, "BITS", (12,))


class Sound(DeepMethod):
    """It goes to the host wherever it may, and only there."""

    def prepare(self, task, data, tools):
        network = tools.train(task.num_classes, lambda out, batch: {"l2": ((out - batch.labels) ** 2).mean()})
        return {"mean": torch.from_numpy(tools.outputs(network).cpu().numpy()).mean(dim=0)}

    def setup(self, task, prepared):
        self.device = task.device
        scale = float(prepared["mean"].abs().max())
        self.centers = nn.Parameter(scale * torch.randn(task.num_classes, task.bits, generator=task.generator("c")))
        self.register_buffer("memory", torch.zeros(task.num_train, task.bits))

    def loss(self, out, batch):
        lost = (out - batch.labels @ self.centers) ** 2
        return {"pull": lost.mean(), "far": torch.where(lost > 1, lost, 0.0).mean()}

    def training_step(self, network, batch):
        inputs = batch.inputs.clone().requires_grad_()
        out = network(inputs)
        (slope,) = torch.autograd.grad(out.sum(), inputs, create_graph=True)
        return {**self.loss(out, batch), "slope": slope.square().mean()}, out

    def after_step(self, network, batch):
        self.memory[batch.index] = network(batch.inputs)

    def epoch_sums(self, out, batch):
        return {"classes": batch.labels.double().sum(dim=0)}

    def wants_fresh_pass(self, epoch):
        return epoch == 1

    def end_epoch(self, epoch, sums):
        smallest = sums["classes"].cpu().numpy().min()
        self.memory.copy_(torch.from_numpy(self.memory.cpu().numpy() * 0.5))
        return {"smallest": float(smallest), "rows": float(len(self.memory[self.memory[:, 0] > 0]))}


class Fitted(Method):
    """Random planes through the median, which numpy finds."""

    def fit(self, task, data):
        features = data.features()
        planes = torch.randn(features.shape[1], task.bits, generator=task.generator("planes"))
        self.register_buffer("planes", planes)  # the runner moves it
        self.register_buffer("median", torch.from_numpy(np.median(features.cpu().numpy(), axis=0)).to(task.device))

    def encode(self, inputs):
        return (inputs - self.median) @ self.planes >= 0


def verdict_on(cls):
    return check(hashbench.method("made")(type("Made", (cls,), {"__module__": __name__, **vars(cls)})))


@pytest.mark.parametrize("cls", [Sound, Fitted])
def test_the_host_is_there_where_no_step_is(cls):
    found = verdict_on(cls)
    states = {line.what: line.state for line in found.lines}
    assert states[LIES] == states[WAITS] == "ok", found.render()
    assert found.ok, found.render()


class TargetsInAttribute(Sound):
    def setup(self, task, prepared):
        super().setup(task, prepared)
        self.targets = torch.zeros(task.num_classes, task.bits)

    def loss(self, out, batch):
        return {"pull": (out - batch.labels @ self.targets).square().mean()}  # here


class DrawsOnTheWrongDevice(Sound):
    def setup(self, task, prepared):
        super().setup(task, prepared)
        self.task = task

    def after_step(self, network, batch):
        torch.randn(3, generator=self.task.generator("noise"), device=batch.index.device)  # here


class TermOnTheHost(Sound):
    def loss(self, out, batch):
        return {**super().loss(out, batch), "not due": torch.zeros(())}


class PlanesInAttribute(Fitted):
    def fit(self, task, data):
        super().fit(task, data)
        self.weights = torch.ones(192, task.bits)

    def encode(self, inputs):
        return inputs @ self.weights >= 0  # here


class MixesInPrepare(Sound):
    def prepare(self, task, data, tools):
        return {"mean": data.labels.mean(dim=0) + torch.ones(task.num_classes)}  # here


class WaitsInPrepare(Sound):
    def prepare(self, task, data, tools):
        tools.train(2, lambda out, batch: {"l2": out.mean() * out.max().item()})  # here
        return super().prepare(task, data, tools)


class MixesInEndEpoch(Sound):
    def end_epoch(self, epoch, sums):
        return {"sum": float(sums["classes"] @ torch.ones(len(sums["classes"])).double())}  # here


class ReadsItem(Sound):
    def loss(self, out, batch):
        weight = out.detach().abs().mean().item()  # here
        return {"pull": weight * out.square().mean()}


class Branches(Sound):
    def loss(self, out, batch):
        return {"pull": out.square().mean() if (out > 0).any() else out.mean()}  # here


class PicksByMask(Sound):
    def loss(self, out, batch):
        return {"pull": out[batch.labels[:, 0] > 0].square().sum()}  # here


class WritesByMask(Sound):
    def after_step(self, network, batch):
        labelled = batch.labels.sum(dim=1) > 0
        self.memory[: len(labelled)][labelled] = self.memory[: len(labelled)] * 1.0  # here


class LooksAtTheHost(Sound):
    def after_step(self, network, batch):
        self.memory[batch.index.cpu()] = 1.0  # here


class IndexOnTheHost(Sound):
    def loss(self, out, batch):
        return {"pull": out[torch.arange(4)].square().mean()}  # here


class MovesEachStep(Sound):
    def epoch_sums(self, out, batch):
        return {"classes": batch.labels.double().T @ torch.ones(len(out)).double().to(out.device)}  # here


class Solves(Sound):
    def loss(self, out, batch):
        return {"pull": torch.linalg.inv(out.T @ out + torch.eye(out.shape[1], device=out.device)).sum()}  # here


class CodesInPython(Sound):
    def codes(self, out):
        return torch.tensor([[value >= 0 for value in row] for row in out.tolist()])  # here


class NumpyInEncode(Fitted):
    def encode(self, inputs):
        return torch.from_numpy(inputs.numpy()) @ self.planes.cpu() >= 0  # here


class NumpyByTheHost(Fitted):
    def encode(self, inputs):
        return torch.from_numpy(np.sign(inputs.cpu().numpy())) @ self.planes.cpu() >= 0  # here


FAULTS = {
    TargetsInAttribute: (LIES, "mm is given tensors on cpu and cuda:0; keep what training needs in buffers"),
    DrawsOnTheWrongDevice: (LIES, "randn is given a generator of the cpu for a tensor on cuda"),
    TermOnTheHost: (LIES, "the loss term 'not due' lies on the cpu"),
    PlanesInAttribute: (LIES, "mm is given tensors on cpu and cuda:0"),
    MixesInPrepare: (LIES, "add is given tensors on cpu and cuda:0"),
    MixesInEndEpoch: (LIES, "dot is given tensors on cpu and cuda:0"),
    NumpyInEncode: (LIES, "a tensor on cuda:0 cannot become an array of numpy"),
    WaitsInPrepare: (WAITS, "a training step of prepare waits for the device: item(), bool() or float()"),
    ReadsItem: (WAITS, "a training step waits for the device: item(), bool() or float()"),
    Branches: (WAITS, "a training step waits for the device: item(), bool() or float()"),
    PicksByMask: (WAITS, "a training step waits for the device: index needs values"),
    WritesByMask: (WAITS, "after_step waits for the device: how many places a mask has"),
    LooksAtTheHost: (WAITS, "after_step waits for the device: a tensor is copied to the CPU"),
    IndexOnTheHost: (WAITS, "a training step waits for the device: an index lies on the CPU"),
    MovesEachStep: (WAITS, "epoch_sums waits for the device: a tensor is copied from the CPU"),
    Solves: (WAITS, "a training step waits for the device: torch.linalg"),
    CodesInPython: (WAITS, "codes waits for the device: item(), bool() or float()"),
    NumpyByTheHost: (WAITS, "encode waits for the device: a tensor is copied to the CPU"),
}


@pytest.mark.parametrize("cls", FAULTS, ids=lambda cls: cls.__name__)
def test_a_fault_is_named_with_its_line(cls, inputs, monkeypatch):
    inputs("first")
    for name in ("DEEP_CHECKS", "FITTED_CHECKS"):  # the others train on the CPU, where these faults are none
        monkeypatch.setattr(verdict, name, [check for check in getattr(verdict, name) if check[0] in (LIES, WAITS)])
    what, reason = FAULTS[cls]
    found = verdict_on(cls)
    line = next(line for line in found.lines if line.what == what)
    assert line.state == "FAILED", found.render()
    assert reason in line.reason
    source, first = inspect.getsourcelines(cls)
    marked = [number for number, text in enumerate(source, first) if text.endswith("# here\n")]
    assert all(f"(line {number} of {__file__})" in line.reason for number in marked)
    other = next(line for line in found.lines if line.what == {LIES: WAITS, WAITS: LIES}[what])
    assert other.state in ("ok", "skipped")


def test_what_the_cpu_computes_is_the_same():
    """Values go through layers, copies, views and writes as on the CPU, with one seed."""

    def computed(device):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
        twin = copy.deepcopy(network.to(device, memory_format=torch.channels_last))
        images = torch.rand(6, 3, 8, 8).to(device)
        out = network(images.contiguous(memory_format=torch.channels_last))
        with torch.no_grad():
            for mine, other in zip(twin.parameters(), network.parameters(), strict=True):
                mine.lerp_(other * 2, 0.5)
            out[:, 1:3] += 1
            out[out > 1.2] = 0.0
        twin.load_state_dict(twin.state_dict())
        heads = out[None, None, :, :4]
        out = out + nn.functional.scaled_dot_product_attention(heads, heads, heads).sum()
        attention = nn.MultiheadAttention(4, 2, batch_first=True).to(device)(*[out[None, :, :4]] * 3)[0]
        product = torch.arange(4.0).to(device) @ out[:4, :4]  # torch drops an axis of it in place
        with torch.inference_mode():
            return [value.cpu() for value in (out, product, twin.eval()(images), attention, network[1].running_mean)]

    with FakeCuda(()) as device, warnings.catch_warnings():
        warnings.simplefilter("error")
        found = computed(CUDA)
    assert not device.waits  # nothing said that a step runs
    for one, other in zip(found, computed(torch.device("cpu")), strict=True):
        torch.testing.assert_close(one, other)
