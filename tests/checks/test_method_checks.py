"""Every registered method keeps the contract; a method that breaks a part of it fails that check and is told why."""

import os

import pytest
import torch
from torch import nn

import hashbench
from hashbench.checks import method_checks, verdict
from hashbench.checks.gpu_pass import missing_device
from hashbench.checks.method_checks import keeps_samples
from hashbench.checks.verdict import check
from hashbench.errors import HashbenchError
from hashbench.methods.contract import DeepMethod, Method
from hashbench.registry import METHODS

#: Methods with hundreds of small operations in a step, or spectral clusters, which only the long tests check.
SLOW = ("cimon", "dfh", "dsdh", "sdh")


@pytest.fixture
def lengths(monkeypatch):
    """Return a function that sets the code lengths to check at."""

    def at(*bits):
        monkeypatch.setattr(verdict, "BITS", bits)
        monkeypatch.setattr(method_checks, "BITS", bits)

    return at


@pytest.fixture
def short(lengths, fresh_methods):
    """Return `lengths`, after a call for two of them."""
    lengths(12, 16)
    return lengths


@pytest.mark.parametrize("name", [name for name in METHODS if name not in SLOW])
def test_keeps_the_contract_on_images(name, lengths, inputs, monkeypatch):
    """All checks but those on two ranks; tests/methods/test_contract.py has a method with a memory on two.

    What would happen on a GPU is checked with single labels alone; the slow and long tests have both.
    """
    lengths(16 if name == "mish" else 24)  # its blocks have 16 bits
    inputs("first")  # images for most
    monkeypatch.setattr(verdict, "MEMORY_CHECKS", ())
    for checks in ("DEEP_CHECKS", "FITTED_CHECKS"):
        once = [each._replace(once=each.what.startswith("on a GPU")) for each in getattr(verdict, checks)]
        monkeypatch.setattr(verdict, checks, once)
    found = check(name)
    assert found.ok, found.render()


def each_method():
    """Return all names: one of each family is slow, the others are long.

    It is the first that keeps no memory of samples: test_contract_checks.py has one that does, on two ranks.
    """
    quick = sorted((name for name in METHODS if name not in SLOW), key=lambda name: keeps_samples(METHODS.get(name)))
    first = {METHODS.get(name).info.family: name for name in reversed(quick)}
    return [
        pytest.param(name, marks=pytest.mark.slow if name in first.values() else pytest.mark.long) for name in METHODS
    ]


@pytest.mark.parametrize("name", each_method())
def test_keeps_the_contract_on_other_inputs(name, lengths, inputs):
    """All checks at another length, where Hadamard's matrix exists; `hashbench check` takes both and two more."""
    lengths(24 if name in SLOW else 64)
    inputs("others")  # vectors and text for most
    found = check(name)
    assert found.ok, found.render()


@pytest.mark.long
@pytest.mark.parametrize("name", SLOW)
def test_slow_methods_keep_the_contract_on_images(name, lengths, inputs):
    lengths(24)
    inputs("first")
    found = check(name)
    assert found.ok, found.render()


class Sound(DeepMethod):
    """A method without fault: outputs are pulled to the learned centers of their classes."""

    def setup(self, task, prepared):
        self.centers = nn.Parameter(torch.randn(task.num_classes, task.bits))
        self.register_buffer("epochs_seen", torch.zeros(()))

    def loss(self, out, batch):
        return {"pull": ((out - batch.labels @ self.centers) ** 2).mean()}

    def epoch_sums(self, out, batch):
        return {"classes": batch.labels.double().sum(dim=0)}

    def end_epoch(self, epoch, sums):
        self.epochs_seen += 1
        return {"smallest_class": float(sums["classes"].min())}


class Fitted(Method):
    """Random hyperplanes."""

    def fit(self, task, data):
        planes = torch.randn(data.features().shape[1], task.bits, generator=task.generator("planes"))
        self.register_buffer("planes", planes)
        self.register_buffer("mean", data.features().mean(dim=0))

    def encode(self, inputs):
        return (inputs - self.mean) @ self.planes >= 0


@pytest.mark.parametrize("base", [Sound, Fitted])
def test_a_sound_method_passes(short, base):
    verdict = check(hashbench.method("sound", paper="none")(type("Made", (base,), {})))
    assert verdict.ok, verdict.render()
    text = verdict.render()
    assert text.startswith("sound version 1, none, from this process\n")
    assert "ok       a code depends on its own input alone\n" in text
    assert text.splitlines()[-1].endswith("skipped." if base is Sound or missing_device() else "ok.")


class SmallSums(Sound):
    def epoch_sums(self, out, batch):
        return {"classes": batch.labels.sum(dim=0)}


class TensorDiagnostics(Sound):
    def end_epoch(self, epoch, sums):
        return {"smallest_class": sums["classes"].min()}


class UnnamedLoss(Sound):
    def loss(self, out, batch):
        return super().loss(out, batch)["pull"]


class LossPerSample(Sound):
    def loss(self, out, batch):
        return {"pull": (out**2).mean(dim=1)}


class InfiniteGradient(Sound):
    def loss(self, out, batch):
        return {"pull": (out * 0).sum().abs().sqrt()}  # 0, with slope infinity


