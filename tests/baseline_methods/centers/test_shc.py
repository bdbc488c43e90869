"""SHC's three stages against literal re-statements, and what its solvers guarantee."""

import itertools
import math

import numpy as np
import pytest
import torch
from method_cases import (
    gradients,
    make_batch,
    make_task,
    one_hot,
    some_labels,
    some_outputs,
    terms_and_gradients,
)

from baselines.centers import shc
from baselines.centers.shc import SHC, class_similarity, flipped, lagrangian, released, similarity_loss
from hashbench.methods.codebooks import gilbert_varshamov_distance, spaced_words, spread


def some_similarity(classes, seed=0):
    """Return what stage 1 finds in 10 images a class of classes that form groups of about five."""
    random = np.random.default_rng(seed)
    group = np.arange(classes) % max(classes // 5, 2)
    prototypes = random.normal(size=(classes, 16)) + 1.5 * random.normal(size=(group.max() + 1, 16))[group]
    numbers = np.repeat(np.arange(classes), 10)
    logits = (prototypes @ prototypes.T / 4)[numbers] + random.normal(size=(len(numbers), classes))
    labels = one_hot(numbers, classes)
    return class_similarity(torch.from_numpy(logits), labels, variant="paper", multi_label=False)


def start_words(classes, bits, seed=0):
    distance = gilbert_varshamov_distance(classes, bits)
    return spaced_words(classes, bits, distance, torch.Generator().manual_seed(seed)).double().numpy(), distance


def ready(classes=6, bits=16, *, task=None, similarity=None, **fields) -> SHC:
    method = SHC(**fields)
    made = make_task(classes, bits, **(task or {}))
    assert method.supports(made) is None
    found = some_similarity(classes) if similarity is None else similarity
    method.setup(made, {"paper": found, "release": found})
    return method


def smallest_distance(words):
    return min((int((a != b).sum()) for a, b in itertools.combinations(words, 2)))


# Stage 1


def literal_softmax(logits, left_out):
    total = sum(math.exp(v) for c, v in enumerate(logits) if c not in left_out)
    return [0.0 if c in left_out else math.exp(v) / total for c, v in enumerate(logits)]


def literal_rows_centred(rows):
    found = []
    for row in rows:
        mean = sum(row) / len(row)
        scale = max(abs(max(row) - mean), abs(min(row) - mean))
        found.append([(value - mean) / scale if scale else 0.0 for value in row])
    return found


def literal_similarity(logits, labels, *, variant, multi_label):
    classes = labels.shape[1]
    sums, counts = [[0.0] * classes for _ in range(classes)], [0] * classes
    for v, y in zip(logits.tolist(), labels.tolist(), strict=True):
        active = {c for c in range(classes) if y[c]}
        if variant == "release":
            v, masked = literal_softmax(v, ()), active
        else:
            masked = active if multi_label else {v.index(max(v))}
        rest = literal_softmax(v, masked)
        for c in active:
            counts[c] += 1
            sums[c] = [a + b for a, b in zip(sums[c], rest, strict=True)]
    transposed = list(zip(*sums, strict=True))
    if variant == "release":
        both = [[(a + b) / 2 for a, b in zip(*rows, strict=True)] for rows in zip(sums, transposed, strict=True)]
        found = literal_rows_centred(both)
    else:
        rows = literal_rows_centred([[v / max(n, 1) for v in row] for row, n in zip(sums, counts, strict=True)])
        found = [[(rows[i][j] + rows[j][i]) / 2 for j in range(classes)] for i in range(classes)]
    return [[1.0 if i == j else found[i][j] for j in range(classes)] for i in range(classes)]


@pytest.mark.parametrize("variant", ["paper", "release"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_class_similarity_is_that_of_the_formula(variant, multi_label):
    logits, labels = some_outputs(60, 5), some_labels(60, 5, multi_label=multi_label)
    labels[:, 3] = 0  # an absent class
    if multi_label:
        labels[1] = 1  # nothing is left when all classes are active
    found = class_similarity(logits, labels, variant=variant, multi_label=multi_label)
    literal = literal_similarity(logits, labels, variant=variant, multi_label=multi_label)
    torch.testing.assert_close(found, torch.tensor(literal, dtype=torch.float64))
    if variant == "paper":
        assert torch.equal(found, found.T)
        assert found.abs().max() <= 1


def test_classes_that_are_confused_are_similar():
    logits = torch.tensor([[9.0, 5, 0, 0], [5, 9, 0, 0], [0, 0, 9, 5], [0, 0, 5, 9]])
    similarity = class_similarity(logits, one_hot(range(4), 4), variant="paper", multi_label=False)
    assert similarity[0, 1] == similarity[2, 3] == 1
    assert similarity[0, 2] < 0


class FakeTools:
    """Tools whose network is a table of outputs; remembers what it was asked to train."""

    def __init__(self, table):
        self.table, self.trained = table, []

    def train(self, outputs, loss):
        self.trained.append((outputs, loss))
        return "network"

    def outputs(self, network):
        assert network == "network"
        return self.table


class FakeData:
    def __init__(self, labels):
        self.labels = labels


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_classifier_is_trained_once_for_both_variants(multi_label):
    logits, labels = some_outputs(60, 5), some_labels(60, 5, multi_label=multi_label)
    tools, method = FakeTools(logits), SHC()
    prepared = method.prepare(make_task(5, 16, multi_label=multi_label), FakeData(labels), tools)
    assert method.prepared_by == ()
    for variant in ("paper", "release"):
        expected = class_similarity(logits, labels, variant=variant, multi_label=multi_label)
        assert torch.equal(prepared[variant], expected)
    ((outputs, loss),) = tools.trained
    assert outputs == 5
    cost = float(loss(logits, make_batch(labels))["classifier"])
    if multi_label:
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    else:
        expected = torch.nn.functional.cross_entropy(logits[:-1], labels[:-1].argmax(dim=1))
    assert cost == pytest.approx(float(expected))


# Stage 2


def literal_flips(words, similarity, distance):
    """Try every flip of every word by computing the whole loss anew."""
    words = words.copy()
    improved = True
    while improved:
        improved = False
        for i in range(len(words)):
            before, best = similarity_loss(words, similarity), None
            for k in range(words.shape[1]):
                words[i, k] *= -1
                after = similarity_loss(words, similarity)
                if (
                    smallest_distance(words) >= distance
                    and after < before - 1e-12
                    and (best is None or after < best[0])
                ):
                    best = (after, k)
                words[i, k] *= -1
            if best:
                words[i, best[1]] *= -1
                improved = True
    return words


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("variant", ["symmetric", "asymmetric"])
def test_flips_are_the_best_allowed_ones(seed, variant):
    start, distance = start_words(7, 12, seed)
    similarity = some_similarity(7, seed).numpy()
    if variant == "asymmetric":  # as the release's is
        similarity = similarity + np.triu(np.random.default_rng(seed).normal(size=(7, 7)) / 5, 1)
    found = flipped(start, similarity, distance)
    assert np.array_equal(found, literal_flips(start, similarity, distance))
    assert (found != start).any()
    assert similarity_loss(found, similarity) < similarity_loss(start, similarity)


def literal_rounds(words, S, d, *, rounds, penalty, guarded, rho=0.2, mu=0.625, beta=1e-6, eta=0.5):
    """Yield H' after each round of the augmented Lagrangian, every sum written out."""
    C, K = words.shape
    H = [words[i].copy() for i in range(C)]
    M, Lambda = words.T.copy(), np.full((K, C), 0.1)
    alpha = np.zeros((C, C))
    for _ in range(rounds):
        Hm = np.stack(H, axis=1)
        M = np.linalg.inv(2 / K**2 * Hm @ Hm.T + rho * np.eye(K)) @ (2 / K * Hm @ S + Lambda + rho * Hm)
        Q = np.zeros((C, C))
        for i, j in itertools.product(range(C), range(C)):
            Q[i, j] = max(K - 2 * d - H[i] @ H[j] + alpha[i, j] / beta, 0)
        for _ in range(3):
            for i in range(C):
                h = H[i]
                g = 2 / K**2 * M @ M.T @ h - 2 / K * M @ S[:, i] + Lambda[:, i] + rho * (h - M[:, i])
                for j in range(C):
                    if j != i:
                        g = g + penalty * 2 * mu * H[j]
                        g = g - penalty * 2 * alpha[i, j] * H[j]
                        g = g + penalty * beta * (2 * H[j] * (H[j] @ h) - 2 * (K - 2 * d - Q[i, j]) * H[j])
                moved = np.where(h - g / eta >= 0, 1.0, -1.0)
                if not guarded or smallest_distance([*H[:i], moved, *H[i + 1 :]]) >= d:
                    H[i] = moved
        Hm = np.stack(H, axis=1)
        Lambda = Lambda + rho * (Hm - M)
        if not guarded:
            alpha = alpha + beta * (K - 2 * d - Hm.T @ Hm - Q)
        yield Hm.T


@pytest.mark.parametrize("seed", range(3))
def test_the_lagrangian_is_the_papers(seed):
    start, distance = start_words(6, 16, seed)
    similarity = some_similarity(6, seed).numpy()
    *_, literal = literal_rounds(start, similarity, distance, rounds=20, penalty=1, guarded=False)
    assert np.array_equal(lagrangian(start, similarity, distance), literal)
    assert (literal != start).any()


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_every_term_of_the_lagrangian_is_the_papers(seed, guarded):
    # With the paper's constants the words settle in the first round; with these they move in all, and alpha counts.
    constants = {"rho": 0.2, "mu": 0.1, "beta": 0.2, "eta": 0.5, "rounds": 6, "penalty": 0.5, "guarded": guarded}
    start, distance = start_words(6, 16, seed)
    similarity = some_similarity(6, seed).numpy()
    found = list(shc._lagrangian_rounds(start, similarity, distance, **constants))
    literal = list(literal_rounds(start, similarity, distance, **constants))
    assert len(found) == 6
    assert all(np.array_equal(a, b) for a, b in zip(found, literal, strict=True))
    assert guarded or all((a != b).any() for a, b in itertools.pairwise([start, *found]))


@pytest.mark.parametrize(
    ("solve", "settings"),
    [
        (lagrangian, {"rounds": 20, "penalty": 1.0, "guarded": False}),
        (released, {"rounds": 30, "penalty": 1e-4, "guarded": True}),
    ],
)
def test_settings_of_the_lagrangian(monkeypatch, solve, settings):
    assert shc._lagrangian_rounds.__kwdefaults__ == {"rho": 0.2, "mu": 0.625, "beta": 1e-6, "eta": 0.5}
    asked = {}

    def rounds(words, similarity, distance, **given):
        asked.update(given)
        return iter([words])

    monkeypatch.setattr(shc, "_lagrangian_rounds", rounds)
    solve(np.ones((2, 4)), np.eye(2), 1)
    assert asked == settings


@pytest.mark.parametrize("seed", [0, 2, 3])  # from the start of seed 1 they find nothing better
def test_the_releases_steps_keep_the_best(seed):
    start, distance = start_words(9, 16, seed)
    similarity = some_similarity(9, seed).numpy()
    states = [start, *literal_rounds(start, similarity, distance, rounds=30, penalty=1e-4, guarded=True)]
    losses = [float(np.mean((similarity - words @ words.T / 16) ** 2)) for words in states]
    found = released(start, similarity, distance)
    assert np.array_equal(found, states[int(np.argmin(losses))])
    assert smallest_distance(found) >= distance
    assert min(losses) < losses[0]


@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("classes", [10, 100, 196, 555])
def test_flips_keep_the_distance_and_lower_the_loss(classes, bits):
    similarity = some_similarity(classes).numpy()
    start, distance = start_words(classes, bits)
    found = flipped(start, similarity, distance)
    assert set(np.unique(found)) == {-1, 1}
    assert spread(torch.from_numpy(found))[0] >= distance
    assert similarity_loss(found, similarity) < similarity_loss(start, similarity)


@pytest.mark.parametrize(("classes", "bits"), [(10, 16), (80, 32)])
def test_flips_beat_the_releases_steps(classes, bits):
    similarity = some_similarity(classes).numpy()
    start, distance = start_words(classes, bits)
    ours, theirs = flipped(start, similarity, distance), released(start, similarity, distance)
    assert similarity_loss(ours, similarity) < similarity_loss(theirs, similarity)


@pytest.mark.parametrize("solver", ["flip", "release", "paper"])
def test_the_log_tells_what_the_solver_reached(solver):
    method = ready(12, 16, solver=solver)
    log = method.end_epoch(0, {})
    similarity, words = some_similarity(12), method.centers.double()
    assert log["center_distance_target"] == gilbert_varshamov_distance(12, 16)
    assert log["center_distance_min"] == smallest_distance(method.centers)
    loss = float(((similarity - words @ words.T / 16) ** 2).mean())
    assert log["center_loss"] == pytest.approx(loss)
    if solver != "paper":
        assert log["center_distance_min"] >= log["center_distance_target"]
        assert log["center_loss"] <= log["center_loss_start"]
    assert method.end_epoch(7, {}) == log


def test_the_variant_chooses_the_similarity():
    method = SHC(variant="release")
    method.setup(make_task(6, 16), {"paper": some_similarity(6, 0), "release": some_similarity(6, 1)})
    assert torch.equal(method.centers, ready(similarity=some_similarity(6, 1)).centers)
    assert not torch.equal(method.centers, ready(similarity=some_similarity(6, 0)).centers)


def test_centers_follow_the_seed():
    assert torch.equal(ready().centers, ready().centers)
    assert not torch.equal(ready().centers, ready(task={"seed": 1}).centers)


@pytest.mark.parametrize("bits", [12, 16, 24, 32, 48, 64, 100])
@pytest.mark.parametrize("classes", [2, 3, 10, 80])
def test_usual_sizes_are_supported(classes, bits):
    assert ready(classes, bits).centers.shape == (classes, bits)


@pytest.mark.parametrize("solver", ["release", "paper"])
def test_the_other_solvers_take_few_classes(solver):
    for classes in (2, 3):
        assert ready(classes, 12, solver=solver).centers.abs().eq(1).all()


# Stage 3


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(("fields", "gamma"), [({}, 1e-4), ({"quantization": 0.3}, 0.3), ({"quantization": 0.0}, 0)])
def test_loss_and_gradient_are_csqs(multi_label, fields, gamma):
    method = ready(task={"multi_label": multi_label}, **fields)
    out, labels = some_outputs(7, 16), some_labels(7, 6, multi_label=multi_label)
    terms, gradient = terms_and_gradients(method, out, labels)
    leaf = out.clone().requires_grad_()
    h = (leaf.tanh() + 1) / 2
    center, corner, count = leaf.new_zeros(()), leaf.new_zeros(()), int(labels.any(dim=1).sum()) * 16
    for i, k in itertools.product(range(6), range(16)):
        votes = float(sum(labels[i, c] * method.centers[c, k] for c in range(6)))
        target = float(method.ties[k]) if votes == 0 else math.copysign(1, votes)
        center = center - (h[i, k] if target > 0 else 1 - h[i, k]).log() / count
        corner = corner + gamma * ((2 * h[i, k] - 1).abs() - 1) ** 2 / count
    assert labels[:6].any(dim=1).all()
    assert terms["center"] == pytest.approx(float(center.detach()))
    assert terms.get("quantization", 0.0) == pytest.approx(float(corner.detach()))
    torch.testing.assert_close(gradient, gradients(center + corner, leaf))


def test_the_head_is_small_and_unbiased():
    head = ready().head(1000, make_task(bits=16))
    assert head.bias.eq(0).all()
    assert float(head.weight.detach().std()) == pytest.approx(0.01, rel=0.05)


def test_what_makes_no_sense_is_refused_with_a_reason():
    assert "two or more" in SHC().supports(make_task(1, 16))
    assert "use more bits" in SHC().supports(make_task(1000, 12))
    assert "use more bits" in SHC().supports(make_task(10, 2))
