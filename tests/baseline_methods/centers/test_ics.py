"""ICS against a literal re-statement of its steps, and against CSQ, which it is on single labels."""

import math

import pytest
import torch
from method_cases import gradients, make_task, one_hot, some_labels, some_outputs

from baselines.centers.csq import CSQ
from baselines.centers.ics import ICS, on_simplex
from hashbench.datasets.loading.batch import Batch

N, K, C, TRAIN = 7, 12, 5, 20


def ready(method=None, **fields):
    method, task = method or ICS(**fields), make_task(C, K, num_train=TRAIN, multi_label=True)
    assert method.supports(task) is None
    method.setup(task, {})
    return method.double()


def batch_of(labels, step=0):
    return Batch((torch.zeros(len(labels), 1),), labels, torch.arange(len(labels)), 0, step)


def literal_projection(values):
    """Return the nearest point of the simplex, by bisection of the number that is taken from all."""
    low, high = min(values) - 1, max(values)
    for _ in range(200):
        middle = (low + high) / 2
        if sum(max(value - middle, 0) for value in values) > 1:
            low = middle
        else:
            high = middle
    return [max(value - low, 0) for value in values]


def losses_of_centers(v, centers):
    """Return the bits' cross-entropy of one sample's outputs to each center."""
    found = []
    for center in centers:
        total = 0
        for x, c in zip(v, center, strict=True):
            p = (math.tanh(x) + 1) / 2
            total -= (c + 1) / 2 * math.log(p) + (1 - c) / 2 * math.log(1 - p)
        found.append(total / len(v))
    return found


def literal_weights(before, v, centers, rate, entropy):
    """Return the weights of one sample's classes after a step; `before` has an entry for each class, or None."""
    own = [j for j, w in enumerate(before) if w]
    losses = losses_of_centers(v, centers)
    moved = [before[j] - rate * (losses[j] + entropy * (math.log(before[j]) + 1)) for j in own]
    found = dict(zip(own, literal_projection(moved), strict=True))
    return [found.get(j, 0.0) for j in range(len(before))]


@pytest.mark.parametrize("multi_label", [False, True])
def test_two_steps_are_those_of_the_method(multi_label):
    method = ready(weight_rate=0.5, entropy=0.02, quantization=0.3)
    labels = some_labels(N, C, multi_label=multi_label)
    labelled = [i for i in range(N) if labels[i].any()]
    centers = method.centers.tolist()
    weights = {i: [y / float(labels[i].sum()) for y in labels[i].tolist()] for i in labelled}
    for step in range(2):
        out = some_outputs(N, K, seed=step)
        weights = {i: literal_weights(weights[i], out[i].tolist(), centers, 0.5, 0.02) for i in labelled}

        def literal(v, weights=weights):
            total = 0
            for i in labelled:
                targets = [sum(w * row[k] for w, row in zip(weights[i], centers, strict=True)) for k in range(K)]
                for k in range(K):
                    p, t = (v[i, k].tanh() + 1) / 2, (targets[k] + 1) / 2
                    total = total - (t * p.log() + (1 - t) * (1 - p).log()) / K
                    total = total + 0.3 * (v[i, k].tanh().abs() - 1) ** 2 / K
                total = total + 0.02 * sum(w * math.log(w) for w in weights[i] if w)
            return total / len(labelled)

        leaf, other = out.clone().requires_grad_(), out.clone().requires_grad_()
        total, wanted = sum(method.loss(leaf, batch_of(labels)).values()), literal(other)
        torch.testing.assert_close(total, wanted, rtol=1e-9, atol=1e-12)
        gradient = gradients(total, leaf)
        torch.testing.assert_close(gradient, gradients(wanted, other), rtol=1e-8, atol=1e-12)
        assert gradient[-1].eq(0).all()  # the row without a label carries no loss
        method.after_step(None, batch_of(labels))
        for i in labelled:
            torch.testing.assert_close(method.kept[i], torch.tensor(weights[i], dtype=torch.float64), rtol=0, atol=1e-9)
    assert method.kept[N - 1 :].eq(0).all()
    if multi_label:
        uniform = labels / labels.sum(dim=1, keepdim=True).clamp(min=1)
        assert (method.kept[:N] - uniform).abs().max() > 0.05  # weights differ from y / |y|


