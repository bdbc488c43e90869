"""CSQ against a literal re-statement of its loss, and its centers at every size."""

import math

import pytest
import torch
from method_cases import (
    gradients,
    make_batch,
    make_task,
    one_hot,
    some_labels,
    some_outputs,
    terms_and_gradients,
)
from torch import nn

from baselines.centers.csq import CSQ
from hashbench.methods.codebooks import spread


def ready(classes=6, bits=16, *, task=None, **fields) -> CSQ:
    method = CSQ(**fields)
    made = make_task(classes, bits, **(task or {}))
    assert method.supports(made) is None
    method.setup(made, {})
    return method


def literal_target(labels, centers, ties):
    """Return each sample's target: bit by bit the majority of its classes' centers."""
    target = []
    for row in labels:
        votes = [sum(float(row[c] * centers[c, k]) for c in range(len(centers))) for k in range(len(ties))]
        target.append([float(ties[k]) if vote == 0 else math.copysign(1, vote) for k, vote in enumerate(votes)])
    return target


def literal_loss(out, target, labelled, *, quantization, log_cosh=False):
    """Return the paper's L_C and L_Q of h = (tanh v + 1) / 2, one sample and bit at a time."""
    center, corner = out.new_zeros(()), out.new_zeros(())
    count = sum(labelled) * out.shape[1]
    for i in range(len(out)):
        for k in range(out.shape[1]):
            if labelled[i]:
                h, c = (out[i, k].tanh() + 1) / 2, (target[i][k] + 1) / 2
                center = center - (c * h.log() + (1 - c) * (1 - h).log()) / count
                gap = (2 * h - 1).abs() - 1
                corner = corner + (gap.cosh().log() if log_cosh else gap**2) / count
    return center, quantization * corner


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    ("fields", "quantization"), [({}, 1e-4), ({"quantization": 0.3}, 0.3), ({"quantization": 0.0}, 0)]
)
@pytest.mark.parametrize("term", ["squared", "log-cosh"])
def test_loss_and_gradient_are_those_of_the_paper(multi_label, fields, quantization, term):
    method = ready(task={"multi_label": multi_label}, quantization_term=term, **fields)
    out, labels = some_outputs(7, 16), some_labels(7, 6, multi_label=multi_label)
    terms, gradient = terms_and_gradients(method, out, labels)
    leaf = out.clone().requires_grad_()
    target = literal_target(labels, method.centers, method.ties)
    center, corner = literal_loss(
        leaf, target, labels.any(dim=1).tolist(), quantization=quantization, log_cosh=term == "log-cosh"
    )
    assert terms["center"] == pytest.approx(float(center.detach()))
    assert terms.get("quantization", 0.0) == pytest.approx(float(corner.detach()))
    torch.testing.assert_close(gradient, gradients(center + corner, leaf))
    assert gradient[-1].eq(0).all()  # the row without a label carries no loss


def test_the_target_of_one_class_is_its_center():
    method = ready()
    on_the_centers = method.centers.double() * 20
    assert terms_and_gradients(method, on_the_centers, one_hot(range(6), 6))[0]["center"] < 1e-12
    assert terms_and_gradients(method, -on_the_centers, one_hot(range(6), 6))[0]["center"] == pytest.approx(40)


def test_a_batch_without_labels_costs_nothing():
    terms, gradient = terms_and_gradients(ready(), some_outputs(3, 16), torch.zeros(3, 6, dtype=torch.float64))
    assert set(terms.values()) == {0.0}
    assert gradient.eq(0).all()


def test_large_outputs_do_not_overflow():
    out = torch.full((1, 16), 1e4, requires_grad=True)
    terms = ready().loss(out, make_batch(torch.eye(6)[:1]))
    terms["center"].backward()
    assert torch.isfinite(terms["center"])
    assert torch.isfinite(out.grad).all()


@pytest.mark.parametrize("bits", [12, 16, 24, 32, 48, 64, 100])
@pytest.mark.parametrize("classes", [2, 10, 80, 100, 196, 555])
def test_centers_at_every_size(classes, bits):
    centers = ready(classes, bits, center_draws=2).centers
    assert centers.shape == (classes, bits)
    assert len(centers.unique(dim=0)) == classes
    if bits & (bits - 1) == 0 and classes <= 2 * bits:
        assert spread(centers)[0] == bits / 2
    else:
        assert (centers > 0).sum(dim=1).eq(bits // 2).all()


def test_centers_follow_the_seed():
    for classes, bits in ((10, 16), (10, 12)):
        first, again, other = (ready(classes, bits, task={"seed": seed}) for seed in (0, 0, 1))
        assert torch.equal(first.centers, again.centers)
        assert torch.equal(first.ties, again.ties)
        assert not torch.equal(first.centers, other.centers)
        assert not torch.equal(first.ties, other.ties)


def test_more_draws_give_wider_centers():
    def narrowest(draws):
        return ready(20, 24, center_draws=draws).end_epoch(0, {})["center_distance_min"]

    assert narrowest(100) > narrowest(1)


def test_head_has_the_layers_asked_for():
    def layers(method):
        return [type(layer) for layer in method.head(8, make_task(bits=16))]

    assert layers(ready()) == [nn.Linear]
    assert layers(ready(head_layers=3)) == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert ready(head_layers=3).head(8, make_task(bits=16))(torch.zeros(2, 8)).shape == (2, 16)


def test_what_makes_no_sense_is_refused_with_a_reason():
    assert "12 bits give 924 balanced words, too few for 1000" in CSQ().supports(make_task(1000, 12))
    assert "at least 1" in CSQ(center_draws=0).supports(make_task())
    assert "at least 1" in CSQ(head_layers=0).supports(make_task())
