"""HyP2 and DHD against literal re-statements of their losses, one sample and one class at a time."""

import math
from itertools import product

import pytest
import torch
from method_cases import gradients, make_batch, make_task, some_labels, some_outputs
from torch import nn

from baselines.proxy.dhd import DHD
from baselines.proxy.hyp2 import HyP2, largest_distance
from hashbench import recipes
from hashbench.datasets.loading.batch import Batch
from hashbench.networks.network import HashNetwork

N, K, C = 7, 12, 5


def ready(method, classes=C, **task):
    made = make_task(classes, K, **task)
    assert method.supports(made) is None
    method.setup(made, {})
    return method.double()


def cosine(a, b):
    def dot(x, y):
        return sum(p * q for p, q in zip(x, y, strict=True))

    return dot(a, b) / (dot(a, a) * dot(b, b)) ** 0.5


def mean(values):
    return sum(values) / len(values) if values else 0.0


def compare(terms, wanted, inputs):
    """Compare value and gradients of a loss with those of a function that says the same in loops."""
    total = torch.stack(list(terms.values())).sum()
    torch.testing.assert_close(total, wanted, rtol=1e-10, atol=1e-12)
    for leaf in inputs:
        ours, theirs = (torch.autograd.grad(of, leaf, retain_graph=True)[0] for of in (total, wanted))
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
        assert ours.ne(0).any()


@pytest.fixture(params=[False, True], ids=["single", "multi"])
def cases(request):
    labels = some_labels(N, C, multi_label=request.param)
    return some_outputs(N, K).requires_grad_(), labels, [i for i in range(N) if labels[i].any()]


@pytest.mark.parametrize(("fields", "zeta"), [({}, 1 - 2 * 6 / 12), ({"threshold": -0.1, "pairs": 2.0}, -0.1)])
def test_hyp2(cases, fields, zeta):
    out, labels, labelled = cases
    method = ready(HyP2(**fields))
    own, other, pairs = [], [], []
    for i, c in product(labelled, range(C)):
        found = cosine(out[i], method.proxies[c])
        (own if labels[i, c] else other).append(1 - found if labels[i, c] else (found - zeta).clamp(min=0))
    several = [i for i in labelled if labels[i].sum() > 1]
    for i, j in product(several, several):
        if not any(x and y for x, y in zip(labels[i], labels[j], strict=True)):
            pairs.append((cosine(out[i], out[j]) - zeta).clamp(min=0))
    assert bool(pairs) == bool(several)
    terms = method.loss(out, make_batch(labels))
    compare(terms, mean(own) + mean(other) + fields.get("pairs", 0.5) * mean(pairs), [out, method.proxies])
    assert gradients(sum(method.loss(out, make_batch(labels)).values()), out)[-1].eq(0).all()
    assert (terms["pairs"] == 0) == (not several)


@pytest.mark.parametrize(
    ("bits", "classes", "distance"),
    # Repetition, parity, simplex, first-order Reed-Muller, Golay, extended Golay, extended BCH codes, and of the table.
    [(16, 2, 16), (7, 64, 2), (15, 16, 8), (16, 32, 8), (64, 128, 32), (23, 4096, 7), (24, 4096, 8), (31, 20, 16),
     (64, 1000, 28), (128, 256, 64), (32, 38, 16), (48, 21, 24), (12, 10, 6), (48, 100, 22)],
)  # fmt: skip
def test_zeta_of_hyp2_is_that_of_the_best_linear_code(bits, classes, distance):
    assert largest_distance(bits, math.ceil(math.log2(classes))) == distance


def test_the_proxies_of_hyp2_have_a_rate_of_their_own():
    method = ready(HyP2(proxy_learning_rate_scale=3.0))
    network = HashNetwork(nn.Linear(4, 4), nn.Linear(4, K), "fp32")
    recipe = recipes.load(
        "scratch", overrides={"learning_rate": 0.1, "backbone_learning_rate_scale": 0.5}, multi_label=False
    )
    groups = method.parameter_groups(network, recipe)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(rates)  # each is optimised once
    assert [rates[id(p)] for p in network.backbone.parameters()] == [0.05] * 2
    assert [rates[id(p)] for p in network.head.parameters()] == [0.1] * 2
    assert rates[id(method.proxies)] == pytest.approx(0.3)
    assert len(rates) == 5


