"""The contract's checks, and what is DLBHC's own: its loss, one sample and one class at a time, and its codes."""

import math

import pytest
import torch
from hashbench_dlbhc import DLBHC

import hashbench


def made(**fields):
    """Return the method, ready for codes of 8 bits and 3 classes."""
    task = hashbench.Task(
        num_classes=3, bits=8, multi_label=False, inputs="images", num_train=4, epochs=1, steps_per_epoch=1,
        device=torch.device("cpu"), seed=0,
    )  # fmt: skip
    method = DLBHC(**fields)
    method.setup(task, {})
    return method


def test_keeps_the_contract():
    verdict = hashbench.check("dlbhc")
    assert verdict.ok, verdict.render()


def test_classifies_sigmoids():
    method = made(quantization=0.5)
    out = torch.randn(4, 8)
    classes = [0, 1, 2, 0]
    batch = hashbench.Batch(views=(), labels=torch.eye(3)[classes], index=torch.arange(4), epoch=0, step=0)
    terms = method.loss(out, batch)
    weight, bias = method.classifier.weight.tolist(), method.classifier.bias.tolist()
    expected, gap = 0.0, 0.0
    for v, own in zip(out.tolist(), classes, strict=True):
        h = [1 / (1 + math.exp(-x)) for x in v]
        logits = [sum(w * x for w, x in zip(row, h, strict=True)) + c for row, c in zip(weight, bias, strict=True)]
        expected += (math.log(sum(map(math.exp, logits))) - logits[own]) / 4
        gap += sum(2 * min(x, 1 - x) for x in h) / 32
    assert float(terms["classification"].detach()) == pytest.approx(expected, rel=1e-5)
    assert float(terms["quantization"]) == pytest.approx(0.5 * gap, rel=1e-5)


def test_a_bit_is_on_where_its_sigmoid_is_a_half_or_more():
    out = torch.tensor([[-2.0, -0.1, 0.0, 3.0]])
    assert torch.equal(made().codes(out), out.sigmoid() >= 0.5)
