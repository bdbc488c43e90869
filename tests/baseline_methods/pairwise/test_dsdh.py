"""DSDH against a literal re-statement of its loss, and of the objective that its codes minimise."""

import itertools
import math

import pytest
import torch
from method_cases import gradients, make_batch, make_task, one_hot, some_labels, some_outputs

from baselines.pairwise.dsdh import DSDH
from hashbench.datasets.loading.batch import Batch

N, K, C, TRAIN = 7, 6, 4, 12


def ready(*, multi_label=False, **fields) -> DSDH:
    method, task = DSDH(**fields), make_task(C, K, num_train=TRAIN, multi_label=multi_label)
    assert method.supports(task) is None
    method.setup(task, {})
    return method.double()


def batch_of(labels, first=0):
    return Batch((torch.zeros(len(labels), 1),), labels, torch.arange(first, first + len(labels)), 0, 0)


def train_on(method, out, labels, first=0):
    batch = batch_of(labels, first)
    method.loss(out, batch)
    method.after_step(None, batch)


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def sign(x):
    return -1.0 if x < 0 else 1.0


def literal_loss(u, codes, labels, *, others=(), eta):
    """Return the mean over pairs of -log p(s | t), and eta times |b - u|^2 of the labelled samples."""
    labelled = [i for i in range(len(u)) if labels[i].any()]
    rows = [(u[j].detach(), labels[j]) for j in labelled] + list(others)
    total = 0
    for i, (row, label) in itertools.product(labelled, rows):
        p = 1 / (1 + (-dot(u[i], row) / 2).exp())
        total = total - (p if dot(labels[i], label) > 0 else 1 - p).log() / (len(labelled) * len(rows))
    return total + eta * sum((codes[i][k] - u[i, k]) ** 2 for i in labelled for k in range(K)) / len(labelled)


def literal_objective(codes, classifier, outputs, labels, *, mu, nu, eta):
    """Return mu |Y - B W|^2 + nu |W|^2 + eta |B - U|^2, entry by entry; codes and outputs of labelled samples."""
    error = sum((labels[i][c] - dot(codes[i], [row[c] for row in classifier])) ** 2
                for i in range(len(codes)) for c in range(len(labels[0])))  # fmt: skip
    distance = sum((b - u) ** 2 for row, other in zip(codes, outputs, strict=True)
                   for b, u in zip(row, other, strict=True))  # fmt: skip
    return mu * error + nu * sum(w**2 for row in classifier for w in row) + eta * distance


def best_classifier(codes, labels, weight):
    """Return the W at which the gradient of |Y - B W|^2 + weight |W|^2 vanishes."""
    b, y = torch.tensor(codes, dtype=torch.float64), torch.tensor(labels, dtype=torch.float64)
    return (torch.linalg.inv(b.T @ b + weight * torch.eye(b.shape[1], dtype=torch.float64)) @ b.T @ y).tolist()


def compare(method, out, labels, literal):
    leaf, other = out.clone().requires_grad_(), out.clone().requires_grad_()
    total, wanted = sum(method.loss(leaf, batch_of(labels)).values()), literal(other)
    torch.testing.assert_close(total, wanted, rtol=1e-10, atol=1e-12)
    gradient = gradients(total, leaf)
    torch.testing.assert_close(gradient, gradients(wanted, other), rtol=1e-9, atol=1e-12)
    assert gradient[-1].eq(0).all()  # the row without a label carries no loss


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(("scaling", "weight"), [("sums", 3 / TRAIN), ("means", 3 / K)])
def test_loss_and_gradient_are_those_of_the_paper(multi_label, scaling, weight):
    method = ready(quantization=3.0, scaling=scaling, multi_label=multi_label)
    out, labels = some_outputs(N, K), some_labels(N, C, multi_label=multi_label)
    compare(method, out, labels,
            lambda u: literal_loss(u, [[sign(x) for x in row] for row in u], labels, eta=weight))  # fmt: skip
    seen = some_outputs(3, K, seed=5), some_labels(4, C, multi_label=multi_label, seed=4)[:3]
    train_on(method, *seen, first=N)
    method.fitted[:N] = torch.tensor([[sign(x) for x in row] for row in some_outputs(N, K, seed=9)])
    codes = method.fitted.tolist()
    compare(method, out, labels,
            lambda u: literal_loss(u, codes, labels, others=zip(*seen, strict=True), eta=weight))  # fmt: skip


