"""CRH against literal re-statements of its equations: losses, costs, assignment, heads, cadence."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from method_cases import gradients, make_batch, make_task, one_hot, some_labels, some_outputs, terms_and_gradients

from hashbench.methods.crh import CRH
from hashbench.methods.reassignment import reassign


def ready(classes=6, bits=16, *, task=None, **fields) -> CRH:
    method = CRH(**fields)
    method.setup(make_task(classes, bits, **(task or {})), {})
    return method


def epoch_sums(method, *batches):
    total = {}
    for out, labels in batches:
        for name, value in method.epoch_sums(out, make_batch(labels)).items():
            total[name] = total[name] + value if name in total else value
    return total


# Heads and codebooks


@pytest.mark.parametrize(
    ("classes", "bits", "width"),
    [(c, k, d) for c, d in ((10, 8), (80, 8), (100, 8), (196, 16), (555, 16)) for k in (16, 32, 64)]
    + [(10, 48, 8), (10, 12, 6), (10, 100, 5), (100, 12, 12), (196, 48, 16), (555, 12, 12), (1000, 24, 12)],
)
def test_head_width_is_the_rule_of_the_paper(classes, bits, width):
    method = ready(classes, bits)
    assert method.words.shape == (bits // width, min(2 * classes, 2**bits), width)
    assert method.centers.shape == (classes, bits)


@pytest.mark.parametrize(
    ("classes", "bits", "width"), [(10, 48, 6), (10, 16, 8), (10, 64, 8), (196, 48, 12), (10, 100, 5)]
)
def test_the_release_takes_the_smallest_divisor(classes, bits, width):
    assert ready(classes, bits, head_rule="smallest-divisor").words.shape[2] == width


def test_heads_and_codebook_size_can_be_given():
    assert ready(10, 48, heads=1).words.shape == (1, 20, 48)
    assert ready(10, 48, heads=6).words.shape == (6, 20, 8)
    assert ready(10, 48, head_width=8, codebook_size=10).words.shape == (6, 10, 8)
    assert ready(10, 48, codebook_size=10).words.shape == (12, 10, 4)
    assert ready(10, 48, codebook_size=300).words.shape == (3, 300, 16)
    assert ready(12, 4).words.shape == (1, 16, 4)  # 2 C would be more words than there are


def test_words_and_classes_do_not_repeat_within_a_head():
    method = ready(40, 32)
    for book, held in zip(method.words, method.assignment, strict=True):
        assert len(book.unique(dim=0)) == 80
        assert len(held.unique()) == 40
    literal = [torch.cat([method.words[h, method.assignment[h, c]] for h in range(4)]) for c in range(40)]
    assert torch.equal(method.centers, torch.stack(literal))
    assert not torch.equal(method.words[0], method.words[1])


def test_centers_follow_the_seed():
    assert torch.equal(ready().centers, ready().centers)
    assert not torch.equal(ready().centers, ready(task={"seed": 1}).centers)


def test_more_draws_give_a_wider_codebook():
    def narrowest(draws):
        book = ready(6, 16, heads=1, codebook_draws=draws).words[0]
        return min(int((a != b).sum()) for a, b in itertools.combinations(book, 2))

    assert narrowest(300) > narrowest(1)


# The loss


def literal_loss(out, labels, centers, *, scale, margin, quantization, cosine_of="v"):
    """Return the center and the quantization term of equations 1 to 4, one sample, class and bit at a time."""
    rows = [i for i in range(len(out)) if labels[i].sum() > 0]
    center, corner = out.new_zeros(()), out.new_zeros(())
    for i in rows:
        v = out[i].tanh() if cosine_of == "tanh" else out[i]
        logits = []
        for c, word in enumerate(centers):
            cosine = (v * word).sum() / (v.pow(2).sum().sqrt() * word.pow(2).sum().sqrt())
            logits.append(scale * (cosine - margin * labels[i, c]))
        total = sum(logit.exp() for logit in logits)
        for c in range(len(centers)):
            center = center - labels[i, c] / labels[i].sum() * (logits[c].exp() / total).log() / len(rows)
        for k in range(out.shape[1]):
            corner = corner + (out[i, k].tanh().abs() - 1) ** 2 / (len(rows) * out.shape[1])
    return center, quantization * corner


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    "fields", [{}, {"cosine_of": "tanh"}, {"margin": 0.5, "scale": 9.0, "quantization": 0.7}], ids=str
)
def test_loss_and_gradient_are_those_of_the_paper(multi_label, fields):
    classes, bits = 6, 16
    method = ready(classes, bits, task={"multi_label": multi_label}, **fields)
    out, labels = some_outputs(7, bits), some_labels(7, classes, multi_label=multi_label)
    terms, gradient = terms_and_gradients(method, out, labels)
    usual = {"scale": math.sqrt(2) * math.log(5), "margin": 0.2, "quantization": 0.0 if multi_label else 0.1}
    leaf = out.clone().requires_grad_()
    center, quantization = literal_loss(leaf, labels, method.centers, **{**usual, **fields})
    assert terms["center"] == pytest.approx(float(center.detach()))
    assert terms.get("quantization", 0.0) == pytest.approx(float(quantization.detach()))
    torch.testing.assert_close(gradient, gradients(center + quantization, leaf))
    assert gradient[-1].eq(0).all()  # the row without a label carries no loss


def test_a_batch_without_labels_costs_nothing():
    terms, gradient = terms_and_gradients(ready(), some_outputs(3, 16), torch.zeros(3, 6, dtype=torch.float64))
    assert set(terms.values()) == {0.0}
    assert gradient.eq(0).all()


# Costs and assignment


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_costs_are_the_weighted_mean_distances(multi_label, heads):
    classes, bits = 5, 16
    method = ready(classes, bits, heads=heads)
    batches = [
        (some_outputs(n, bits, seed), some_labels(n, classes, multi_label=multi_label, seed=seed))
        for seed, n in enumerate((11, 8, 14))
    ]
    sums = epoch_sums(method, *batches)
    assert {value.dtype for value in sums.values()} == {torch.float64}
    costs = method._costs(sums["codes"].numpy(), sums["weight"].numpy())
    codes = torch.cat([torch.where(out >= 0, 1.0, -1.0) for out, _ in batches]).double()
    labels = torch.cat([labels for _, labels in batches])
    width = bits // heads
    for h, c, j in itertools.product(range(heads), range(classes), range(2 * classes)):
        above = below = 0.0
        for code, y in zip(codes, labels, strict=True):
            if y[c]:
                weight = 1 / float(y.sum())
                above += weight * float(((code[h * width : (h + 1) * width] - method.words[h, j]) ** 2).sum())
                below += weight
        assert costs[h][c, j] == pytest.approx(above / below)


@pytest.mark.parametrize("count", [7, 13, 49])
def test_equal_costs_are_exactly_equal(count):
    method = ready(32, 8, heads=1)  # or rounding would decide which of two words is the lower
    out = some_outputs(count, 8)
    sums = epoch_sums(method, (out, one_hot([0] * count, 32)))
    cost = method._costs(sums["codes"].numpy(), sums["weight"].numpy())[0][0]
    apart = [sum(int((code != word).sum()) for code in out.sign()) for word in method.words[0]]  # whole numbers
    assert len(set(cost)) == len(set(apart)) < 64


cases = st.tuples(st.integers(1, 4), st.integers(0, 2), st.integers(0, 10_000))


@given(cases, st.booleans())
@settings(deadline=None)
def test_hungarian_is_the_cheapest_of_all_assignments(case, absent):
    classes, more, seed = case
    random = np.random.default_rng(seed)
    cost = random.integers(0, 20, (classes, classes + more)).astype(float)
    held = random.permutation(classes + more)[:classes]
    present = np.ones(classes, dtype=bool)
    present[0] = not absent
    chosen = reassign(cost, held, present, solver="hungarian", random=random)
    ways = [
        way
        for way in itertools.permutations(range(classes + more), classes)
        if all(present[c] or way[c] == held[c] for c in range(classes))
    ]
    totals = [sum(cost[c, way[c]] for c in range(classes)) for way in ways]
    assert tuple(chosen) in ways
    assert sum(cost[c, chosen[c]] for c in range(classes)) == min(totals)


@given(st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 10_000)))
@settings(deadline=None)
def test_greedy_takes_the_cheapest_free_word_in_random_order(case):
    classes, more, seed = case
    random = np.random.default_rng(seed)
    cost = random.integers(0, 4, (classes, classes + more)).astype(float)  # many ties
    held = random.permutation(classes + more)[:classes]
    present = random.random(classes) < 0.7
    chosen = reassign(cost, held, present, solver="greedy", random=np.random.default_rng(seed + 1))
    free = set(range(classes + more)) - {held[c] for c in range(classes) if not present[c]}
    expected = list(held)
    for c in np.random.default_rng(seed + 1).permutation([c for c in range(classes) if present[c]]):
        best = None
        for word in sorted(free):
            if best is None or cost[int(c), word] < cost[int(c), best]:
                best = word
        expected[int(c)] = best
        free.remove(best)
    assert list(chosen) == expected


def test_greedy_order_changes_from_epoch_to_epoch():
    cost = np.tile(np.arange(8.0), (8, 1))
    orders = {tuple(reassign(cost, np.arange(8), np.ones(8, bool), solver="greedy", random=np.random.default_rng(s)))
              for s in range(5)}  # fmt: skip
    assert len(orders) == 5


# Epochs


def clustered(method, classes, bits, absent=()):
    """Return outputs and labels whose classes lie near random corners, and the corners."""
    present = [c for c in range(classes) if c not in absent]
    corners = some_outputs(classes, bits, seed=5).sign()
    numbers = torch.tensor(present * 20)
    return corners[numbers] + 0.1 * some_outputs(len(numbers), bits), one_hot(numbers, classes), corners


@pytest.mark.parametrize("solver", ["greedy", "hungarian"])
def test_centers_move_towards_the_codes(solver):
    method = ready(6, 16, solver=solver)
    before = method.centers.clone()
    out, labels, corners = clustered(method, 6, 16)
    log = method.end_epoch(0, epoch_sums(method, (out, labels)))
    assert (method.centers - corners).abs().sum() < (before - corners).abs().sum()
    moved = (before != method.centers).any(dim=1).sum()
    assert 0 < moved == log["classes_moved"]
    assert log["assignment_cost"] == pytest.approx(float(((out.sign()[:6] - method.centers) ** 2).sum()), rel=0.05)
    between = [int((a != b).sum()) for a, b in itertools.combinations(method.centers, 2)]
    assert log["center_distance_min"] == min(between)
    assert log["center_distance_mean"] == pytest.approx(np.mean(between))
    assert len(method.assignment[0].unique()) == len(method.assignment[1].unique()) == 6


@pytest.mark.parametrize("solver", ["greedy", "hungarian"])
def test_a_class_without_samples_keeps_its_words(solver):
    for seed in range(10):
        method = ready(6, 16, solver=solver, codebook_size=6, task={"seed": seed})  # each word is wanted by someone
        before = method.assignment.clone()
        out, labels, _ = clustered(method, 6, 16, absent=(1, 4))
        method.end_epoch(0, epoch_sums(method, (out, labels)))
        assert torch.equal(method.assignment[:, [1, 4]], before[:, [1, 4]])
        assert all(len(held.unique()) == 6 for held in method.assignment)


def test_an_epoch_without_labels_changes_nothing():
    method = ready()
    before = method.centers.clone()
    log = method.end_epoch(0, epoch_sums(method, (some_outputs(4, 16), torch.zeros(4, 6))))
    assert torch.equal(method.centers, before)
    assert log["assignment_cost"] == log["classes_moved"] == 0


def moves(method, epochs):
    """Return the epochs, counted from 1, after which some class moved, with targets that change every epoch."""
    found = []
    for epoch in range(epochs):
        out, labels = some_outputs(60, 16, seed=epoch), one_hot(torch.arange(60) % 6, 6)
        if method.end_epoch(epoch, epoch_sums(method, (out, labels)))["classes_moved"]:
            found.append(epoch + 1)
    return found


def test_cadence():
    assert moves(ready(task={"epochs": 41}), 41) == [*range(1, 21), 25, 30, 35, 40]
    assert moves(ready(task={"epochs": 30}), 30) == [*range(1, 21), 25]  # not after the last
    assert moves(ready(task={"epochs": 5}), 5) == [1, 2, 3, 4]
    assert moves(ready(every_epoch_until=2, then_every=3, task={"epochs": 10}), 10) == [1, 2, 3, 6, 9]
    assert moves(ready(reassign=False), 30) == []


def test_a_fresh_pass_is_wanted_only_before_a_reassignment():
    method = ready(code_source="fresh", task={"epochs": 26})
    assert [e + 1 for e in range(26) if method.wants_fresh_pass(e)] == [*range(1, 21), 25]
    assert not any(ready().wants_fresh_pass(e) for e in range(26))
    assert not any(ready(code_source="fresh", reassign=False).wants_fresh_pass(e) for e in range(26))


def test_state_travels_with_the_checkpoint():
    method, fresh = ready(), ready(task={"seed": 3})
    moves(method, 3)
    fresh.load_state_dict(method.state_dict())
    for name in ("words", "assignment", "centers"):
        assert torch.equal(getattr(fresh, name), getattr(method, name))


# What it refuses


@pytest.mark.parametrize(
    ("classes", "bits", "fields", "reason"),
    [
        (2, 16, {}, "scale is 0"),
        (10, 3, {}, "3 bits give 8 words, which cannot hold 10 classes"),
        (10, 16, {"codebook_size": 9}, "a codebook of 9 words cannot hold 10 classes"),
        (4, 4, {"codebook_size": 17}, "fewer than codebook_size=17"),
        (10, 16, {"heads": 3}, "heads=3 does not divide 16 bits"),
        (10, 16, {"heads": 0}, "heads=0 does not divide"),
        (10, 16, {"head_width": 6}, "head_width=6 does not divide 16 bits"),
        (10, 16, {"head_width": 0}, "head_width=0 does not divide"),
        (10, 16, {"heads": 2, "head_width": 8}, "say the same twice"),
        (10, 16, {"heads": 8}, "heads of 2 bits give 4 words"),
        (10, 16, {"codebook_draws": 0}, "must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(classes, bits, fields, reason):
    assert reason in CRH(**fields).supports(make_task(classes, bits))


@pytest.mark.parametrize("bits", [12, 16, 24, 32, 48, 64, 100])
@pytest.mark.parametrize("classes", [3, 10, 80, 196, 555])
def test_usual_sizes_are_supported(classes, bits):
    assert CRH().supports(make_task(classes, bits)) is None
    assert CRH(scale=4.0).supports(make_task(2, bits)) is None
    ready(classes, bits)
