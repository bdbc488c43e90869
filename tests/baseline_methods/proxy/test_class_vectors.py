"""OrthoHash, DCWH and IDCWH, which compare outputs with a vector of each class, against literal losses."""

import math

import pytest
import torch
from method_cases import gradients, make_batch, make_task, one_hot, some_labels, some_outputs
from torch import nn

from baselines.proxy.dcwh import DCWH
from baselines.proxy.idcwh import IDCWH, center_similarity
from baselines.proxy.orthohash import OrthoHash

N, K, C = 7, 12, 5


def ready(method, classes=C, bits=K, **task):
    made = make_task(classes, bits, **task)
    assert method.supports(made) is None
    method.setup(made, {})
    return method.double()


@pytest.fixture(params=[False, True], ids=["single", "multi"])
def cases(request):
    labels = some_labels(N, C, multi_label=request.param)
    return some_outputs(N, K), labels, [i for i in range(N) if labels[i].any()]


def literal_cross_entropy(logits_of, labels, labelled):
    """Return the mean over samples i of the mean over their classes of -log softmax(logits_of(i))."""
    total = 0
    for i in labelled:
        logits = logits_of(i)
        whole = sum(logit.exp() for logit in logits)
        own = [c for c in range(C) if labels[i, c]]
        for c in own:
            total = total - (logits[c].exp() / whole).log() / (len(own) * len(labelled))
    return total


def compare(method, out, labels, literal):
    leaf, other = out.clone().requires_grad_(), out.clone().requires_grad_()
    total, wanted = sum(method.loss(leaf, make_batch(labels)).values()), literal(other)
    torch.testing.assert_close(total, wanted, rtol=1e-10, atol=1e-12)
    gradient = gradients(total, leaf)
    torch.testing.assert_close(gradient, gradients(wanted, other), rtol=1e-9, atol=1e-12)
    assert gradient[-1].eq(0).all()  # the row without a label carries no loss
    assert gradient[0].ne(0).any()


@pytest.mark.parametrize(
    ("fields", "scale", "margin"),
    [({}, math.sqrt(K), 0.2), ({"scale": 8.0, "margin": 0.5}, 8.0, 0.5), ({"margin_on": "angle"}, math.sqrt(K), 0.2)],
)
def test_orthohash(cases, fields, scale, margin):
    out, labels, labelled = cases
    method = ready(OrthoHash(**fields))

    def literal(v):
        def logits_of(i):
            logits = []
            for c in range(C):
                dot = sum(v[i, k] * method.centers[c, k] for k in range(K))
                cosine = dot / (sum(v[i, k] ** 2 for k in range(K)) * K) ** 0.5
                own = margin * labels[i, c]
                logits.append(scale * ((cosine.acos() + own).cos() if "margin_on" in fields else cosine - own))
            return logits

        return literal_cross_entropy(logits_of, labels, labelled)

    compare(method, out, labels, literal)


def test_the_words_of_orthohash_are_fixed_fair_bits_or_far_apart():
    method = ready(OrthoHash(), classes=200, bits=64)
    assert not list(method.parameters())
    assert set(method.centers.unique().tolist()) == {-1, 1}
    assert method.centers.mean().abs() < 0.05
    before = method.centers.clone()
    log = method.end_epoch(0, {})
    assert torch.equal(method.centers, before)
    wider = ready(OrthoHash(words="max-distance"), classes=200, bits=64).end_epoch(0, {})
    assert wider["center_distance_min"] > log["center_distance_min"]
    first, again, other = (ready(OrthoHash(), seed=seed).centers for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_margin_of_orthohash_asks_for_more_than_the_own_word():
    """On its own of two opposite words, a sample's cosines are 1 and -1: the loss is log(1 + e^(-s (2 - m)))."""
    method = ready(OrthoHash(margin=0.4), classes=2, bits=4)
    method.centers.copy_(torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1]]))
    value = method.loss(3 * method.centers[:1], make_batch(one_hot([0], 2)))["words"]
    assert float(value) == pytest.approx(math.log1p(math.exp(-2 * (2 - 0.4))))


