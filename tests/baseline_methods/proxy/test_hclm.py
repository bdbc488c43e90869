"""HCLM against a literal loss, and its proxies: how far apart, how near to the corners, and what saturates."""

import itertools
import math

import pytest
import torch
from method_cases import gradients, make_batch, make_task, one_hot, some_labels, some_outputs
from torch import nn

from baselines.proxy.hclm import HCLM, quantization_error, set_apart, simplex

N, K, C = 7, 12, 5


def ready(method, classes=C, bits=K, prepared=None, **task):
    made = make_task(classes, bits, **task)
    assert method.supports(made) is None
    method.setup(made, prepared or {})
    return method.double()


def cosines(vectors):
    """Return the cosines of all pairs of different rows."""
    rows = vectors.tolist()
    return [sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)
            for a, b in itertools.combinations(rows, 2)]  # fmt: skip


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_loss_and_gradient_are_those_of_a_classifier_of_fixed_weights(multi_label, scale):
    out, labels = some_outputs(N, K), some_labels(N, C, multi_label=multi_label)
    method = ready(HCLM(scale=scale))

    def literal(v):
        total, labelled = 0, [i for i in range(N) if labels[i].any()]
        for i in labelled:
            logits = [scale * sum(v[i, k].tanh() * method.proxies[c, k] for k in range(K)) for c in range(C)]
            whole = sum(logit.exp() for logit in logits)
            own = [c for c in range(C) if labels[i, c]]
            total = total - sum((logits[c].exp() / whole).log() for c in own) / (len(own) * len(labelled))
        return total

    leaf, other = out.clone().requires_grad_(), out.clone().requires_grad_()
    total, wanted = sum(method.loss(leaf, make_batch(labels)).values()), literal(other)
    torch.testing.assert_close(total, wanted, rtol=1e-10, atol=1e-12)
    gradient = gradients(total, leaf)
    torch.testing.assert_close(gradient, gradients(wanted, other), rtol=1e-9, atol=1e-12)
    assert gradient[-1].eq(0).all()  # the row without a label carries no loss
    assert not list(method.parameters())


@pytest.mark.parametrize(("classes", "bits"), [(2, 1), (5, 4), (5, 12), (10, 64)])
def test_with_enough_bits_all_proxies_are_equally_far_apart(classes, bits):
    vectors = simplex(classes, bits)
    assert vectors.shape == (classes, bits)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(classes, dtype=torch.float64))
    assert cosines(vectors) == pytest.approx([-1 / (classes - 1)] * math.comb(classes, 2))
    found = ready(HCLM(), classes, bits)
    assert cosines(found.proxies) == pytest.approx([-1 / (classes - 1)] * math.comb(classes, 2), abs=1e-6)
    assert found.end_epoch(0, found.epoch_sums(some_outputs(N, bits), make_batch(one_hot([0] * N, C))))[
        "proxy_cosine_max"
    ] == pytest.approx(-1 / (classes - 1))


