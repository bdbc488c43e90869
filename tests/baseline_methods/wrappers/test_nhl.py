"""NHL around CSQ against a literal re-statement: losses of prefixes, distillation, and weights from gradients."""

import math
from itertools import pairwise

import pytest
import torch
from method_cases import gradients, make_batch, make_task, one_hot, some_labels, some_outputs
from torch import nn

from baselines.centers.csq import CSQ
from baselines.centers.mds import MDS
from baselines.pairwise.dpsh import DPSH
from baselines.proxy.hyp2 import HyP2
from baselines.wrappers.nhl import NHL
from hashbench import recipes
from hashbench.datasets.loading.batch import Batch
from hashbench.methods.crh import CRH
from hashbench.networks.network import HashNetwork

N, C, WIDTH, LENGTHS = 7, 5, 6, (4, 6, 8, 12)


def ready(lengths=LENGTHS, classes=C, **fields) -> NHL:
    method, task = NHL(**fields), make_task(classes, lengths[-1], lengths=lengths, num_train=20)
    assert method.supports(task) is None
    method.setup(task, {})
    return method.double()


def csq(out, labels, centers, ties):
    """Return CSQ's loss of outputs (n, l), one sample and bit at a time."""
    total = out.new_zeros(())
    labelled = [i for i in range(len(out)) if labels[i].any()]
    for i in labelled:
        for k in range(out.shape[1]):
            vote = sum(float(labels[i, c] * centers[c, k]) for c in range(len(centers)))
            up = vote > 0 if vote else ties[k] > 0
            h = 1 / (1 + (-2 * out[i, k]).exp())
            total = total - (h if up else 1 - h).log() + 1e-4 * ((2 * h - 1).abs() - 1) ** 2
    return total / (len(labelled) * out.shape[1])


def gram(out, labelled):
    rows = []
    for i in labelled:
        row = [(out[i] * out[j]).sum() for j in labelled]
        rows.append([x / sum(x**2 for x in row) ** 0.5 for x in row])
    return rows


def literal(method, weight, bias, features, labels, beta, share):
    """Return the loss and the lengths' weights as functions of the layer's weight (12, width) and bias."""
    out = torch.stack(
        [torch.stack([(row * w).sum() + b for w, b in zip(weight, bias, strict=True)]) for row in features]
    )
    labelled = [i for i in range(N) if labels[i].any()]
    losses = [
        csq(out[:, :bits], labels, one.centers, one.ties)
        for bits, one in zip(LENGTHS, [*method.shorter, method.base], strict=True)
    ]
    for i, (short, long) in enumerate(pairwise(LENGTHS)):
        student, teacher = gram(out[:, :short], labelled), gram(out[:, :long].detach(), labelled)
        squares = [(s - t) ** 2 for a, b in zip(student, teacher, strict=True) for s, t in zip(a, b, strict=True)]
        losses[i] = losses[i] + share * sum(squares) / len(labelled) ** 2
    slopes = [torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in losses]
    bound = beta * float((slopes[0][:4] ** 2).sum()) / 3

    def scale(short, long):
        rows = LENGTHS[short]
        against = -float((slopes[short][:rows] * slopes[long][:rows]).sum())
        return bound / against if against > bound else 1.0

    weights = [1.0, 1.0, 1.0, 1.0]
    for short in range(3):
        for long in range(short + 1, 4):
            weights[long] *= min(scale(short, long), scale(short, short + 1))
    weights = [4 * w / sum(weights) for w in weights]
    return sum(w * loss for w, loss in zip(weights, losses, strict=True)), weights


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    ("seed", "beta", "share", "signs"),
    [(0, 1.0, 1.0, (1, -1, -1)), (1, 0.01, 0.3, (1, 1, -1)), (5, 0.003, 0.0, (1, -1, -1)), (3, 0.01, 1.0, (1, -1, -1))],
)
def test_loss_weights_and_gradient_are_those_of_the_code(multi_label, seed, beta, share, signs):
    method = ready(dominance=beta, distillation=share)
    for one, sign in zip(method.shorter, signs, strict=True):  # so that some gradients are against others
        one.centers.copy_(sign * method.base.centers[:, : one.centers.shape[1]])
    head = nn.Linear(WIDTH, 12).double()
    with torch.no_grad():
        head.weight.copy_(0.1 * some_outputs(12, WIDTH, seed=seed + 20))
        head.bias.copy_(0.1 * some_outputs(1, 12, seed=seed + 30)[0])
    features, labels = some_outputs(N, WIDTH, seed=seed), some_labels(N, C, multi_label=multi_label, seed=seed)
    wanted, weights = literal(method, head.weight, head.bias, features, labels, beta, share)
    terms = method.loss(head(features), make_batch(labels), features)
    assert list(terms) == [
        f"{bits} bits, {name}" for bits in LENGTHS for name in ("center", "quantization", "distillation")
        if (bits, name) != (12, "distillation")
    ]  # fmt: skip
    total = torch.stack([*terms.values()]).sum()
    torch.testing.assert_close(total, wanted, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients(total, head.weight), gradients(wanted, head.weight), rtol=1e-9, atol=1e-12)
    assert max(weights) > 1.01 or beta == 1
    out = head(features).detach().requires_grad_()
    assert gradients(sum(method.loss(out, make_batch(labels), features).values()), out)[-1].eq(0).all()