def test_the_head_of_orthohash_balances_each_bit_over_a_batch():
    task = make_task(C, K)
    head = OrthoHash().head(300, task)
    assert head[0].bias is None
    assert float(head[0].weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    out = head.train()(torch.randn((64, 300), generator=torch.Generator().manual_seed(0)) + 3).detach()
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(K), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.var(dim=0, correction=0), torch.ones(K), rtol=0.05, atol=0)  # its epsilon is 1e-5
    plain = OrthoHash(batch_norm=False).head(300, task)
    assert isinstance(plain, nn.Linear)
    assert plain.bias is None


@pytest.mark.parametrize(
    "fields", [{}, {"inverse_variance": 1.0, "cube": 3.0, "bound": 0.9, "quantization": 0.7}], ids=["default", "other"]
)
def test_dcwh(cases, fields):
    out, labels, labelled = cases
    method = ready(DCWH(**fields))
    precision, cube = fields.get("inverse_variance", 0.5), fields.get("cube", 10.0)
    bound, beta = fields.get("bound", 1.1), fields.get("quantization", 0.1)

    def literal(v):
        def logits_of(i):
            return [-precision / 2 * sum((v[i, k] - method.centers[c, k]) ** 2 for k in range(K)) for c in range(C)]

        total = literal_cross_entropy(logits_of, labels, labelled)
        for i in labelled:
            outside = sum(max(abs(v[i, k]) - bound, 0 * v[i, k]) for k in range(K))
            vertex = sum((math.copysign(1, float(v[i, k].detach())) - v[i, k]) ** 2 for k in range(K))
            total = total + (cube * outside + beta * vertex) / (K * len(labelled))
        return total

    compare(method, out, labels, literal)


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_centers_of_dcwh_become_the_classes_mean_outputs(multi_label):
    method = ready(DCWH(), multi_label=multi_label)
    before = method.centers.clone()
    batches = [(some_outputs(n, K, n), some_labels(n, C, multi_label=multi_label, seed=n)) for n in (12, 9)]
    for _, labels in batches:
        labels[:, 3] = 0  # a class without samples
    shares = [method.epoch_sums(out, make_batch(labels)) for out, labels in batches]
    log = method.end_epoch(0, {name: shares[0][name] + shares[1][name] for name in shares[0]})
    squares = 0.0
    for c in range(C):
        own = [v for out, labels in batches for v, row in zip(out.tolist(), labels, strict=True) if row[c]]
        for k in range(K):
            wanted = sum(v[k] for v in own) / len(own) if own else float(before[c, k])
            assert float(method.centers[c, k]) == pytest.approx(wanted)
            squares += (wanted - float(before[c, k])) ** 2
    assert torch.equal(method.centers[3], before[3])
    assert log["centers_moved"] == pytest.approx(math.sqrt(squares / (C * K)))


def test_the_centers_of_dcwh_start_normal_and_move_when_it_is_time():
    centers = ready(DCWH(), classes=500).centers
    assert float(centers.mean()) == pytest.approx(0, abs=0.05)
    assert float(centers.std()) == pytest.approx(1, rel=0.05)
    method = ready(DCWH(every=2))
    before = method.centers.clone()
    sums = method.epoch_sums(some_outputs(C, K), make_batch(one_hot(range(C), C)))
    moved = [method.end_epoch(epoch, sums)["centers_moved"] > 0 for epoch in range(2)]
    assert moved == [False, True]
    assert not torch.equal(method.centers, before)
    assert [method.wants_fresh_pass(epoch) for epoch in range(4)] == [False, True, False, True]
    assert [DCWH().wants_fresh_pass(epoch) for epoch in range(2)] == [True, True]
    assert not any(DCWH(output_source="training").wants_fresh_pass(epoch) for epoch in range(4))


def test_outputs_inside_the_cube_are_left_to_their_class():
    method = ready(DCWH())
    out = torch.full((1, K), 1.1, dtype=torch.float64)
    assert method.loss(out, make_batch(one_hot([0], C)))["cube"] == 0
    assert method.loss(-2 * out, make_batch(one_hot([0], C)))["cube"] == pytest.approx(11)