class Forgotten(Sound):
    def parameter_groups(self, network, recipe):
        return [{"params": list(network.parameters()), "lr": recipe.learning_rate}]


class FloatCodes(Sound):
    def codes(self, out):
        return out.sign()


class MedianCodes(Sound):
    def codes(self, out):
        return out >= out.median(dim=0).values


class TrueChance(Sound):
    def setup(self, task, prepared):
        super().setup(task, prepared)
        self.centers.data += int.from_bytes(os.urandom(2), "big") / 2**16


class ClassMeans(Sound):
    def end_epoch(self, epoch, sums):
        self.epochs_seen /= sums["classes"].min()
        return {}


class StateInAttribute(Sound):
    weight = 1.0

    def loss(self, out, batch):
        return {"pull": self.weight * super().loss(out, batch)["pull"]}

    def end_epoch(self, epoch, sums):
        self.weight *= 0.5
        return {}


class ThresholdInAttribute(Sound):
    threshold = 0.0

    def end_epoch(self, epoch, sums):
        self.threshold = 0.7
        return {}

    def codes(self, out):
        return out >= self.threshold


class LateBuffer(Sound):
    def set_extra_state(self, state):
        self.epochs_seen += state["more"]

    def get_extra_state(self):
        return {"more": 1.0}


class PreparedForBits(Sound):
    def prepare(self, task, data, tools):
        return {"noise": torch.randn(task.bits, generator=task.generator("prepare"))}


class Crashes(Sound):
    def loss(self, out, batch):
        raise KeyError("tau")


class UnclearSupport(Sound):
    def supports(self, task):
        return task.bits > 12


class SupportsNothing(Sound):
    def supports(self, task):
        return "it is Monday."


class UnboundField(Sound):
    """Its field is nothing that JSON could hold."""

    ratio: complex = 1j


class BareFit(Fitted):
    def fit(self, task, data):
        self.mean, self.planes = 0.0, torch.ones(192, task.bits)


BROKEN = {
    SmallSums: ("epoch hooks run", "torch.float32; sums are torch.float64"),
    TensorDiagnostics: ("epoch hooks run", "not a dict of numbers"),
    UnnamedLoss: ("loss terms are named scalars", "not a dict of named terms"),
    LossPerSample: ("loss terms are named scalars", "shape or type (32,)"),
    InfiniteGradient: ("gradients are finite", "is not finite"),
    Forgotten: ("every parameter is optimised", "'centers' is in no group"),
    FloatCodes: ("codes are bool", "torch.float32 of shape (24, 12), not torch.bool of shape (24, 12)"),
    MedianCodes: ("a code depends on its own input alone", "when an input is encoded alone"),
    TrueChance: ("one seed gives one result", "task.generator"),
    ClassMeans: ("a class without samples", "no longer finite"),
    StateInAttribute: ("a resumed training", "keep all state in buffers"),
    ThresholdInAttribute: ("a saved model", "in buffers"),
    LateBuffer: ("a saved model", "has another state"),
    PreparedForBits: ("what is prepared", "something else at another code length"),
    Crashes: ("loss terms are", f"KeyError: 'tau' (line {Crashes.loss.__code__.co_firstlineno + 1} of {__file__}"),
    UnclearSupport: ("supports(task), single-label at 12 bits", "returned False, not None or a sentence"),
    SupportsNothing: ("supports(task)", "nothing could be checked"),
    UnboundField: ("its name, version and fields", "the field 'ratio'"),
    BareFit: ("it fits", "fit left no buffer"),
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_method_fails_its_check(short, inputs, broken):
    what, reason = BROKEN[broken]
    inputs("first")
    if broken is not PreparedForBits:
        short(12)
    verdict = check(hashbench.method("broken")(type("Made", (broken,), {"__module__": __name__, **vars(broken)})))
    failed = [line for line in verdict.lines if line.state == "FAILED"]
    assert not verdict.ok
    assert any(line.what.startswith(what) and reason in line.reason for line in failed), verdict.render()


def test_bad_names_and_versions_are_told(short):
    for name, version in (("my.method", 1), ("my method", 1), ("fine", 0)):
        verdict = check(hashbench.method(name, version=version)(type("Made", (Sound,), {})))
        assert "name" in str(verdict.lines[0]) or "version" in verdict.lines[0].reason
        assert not verdict.ok


def test_what_is_not_supported_is_skipped_with_the_reason(short):
    class OnlySingle(Sound):
        def supports(self, task):
            return "it knows one label only." if task.multi_label else None

    verdict = check(hashbench.method("only-single")(OnlySingle))
    assert verdict.ok
    where = ", ".join(f"multi-label{kind} at 12 and 16 bits" for kind in ("", " vectors", " text"))
    assert f"skipped  {where}: not supported: it knows one label only." in verdict.render()


def test_unknown_targets_are_errors():
    with pytest.raises(HashbenchError, match="Did you mean 'crh'"):
        check("chr")

    class Undecorated(hashbench.DeepMethod):
        pass

    with pytest.raises(HashbenchError, match=r"Undecorated lacks the decorator @hashbench.method"):
        check(Undecorated)
