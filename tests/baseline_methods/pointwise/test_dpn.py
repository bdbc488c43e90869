"""DPN against a literal re-statement of its loss, its targets, and DPN-A."""

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

from baselines.pointwise.dpn import DPN
from hashbench.methods.codebooks import spread


def ready(classes=6, bits=16, *, task=None, **fields) -> DPN:
    method = DPN(**fields)
    made = make_task(classes, bits, **(task or {}))
    assert method.supports(made) is None
    method.setup(made, {})
    return method


def literal_loss(out, labels, centers, ties, *, margin, majority):
    """Return the mean over labelled samples of the hinge, one class and bit at a time."""
    total, labelled = out.new_zeros(()), int(labels.any(dim=1).sum())
    for v, row in zip(out, labels, strict=True):
        targets = [centers[c] for c in range(len(centers)) if row[c]]
        if majority and targets:
            votes = sum(targets)
            targets = [torch.where(votes == 0, ties, votes.sign())]
        for target in targets:
            for k in range(len(v)):
                total = total + (margin - v[k] * target[k]).clamp(min=0) / labelled
    return total


@pytest.mark.parametrize("margin", [1.0, 0.3])
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("form", ["sum", "majority"])
def test_loss_and_gradient_are_those_of_the_paper(margin, multi_label, form):
    method = ready(task={"multi_label": multi_label}, margin=margin, multi_label=form)
    out, labels = some_outputs(7, 16), some_labels(7, 6, multi_label=multi_label)
    terms, gradient = terms_and_gradients(method, out, labels)
    leaf = out.clone().requires_grad_()
    total = literal_loss(leaf, labels, method.centers, method.ties, margin=margin, majority=form == "majority")
    assert terms == {"polarization": pytest.approx(float(total.detach()))}
    torch.testing.assert_close(gradient, gradients(total, leaf))
    assert gradient[-1].eq(0).all()  # the row without a label carries no loss


def test_the_hinge_is_summed_over_the_bits():
    for bits in (16, 64):
        method = ready(bits=bits)
        assert float(method.loss(torch.zeros(6, bits), make_batch(torch.eye(6)))["polarization"]) == bits


@pytest.mark.parametrize("form", ["sum", "majority"])
def test_a_batch_without_labels_costs_nothing(form):
    method = ready(multi_label=form)
    terms, gradient = terms_and_gradients(method, some_outputs(3, 16), torch.zeros(3, 6, dtype=torch.float64))
    assert terms == {"polarization": 0.0}
    assert gradient.eq(0).all()


def test_targets_are_of_the_kind_asked_for():
    def narrowest(classes, bits, kind):
        return ready(classes, bits, targets=kind).end_epoch(0, {})["center_distance_min"]

    assert narrowest(250, 8, "random") == 0  # that 250 of 256 words do not repeat is out of the question
    assert narrowest(250, 8, "distinct") == 1
    assert narrowest(10, 64, "max-distance") >= 29 > narrowest(10, 64, "distinct")
    words = torch.cat([ready(100, 16, task={"seed": seed}).centers for seed in range(20)])
    assert words.mean(dim=0).abs().max() < 0.1


def test_targets_follow_the_seed():
    first, again, other = (ready(task={"seed": seed}) for seed in (0, 0, 1))
    assert torch.equal(first.centers, again.centers)
    assert not torch.equal(first.centers, other.centers)


def test_the_head_is_linear_without_bias_and_small():
    head = ready().head(1000, make_task(bits=16))
    assert isinstance(head, nn.Linear)
    assert head.bias is None
    assert float(head.weight.detach().std()) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("multi_label", [False, True])
def test_adaptive_targets_are_the_signs_of_the_mean_codes(multi_label):
    method = ready(adaptive=True, task={"multi_label": multi_label})
    before = method.centers.clone()
    batches = [(some_outputs(n, 16, n), some_labels(n, 6, multi_label=multi_label, seed=n)) for n in (12, 9)]
    for _, labels in batches:
        labels[:, 3] = 0  # an absent class
    shares = [method.epoch_sums(out, make_batch(labels)) for out, labels in batches]
    log = method.end_epoch(0, {"codes": shares[0]["codes"] + shares[1]["codes"]})
    for c in range(6):
        codes = [torch.where(v >= 0, 1.0, -1.0) for out, y in batches for v, row in zip(out, y, strict=True) if row[c]]
        for k in range(16):
            mean = sum(float(code[k]) for code in codes)
            assert method.centers[c, k] == (before[c, k] if mean == 0 else (1 if mean > 0 else -1))
    assert torch.equal(method.centers[3], before[3])
    assert log["target_bits_moved"] == (before != method.centers).sum() > 0
    assert log["center_distance_min"] == spread(method.centers)[0]


def test_targets_stay_unless_adaptive():
    method = ready()
    before = method.centers.clone()
    sums = method.epoch_sums(some_outputs(6, 16), make_batch(one_hot(range(6), 6)))
    assert sums == {}
    assert "target_bits_moved" not in method.end_epoch(0, sums)
    assert torch.equal(method.centers, before)


def test_what_makes_no_sense_is_refused_with_a_reason():
    assert "3 bits give 8 words, too few for 10" in DPN(targets="distinct").supports(make_task(10, 3))
    assert "3 bits give 8 words, too few for 10" in DPN(targets="max-distance").supports(make_task(10, 3))
    assert DPN().supports(make_task(10, 3)) is None