@pytest.mark.parametrize("multi_label", [False, True])
def test_codes_minimise_the_objective_bit_by_bit_and_never_raise_it(multi_label):
    mu, nu, eta = 2.0, 0.7, 0.3
    method = ready(classification=mu, decay=nu, quantization=eta, sweeps=1)
    outputs, labels = some_outputs(TRAIN - 2, K), some_labels(TRAIN - 2, C, multi_label=multi_label)
    train_on(method, outputs, labels)
    labelled = [i for i in range(len(outputs)) if labels[i].any()]
    u, y = ([rows[i].tolist() for i in labelled] for rows in (outputs, labels))
    codes = [[sign(x) for x in row] for row in u]
    values = []
    for epoch in range(4):
        classifier = best_classifier(codes, y, nu / mu)
        settings = {"mu": mu, "nu": nu, "eta": eta}
        values.append(literal_objective(codes, classifier, u, y, **settings))
        before = [row[:] for row in codes]
        for k in range(K):
            for row in codes:
                kept = literal_objective(codes, classifier, u, y, **settings)
                row[k] *= -1
                if literal_objective(codes, classifier, u, y, **settings) >= kept:
                    row[k] *= -1
        moved = method.end_epoch(epoch, {})["code_bits_moved"]
        assert method.fitted[labelled].tolist() == codes
        assert moved == pytest.approx(sum(a != b for row, old in zip(codes, before, strict=True)
                                          for a, b in zip(row, old, strict=True)) / (TRAIN * K))  # fmt: skip
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]
    assert method.fitted[[len(outputs) - 1, TRAIN - 2, TRAIN - 1]].eq(0).all()  # without a label, or not seen


def test_codes_of_a_batch_are_those_of_the_authors_code():
    method = ready(discrete="batch", decay=0.1, quantization=0.02, sweeps=10)
    out, labels = some_outputs(N, K), some_labels(N, C, multi_label=False)
    u, y = (rows[:-1].tolist() for rows in (out, labels))  # the last has no label
    classifier = best_classifier([[sign(x) for x in row] for row in u], y, 0.1)
    codes = [[0.0] * K for _ in u]
    for _, k in itertools.product(range(10), range(K)):
        for i, row in enumerate(codes):
            target = 0.02 * u[i][k] + dot(y[i], classifier[k])
            row[k] = sign(target - sum(row[m] * dot(classifier[m], classifier[k]) for m in range(K) if m != k))
    assert codes != [[sign(x) for x in row] for row in u]
    compare(method, out, labels, lambda v: literal_loss(v, codes, labels, eta=0.02 / TRAIN))
    assert method.end_epoch(0, {}) == {}
    assert method.fitted.eq(0).all()


def test_codes_draw_the_outputs_of_a_class_together():
    method = ready(quantization=0.005)
    labels = one_hot([i % C for i in range(TRAIN)], C)
    train_on(method, some_outputs(TRAIN, K), labels)
    for epoch in range(5):
        method.end_epoch(epoch, {})

    def within(codes):  # the mean distance of two samples of a class
        return float((torch.cdist(codes, codes, p=0) * (labels @ labels.T)).sum() / (labels @ labels.T).sum())

    assert within(method.fitted) < 0.7 * within(method.memory.outputs.sign())


@pytest.mark.parametrize("discrete", ["epoch", "batch"])
def test_batches_without_pairs_and_large_outputs_stay_finite(discrete):
    for classes, scale in (([], 1), ([0], 1), ([0, 1, 2], 1), ([1, 1, 1], 1), ([1, 1, 2], 1e4)):
        method = ready(discrete=discrete)
        labels = one_hot(classes, C) if classes else torch.zeros(3, C, dtype=torch.float64)
        out = (some_outputs(len(labels), K) * scale).requires_grad_()
        total = sum(method.loss(out, make_batch(labels)).values())
        assert torch.isfinite(total)
        assert torch.isfinite(gradients(total, out)).all()
        assert (total == 0) == (not classes)
        method.after_step(None, make_batch(labels))
        method.end_epoch(0, {})
        assert method.fitted.isfinite().all()


def test_settings_without_a_meaning_are_refused():
    assert "more than 0" in DSDH(decay=0.0).supports(make_task())
    assert "more than 0" in DSDH(classification=0.0).supports(make_task())
    assert "at least 1" in DSDH(sweeps=0).supports(make_task())


def test_the_rates_of_the_paper_recipe_fall_evenly_to_a_millionth():
    recipe = DSDH.paper_recipe
    last = recipe["learning_rate"] * recipe["step_factor"] ** ((recipe["epochs"] - 1) // recipe["step_epochs"])
    assert math.log10(last) == pytest.approx(-6)
