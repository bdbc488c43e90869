"""GreedyHash and JMLH, classifiers on bits, against literal re-statements: one sample, one class, one bit at a time."""

import math

import pytest
import torch
from method_cases import gradients, make_batch, make_task, one_hot, some_labels, some_outputs

from baselines.pointwise.greedyhash import GreedyHash
from baselines.pointwise.jmlh import JMLH

N, K, C = 7, 12, 5


def ready(method, **task):
    made = make_task(C, K, **task)
    assert method.supports(made) is None
    method.setup(made, {})
    return method.double()


@pytest.fixture(params=[False, True], ids=["single", "multi"])
def cases(request):
    labels = some_labels(N, C, multi_label=request.param)
    return some_outputs(N, K), labels, [i for i in range(N) if labels[i].any()]


def literal_cross_entropy(bits, weight, bias, labels, labelled):
    """Return the mean over samples of the mean over their classes of -log softmax(W b + c)."""
    total = 0
    for i in labelled:
        logits = [sum(weight[c, k] * bits[i, k] for k in range(K)) + bias[c] for c in range(C)]
        whole = sum(logit.exp() for logit in logits)
        own = [c for c in range(C) if labels[i, c]]
        for c in own:
            total = total - (logits[c].exp() / whole).log() / (len(own) * len(labelled))
    return total


def compare(method, out, labels, *, bits, classification, rest, passed=1.0):
    """Compare a loss with `classification(bits)` and `rest(out)`; a bit's gradient is `passed` on to its output."""
    leaf, other, bits = out.clone().requires_grad_(), out.clone().requires_grad_(), bits.clone().requires_grad_()
    torch.manual_seed(3)
    total = sum(method.loss(leaf, make_batch(labels)).values())
    on_bits, on_outputs = classification(bits), rest(other)
    torch.testing.assert_close(total, on_bits + on_outputs, rtol=1e-10, atol=1e-12)
    gradient, weights = torch.autograd.grad(total, (leaf, method.classifier.weight))
    by_bits, wanted_weights = torch.autograd.grad(on_bits, (bits, method.classifier.weight))
    torch.testing.assert_close(gradient, by_bits * passed + gradients(on_outputs, other), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(weights, wanted_weights, rtol=1e-9, atol=1e-12)
    assert gradient[-1].eq(0).all()  # the row without a label carries no loss
    assert gradient[0].ne(0).any()


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_greedyhash(cases, alpha):
    out, labels, labelled = cases
    method = ready(GreedyHash(quantization=alpha))
    assert method.classifier.bias is None

    def classification(bits):
        return literal_cross_entropy(bits, method.classifier.weight, [0] * C, labels, labelled)

    def rest(v):
        corner = sum(abs(abs(v[i, k]) - 1) ** 3 for i in labelled for k in range(K))
        return alpha * corner / (len(labelled) * K)

    signs = torch.tensor([[math.copysign(1, v) for v in row] for row in out.tolist()], dtype=torch.float64)
    compare(method, out, labels, bits=signs, classification=classification, rest=rest)


@pytest.mark.parametrize(("fields", "weight"), [({}, 0.1), ({"divergence": 0.2, "bits_from": "threshold"}, 0.2)])
def test_jmlh(cases, fields, weight):
    out, labels, labelled = cases
    method = ready(JMLH(**fields))
    p = 1 / (1 + (-out).exp())
    torch.manual_seed(3)
    thresholds = torch.full((N, K), 0.5) if fields else torch.rand((N, K), dtype=torch.float64)
    bits = torch.tensor([[float(p[i, k] > thresholds[i, k]) for k in range(K)] for i in range(N)], dtype=torch.float64)

    def classification(drawn):
        return literal_cross_entropy(drawn, method.classifier.weight, method.classifier.bias, labels, labelled)

    def rest(v):
        total = 0
        for i in labelled:
            for k in range(K):
                q = 1 / (1 + (-v[i, k]).exp())
                total = total + q * (q / 0.5).log() + (1 - q) * ((1 - q) / 0.5).log()
        return weight * total / len(labelled)

    compare(method, out, labels, bits=bits, classification=classification, rest=rest, passed=p * (1 - p))


def classified(method, out):
    """Return what the classifier of a method is given."""
    seen = []
    hook = method.classifier.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    method.loss(out, make_batch(one_hot([0] * len(out), C)))
    hook.remove()
    return seen[0]


def test_what_greedyhash_classifies_are_the_codes_that_are_stored():
    out = some_outputs(50, K)
    out[0, :2] = torch.tensor([0.0, -0.0])
    method = ready(GreedyHash())
    assert torch.equal(classified(method, out) > 0, method.codes(out))
    assert set(classified(method, out).unique().tolist()) == {-1, 1}


def test_jmlh_draws_each_bit_by_its_probability_and_stores_the_likelier_one():
    torch.manual_seed(0)
    p = torch.linspace(0.05, 0.95, K, dtype=torch.float64)
    out = (p / (1 - p)).log().expand(20_000, K)
    method = ready(JMLH())
    drawn = classified(method, out)
    assert set(drawn.unique().tolist()) == {0, 1}
    torch.testing.assert_close(drawn.mean(dim=0), p, rtol=0, atol=0.012)
    assert not torch.equal(classified(method, out), drawn)
    assert torch.equal(method.codes(out)[0], p > 0.5)
    assert torch.equal(classified(ready(JMLH(bits_from="threshold")), out) > 0, method.codes(out))


def test_the_divergence_of_jmlh_is_least_for_fair_coins_and_a_bit_each_at_the_corners():
    method = ready(JMLH(divergence=1.0))

    def divergence(value):
        out = torch.full((3, K), value, dtype=torch.float64)
        return float(method.loss(out, make_batch(one_hot([0, 1, 2], C)))["divergence"].detach())

    assert divergence(0.0) == pytest.approx(0, abs=1e-15)
    assert divergence(50.0) == divergence(-50.0) == pytest.approx(K * math.log(2))
    assert 0 < divergence(0.5) < divergence(1.0)


@pytest.mark.parametrize("method", [GreedyHash(), JMLH(), JMLH(bits_from="threshold")], ids=lambda one: one.info.name)
def test_batches_without_labels_of_one_sample_and_large_outputs_stay_finite(method):
    method = ready(method)
    for labels, scale in ((torch.zeros(3, C, dtype=torch.float64), 1), (one_hot([1], C), 1), (one_hot([1, 2], C), 1e4)):
        out = (some_outputs(len(labels), K) * scale).requires_grad_()
        total = sum(method.loss(out, make_batch(labels)).values())
        assert torch.isfinite(total)
        assert torch.isfinite(gradients(total, out)).all()
        if not labels.any():
            assert total == 0
            assert gradients(sum(method.loss(out, make_batch(labels)).values()), out).eq(0).all()
