"""DSAH against a literal re-statement of its loss, and of the objective that its codes minimise."""

import itertools

import numpy as np
import pytest
import torch
from method_cases import gradients, make_task, one_hot, some_labels, some_outputs

from baselines.pairwise.dsah import DSAH
from hashbench.datasets.loading.batch import Batch

N, K, C, TRAIN = 7, 6, 4, 12


def ready(labels, **fields) -> DSAH:
    """Return the method for a training set with these labels."""
    several = bool((labels.sum(dim=1) > 1).any())
    method, task = DSAH(**fields), make_task(C, K, num_train=len(labels), multi_label=several)
    assert method.supports(task) is None
    method.setup(task, {"labels": labels > 0})
    return method.double()


def batch_of(labels, count):
    return Batch((torch.zeros(count, 1),), labels[:count], torch.arange(count), 0, 0)


def a_training_set(multi_label):
    """Return labels of TRAIN samples, of which those at N - 1 and at the end have none."""
    parts = (some_labels(rows, C, multi_label=multi_label, seed=seed) for rows, seed in ((N, 0), (TRAIN - N, 1)))
    return torch.cat([*parts])


def affinity(labels, i, j, dissimilar):
    return 1 if any(x * y for x, y in zip(labels[i], labels[j], strict=True)) else dissimilar


def labelled_rows(labels):
    return [i for i in range(len(labels)) if any(labels[i])]


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("fields", [{}, {"pairs": 2.0, "structure": 0.3, "dissimilar": -1.0}], ids=["default", "other"])
def test_loss_and_gradient_are_those_of_the_formula(multi_label, fields):
    labels, out = a_training_set(multi_label), some_outputs(N, K)
    method = ready(labels, **fields)
    codes, given = method.fitted.tolist(), labels.tolist()
    batch, everyone = labelled_rows(given[:N]), labelled_rows(given)
    alpha, gamma = fields.get("pairs", 1.0), fields.get("structure", 1.0)

    def mean_code(c, k):
        own = [codes[j][k] for j in everyone if given[j][c]]
        return sum(own) / max(len(own), 1)

    def literal(u):
        h = [[x.tanh() for x in row] for row in u]
        pairs = sum(affinity(given, i, j, fields.get("dissimilar", 0.0)) * (h[i][k] - codes[j][k]) ** 2
                    for i in batch for j in everyone for k in range(K))  # fmt: skip
        structure = 0
        for i, k in itertools.product(batch, range(K)):
            own = [c for c in range(C) if given[i][c]]
            structure = structure + (h[i][k] - sum(mean_code(c, k) for c in own) / len(own)) ** 2
        return alpha * pairs / (K * len(batch) * len(everyone)) + gamma * structure / (K * len(batch))

    leaf, other = out.clone().requires_grad_(), out.clone().requires_grad_()
    total, wanted = sum(method.loss(leaf, batch_of(labels, N)).values()), literal(other)
    torch.testing.assert_close(total, wanted, rtol=1e-10, atol=1e-12)
    gradient = gradients(total, leaf)
    torch.testing.assert_close(gradient, gradients(wanted, other), rtol=1e-9, atol=1e-12)
    assert gradient[N - 1].eq(0).all()  # the row without a label carries no loss


def literal_objective(codes, hashed, labels, classifiers, method):
    """Return alpha / n sum S |h_i - b_j|^2 / K + beta (|Y - B W1|^2 + |1 - Y - B W2|^2), n samples with a label."""
    everyone, total = labelled_rows(labels), 0.0
    for i, j in itertools.product(everyone, repeat=2):
        gap = sum((hashed[i][k] - codes[j][k]) ** 2 for k in range(K))
        total += method.pairs * affinity(labels, i, j, method.dissimilar) * gap / (K * len(everyone))
    for j, (side, classifier) in itertools.product(everyone, enumerate(classifiers)):
        target = [1 - y if side else y for y in labels[j]]
        guess = np.array(codes[j]) @ classifier
        total += method.classification * sum((t - g) ** 2 for t, g in zip(target, guess, strict=True))
    return total


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("fields", [{}, {"dual": False, "dissimilar": -1.0, "pairs": 3.0}], ids=["default", "other"])
def test_codes_minimise_the_objective_bit_by_bit_and_never_raise_it(multi_label, fields):
    labels, out = a_training_set(multi_label), some_outputs(TRAIN, K, seed=3)
    method = ready(labels, first_rounds=0, **fields)
    batch = batch_of(labels, TRAIN)
    method.loss(out, batch)
    method.after_step(None, batch)
    torch.testing.assert_close(method.outputs, out.tanh())
    given, hashed, codes = labels.tolist(), out.tanh().tolist(), method.fitted.tolist()
    b, y = np.array(codes), labels.numpy()
    targets = [y, (1 - y) * y.any(axis=1, keepdims=True)][: 1 if "dual" in fields else 2]
    classifiers = [np.linalg.solve(b.T @ b + np.eye(K), b.T @ target) for target in targets]
    first = literal_objective(codes, hashed, given, classifiers, method)
    for k, j in itertools.product(range(K), labelled_rows(given)):
        kept = literal_objective(codes, hashed, given, classifiers, method)
        codes[j][k] *= -1
        if literal_objective(codes, hashed, given, classifiers, method) >= kept:
            codes[j][k] *= -1
    before = method.fitted.clone()
    moved = method.end_epoch(0, {})["code_bits_moved"]
    assert method.fitted.tolist() == codes
    assert literal_objective(codes, hashed, given, classifiers, method) < first
    assert moved == pytest.approx(float((before != method.fitted).double().mean()))
    assert method.fitted[[N - 1, TRAIN - 1]].eq(0).all()  # without a label


def test_first_codes_tell_the_classes_apart():
    labels = one_hot([i % C for i in range(40)], C)
    shares = []
    for rounds in (0, 1, 5):
        method = ready(labels, first_rounds=rounds)
        assert method.fitted.abs().eq(1).all()
        assert torch.equal(ready(labels, first_rounds=rounds).fitted, method.fitted)
        pairs = {True: [], False: []}
        for i, j in itertools.combinations(range(40), 2):
            pairs[i % C == j % C].append(float((method.fitted[i] != method.fitted[j]).double().mean()))
        shares.append(np.mean(pairs[True]) / np.mean(pairs[False]))  # of bits that differ, within and between classes
    assert shares[0] == pytest.approx(1, abs=0.15)
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.7


@pytest.mark.parametrize("dissimilar", [0.0, -1.0])
def test_batches_without_labels_of_one_sample_and_large_outputs_stay_finite(dissimilar):
    for classes, scale in (([], 1), ([0], 1), ([0, 1, 2], 1), ([1, 1, 2], 1e4)):
        labels = one_hot(classes, C) if classes else torch.zeros(3, C, dtype=torch.float64)
        method = ready(labels, dissimilar=dissimilar)
        out, batch = (some_outputs(len(labels), K) * scale).requires_grad_(), batch_of(labels, len(labels))
        for _ in range(2):
            total = sum(method.loss(out, batch).values())
            gradient = gradients(total, out)
            assert torch.isfinite(total)
            assert torch.isfinite(gradient).all()
            if not classes:
                assert total == 0
                assert gradient.eq(0).all()
            method.after_step(None, batch)
            method.end_epoch(0, {})
            assert method.fitted.isfinite().all()


def test_settings_without_a_meaning_are_refused():
    for method in (DSAH(decay=0.0), DSAH(structure=-1.0)):
        assert "more than 0" in method.supports(make_task())
    assert "at least 1" in DSAH(sweeps=0).supports(make_task())
