"""DFH against a literal re-statement of its loss, and of the steps that its class vectors take."""

import itertools

import pytest
import torch
from method_cases import gradients, make_batch, make_task, one_hot, some_labels, some_outputs

from baselines.pairwise.dfh import DFH
from hashbench.datasets.loading.batch import Batch

N, K, C, TRAIN = 7, 6, 5, 12


def ready(classes=C, bits=K, *, multi_label=False, **fields) -> DFH:
    method, task = DFH(**fields), make_task(classes, bits, num_train=TRAIN, multi_label=multi_label)
    assert method.supports(task) is None
    method.setup(task, {})
    return method.double()


def batch_of(labels, first=0):
    return Batch((torch.zeros(len(labels), 1),), labels, torch.arange(first, first + len(labels)), 0, 0)


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def sign(x):
    return -1.0 if x < 0 else 1.0


def step_of(method, out, labels, first=0):
    batch = batch_of(labels, first)
    method.loss(out, batch)
    method.after_step(None, batch)


def literal_codes(u, labels, vectors, mu):
    """Return b = sign(u + mu sum_c y_c sign(v_c)) of each sample, without class vectors where these are zeros."""
    signs = [[(x > 0) - (x < 0) for x in row] for row in vectors.tolist()]
    return [[sign(float(u[i, k]) + mu * sum(float(labels[i, c]) * signs[c][k] for c in range(len(signs))))
             for k in range(u.shape[1])] for i in range(len(u))]  # fmt: skip


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(("margin", "mu"), [(3.0, 0.1), (0.0, 1.0)])
def test_loss_and_gradient_are_those_of_the_suite(multi_label, margin, mu):
    method = ready(margin=margin, center_pull=mu, quantization=0.3, center_steps=0, multi_label=multi_label)
    seen = some_outputs(3, K, seed=5), some_labels(4, C, multi_label=multi_label, seed=4)[:3]
    step_of(method, *seen, first=N)
    out, labels = some_outputs(N, K), some_labels(N, C, multi_label=multi_label)
    labelled = [i for i in range(N) if labels[i].any()]
    for vectors in (torch.zeros(C, K, dtype=torch.float64), some_outputs(C, K, seed=8)):
        method.class_vectors.copy_(vectors)
        codes = literal_codes(out, labels, vectors, mu)

        def literal(u, codes=codes):
            rows = [(u[j].detach(), labels[j]) for j in labelled] + [*zip(*seen, strict=True)]
            total = 0
            for i, (row, label) in itertools.product(labelled, rows):
                t = dot(u[i], row) / 2
                cost = (1 + (margin - t).exp()).log() if dot(labels[i], label) > 0 else (1 + (margin + t).exp()).log()
                total = total + cost / (len(labelled) * len(rows))
            squares = sum((codes[i][k] - u[i, k]) ** 2 for i in labelled for k in range(K))
            return total + 0.3 * squares / (len(labelled) * K)

        leaf, other = out.clone().requires_grad_(), out.clone().requires_grad_()
        total, wanted = sum(method.loss(leaf, batch_of(labels)).values()), literal(other)
        torch.testing.assert_close(total, wanted, rtol=1e-10, atol=1e-12)
        gradient = gradients(total, leaf)
        torch.testing.assert_close(gradient, gradients(wanted, other), rtol=1e-9, atol=1e-12)
        assert gradient[-1].eq(0).all()  # the row without a label carries no loss


def literal_center_loss(vectors, codes, labels, nu, rho):
    """Return the means of (V y - b)^2, nu (v_c v_d' - K (2 [c = d] - 1))^2 and rho (v - sign v)^2."""
    labelled = [i for i in range(len(labels)) if labels[i].any()]
    classes, bits = vectors.shape
    within = sum((sum(labels[i, c] * vectors[c, k] for c in range(classes)) - codes[i][k]) ** 2
                 for i in labelled for k in range(bits))  # fmt: skip
    apart = sum((dot(vectors[c], vectors[d]) - bits * (1 if c == d else -1)) ** 2
                for c in range(classes) for d in range(classes))  # fmt: skip
    corner = sum((vectors[c, k] - float(vectors[c, k].detach().sign())) ** 2
                 for c in range(classes) for k in range(bits))  # fmt: skip
    return within / (len(labelled) * bits) + nu * apart / classes**2 + rho * corner / (classes * bits)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("start", ["zeros", "random"])
