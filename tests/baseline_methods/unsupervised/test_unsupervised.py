"""The unsupervised image methods against literal re-statements: one pair, one bit at a time."""

import math
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest
import torch
from method_cases import make_task, some_outputs
from sklearn.cluster import SpectralClustering
from torch import nn

from baselines.unsupervised.bihalf import BiHalf, halves
from baselines.unsupervised.cibhash import CIBHash
from baselines.unsupervised.cimon import CIMON
from baselines.unsupervised.greedyhash_u import GreedyHashU
from baselines.unsupervised.ssdh import SSDH
from hashbench.datasets.loading.batch import Batch

N, K, WIDTH = 8, 6, 10


class Given(nn.Module):
    """A network whose features are its inputs, and whose outputs are given."""

    def __init__(self, *outputs):
        super().__init__()
        self.outputs_of = [*outputs]

    def features(self, inputs):
        return inputs

    def outputs(self, features):
        return self.outputs_of.pop(0)

    def forward(self, inputs):
        return self.outputs(self.features(inputs))


def batch_of(*views, index=None):
    """Return a batch without labels, as the runner gives it to unsupervised methods."""
    return Batch(views, None, torch.arange(len(views[0])) if index is None else index, 0, 0)


def cosine(a, b):
    return (a * b).sum() / ((a * a).sum() * (b * b).sum()) ** 0.5


def mean(values):
    values = [*values]
    return sum(values) / len(values)


def compare(terms, wanted, *leaves):
    """Compare each term, and its gradients by `leaves`, with what `wanted` says of it."""
    assert terms.keys() == wanted.keys()
    for name in terms:
        torch.testing.assert_close(terms[name], wanted[name], rtol=1e-10, atol=1e-14)
        for leaf in leaves:
            ours, theirs = (torch.autograd.grad(of[name], leaf, retain_graph=True)[0] for of in (terms, wanted))
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-13)
            assert ours.ne(0).any()


def passed_on(bits, out):
    """Return bits whose gradient is the outputs'."""
    return torch.tensor(bits, dtype=torch.float64) + out - out.detach()


def halves_gap(features, codes):
    pairs = len(codes) // 2
    return mean(
        (cosine(codes[i], codes[i + pairs]) - cosine(features[i], features[i + pairs])) ** 2 for i in range(pairs)
    )


@pytest.mark.parametrize("count", [N, N + 1])
@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_greedyhash_u(count, alpha):
    features, out = some_outputs(count, WIDTH), some_outputs(count, K, seed=1).requires_grad_()
    terms, returned = GreedyHashU(quantization=alpha).training_step(Given(out), batch_of(features))
    assert returned is out
    codes = passed_on([[math.copysign(1, v) for v in row] for row in out.tolist()], out)
    corner = mean(abs(abs(out[i, k]) - 1) ** 3 for i, k in product(range(count), range(K)))
    compare(terms, {"similarity": halves_gap(features, codes), "quantization": alpha * corner}, out)


