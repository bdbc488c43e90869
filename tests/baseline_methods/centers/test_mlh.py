"""MLH against a literal re-statement of its three terms; its branches and their gates."""

import itertools

import pytest
import torch
from method_cases import gradients, make_batch, make_task, one_hot, some_labels, some_outputs

from baselines.centers.mlh import MLH, SharedExperts
from hashbench.methods import gilbert_varshamov_distance, spread

N, K, C = 7, 12, 5


def ready(**fields):
    method, task = MLH(**fields), make_task(C, K)
    assert method.supports(task) is None
    method.setup(task, {})
    return method.double()


def cosine(a, b):
    def dot(x, y):
        return sum(p * q for p, q in zip(x, y, strict=True))

    return dot(a, b) / (dot(a, a) * dot(b, b)) ** 0.5


def literal_terms(method, v, labels):
    """Return the terms of center and pairwise branch, and of their distance."""
    u, w = v[:, :K].tanh(), v[:, K:].tanh()
    labelled = [i for i in range(N) if labels[i].any()]
    center, pairs, mutual = 0, 0, 0
    for i in labelled:
        weights = [(K**0.5 * cosine(u[i], row)).exp() for row in method.centers]
        for c in range(C):
            p = weights[c] / sum(weights)
            center = center - (p if labels[i, c] else 1 - p).log() / C / len(labelled)
        mutual = mutual + (1 - cosine(u[i], w[i])) / len(labelled)
    for i, j in itertools.permutations(labelled, 2):
        t = sum(w[i, k] * w[j, k] for k in range(K)) / 2
        alike = any(a and b for a, b in zip(labels[i], labels[j], strict=True))
        pairs = pairs + ((1 + t.exp()).log() - alike * t) / (len(labelled) * (len(labelled) - 1))
    return center, pairs, mutual


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("weights", [{}, {"center": 0.0, "pairs": 0.3, "mutual": 0.7}, {"pairs": 0.0, "mutual": 0.0}])
def test_value_and_gradient(multi_label, weights):
    method = ready(**weights)
    labels, out = some_labels(N, C, multi_label=multi_label), some_outputs(N, 2 * K)
    leaf, other = out.clone().requires_grad_(), out.clone().requires_grad_()
    total = sum(method.loss(leaf, make_batch(labels)).values())
    given = [weights.get(name, usual) for name, usual in (("center", 4.0), ("pairs", 1.0), ("mutual", 1.0))]
    wanted = sum(weight * term for weight, term in zip(given, literal_terms(method, other, labels), strict=True))
    torch.testing.assert_close(total, wanted, rtol=1e-10, atol=1e-12)
    gradient = gradients(total, leaf)
    torch.testing.assert_close(gradient, gradients(wanted, other), rtol=1e-9, atol=1e-12)
    assert gradient[-1].eq(0).all()  # the row without a label carries no loss


@pytest.mark.parametrize(
    ("taught", "moved"), [("both", [True, True]), ("center", [True, False]), ("pairs", [False, True])]
)
def test_the_mutual_term_teaches_the_branch_that_is_asked_for(taught, moved):
    method = ready(center=0.0, pairs=0.0, taught=taught)
    out = some_outputs(N, 2 * K).requires_grad_()
    gradient = gradients(sum(method.loss(out, make_batch(some_labels(N, C, multi_label=False))).values()), out)
    assert [bool(part.ne(0).any()) for part in gradient.chunk(2, dim=1)] == moved


def test_branches_mix_the_same_experts_by_weights_of_their_own():
    head, features = SharedExperts(6, K, 3).double(), some_outputs(4, 6)
    out = head(features)
    assert out.shape == (4, 2 * K)
    for i, (branch, gate) in itertools.product(range(4), enumerate(head.gates)):
        shares = (gate.weight @ features[i] + gate.bias).exp()
        experts = [
            head.experts.weight[e * K : (e + 1) * K] @ features[i] + head.experts.bias[e * K : (e + 1) * K]
            for e in range(3)
        ]
        wanted = sum(share * expert for share, expert in zip(shares / shares.sum(), experts, strict=True))
        torch.testing.assert_close(out[i, branch * K : (branch + 1) * K], wanted)


def test_codes_are_the_center_branches_and_centers_keep_the_distance():
    method, out = ready(), some_outputs(N, 2 * K)
    assert torch.equal(method.codes(out), out[:, :K] >= 0)
    assert spread(method.centers)[0] >= gilbert_varshamov_distance(C, K)
    assert method.end_epoch(0, {})["center_distance_min"] == spread(method.centers)[0]


def test_batches_without_pairs_and_large_outputs_stay_finite():
    for classes, scale in (([], 1), ([0], 1), ([0, 1, 2], 1), ([1, 1, 1], 1), ([1, 1, 2], 1e4)):
        labels = one_hot(classes, C) if classes else torch.zeros(3, C, dtype=torch.float64)
        out = (some_outputs(len(labels), 2 * K) * scale).requires_grad_()
        total = sum(ready().loss(out, make_batch(labels)).values())
        assert torch.isfinite(total)
        assert torch.isfinite(gradients(total, out)).all()
        assert (total == 0) == (not classes)


def test_what_has_no_centers_is_refused():
    assert "2 classes" in MLH().supports(make_task(classes=1))
    assert "too few" in MLH().supports(make_task(classes=100, bits=6))
    assert "at least 1" in MLH(experts=0).supports(make_task())