def test_without_adaptive_weights_or_features_all_lengths_weigh_alike():
    out, labels = some_outputs(N, 12).requires_grad_(), some_labels(N, C, multi_label=False)
    features = some_outputs(N, WIDTH, seed=3)
    method = ready(dominance=0.0, distillation=0.5)
    alike = method.loss(out, make_batch(labels))
    assert all(torch.equal(alike[f"{bits} bits, center"], one.loss(out[:, :bits], make_batch(labels))["center"])
               for bits, one in zip(LENGTHS, [*method.shorter, method.base], strict=True))  # fmt: skip
    method.adaptive = False
    found = method.loss(out, make_batch(labels), features)
    assert all(torch.equal(found[name], alike[name]) for name in alike)


def test_a_lone_length_is_trained_as_by_the_base():
    method, base = ready((12,)), CSQ()
    base.setup(make_task(C, 12), {})
    base.double()
    out, labels = some_outputs(N, 12).requires_grad_(), some_labels(N, C, multi_label=False)
    found = method.loss(out, make_batch(labels), some_outputs(N, WIDTH))
    assert found == {f"12 bits, {name}": term for name, term in base.loss(out, make_batch(labels)).items()}


def test_each_length_has_the_centers_of_a_training_of_its_own():
    method = ready((8, 16, 24))
    for bits, one in zip((8, 16, 24), [*method.shorter, method.base], strict=True):
        alone = CSQ().double()
        alone.setup(make_task(C, bits), {})
        assert torch.equal(one.centers, alone.centers.double())
    names = method.end_epoch(0, {})
    assert {"8 bits, center_distance_min", "24 bits, center_distance_min"} <= set(names)


def test_a_step_of_the_network_is_weighted_by_its_features():
    method, task = ready(dominance=0.0), make_task(C, 12, lengths=LENGTHS)
    network = HashNetwork(nn.Linear(3, WIDTH), method.head(WIDTH, task), "fp32")
    assert float(network.head.weight.detach().std()) == pytest.approx(0.01, rel=0.3)
    assert network.head.bias.eq(0).all()
    batch = Batch((torch.randn(N, 3),), some_labels(N, C, multi_label=False).float(), torch.arange(N), 0, 0)
    terms, out = method.float().training_step(network, batch)
    expected = method.loss(out, batch, network.features(batch.inputs))
    assert list(terms) == list(expected)
    torch.testing.assert_close(torch.stack([*terms.values()]), torch.stack([*expected.values()]))
    assert torch.isfinite(gradients(sum(terms.values()), network.backbone.weight)).all()


def test_every_length_has_a_memory_of_its_own():
    method = ready(base=DPSH())
    assert set(method.keeps_samples) == {
        f"{place}.memory.{name}"
        for place in ("shorter.0", "shorter.1", "shorter.2", "base")
        for name in ("outputs", "labels")
    }
    out, batch = some_outputs(N, 12), make_batch(some_labels(N, C, multi_label=False))
    method.loss(out, batch)
    method.after_step(None, batch)
    for bits, place in zip(LENGTHS, ("shorter.0", "shorter.1", "shorter.2", "base"), strict=True):
        kept = method.get_buffer(f"{place}.memory.outputs")
        torch.testing.assert_close(kept[:N], out[:, :bits])
        assert kept[N:].eq(0).all()


def test_sums_of_an_epoch_reach_the_base_of_their_length():
    method = ready((8, 16), base=CRH(head_width=8, codebook_size=8))
    out, batch = some_outputs(N, 16), make_batch(some_labels(N, C, multi_label=False))
    sums = method.epoch_sums(out, batch)
    assert sums["8 bits, codes"].shape == (C, 8)
    assert sums["16 bits, codes"].shape == (C, 16)
    found = method.end_epoch(0, sums)
    assert {"8 bits, classes_moved", "16 bits, classes_moved"} <= set(found)


def test_parameters_are_optimised_once_at_their_bases_rates():
    method = ready(base=HyP2(proxy_learning_rate_scale=3.0))
    network = HashNetwork(nn.Linear(3, WIDTH), nn.Linear(WIDTH, 12), "fp32")
    recipe = recipes.load("scratch", overrides={"learning_rate": 0.1}, multi_label=False)
    groups = method.parameter_groups(network, recipe)
    rates = [(parameter, group["lr"]) for group in groups for parameter in group["params"]]
    assert len(rates) == len({id(parameter) for parameter, _ in rates}) == 4 + 4
    assert {id(p) for p, _ in rates} == {id(p) for p in (*network.parameters(), *method.parameters())}
    own = {id(one.proxies) for one in (*method.shorter, method.base)}
    assert all(math.isclose(rate, 0.3 if id(parameter) in own else 0.1) for parameter, rate in rates)


def test_batches_without_labels_and_large_outputs_stay_finite():
    for labels, scale in (
        (torch.zeros(3, C, dtype=torch.float64), 1),
        (one_hot([0], C), 1),
        (one_hot([1, 1, 2], C), 1e4),
        (one_hot([1, 1, 2], C), 0),
    ):
        out = (some_outputs(len(labels), 12) * scale).requires_grad_()
        terms = ready().loss(out, make_batch(labels), some_outputs(len(labels), WIDTH))
        total = torch.stack([*terms.values()]).sum()
        assert torch.isfinite(total)
        assert torch.isfinite(gradients(total, out)).all()
        if not labels.any():
            assert total == 0


def test_bases_and_lengths_that_do_not_fit_are_refused():
    task = make_task(C, 12, lengths=LENGTHS)
    assert "a training_step of its own" in NHL(base=MDS()).supports(task)
    assert "at 4 bits: 4 bits give 6 balanced words" in NHL().supports(make_task(20, 12, lengths=LENGTHS))
    assert "0 or more" in NHL(dominance=-1.0).supports(task)