def literal_quantization(h, sigma):
    total = []
    for x in h:
        high, low = ((-((x - m) ** 2) / (2 * sigma**2)).exp() for m in (1, -1))
        t = float(x > 0)
        total.append(-(t * high.log() + (1 - t) * (1 - high).log()) - ((1 - t) * low.log() + t * (1 - low).log()))
    return mean(total)


@pytest.mark.parametrize(
    ("fields", "tau", "sigma"), [({}, 0.2, 0.5), ({"temperature": 0.7, "deviation": 0.8}, 0.7, 0.8)]
)
@pytest.mark.parametrize("classified", ["weak", "strong"])
def test_dhd(cases, fields, tau, sigma, classified):
    weak, labels, labelled = cases
    strong = some_outputs(N, K, seed=3).requires_grad_()
    method = ready(DHD(classified=classified, distillation=0.3, quantization=0.6, **fields))
    batch = Batch((weak, strong), labels, torch.arange(N), 0, 0)
    terms, out = method.training_step(lambda view: view, batch)
    chosen = weak if classified == "weak" else strong
    assert out is chosen
    entropy, apart, off = [], [], []
    for i in labelled:
        h = chosen[i].tanh()
        logits = [cosine(h, p) / tau for p in method.proxies]
        whole = sum(logit.exp() for logit in logits)
        target = [float(y) / float(labels[i].sum()) for y in labels[i]]
        entropy.append(-sum(y * (logit.exp() / whole).log() for y, logit in zip(target, logits, strict=True)))
        apart.append(1 - cosine(strong[i].tanh(), weak[i].tanh().detach()))
        off.append(literal_quantization(h, sigma))
    wanted = mean(entropy) + 0.3 * mean(apart) + 0.6 * mean(off)
    compare(terms, wanted, [strong, method.proxies] if classified == "strong" else [weak, strong, method.proxies])
    for view in (weak, strong):
        total = sum(method.training_step(lambda view: view, batch)[0].values())
        found = torch.autograd.grad(total, view, allow_unused=True)[0]
        assert found is None or found[-1].eq(0).all()  # the row without a label carries no loss


def test_the_weak_view_of_dhd_teaches_and_does_not_follow():
    weak, strong = some_outputs(N, K).requires_grad_(), some_outputs(N, K, seed=3).requires_grad_()
    batch = Batch((weak, strong), some_labels(N, C, multi_label=False), torch.arange(N), 0, 0)
    terms, _ = ready(DHD()).training_step(lambda view: view, batch)
    assert torch.autograd.grad(terms["distillation"], weak, retain_graph=True, allow_unused=True)[0] is None
    assert gradients(terms["distillation"], strong).ne(0).any()
    assert DHD.views == len(DHD.view_augments)
    assert DHD.view_augments[0] == ""


def test_the_outputs_of_dhd_are_normalised_over_the_bits():
    head = DHD().head(6, make_task(C, K))
    out = head(torch.randn(4, 6))
    torch.testing.assert_close(out.mean(dim=1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(dim=1, unbiased=False), torch.ones(4), atol=1e-2, rtol=0)
    assert head[0].bias is None


@pytest.mark.parametrize("method", [HyP2(), DHD()], ids=lambda method: method.info.name)
def test_batches_without_pairs_and_large_outputs_stay_finite(method):
    method = ready(method)
    for labels, scale in (
        (torch.zeros(3, C, dtype=torch.float64), 1),  # no label
        (torch.eye(C, dtype=torch.float64)[:1], 1),  # one sample
        (torch.ones(3, C, dtype=torch.float64), 1),  # no other class, no stranger
        (torch.eye(C, dtype=torch.float64)[[1, 1, 2]], 1e4),
        (torch.eye(C, dtype=torch.float64)[[1, 1, 2]], 0),
    ):
        out = (some_outputs(len(labels), K) * scale).requires_grad_()
        total = torch.stack([*method.loss(out, make_batch(labels)).values()]).sum()
        assert torch.isfinite(total)
        assert torch.isfinite(gradients(total, out)).all()
        if not labels.any():
            assert total == 0


def test_settings_without_a_meaning_are_refused():
    assert "too few for 100" in HyP2().supports(make_task(100, 4))
    assert "up to 128 bits and 4,096 classes" in HyP2().supports(make_task(10, 256))
    assert "up to 128 bits and 4,096 classes" in HyP2().supports(make_task(5000, 64))
    assert HyP2(threshold=0.1).supports(make_task(5000, 256)) is None
    assert "0 or more" in HyP2(proxy_learning_rate_scale=-1.0).supports(make_task())
    assert "more than 0" in DHD(temperature=0.0).supports(make_task())
