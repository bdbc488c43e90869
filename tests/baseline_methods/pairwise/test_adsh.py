"""ADSH against a literal re-statement of its loss, of its rounds, and of the objective that its codes minimise."""

import itertools
import math

import pytest
import torch
from method_cases import gradients, make_task, one_hot, some_labels, some_outputs
from torch import nn

from baselines.pairwise.adsh import ADSH
from hashbench.datasets.loading.batch import Batch

N, K, C, TRAIN = 7, 6, 4, 12


def ready(labels, *, steps=1, **fields) -> ADSH:
    """Return the method for a training set with these labels."""
    several = bool((labels.sum(dim=1) > 1).any())
    method, task = ADSH(**fields), make_task(C, K, num_train=len(labels), steps_per_epoch=steps, multi_label=several)
    assert method.supports(task) is None
    method.setup(task, {"labels": labels > 0})
    return method.double()


def batch_of(labels, rows, step=0):
    rows = torch.as_tensor(rows)
    return Batch((torch.zeros(len(rows), 1),), labels[rows], rows, 0, step)


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def target(labels, a, b, ratio):
    """Return S of two samples: 1 where they share a label, else minus the ratio."""
    return 1 if dot(labels[a], labels[b]) > 0 else -ratio


def ratio_of(labels, pairs):
    alike = sum(dot(labels[i], labels[j]) > 0 for i, j in pairs)
    return alike / (len(pairs) - alike)


def random_codes(rows, seed):
    return torch.where(some_outputs(rows, K, seed=seed) < 0, -1.0, 1.0).double()


def labelled_rows(labels):
    return [i for i in range(len(labels)) if any(labels[i])]


def a_training_set(multi_label):
    """Return labels of TRAIN samples, of which those at N - 1 and at the end have none."""
    parts = (some_labels(rows, C, multi_label=multi_label, seed=seed) for rows, seed in ((N, 0), (TRAIN - N, 1)))
    return torch.cat([*parts])


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("dissimilar", ["-1", "balanced"])
@pytest.mark.parametrize("fitted", [False, True])
def test_loss_and_gradient_are_those_of_the_paper(multi_label, dissimilar, fitted):
    labels = a_training_set(multi_label)
    method = ready(labels, dissimilar=dissimilar, quantization=3.0)
    if fitted:
        method.fitted.copy_(random_codes(TRAIN, seed=2) * labels.any(dim=1, keepdim=True))
    codes, out = method.fitted.tolist(), some_outputs(N, K)
    given = labels.tolist()
    batch, everyone = labelled_rows(given[:N]), labelled_rows(given)
    pairs = [*itertools.product(batch, everyone)]
    ratio = ratio_of(given, pairs) if dissimilar == "balanced" else 1

    def literal(u):
        h = [[x.tanh() for x in row] for row in u]
        errors = sum((dot(h[i], codes[j]) - K * target(given, i, j, ratio)) ** 2 for i, j in pairs)
        own = sum((codes[i][k] - h[i][k]) ** 2 for i in batch for k in range(K))
        return (errors + 3.0 * own) / (len(batch) * len(everyone))

    leaf, other = out.clone().requires_grad_(), out.clone().requires_grad_()
    total, wanted = sum(method.loss(leaf, batch_of(labels, range(N))).values()), literal(other)
    torch.testing.assert_close(total, wanted, rtol=1e-10, atol=1e-12)
    gradient = gradients(total, leaf)
    torch.testing.assert_close(gradient, gradients(wanted, other), rtol=1e-9, atol=1e-12)
    assert gradient[N - 1].eq(0).all()  # the row without a label carries no loss


def literal_objective(codes, hashed, labels, ratio, gamma):
    """Return |U V' - K S|^2 + gamma |V_omega - U|^2, U (a dict) of the round's samples, V (a list) of all."""
    errors = sum((dot(u, codes[j]) - K * target(labels, i, j, ratio)) ** 2
                 for i, u in hashed.items() for j in labelled_rows(labels))  # fmt: skip
    return errors + gamma * sum((codes[i][k] - u[k]) ** 2 for i, u in hashed.items() for k in range(K))


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("dissimilar", ["-1", "balanced"])
@pytest.mark.parametrize("blocks", [1, 3])
def test_codes_minimise_the_objective_bit_by_bit_and_never_raise_it(multi_label, dissimilar, blocks, monkeypatch):
    monkeypatch.setattr("baselines.pairwise.adsh.BLOCK", math.ceil(N / blocks))
    labels = a_training_set(multi_label)
    method = ready(labels, dissimilar=dissimilar, quantization=2.0, steps=2)
    method.fitted.copy_(random_codes(TRAIN, seed=2) * labels.any(dim=1, keepdim=True))
    rows, out = torch.randperm(N, generator=torch.Generator().manual_seed(0)), some_outputs(N, K)
    for step, part in enumerate((slice(0, 4), slice(4, N))):  # one round of two steps
        batch = batch_of(labels, rows[part], step)
        method.loss(out[part], batch)
        method.after_step(None, batch)
    hashed = {int(row): out[place].tanh().tolist() for place, row in enumerate(rows) if labels[row].any()}
    given = labels.tolist()
    pairs = [*itertools.product(hashed, labelled_rows(given))]
    ratio = ratio_of(given, pairs) if dissimilar == "balanced" else 1
    codes = method.fitted.tolist()
    first = literal_objective(codes, hashed, given, ratio, 2.0)
    for k, j in itertools.product(range(K), labelled_rows(given)):
        kept = literal_objective(codes, hashed, given, ratio, 2.0)
        codes[j][k] *= -1
        if literal_objective(codes, hashed, given, ratio, 2.0) >= kept:
            codes[j][k] *= -1
    before = method.fitted.clone()
    moved = method.end_epoch(0, {})["code_bits_moved"]
    assert method.fitted.tolist() == codes
    assert literal_objective(codes, hashed, given, ratio, 2.0) < first
    assert moved == pytest.approx(float((before != method.fitted).double().mean()))
    assert method.fitted[[N - 1, TRAIN - 1]].eq(0).all()  # without a label


