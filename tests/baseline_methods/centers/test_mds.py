"""MDS against a literal re-statement of its loss; its twin, its memory and its centers."""

import copy
import math

import pytest
import torch
from method_cases import gradients, make_batch, make_task, some_labels, some_outputs
from torch import nn

from baselines.centers.mds import MDS
from hashbench.datasets.loading.batch import Batch
from hashbench.methods import gilbert_varshamov_distance, separated_words, spread
from hashbench.methods.quantization import log_complement
from hashbench.networks.network import HashNetwork

N, K, C, TRAIN = 7, 12, 5, 20


def ready(*, multi_label=False, **fields) -> MDS:
    method, task = MDS(**fields), make_task(C, K, num_train=TRAIN, multi_label=multi_label)
    assert method.supports(task) is None
    method.setup(task, {})
    return method.double()


def batch_of(labels, epoch, first=0):
    return Batch((torch.zeros(len(labels), 1),), labels, torch.arange(first, first + len(labels)), epoch, 0)


def cosine(a, b):
    def dot(x, y):
        return sum(p * q for p, q in zip(x, y, strict=True))

    return dot(a, b) / (dot(a, a) * dot(b, b)) ** 0.5


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    ("fields", "epoch"), [({}, 8), ({}, 9), ({"pairs": 0.4, "quantization": 0.3, "pairs_from": 0}, 0)]
)
def test_loss_and_gradient_are_those_of_the_code(multi_label, fields, epoch):
    method = ready(multi_label=multi_label, **fields)
    earlier, owners = some_outputs(4, K, seed=5), some_labels(5, C, multi_label=multi_label, seed=4)[:4]
    seen = batch_of(owners, 0, first=10)
    method.loss(some_outputs(4, K, seed=9), seen, earlier)
    method.after_step(None, seen)
    out, labels, slow = some_outputs(N, K), some_labels(N, C, multi_label=multi_label), some_outputs(N, K, seed=2)
    labelled = [i for i in range(N) if labels[i].any()]
    leaf = out.clone().requires_grad_()
    u = leaf.tanh()
    center, corner, near = out.new_zeros(()), out.new_zeros(()), []
    memory = [(slow[j].tanh(), labels[j]) for j in labelled] + [*zip(earlier.tanh(), owners, strict=True)]
    for i in labelled:
        logits = [math.sqrt(K) * cosine(u[i], c) for c in method.centers]
        whole = sum(logit.exp() for logit in logits)
        for y, logit in zip(labels[i], logits, strict=True):
            p = logit.exp() / whole
            center = center - (y * p.log() + (1 - y) * (1 - p).log()) / (len(labelled) * C)
        corner = corner + sum((x.abs() - 1) ** 2 for x in u[i]) / (len(labelled) * K)
        for row, label in memory:
            if any(x and y for x, y in zip(labels[i], label, strict=True)):
                near.append((1 + ((1 - cosine(u[i], row)) / 2).exp()).log())
    wanted = center + fields.get("quantization", 1e-4) * corner
    if epoch >= fields.get("pairs_from", 9):
        wanted = wanted + fields.get("pairs", 1.0) * sum(near) / len(near)
    other = out.clone().requires_grad_()
    terms = method.loss(other, batch_of(labels, epoch), slow)
    assert list(terms) == ["center", "pairs", "quantization"]
    total = torch.stack([*terms.values()]).sum()
    torch.testing.assert_close(total, wanted, rtol=1e-10, atol=1e-12)
    gradient = gradients(total, other)
    torch.testing.assert_close(gradient, gradients(wanted, leaf), rtol=1e-9, atol=1e-12)
    assert gradient[-1].eq(0).all()  # the row without a label carries no loss


def test_the_complement_of_a_sure_class_is_exact():
    logits = torch.tensor([[60.0, 0.0, -60.0], [1.0, 1.0, 0.0]], dtype=torch.float64)
    found = log_complement(logits)
    for row, values in zip(found, logits, strict=True):
        for c, value in enumerate(row):
            others = sum(math.exp(x - max(values)) for k, x in enumerate(values) if k != c)
            whole = sum(math.exp(x - max(values)) for x in values)
            assert float(value) == pytest.approx(math.log(others / whole), rel=1e-12, abs=1e-15)


def test_the_twin_follows_and_its_outputs_are_remembered():
    method = ready(momentum=0.75).float()
    network = HashNetwork(nn.Linear(3, 4), method.head(4, make_task(C, K)), "fp32")
    method.attach(network, make_task(C, K))
    assert not any(p.requires_grad for p in method.twin.parameters())
    before = copy.deepcopy(dict(method.twin.named_parameters()))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    inputs = torch.randn(3, 3)
    batch = Batch((inputs,), torch.eye(C)[:3], torch.tensor([4, 0, 7]), 0, 0)
    _, out = method.training_step(network, batch)
    for (name, own), followed in zip(method.twin.named_parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(own, 0.75 * before[name] + 0.25 * followed)
    assert method.memory.outputs.eq(0).all()
    method.after_step(network, batch)
    torch.testing.assert_close(method.memory.outputs[[4, 0, 7]], method.twin(inputs).tanh())
    assert not torch.allclose(method.memory.outputs[[4, 0, 7]], out.tanh())
    assert method.memory.labels.any(dim=1).nonzero()[:, 0].tolist() == [0, 4, 7]


def test_centers_are_separated_words_of_the_seed():
    method = ready()
    assert torch.equal(method.centers.float(), separated_words(C, K, make_task().generator("centers")))
    found = method.end_epoch(0, {})
    assert found["center_distance_min"] >= gilbert_varshamov_distance(C, K)
    assert found["center_distance_mean"] == spread(method.centers)[1]


@pytest.mark.parametrize("epoch", [0, 9])
def test_batches_without_labels_and_large_outputs_stay_finite(epoch):
    for labels, scale in (
        (torch.zeros(3, C, dtype=torch.float64), 1),
        (torch.eye(C, dtype=torch.float64)[:1], 1),
        (torch.ones(2, C, dtype=torch.float64), 1),
        (torch.eye(C, dtype=torch.float64)[[1, 1, 2]], 1e4),
        (torch.eye(C, dtype=torch.float64)[[1, 1, 2]], 0),
    ):
        out = (some_outputs(len(labels), K) * scale).requires_grad_()
        total = torch.stack([*ready().loss(out, make_batch(labels, epoch)).values()]).sum()
        assert torch.isfinite(total)
        assert torch.isfinite(gradients(total, out)).all()
        if not labels.any():
            assert total == 0
    method = ready().float()  # at a center in float32 the other classes' share of P is lost in 1 - P
    exact = (20 * method.centers).requires_grad_()
    total = sum(method.loss(exact, make_batch(torch.eye(C))).values())
    assert torch.isfinite(total)
    assert torch.isfinite(gradients(total, exact)).all()


def test_the_head_has_batch_norm_where_it_is_asked_for():
    task = make_task(C, K)
    assert [type(layer) for layer in MDS().head(8, task)] == [nn.Linear, nn.BatchNorm1d]
    assert type(MDS(batch_norm=False).head(8, task)) is nn.Linear
    assert float(MDS(batch_norm=False).head(200, task).weight.detach().std()) == pytest.approx(0.01, rel=0.1)


def test_what_makes_no_sense_is_refused_with_a_reason():
    assert "12 bits give 924 balanced words, too few for 1000" in MDS().supports(make_task(1000, 12))
    assert "2 classes or more" in MDS().supports(make_task(1))
    assert "between 0 and 1" in MDS(momentum=1.5).supports(make_task())
