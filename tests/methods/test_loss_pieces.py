"""The pieces that losses share, each against a literal re-statement: one pair, one sample, one bit at a time."""

import copy
import itertools
import math

import pytest
import torch
from method_cases import gradients, make_batch, some_labels, some_outputs
from scipy.spatial.distance import pdist, squareform
from scipy.stats import norm
from torch.nn import functional as F

from hashbench.methods import (
    SampleMemory,
    balanced_pairs,
    bit_cross_entropy,
    class_cross_entropy,
    coordinate_descent,
    cosine_gap,
    counted_pairs,
    cubic_gap,
    draw_anchors,
    half_gaussians,
    label_overlap,
    labelled_mean,
    log_cosh_gap,
    mean_distance,
    mean_of_labelled_pairs,
    mean_of_pairs,
    mean_pair_likelihood,
    nt_xent,
    pair_likelihood,
    radial_features,
    ridge,
    signs,
    similar,
    similarity_sums,
    soft_bins,
    softplus,
    squared_gap,
    straight_through_draws,
    straight_through_signs,
)


def pairs(labels, others):
    return itertools.product(enumerate(labels.tolist()), enumerate(others.tolist()))


@pytest.mark.parametrize("multi_label", [False, True])
def test_similarity_overlap_and_counted_pairs(multi_label):
    labels, others = (some_labels(7 + seed, 5, multi_label=multi_label, seed=seed) for seed in (0, 1))
    s, overlap, counted = (make(labels, others) for make in (similar, label_overlap, counted_pairs))
    assert s.dtype == labels.dtype
    for (i, a), (j, b) in pairs(labels, others):
        both, either = ({k for k, (p, q) in enumerate(zip(a, b, strict=True)) if test((p, q))} for test in (all, any))
        assert s[i, j] == bool(both)
        assert overlap[i, j] == (len(both) / len(either) if either else 0)
        assert bool(counted[i, j]) == (any(a) and any(b))
    for (i, a), (j, b) in pairs(labels, labels):
        assert bool(counted_pairs(labels)[i, j]) == (any(a) and any(b) and i != j)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_similarity_of_samples_with_one_label_or_none_needs_no_product(dtype):
    labels, others = (some_labels(n, 7, multi_label=False, seed=n).to(dtype) for n in (30, 41))
    wanted = (labels @ others.T > 0).to(dtype)
    for multi_label in (False, True):
        found = similar(labels, others, multi_label=multi_label)
        assert found.dtype == dtype
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("multi_label", [False, True])
def test_the_mean_of_labelled_pairs_samples_is_that_of_the_pairs_counted_to_the_bit(dtype, multi_label):
    labels, others = (some_labels(n, 3, multi_label=multi_label, seed=n).to(dtype) for n in (33, 47))
    values = some_outputs(33, 47).to(dtype).requires_grad_()
    counted = labels.bool().any(dim=1)[:, None] & others.bool().any(dim=1)
    assert 0 < counted.sum() < counted.numel()
    wanted, found = mean_of_pairs(values, counted), mean_of_labelled_pairs(values, labels, others)
    assert found.dtype == dtype
    assert torch.equal(found, wanted)
    assert torch.equal(gradients(found, values), gradients(wanted, values))
    assert mean_of_labelled_pairs(values, 0 * labels, others) == 0


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("rows_at_once", [2, 2048])
def test_sums_over_similar_pairs_need_no_pairs(multi_label, rows_at_once, monkeypatch):
    monkeypatch.setattr("hashbench.methods.pair_terms.BLOCK", rows_at_once)
    labels, values = some_labels(30, 4, multi_label=multi_label), some_outputs(30, 3)
    literal = torch.zeros_like(values)
    for (i, a), (j, b) in pairs(labels, labels):
        literal[i] += (1 if any(p * q for p, q in zip(a, b, strict=True)) else -0.5) * values[j]
    torch.testing.assert_close(similarity_sums(values, labels, dissimilar=-0.5), literal)