@pytest.mark.parametrize(("bits", "classes"), [(6, 5), (8, 3)])
def test_class_vectors_take_gradient_steps(multi_label, start, bits, classes):
    method = ready(classes, bits, center_pull=0.5, separation=0.7, center_quantization=0.4, center_steps=4)
    out, labels = some_outputs(N, bits), some_labels(N, classes, multi_label=multi_label)
    if start == "random":
        method.class_vectors.copy_(some_outputs(classes, bits, seed=3))
    vectors = method.class_vectors.clone()
    codes = literal_codes(out, labels, vectors, 0.5)
    for _ in range(4):
        leaf = vectors.clone().requires_grad_()
        gradient = gradients(literal_center_loss(leaf, codes, labels, 0.7, 0.4), leaf)
        vectors = vectors - min(0.03, classes**2 / (16 * bits)) * gradient
    step_of(method, out, labels)
    torch.testing.assert_close(method.class_vectors, vectors, rtol=1e-10, atol=1e-12)
    assert method.class_vectors.ne(0).any()


def test_the_steps_become_shorter():
    """A step moves the class vectors in proportion to its rate, which is that of the step before or a tenth of it."""
    moves = []
    for steps in range(146, 184):
        method = ready(center_steps=steps)
        step_of(method, some_outputs(N, K), some_labels(N, C, multi_label=False))
        moves.append(method.class_vectors.clone())
    lengths = [float((after - before).norm()) for before, after in itertools.pairwise(moves)]
    ratios = {step: after / before for step, (before, after) in enumerate(itertools.pairwise(lengths), 148)}
    assert {step for step, ratio in ratios.items() if ratio < 0.2} == {150, 180}


@pytest.mark.parametrize("multi_label", [False, True])
def test_discrete_class_vectors_take_the_best_sign_class_by_class(multi_label):
    method = ready(centers="discrete", separation=0.7, center_pull=0.5)
    method.class_vectors.copy_(torch.where(some_outputs(C, K, seed=3) < 0, -1.0, 1.0))
    out, labels = some_outputs(N, K), some_labels(N, C, multi_label=multi_label)
    labelled = [i for i in range(N) if labels[i].any()]
    codes, vectors = literal_codes(out, labels, method.class_vectors, 0.5), method.class_vectors.tolist()

    def objective():
        """Return |V y - b|^2 over samples, and nu times the inner products of different classes."""
        within = sum((sum(float(labels[i, c]) * vectors[c][k] for c in range(C)) - codes[i][k]) ** 2
                     for i in labelled for k in range(K))  # fmt: skip
        return within + 0.7 * sum(dot(vectors[c], vectors[d]) for c in range(C) for d in range(C) if c != d)

    first = objective()
    for c, k in itertools.product(range(C), range(K)):
        kept = objective()
        vectors[c][k] *= -1
        if objective() >= kept:
            vectors[c][k] *= -1
    step_of(method, out, labels)
    assert method.class_vectors.tolist() == vectors
    assert objective() < first


@pytest.mark.parametrize(("classes", "bits"), [(2, 128), (3, 64), (5, 16), (10, 64), (100, 32)])
def test_class_vectors_stand_apart_and_stay_finite(classes, bits):
    method = ready(classes, bits)
    labels = one_hot([i % classes for i in range(TRAIN)], classes)
    for seed in range(5):
        step_of(method, some_outputs(TRAIN, bits, seed=seed), labels)
    vectors = method.class_vectors
    assert vectors.isfinite().all()
    signs = vectors.sign()[: min(classes, TRAIN)]
    products = (signs @ signs.T).fill_diagonal_(-bits)
    assert products.max() <= bits / 2  # different classes differ in a quarter of the bits or more


@pytest.mark.parametrize("centers", ["relaxed", "discrete"])
def test_batches_without_pairs_and_large_outputs_stay_finite(centers):
    for classes, scale in (([], 1), ([0], 1), ([0, 1, 2], 1), ([1, 1, 1], 1), ([1, 1, 2], 1e4)):
        method = ready(centers=centers)
        labels = one_hot(classes, C) if classes else torch.zeros(3, C, dtype=torch.float64)
        out = (some_outputs(len(labels), K) * scale).requires_grad_()
        for _ in range(2):
            total = sum(method.loss(out, make_batch(labels)).values())
            assert torch.isfinite(total)
            assert torch.isfinite(gradients(total, out)).all()
            assert (total == 0) == (not classes)
            method.after_step(None, make_batch(labels))
            assert method.class_vectors.isfinite().all()


def test_settings_without_a_meaning_are_refused():
    assert "at least 0" in DFH(center_steps=-1).supports(make_task())