@pytest.mark.parametrize("method", [OrthoHash(), OrthoHash(margin_on="angle"), DCWH()], ids=lambda one: one.info.name)
def test_batches_without_labels_of_one_sample_and_large_outputs_stay_finite(method):
    method = ready(method)
    for labels, scale in (
        (torch.zeros(3, C, dtype=torch.float64), 1),
        (one_hot([1], C), 1),
        (one_hot([1, 2], C), 1e4),
        (one_hot([1], C), 0),
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
    assert "scale must be more than 0" in OrthoHash(scale=0.0).supports(make_task())
    assert "3 bits give 8 words, too few for 10" in OrthoHash(words="max-distance").supports(make_task(10, 3))
    assert OrthoHash().supports(make_task(10, 3)) is None
    assert "inverse_variance must be more than 0" in DCWH(inverse_variance=0.0).supports(make_task())
    assert "every at least 1" in DCWH(every=0).supports(make_task())


@pytest.mark.parametrize("fields", [{}, {"pull": 0.7, "margin": 0.2, "inverse_variance": 0.5, "similarity": 0.4}])
def test_idcwh(cases, fields):
    out, labels, labelled = cases
    method = ready(IDCWH(cube=2.0, quantization=0.3, **fields))
    pull, margin = fields.get("pull", 0.0), fields.get("margin", 0.0)
    inverse, weight = fields.get("inverse_variance", 0.25), fields.get("similarity", 0.1)
    given = method.centers.detach()

    def literal(v, centers=given):
        def squared(i, c):
            return sum((v[i, k] - centers[c, k]) ** 2 for k in range(K))

        def logits_of(i):
            return [-inverse / 2 * squared(i, c) * (1 + margin * labels[i, c]) for c in range(C)]

        total = literal_cross_entropy(logits_of, labels, labelled)
        for i in labelled:
            own = [c for c in range(C) if labels[i, c]]
            total = total + pull / 2 * sum(squared(i, c) for c in own) / len(own) / len(labelled)
            for k in range(K):
                outside = (v[i, k].abs() - 1.1).clamp(min=0)
                code = 1.0 if v[i, k] >= 0 else -1.0
                total = total + (2.0 * outside + 0.3 * (code - v[i, k]) ** 2) / K / len(labelled)
        return total + weight * literal_similarity(centers)

    compare(method, out, labels, literal)
    (found,) = torch.autograd.grad(sum(method.loss(out, make_batch(labels)).values()), method.centers)
    leaf = given.clone().requires_grad_()
    torch.testing.assert_close(found, gradients(literal(out, leaf), leaf), rtol=1e-9, atol=1e-12)


def literal_similarity(centers):
    """Return the mean of log(1 + exp(K/2 cos)) over ordered pairs of different centers."""
    total = 0
    for c in range(C):
        for d in range(C):
            if c != d:
                dot = sum(a * b for a, b in zip(centers[c], centers[d], strict=True))
                lengths = (sum(a**2 for a in centers[c]) * sum(b**2 for b in centers[d])) ** 0.5
                total = total + (1 + (K / 2 * dot / lengths).exp()).log()
    return total / (C * (C - 1))


def test_the_similarity_term_of_idcwh_drives_its_centers_apart():
    method = ready(IDCWH())
    before = method.centers.detach().clone()
    optimizer = torch.optim.SGD([method.centers], lr=5.0)
    for _ in range(50):
        optimizer.zero_grad()
        center_similarity(method.centers).backward()
        optimizer.step()
    cosines = [
        torch.nn.functional.normalize(centers, dim=1) @ torch.nn.functional.normalize(centers, dim=1).T
        for centers in (before, method.centers.detach())
    ]
    apart = ~torch.eye(C, dtype=torch.bool)
    assert cosines[1][apart].max() < cosines[0][apart].max() - 0.1
    assert center_similarity(torch.ones(1, 4)) == 0
    assert "at least 0" in IDCWH(margin=-1.0).supports(make_task())