def test_pair_likelihood_is_minus_the_log_of_the_bernoulli_likelihood():
    t = some_outputs(6, 9).requires_grad_()
    s = (some_outputs(6, 9, seed=1) > 0).double()
    p = 1 / (1 + (-t).exp())
    literal = -(s * p.log() + (1 - s) * (1 - p).log())
    torch.testing.assert_close(pair_likelihood(t, s), literal)
    torch.testing.assert_close(gradients(pair_likelihood(t, s).sum(), t), gradients(literal.sum(), t))
    far = torch.tensor([1e4, -1e4])
    assert pair_likelihood(far, torch.tensor([0.0, 1.0])).tolist() == [1e4, 1e4]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softplus_has_the_values_of_torch_and_the_bits_of_its_gradient(dtype):
    ends = torch.tensor([0.0, 1e-9, 20.0, 40.0, 90.0, 1e30]).repeat(2) * torch.tensor([1.0, -1.0]).repeat_interleave(6)
    values = torch.cat([10 * some_outputs(1, 5001)[0].to(dtype), ends.to(dtype)]).requires_grad_()
    found, wanted = softplus(values), F.softplus(values, threshold=40)
    torch.testing.assert_close(found, wanted, rtol=2e-7, atol=1e-7)
    weights = some_outputs(1, len(values), seed=1)[0].to(dtype)
    assert torch.equal(gradients((weights * found).sum(), values), gradients((weights * wanted).sum(), values))
    assert torch.equal(torch.func.vmap(softplus)(values.view(1, -1)), softplus(values.view(1, -1)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bits", [3, 400])  # small and large inner products
def test_the_mean_likelihood_has_the_bits_of_its_formula(dtype, bits):
    labels, others = (some_labels(n, 3, multi_label=True, seed=n).to(dtype) for n in (33, 47))
    out, s = some_outputs(33, bits).to(dtype).requires_grad_(), similar(labels, others)
    inner = out @ some_outputs(47, bits, seed=1).to(dtype).T / 2
    wanted = 0.3 * mean_of_labelled_pairs(pair_likelihood(inner, s), labels, others)
    found = 0.3 * mean_pair_likelihood(inner, s, labels, others)
    assert torch.equal(found, wanted)
    for _ in range(2):  # a graph that is kept may be gone through again
        slopes = [torch.autograd.grad(mean, out, retain_graph=True)[0] for mean in (found, wanted)]
        assert torch.equal(*slopes)
        assert slopes[0].isfinite().all()
    assert mean_pair_likelihood(inner, s, 0 * labels, others) == 0


@pytest.mark.parametrize("multi_label", [False, True])
def test_balanced_pairs_weigh_both_kinds_alike(multi_label):
    labels = some_labels(9, 4, multi_label=multi_label)
    s, counted = similar(labels, labels), counted_pairs(labels, labels)
    alike = [(i, j) for i, j in itertools.product(range(9), repeat=2) if counted[i, j] and s[i, j]]
    unlike = [(i, j) for i, j in itertools.product(range(9), repeat=2) if counted[i, j] and not s[i, j]]
    assert alike
    assert unlike
    literal = torch.zeros(9, 9, dtype=torch.float64)
    for kind in (alike, unlike):
        for i, j in kind:
            literal[i, j] = (len(alike) + len(unlike)) / len(kind)
    torch.testing.assert_close(balanced_pairs(s, counted), literal)
    nothing = torch.zeros_like(counted)
    assert balanced_pairs(s, nothing).eq(0).all()
    assert mean_of_pairs(some_outputs(9, 9), nothing) == 0
    values = some_outputs(9, 9)
    picked = [float(values[i, j]) for i, j in alike + unlike]
    assert float(mean_of_pairs(values, counted)) == pytest.approx(sum(picked) / len(picked))


@pytest.mark.parametrize("count", [2, 9, 17])
def test_soft_bins_share_a_distance_between_its_two_neighbours(count):
    distances = torch.rand((4, 5), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 16
    distances[0, 0], distances[0, 1] = 0, 16
    shares = soft_bins(distances, count, largest=16)
    assert shares.shape == (4, 5, count)
    width = 16 / (count - 1)
    for i, j, b in itertools.product(range(4), range(5), range(count)):
        literal = max(1 - abs(float(distances[i, j]) - b * width) / width, 0)
        assert float(shares[i, j, b]) == pytest.approx(literal, abs=1e-12)
    torch.testing.assert_close(shares.sum(dim=-1), torch.ones_like(distances))


@pytest.mark.parametrize("multi_label", [False, True])
def test_bit_cross_entropy_and_the_mean_of_labelled_pairs_samples(multi_label):
    out, labels = some_outputs(7, 12).requires_grad_(), some_labels(7, 5, multi_label=multi_label)
    targets = some_outputs(7, 12, seed=3).sign()
    literal = out.new_zeros(())
    labelled = [i for i in range(7) if labels[i].sum() > 0]
    for i in labelled:
        for k in range(12):
            h, c = (out[i, k].tanh() + 1) / 2, (targets[i, k] + 1) / 2
            literal = literal - (c * h.log() + (1 - c) * (1 - h).log()) / (12 * len(labelled))
    ours = labelled_mean(bit_cross_entropy(out, targets), labels)
    torch.testing.assert_close(ours, literal)
    torch.testing.assert_close(gradients(ours, out), gradients(literal, out))
    assert labelled_mean(torch.ones(3), torch.zeros(3, 2)) == 0


@pytest.mark.parametrize("multi_label", [False, True])
def test_class_cross_entropy_shares_a_sample_among_its_classes(multi_label):
    logits, labels = some_outputs(7, 5).requires_grad_(), some_labels(7, 5, multi_label=multi_label)
    literal = []
    for i in range(7):
        own = [c for c in range(5) if labels[i, c]]
        whole = sum(logits[i, c].exp() for c in range(5))
        literal.append(sum((-(logits[i, c].exp() / whole).log() / len(own) for c in own), 0 * whole))
    ours, literal = class_cross_entropy(logits, labels), torch.stack(literal)
    torch.testing.assert_close(ours, literal)
    weight = torch.arange(1, 8, dtype=torch.float64)
    torch.testing.assert_close(gradients(ours @ weight, logits), gradients(literal @ weight, logits))
    assert ours[-1] == 0
    assert class_cross_entropy(torch.tensor([[1e4, -1e4]]), torch.tensor([[0.0, 1.0]])).item() == 2e4


def test_gaps_to_the_corners():
    v = some_outputs(6, 8).requires_grad_()
    literal = {
        squared_gap: (v.detach().sign() - v) ** 2,
        cubic_gap: torch.stack([abs(abs(x) - 1) ** 3 for x in v.flatten()]).reshape(6, 8),
        log_cosh_gap: torch.stack([(abs(x) - 1).cosh().log() for x in v.flatten()]).reshape(6, 8),
    }
    for gap, wanted in literal.items():
        torch.testing.assert_close(gap(v), wanted)
        torch.testing.assert_close(gradients(gap(v).sum(), v), gradients(wanted.sum(), v))
    assert log_cosh_gap(torch.tensor([1e4, -1e4])).tolist() == pytest.approx([1e4 - 1 - math.log(2)] * 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_straight_through_signs_are_exact_and_pass_the_gradient(dtype):
    v = torch.tensor([[-3.0, -1e-30, -0.0, 0.0, 0.1, 0.3, 7.7]], dtype=dtype, requires_grad=True)
    assert signs(v).tolist() == straight_through_signs(v).tolist() == [[-1, -1, 1, 1, 1, 1, 1]]
    weight = torch.arange(7, dtype=dtype)
    assert gradients((straight_through_signs(v) * weight).sum(), v).tolist() == [weight.tolist()]


def test_draws_come_up_as_often_as_their_probability_and_pass_the_gradient():
    torch.manual_seed(0)
    p = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0], dtype=torch.float64).expand(20_000, 5).clone().requires_grad_()
    drawn = straight_through_draws(p)
    assert set(drawn.detach().unique().tolist()) == {0, 1}
    assert drawn.detach().mean(dim=0).tolist() == pytest.approx([0, 0.1, 0.5, 0.9, 1], abs=0.012)
    assert gradients((3 * drawn).sum(), p).eq(3).all()


def test_a_memory_shows_the_batch_as_it_is_and_keeps_it_after_the_step():
    memory = SampleMemory(6, 4, 3)
    out = some_outputs(2, 4).float().requires_grad_()
    batch = make_batch(torch.eye(3)[:2])
    batch = type(batch)(batch.views, batch.labels, torch.tensor([4, 1]), 0, 0)
    before = copy.deepcopy(memory.state_dict())
    outputs, labels = memory.with_batch(out, batch)
    assert not outputs.requires_grad
    for row, place in enumerate((4, 1)):
        assert torch.equal(outputs[place], out[row])
        assert torch.equal(labels[place], batch.labels[row])
    assert all(torch.equal(value, before[name]) for name, value in memory.state_dict().items())
    memory.write(batch)
    assert torch.equal(memory.outputs, outputs)
    assert torch.equal(memory.labels, labels.bool())
    assert outputs[[0, 2, 3, 5]].eq(0).all()
    assert tuple(f"memory.{name}" for name, _ in memory.named_buffers()) == SampleMemory.KEPT


def test_ridge_is_where_the_gradient_vanishes():
    x, y = some_outputs(20, 5), some_outputs(20, 3, seed=1)
    w = ridge(x, y, 0.7).requires_grad_()
    objective = ((y - x @ w) ** 2).sum() + 0.7 * (w**2).sum()
    torch.testing.assert_close(gradients(objective, w), torch.zeros(5, 3, dtype=torch.float64), atol=1e-9, rtol=0)


def literal_objective(codes, quadratic, linear):
    n, bits = codes.shape
    total = sum(float(codes[i, k] * quadratic[k, m] * codes[i, m])
                for i, k, m in itertools.product(range(n), range(bits), range(bits)))  # fmt: skip
    return total - 2 * sum(float(codes[i, k] * linear[i, k]) for i, k in itertools.product(range(n), range(bits)))


def test_coordinate_descent_takes_the_best_bit_and_never_raises_the_objective():
    start = signs(some_outputs(4, 6))
    root = some_outputs(6, 6, seed=1)
    quadratic, linear = root @ root.T, some_outputs(4, 6, seed=2)
    kept = start.clone()
    literal = start.clone()
    for k in range(6):
        for i in range(4):
            flipped = literal.clone()
            flipped[i, k] *= -1
            if literal_objective(flipped, quadratic, linear) < literal_objective(literal, quadratic, linear):
                literal = flipped
    assert torch.equal(coordinate_descent(start, quadratic, linear), literal)
    assert torch.equal(start, kept)
    values = [
        literal_objective(coordinate_descent(start, quadratic, linear, sweeps=s), quadratic, linear) for s in range(5)
    ]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]
    indifferent = coordinate_descent(start, torch.zeros(6, 6, dtype=torch.float64), torch.zeros_like(start))
    assert torch.equal(indifferent, start)


def test_anchors_and_their_radial_features(monkeypatch):
    features = some_outputs(30, 4)
    anchors = draw_anchors(features, 7, torch.Generator().manual_seed(0))
    assert all(any(torch.equal(anchor, row) for row in features) for anchor in anchors)
    assert len(anchors.unique(dim=0)) == 7
    assert len(draw_anchors(features, 99, torch.Generator())) == 30
    literal = [[math.dist(row, anchor) for anchor in anchors.tolist()] for row in features.tolist()]
    assert mean_distance(features, anchors) == pytest.approx(sum(map(sum, literal)) / 210)
    assert mean_distance(features, anchors, power=2) == pytest.approx(
        math.sqrt(sum(d * d for row in literal for d in row) / 210)
    )
    wanted = torch.tensor([[math.exp(-(d**2) / (2 * 1.5**2)) for d in row] for row in literal], dtype=torch.float64)
    torch.testing.assert_close(radial_features(features, anchors, 1.5), wanted)
    monkeypatch.setattr("hashbench.methods.anchors.BLOCK", 20)  # a block of two rows
    torch.testing.assert_close(radial_features(features, anchors, 1.5), wanted)
    assert mean_distance(features, anchors) == pytest.approx(sum(map(sum, literal)) / 210)
    assert radial_features(features[:0], anchors, 1.5).shape == (0, 7)


def cosine(a, b):
    return (a * b).sum() / ((a * a).sum() * (b * b).sum()) ** 0.5


@pytest.mark.parametrize("count", [8, 9])
def test_cosine_gap_is_over_pairs_of_the_halves(count):
    features, codes = some_outputs(count, 5).requires_grad_(), some_outputs(count, 12, seed=1).requires_grad_()
    literal = sum(
        (cosine(codes[i], codes[i + 4]) - cosine(features[i], features[i + 4]).detach()) ** 2 / 4 for i in range(4)
    )
    found = cosine_gap(features, codes)
    torch.testing.assert_close(found, literal, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients(found, codes), gradients(literal, codes), rtol=1e-10, atol=1e-14)
    assert not cosine_gap(features, codes.detach()).requires_grad
    assert cosine_gap(features[:1], codes[:1]) == 0


@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_nt_xent_picks_the_other_view_among_all_others(temperature):
    first, second = (some_outputs(5, 7, seed=seed).requires_grad_() for seed in (0, 1))
    rows = [*first, *second]
    literal = 0
    for i, row in enumerate(rows):
        whole = sum((cosine(row, other) / temperature).exp() for j, other in enumerate(rows) if j != i)
        literal -= ((cosine(row, rows[(i + 5) % 10]) / temperature).exp() / whole).log() / 10
    found = nt_xent(first, second, temperature)
    torch.testing.assert_close(found, literal, rtol=1e-12, atol=0)
    for view in (first, second):
        torch.testing.assert_close(
            torch.autograd.grad(found, view, retain_graph=True)[0],
            torch.autograd.grad(literal, view, retain_graph=True)[0],
            rtol=1e-9,
            atol=1e-14,
        )
    alone = nt_xent(first[:1], second[:1], temperature)
    assert alone == 0
    assert torch.isfinite(gradients(alone, first)).all()


@pytest.mark.parametrize("at_once", [100, 2**24])
def test_half_gaussians_are_fitted_to_each_side_of_the_mode_and_its_mirror_image(at_once, monkeypatch):
    monkeypatch.setattr("hashbench.methods.similarity.BLOCK", at_once)
    rows = some_outputs(70, 6) + 1.5
    distances = squareform(pdist(rows.numpy(), "cosine"))
    apart = [d for i, row in enumerate(distances) for j, d in enumerate(row) if i != j]
    counts = [sum(k / 100 < d < (k + 1) / 100 for d in apart) for k in range(100)]
    mode = counts.index(max(counts)) / 100
    assert mode > 0
    below, above = distances[distances <= mode], distances[distances > mode]
    fits = [norm.fit([*side, *(2 * mode - side)]) for side in (below, above)]
    assert [mean for mean, _ in fits] == pytest.approx([mode, mode])
    torch.testing.assert_close(half_gaussians(rows), torch.tensor([mode, *(std for _, std in fits)]).double())
    assert half_gaussians(rows.float()).tolist() == pytest.approx([mode, *(std for _, std in fits)], rel=1e-4)


def test_half_gaussians_of_hardly_any_distances_are_finite():
    for rows in (torch.ones(1, 3), torch.ones(4, 3), torch.eye(2), torch.tensor([[1.0, 0], [-1, 0]])):
        assert torch.isfinite(half_gaussians(rows)).all()
    assert half_gaussians(torch.tensor([[1.0, 0], [-1, 0]])).tolist() == [0, 0, 2]  # all beyond the bins
    near = torch.tensor([[1.0, 0], [0.655, (1 - 0.655**2) ** 0.5]])  # a row with itself is no mode
    assert half_gaussians(near).tolist() == pytest.approx([0.34, 0.34, 0.005], abs=1e-6)