def test_on_single_labels_loss_and_gradient_are_those_of_csq_to_the_bit():
    labels, out = some_labels(N, C, multi_label=False), some_outputs(N, K)
    method, csq = ready(), ready(CSQ(quantization=0.05))
    csq.centers.copy_(method.centers)
    for _ in range(3):
        leaf, other = out.clone().requires_grad_(), out.clone().requires_grad_()
        total, wanted = (
            sum(method.loss(leaf, batch_of(labels)).values()),
            sum(csq.loss(other, batch_of(labels)).values()),
        )
        assert torch.equal(total, wanted)
        assert torch.equal(gradients(total, leaf), gradients(wanted, other))
        method.after_step(None, batch_of(labels))


def test_weights_stay_on_the_simplex_and_one_that_reaches_zero_stays_there():
    method = ready(weight_rate=3.0)
    labels = torch.ones((3, C), dtype=torch.float64)
    out = 2 * method.centers[:1].repeat(3, 1)  # all like the first center
    gone = torch.zeros((3, C), dtype=torch.bool)
    for step in range(6):
        method.loss(out if step < 4 else -out, batch_of(labels))
        method.after_step(None, batch_of(labels))
        kept = method.kept[:3]
        torch.testing.assert_close(kept.sum(dim=1), torch.ones(3).double())
        assert kept.min() >= 0
        assert kept[gone].eq(0).all()
        gone = kept == 0
    assert gone.any()
    assert method.kept[0].argmax() == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_projection_is_the_nearest_point(seed):
    values = some_outputs(6, C, seed=seed)
    own = some_labels(6, C, multi_label=True, seed=seed) > 0
    found = on_simplex(values, own)
    for row, mask, point in zip(values.tolist(), own.tolist(), found.tolist(), strict=True):
        wanted = iter(literal_projection([x for x, mine in zip(row, mask, strict=True) if mine]) if any(mask) else [])
        assert point == pytest.approx([next(wanted) if mine else 0.0 for mine in mask], abs=1e-12)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_closed_form_is_a_softmax_of_losses(temperature):
    method = ready(weights="closed-form", temperature=temperature)
    labels, out = some_labels(N, C, multi_label=True), some_outputs(N, K)
    found = method.weights_of(out, batch_of(labels))
    for i in range(N):
        losses = losses_of_centers(out[i].tolist(), method.centers.tolist())
        shares = [y * math.exp(-loss / temperature) for y, loss in zip(labels[i].tolist(), losses, strict=True)]
        assert found[i].tolist() == pytest.approx([share / max(sum(shares), 1e-300) for share in shares])


def test_settings_without_a_meaning_are_refused():
    for method in (ICS(center_draws=0), ICS(temperature=0.0), ICS(entropy=-1.0)):
        assert "at least 1" in method.supports(make_task())
    assert "balanced words" in ICS().supports(make_task(classes=100, bits=6))


@pytest.mark.parametrize("weights", ["steps", "closed-form", "uniform"])
def test_batches_without_labels_and_large_outputs_stay_finite(weights):
    for classes, scale in (([], 1), ([0], 1), ([1, 1, 2], 1e4)):
        method = ready(weights=weights)
        labels = one_hot(classes, C) if classes else torch.zeros(3, C, dtype=torch.float64)
        out = (some_outputs(len(labels), K) * scale).requires_grad_()
        for _ in range(2):
            total = sum(method.loss(out, batch_of(labels)).values())
            assert torch.isfinite(total)
            assert torch.isfinite(gradients(total, out)).all()
            assert (total == 0) == (not classes)
            method.after_step(None, batch_of(labels))