def test_the_first_round_gives_all_samples_codes():
    labels = one_hot([i % C for i in range(TRAIN)], C)
    method = ready(labels, quantization=0.0)
    batch = batch_of(labels, range(N))
    method.loss(some_outputs(N, K), batch)
    assert method.fitted.eq(0).all()
    method.after_step(None, batch)
    method.end_epoch(0, {})
    assert method.fitted.abs().eq(1).all()
    for i, j in itertools.combinations(range(TRAIN), 2):  # one code for a class, since no sample is drawn to its own
        assert torch.equal(method.fitted[i], method.fitted[j]) == (i % C == j % C)


def test_rounds_have_the_asked_size_and_codes_change_between_them():
    labels = one_hot([i % C for i in range(120)], C)
    method = ready(labels, steps=12, subset=40)  # batches of 10: rounds of 4 steps
    network, seen, codes, after_epoch = nn.Linear(1, K).double(), [], [], []
    for step in range(24):
        rows = torch.arange(10) + 10 * (step % 12)
        batch = Batch((some_outputs(10, 1, seed=step),), labels[rows], rows, step // 12, step)
        with torch.no_grad():
            method.training_step(network, batch)
        seen.append(method.round_at(step))
        codes.append(method.fitted.clone())
        method.after_step(network, batch)
        assert method.round_of[rows].eq(seen[-1]).all()
        if step % 12 == 11:
            method.end_epoch(step // 12, {})
            after_epoch.append(method.fitted.clone())
    assert seen == [step // 4 for step in range(24)]
    assert codes[0].eq(0).all()
    assert codes[4].ne(0).all()
    assert torch.equal(codes[12], after_epoch[0])  # the epoch's last round was fitted once
    changes = [not torch.equal(before, after) for before, after in itertools.pairwise(codes)]
    assert not any(change for step, change in enumerate(changes, 1) if step % 4)


def test_a_round_fits_the_outputs_of_its_own_samples():
    labels = one_hot([i % C for i in range(8)], C)
    methods = [ready(labels, steps=2, subset=4) for _ in range(2)]
    for method, earlier in zip(methods, (some_outputs(4, K, seed=3), -some_outputs(4, K, seed=4)), strict=True):
        for step, out in enumerate((earlier, some_outputs(4, K))):
            batch = batch_of(labels, range(4 * step, 4 * step + 4), step)
            method.loss(out, batch)
            method.after_step(None, batch)
        method.end_epoch(0, {})  # of the second round; the first one's codes were not found here
    assert not torch.equal(methods[0].outputs, methods[1].outputs)
    assert torch.equal(methods[0].fitted, methods[1].fitted)


@pytest.mark.parametrize(("train", "steps", "subset", "rounds"),
                         [(10_000, 79, 2000, 5), (900, 8, 2000, 1), (100, 2, 1, 2), (2999, 24, 2000, 1)])  # fmt: skip
def test_an_epoch_has_as_many_rounds_as_subsets(train, steps, subset, rounds):
    method = ADSH(subset=subset)
    method.setup(make_task(C, K, num_train=train, steps_per_epoch=steps), {"labels": torch.ones(train, C) > 0})
    sizes = [sum(method.round_at(step) == number for step in range(3 * steps)) for number in range(3 * rounds)]
    assert sum(sizes) == 3 * steps
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("dissimilar", ["-1", "balanced"])
def test_batches_without_pairs_and_large_outputs_stay_finite(dissimilar):
    for classes, scale in (([], 1), ([0], 1), ([0, 1, 2], 1), ([1, 1, 1], 1), ([1, 1, 2], 1e4)):
        labels = one_hot(classes, C) if classes else torch.zeros(3, C, dtype=torch.float64)
        method = ready(labels, dissimilar=dissimilar)
        out, batch = (some_outputs(len(labels), K) * scale).requires_grad_(), batch_of(labels, range(len(labels)))
        for _ in range(2):
            total = sum(method.loss(out, batch).values())
            assert torch.isfinite(total)
            assert torch.isfinite(gradients(total, out)).all()
            assert (total == 0) == (not classes)
            method.after_step(None, batch)
            method.end_epoch(0, {})
            assert method.fitted.isfinite().all()


def test_the_labels_of_the_training_set_are_prepared():
    class Data:
        labels = some_labels(5, C, multi_label=True)

    prepared = ADSH().prepare(make_task(C, K, num_train=5), Data, None)
    assert torch.equal(prepared["labels"], Data.labels.bool())


def test_settings_without_a_meaning_are_refused():
    assert "at least 1" in ADSH(subset=0).supports(make_task())
    assert "at least 1" in ADSH(sweeps=0).supports(make_task())