@pytest.mark.parametrize(
    ("count", "size", "best"),
    [(6, 3, 0), (12, 3, 1 / math.sqrt(5)), (10, 4, 1 / 6), (8, 4, 0), (16, 5, 1 / 5), (5, 4, -1 / 4)],
)
def test_with_fewer_bits_descent_finds_the_best_spherical_codes(count, size, best):
    """Octahedron, icosahedron, the Petersen code, cross polytope, Clebsch code, simplex: known optima."""
    starts = [torch.randn((count, size), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
              for seed in range(2)]  # fmt: skip
    assert min(max(cosines(set_apart(start))) for start in starts) == pytest.approx(best, abs=2e-3)
    assert all(max(cosines(set_apart(start))) < max(cosines(start)) for start in starts)


@pytest.mark.parametrize(("classes", "bits"), [(10, 8), (10, 16), (10, 64), (21, 32), (30, 16)])
def test_rotated_proxies_lose_less_to_their_signs_than_unrotated_ones(classes, bits):
    rotated, unrotated = ready(HCLM(), classes, bits).proxies, ready(HCLM(rotate=False), classes, bits).proxies
    error = float(sum((math.copysign(1, w) - math.sqrt(bits) * w) ** 2 for w in rotated.flatten().tolist()))
    assert quantization_error(rotated) == pytest.approx(error / (classes * bits))
    assert quantization_error(rotated) < 0.75 * quantization_error(unrotated)
    assert max(cosines(rotated)) == pytest.approx(max(cosines(unrotated)), abs=1e-6)  # a rotation keeps distances
    one, many = (ready(HCLM(rotation_draws=draws), classes, bits).proxies for draws in (1, 10))
    assert quantization_error(many) <= quantization_error(one)
    assert torch.equal(many, ready(HCLM(), classes, bits).proxies)
    assert not torch.equal(many, ready(HCLM(), classes, bits, seed=1).proxies)


def test_outputs_saturate_during_training_and_their_bits_are_the_signs_of_proxies():
    """Free outputs, in place of a network's, under the loss alone."""
    shares = {}
    for rotate in (True, False):
        method, labels = ready(HCLM(rotate=rotate), 10, 16), one_hot([i % 10 for i in range(40)], 10)
        out = (0.1 * some_outputs(40, 16)).requires_grad_()
        optimizer, batch, saturation = torch.optim.Adam([out], lr=0.05), make_batch(labels), []
        for epoch in range(4):
            saturation.append(method.end_epoch(epoch, method.epoch_sums(out.detach(), batch))["saturation"])
            assert saturation[-1] == pytest.approx(float(out.detach().tanh().abs().mean()))
            for _ in range(100):
                optimizer.zero_grad()
                method.loss(out, batch)["proxies"].backward()
                optimizer.step()
        assert saturation == sorted(saturation)
        shares[rotate] = saturation[-1]
        assert torch.equal(out.detach() >= 0, (method.proxies >= 0)[labels.argmax(dim=1)]) or not rotate
    assert shares[True] > 0.95
    assert shares[True] > shares[False]


class Trained:
    """What `prepare` may use: a classifier whose weights are known."""

    def __init__(self, weights, hidden):
        layer = nn.Linear(weights.shape[1], len(weights))
        layer.weight.data.copy_(weights)
        self.head = nn.Sequential(nn.Linear(3, weights.shape[1]), layer) if hidden else layer

    def train(self, outputs, loss):
        self.value = float(loss(torch.zeros(2, outputs), make_batch(one_hot([0, 1], outputs).float()))["classifier"])
        return nn.ModuleDict({"backbone": nn.Identity(), "head": self.head})


@pytest.mark.parametrize("hidden", [False, True])
def test_the_weights_of_a_classifier_are_prepared(hidden):
    weights, task = some_outputs(C, 6).float(), make_task(C, K)
    tools = Trained(weights, hidden)
    prepared = HCLM(semantic=True).prepare(task, None, tools)
    assert tools.value == pytest.approx(math.log(C))
    torch.testing.assert_close(prepared["weights"], weights)
    assert HCLM().prepare(task, None, None) == {}


def test_semantic_proxies_begin_as_the_weights_of_a_classifier():
    """Of classes in four groups, those of one group are the nearest to each other."""
    chance = torch.Generator().manual_seed(0)
    groups = torch.randn((4, 20), generator=chance)
    weights = torch.cat([group + 0.3 * torch.randn((5, 20), generator=chance) for group in groups])
    prepared = {"weights": weights}

    def kinship(proxies):
        nearest = (proxies @ proxies.T).fill_diagonal_(-2).topk(2, dim=1).indices
        return float((nearest // 5 == torch.arange(20)[:, None] // 5).double().mean())

    def mean_kinship(steps):
        found = [ready(HCLM(semantic=True, steps=steps, rotate=False), 20, 4, prepared, seed=seed) for seed in range(3)]
        return sum(kinship(method.proxies) for method in found) / 3

    kept = [mean_kinship(steps) for steps in (0, 2, 200)]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] == 1
    plain = sum(kinship(ready(HCLM(), 20, 4, seed=seed).proxies) for seed in range(3)) / 3
    assert kept[1] > plain + 0.2
    wide = ready(HCLM(semantic=True), 20, 32, prepared).proxies
    assert max(cosines(wide)) == pytest.approx(-1 / 19, abs=1e-3)  # the simplex, whatever the start


def test_batches_without_labels_of_one_sample_and_large_outputs_stay_finite():
    method = ready(HCLM())
    for labels, scale in (
        (torch.zeros(3, C, dtype=torch.float64), 1),
        (one_hot([1], C), 1),
        (one_hot([1, 2], C), 1e4),
    ):
        out = (some_outputs(len(labels), K) * scale).requires_grad_()
        total = sum(method.loss(out, make_batch(labels)).values())
        gradient = gradients(total, out)
        assert torch.isfinite(total)
        assert torch.isfinite(gradient).all()
        if not labels.any():
            assert total == 0
            assert gradient.eq(0).all()


def test_settings_without_a_meaning_are_refused():
    assert "two or more" in HCLM().supports(make_task(1))
    for method in (HCLM(scale=0.0), HCLM(rotation_draws=0), HCLM(iterations=-1), HCLM(steps=-1)):
        assert "at least" in method.supports(make_task())