class Rule(torch.autograd.Function):
    """The rule of bi-half's paper: half of the bits are 1, and the gradient is g + gamma (u - b) / (n K)."""

    @staticmethod
    def forward(context, out, gamma):
        codes = torch.empty_like(out)
        for k, column in enumerate(out.T.tolist()):
            upper = sorted(range(len(column)), key=lambda i: -column[i])[: len(column) // 2]
            codes[:, k] = torch.tensor([1.0 if i in upper else -1.0 for i in range(len(column))])
        context.save_for_backward(out, codes)
        context.gamma = gamma
        return codes

    @staticmethod
    def backward(context, gradient):
        out, codes = context.saved_tensors
        return gradient + context.gamma * (out - codes) / codes.numel(), None


@pytest.mark.parametrize("count", [N, N + 1])
@pytest.mark.parametrize("gamma", [6.0, 0.5])
def test_the_gradient_of_bihalf_is_the_papers(count, gamma):
    features, out = some_outputs(count, WIDTH), some_outputs(count, K, seed=1).requires_grad_()
    terms, returned = BiHalf(gamma=gamma).training_step(Given(out), batch_of(features))
    assert returned is out
    wanted = halves_gap(features, Rule.apply(out, gamma))
    torch.testing.assert_close(terms["similarity"], wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(terms["quantization"], gamma / 2 * (out - Rule.apply(out, gamma)).square().mean())
    ours, theirs = torch.autograd.grad(sum(terms.values()), out)[0], torch.autograd.grad(wanted, out)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-14)


def test_each_bit_of_bihalf_is_one_for_half_of_the_batch():
    assert halves(some_outputs(9, K)).sum(dim=0).eq(-1).all()
    assert halves(5 + some_outputs(8, K).float()).sum(dim=0).eq(0).all()
    assert halves(torch.zeros(4, 2)).tolist() == [[1, 1], [1, 1], [-1, -1], [-1, -1]]


class Prepared:
    """The training set, and the tools of `prepare`, with given features."""

    def __init__(self, *features):
        self.found = features

    def features(self):
        return self.found[0]

    def view_features(self):
        return self.found


def blobs(count, seed):
    """Return float32 features of `count` samples in five groups."""
    return (
        some_outputs(5, WIDTH, seed=seed).repeat(count // 5, 1) + 0.6 * some_outputs(count, WIDTH, seed=seed + 9)
    ).float()


def distance_of(row, other):
    return float(1 - cosine(row.half().double(), other.half().double()))


def sides(features):
    """Return the mode of distances and the deviations to both sides, of unit vectors in half precision."""
    distances = np.array([[distance_of(a, b) for b in features] for a in features])
    np.fill_diagonal(distances, 0)
    apart = distances[~np.eye(len(features), dtype=bool)]
    counts = [((k / 100 < apart) & (apart < (k + 1) / 100)).sum() for k in range(100)]
    mode = int(np.argmax(counts)) / 100
    below, above = distances[distances <= mode], distances[distances > mode]
    return mode, *(float(((side - mode) ** 2).mean() ** 0.5) for side in (below, above))


@pytest.mark.parametrize(("alpha", "beta"), [(1.2, 0.3), (0.4, 1.0)])
def test_ssdh(alpha, beta):
    assert (SSDH().similar, SSDH().dissimilar) == (2, 2)
    features, method = blobs(30, 0), SSDH(similar=alpha, dissimilar=beta)
    task = make_task(bits=K, num_train=30)
    method.setup(task, method.prepare(task, Prepared(features), None))
    unit = features / features.norm(dim=1, keepdim=True)
    mode, below, above = sides(unit)
    index, out = torch.tensor([3, 8, 1, 29, 4, 13, 18, 2]), some_outputs(N, K).requires_grad_()
    terms, _ = method.training_step(Given(out), batch_of(features[index], index=index))
    total, kinds = 0, []
    for i, j in product(range(N), range(N)):
        distance = distance_of(unit[index[i]], unit[index[j]])
        s = 1 if distance < mode - alpha * below else -1 if distance > mode + beta * above else 0
        total = total + abs(s) * ((out[i].tanh() * out[j].tanh()).sum() / K - s) ** 2 / N**2
        kinds += [s] if i != j else []
    assert {*kinds} == {-1, 0, 1}
    compare(terms, {"similarity": total}, out)
    sums = method.epoch_sums(out, batch_of(features[index], index=index))
    reported = method.end_epoch(0, sums)
    assert reported["similar"] == pytest.approx(kinds.count(1) / len(kinds))
    assert reported["dissimilar"] == pytest.approx(kinds.count(-1) / len(kinds))
    assert reported["similar_below"] == pytest.approx(mode - alpha * below, abs=1e-6)
    assert reported["dissimilar_above"] == pytest.approx(mode + beta * above, abs=1e-6)


@pytest.mark.parametrize("fields", [{}, {"bits_from": "draws", "temperature": 0.7, "divergence": 0.2}])
def test_cibhash(fields):
    views = [some_outputs(N, K, seed=seed).requires_grad_() for seed in (0, 1)]
    torch.manual_seed(5)
    terms, returned = CIBHash(**fields).training_step(Given(*views), batch_of(*views))
    assert returned is views[0]
    torch.manual_seed(5)
    levels = [torch.rand(N, K, dtype=torch.float64) if fields else torch.full((N, K), 0.5) for _ in views]
    ones = [1 / (1 + (-view).exp()) for view in views]
    bits = [[[1.0 if x > u else -1.0 for x, u in zip(p, level, strict=True)] for p, level in zip(*rows, strict=True)]
            for rows in zip([p.tolist() for p in ones], [level.tolist() for level in levels], strict=True)]  # fmt: skip
    rows = [row for b, p in zip(bits, ones, strict=True) for row in passed_on(b, p)]
    tau, beta = fields.get("temperature", 0.3), fields.get("divergence", 0.001)
    contrast, divergence = 0, 0
    for i, row in enumerate(rows):
        whole = sum((cosine(row, other) / tau).exp() for j, other in enumerate(rows) if j != i)
        contrast -= ((cosine(row, rows[(i + N) % (2 * N)]) / tau).exp() / whole).log() / (2 * N)
    for p, q in (ones, ones[::-1]):
        for i, k in product(range(N), range(K)):
            a, b = p[i, k], q[i, k].detach()
            divergence = divergence + (a * (a / b).log() + (1 - a) * ((1 - a) / (1 - b)).log()) / (2 * N)
    compare(terms, {"contrast": contrast, "divergence": beta * divergence}, *views)


def test_the_head_of_cibhash_has_a_hidden_layer():
    shapes = [tuple(p.shape) for p in CIBHash().head(WIDTH, make_task(bits=K)).parameters()]
    assert shapes == [(1024, WIDTH), (1024,), (K, 1024), (K,)]
    assert [tuple(p.shape) for p in CIBHash(hidden=0).head(WIDTH, make_task(bits=K)).parameters()] == [(K, WIDTH), (K,)]


def prepared_cimon(method, task, views):
    prepared = method.prepare(task, None, Prepared(*views))
    method.setup(task, prepared)
    return prepared


@pytest.mark.parametrize(
    "fields", [{"clusters": 5}, {"clusters": 4, "threshold": 0.5, "contrast": 0.7, "temperature": 0.2}]
)
def test_cimon(fields):
    views, method = [blobs(30, 0), blobs(30, 40)], CIMON(**fields)
    task = make_task(bits=K, num_train=30)
    prepared = prepared_cimon(method, task, views)
    t, eta, tau = fields.get("threshold", 0.1), fields.get("contrast", 0.3), fields.get("temperature", 0.5)
    index = torch.tensor([3, 8, 1, 29, 4, 13, 18, 2])
    outputs = [some_outputs(N, K, seed=seed).requires_grad_() for seed in (0, 1)]
    terms, returned = method.training_step(Given(*outputs), batch_of(*views, index=index))
    assert returned is outputs[0]
    normal, total, kinds = NormalDist(), 0, []
    for view, features in enumerate(views):
        unit = features / features.norm(dim=1, keepdim=True)
        mode, below, above = sides(unit)
        members = prepared["members"][view].tolist()
        for i, j in product(range(N), range(N)):
            a, b = int(index[i]), int(index[j])
            distance = distance_of(unit[a], unit[b])
            z, limit = ((x - mode) / (below if distance <= t else above) for x in (distance, t))
            if distance <= t:
                s, w = 1, (normal.cdf(limit) - normal.cdf(z)) / normal.cdf(limit)
            else:
                s, w = -1, (normal.cdf(z) - normal.cdf(limit)) / (1 - normal.cdf(limit))
            w = w if (members[a] == members[b]) == (s == 1) else 0
            for out in outputs:
                total = total + w * ((out[i].tanh() * out[j].tanh()).sum() / K - s) ** 2 / N**2
            kinds += [(s, w)] if i != j else []
    assert {s for s, _ in kinds} == {-1, 1}
    assert any(w == 0 for _, w in kinds)
    rows, contrast = [row.tanh() for out in outputs for row in out], 0
    for i, row in enumerate(rows):
        whole = sum((cosine(row, other) / tau).exp() for j, other in enumerate(rows) if j != i)
        contrast -= ((cosine(row, rows[(i + N) % (2 * N)]) / tau).exp() / whole).log() / (2 * N)
    torch.testing.assert_close(terms["similarity"], total, rtol=1e-5, atol=0)  # deviations are from float32 distances
    compare({"contrast": terms["contrast"]}, {"contrast": eta * contrast}, *outputs)
    for out in outputs:
        ours, theirs = (torch.autograd.grad(of, out, retain_graph=True)[0] for of in (terms["similarity"], total))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-8)
    reported = method.end_epoch(0, method.epoch_sums(outputs[0], batch_of(*views, index=index)))
    assert reported["similar"] == pytest.approx(mean(s == 1 for s, _ in kinds))
    assert reported["weight"] == pytest.approx(mean(w for _, w in kinds), rel=1e-4)


def test_the_clusters_of_cimon_are_scikit_learns_of_each_view():
    other_groups = torch.arange(30).view(6, 5).T.flatten()
    views, method = [blobs(30, 0), blobs(30, 40)[other_groups]], CIMON(clusters=5)
    members = prepared_cimon(method, make_task(bits=K, num_train=30), views)["members"]
    for view, found in zip(views, members, strict=True):
        unit = (view / view.norm(dim=1, keepdim=True)).double().numpy()
        wanted = SpectralClustering(5, random_state=0, assign_labels="discretize").fit_predict(unit)
        together = found[:, None] == found
        assert (together == torch.from_numpy(wanted[:, None] == wanted)).float().mean() > 0.95
        assert not together.all()


def test_weights_of_cimon_are_finite_far_from_the_threshold():
    method = CIMON(clusters=2)
    method.register_buffer("directions", torch.eye(4).repeat(2, 1, 1).half())
    method.register_buffer("members", torch.zeros(2, 4))
    for sides in ([0.9, 0.01, 0.01], [0.0, 0.0, 0.0]):
        method.distances = torch.tensor([sides, sides], dtype=torch.float64)
        similarity, weight = method.similarity(torch.arange(4))
        assert similarity[0].tolist() == (2 * torch.eye(4) - 1).tolist()
        assert torch.isfinite(weight).all()
        assert weight[0].diagonal().gt(0.4).all()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_small_batches_have_finite_gradients(count):
    views = [blobs(30, 0), blobs(30, 40)]
    task = make_task(bits=K, num_train=30)
    ssdh, cimon = SSDH(), CIMON(clusters=5)
    ssdh.setup(task, ssdh.prepare(task, Prepared(*views), None))
    prepared_cimon(cimon, task, views)
    for method in (GreedyHashU(), BiHalf(), ssdh, CIBHash(), cimon):
        for scale in (1, 0, 1e4):
            outputs = [(scale * some_outputs(count, K, seed=seed)).requires_grad_() for seed in (0, 1)]
            inputs = [view[:count].double() for view in views[: method.views]]
            terms, _ = method.training_step(Given(*outputs), batch_of(*inputs))
            total = sum(terms.values())
            assert torch.isfinite(total)
            for gradient in torch.autograd.grad(total, outputs[: method.views]):
                assert torch.isfinite(gradient).all()


def test_what_cannot_be_is_refused_with_the_reason(monkeypatch):
    assert "more than 0" in CIBHash(temperature=0.0).supports(make_task())
    assert "at least 0" in CIBHash(hidden=-1).supports(make_task())
    assert "clusters at least 2" in CIMON(clusters=1).supports(make_task())
    assert CIMON().supports(make_task(num_train=20_000)) is None
    assert "at most 20,000" in CIMON().supports(make_task(num_train=20_001))
    assert "more samples than clusters" in CIMON().supports(make_task(num_train=70))
    monkeypatch.setattr("baselines.unsupervised.cimon.find_spec", lambda name: None)
    assert "hashbench[clusters]" in CIMON().supports(make_task())
