"""CgAT's terms against loops over samples and bits; what an attack meets; what trains against it withstands it."""

import math

import pytest
import torch
from method_cases import gradients, make_task, some_labels, some_outputs
from torch import nn

import hashbench
from baselines.centers.csq import CSQ
from baselines.pairwise.dpsh import DPSH
from baselines.reference.classifier import Classifier
from baselines.robust.cgat import CgAT
from hashbench.datasets.loading.batch import Batch

N, C, K = 6, 4, 8


def ready(base=None, **fields):
    method, task = CgAT(base=base or CSQ(), **fields), make_task(C, K, num_train=N)
    assert method.supports(task) is None
    method.setup(task, {})
    return method.double()


def batch_of(labels, index=None):
    images = torch.rand(len(labels), 3, 4, 4, dtype=labels.dtype, generator=torch.Generator().manual_seed(5))
    return Batch((images,), labels, torch.arange(len(labels)) if index is None else index, 0, 0)


def sign(value):
    return -1.0 if value < 0 else 1.0


def literal(attacked, out, labels, weights):
    """Return the two terms, sample by sample."""
    codes = [[sign(v) for v in row] for row in out.tolist()]
    agreement, error, counted = 0.0, 0.0, 0
    for row, mine in zip(attacked, labels.tolist(), strict=True):
        if not any(mine):
            continue
        counted += 1
        for k in range(K):
            near, far, shares, others = 0.0, 0.0, 0.0, 0
            for code, theirs in zip(codes, labels.tolist(), strict=True):
                if not any(theirs):
                    continue
                both = sum(a and b for a, b in zip(mine, theirs, strict=True))
                if both:
                    either = sum(a or b for a, b in zip(mine, theirs, strict=True))
                    share = {"equal": 1.0, "jaccard": both / either,
                             "cosine": both / math.sqrt(sum(mine) * sum(theirs))}[weights]  # fmt: skip
                    near, shares = near + share * code[k], shares + share
                else:
                    far, others = far + code[k], others + 1
            center = sign(near / (shares or 1) - far / (others or 1))
            agreement = agreement + torch.tanh(row[k]) * center / K
            error = error + (torch.tanh(row[k]) - sign(row[k].item())) ** 2 / K
    return -2.0 * agreement / counted, 0.5 * error / counted


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("weights", ["equal", "jaccard", "cosine"])
def test_the_terms_are_those_of_loops(multi_label, weights):
    method = ready(weight=2.0, quantization=0.5, center_weights=weights)
    labels, out = some_labels(N, C, multi_label=multi_label), some_outputs(N, K)
    attacked = some_outputs(N, K, seed=3).requires_grad_()
    terms = method.attacked_terms(attacked, out, batch_of(labels))
    wanted = literal(attacked, out, labels, weights)
    for found, expected in zip(terms.values(), wanted, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        gradients(sum(terms.values()), attacked), gradients(sum(wanted), attacked), rtol=1e-12, atol=1e-12
    )


class Seeing(nn.Module):
    """A linear network that keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.map, self.seen = nn.Linear(48, K).double(), []

    def forward(self, images):
        self.seen.append(images.detach())
        return self.map(images.flatten(1))


def test_the_attack_is_within_eps_and_leads_away_from_the_center_of_the_memory():
    method, network = ready(steps=3), Seeing()
    batch = batch_of(some_labels(N, C, multi_label=False))
    method.training_step(network, batch)
    method.after_step(network, batch)
    method.training_step(network, batch)
    *_, start, one, two, attacked, clean = network.seen
    assert torch.equal(clean, batch.inputs)
    center = hashbench.methods.center_codes(method.memory.outputs, method.memory.labels, batch.labels).double()
    values = [(network.map(images.flatten(1)).tanh() * center).mean().item() for images in (start, one, two, attacked)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]
    for images in (start, one, two, attacked):
        assert float((images - batch.inputs).abs().max()) <= method.eps
    assert len(network.seen) == 2 * (3 + 2)


def test_the_memory_has_each_samples_own_code():
    method, network = ready(), Seeing()
    labels = some_labels(N, C, multi_label=False)
    part = batch_of(labels[:2], torch.tensor([4, 1]))
    method.training_step(network, part)
    assert not method.memory.outputs.any()
    method.after_step(network, part)
    codes = torch.where(network.map(part.inputs.flatten(1)) < 0, -1.0, 1.0)
    assert torch.equal(method.memory.outputs[[4, 1]].double(), codes.double())
    assert not method.memory.outputs[[0, 2, 3, 5]].any()


@pytest.mark.parametrize("base", [CSQ, DPSH])
def test_the_bases_terms_are_its_own(base):
    method, alone = ready(base()), base()
    alone.setup(make_task(C, K, num_train=N), {})
    alone.double()
    network, batch = Seeing(), batch_of(some_labels(N, C, multi_label=True))
    terms, out = method.training_step(network, batch)
    expected, same = alone.training_step(network, batch)
    assert torch.equal(out, same)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)


def test_what_it_cannot_attack_is_refused():
    assert "this task has vectors" in CgAT(base=CSQ()).supports(make_task(C, K, inputs="vectors"))
    assert "its base classifier makes codes in its own way" in CgAT(base=Classifier()).supports(make_task(C, K))
    assert "must not be below 0" in CgAT(base=CSQ(), eps=-0.1).supports(make_task(C, K))


@pytest.mark.slow
def test_it_withstands_the_attack_that_it_trains_against(tmp_path):
    how = {"bits": 16, "epochs": 8, "progress": False, "runs_dir": tmp_path}
    plain = hashbench.run("csq", "toy", **how)
    trained = hashbench.run("cgat", "toy", overrides={"cgat": {"base": "csq", "eps": 32 / 255, "step": 8 / 255}}, **how)
    lost = [
        run.metrics["mAP@all"] - hashbench.evaluate_run(run, under="pgd(eps=32/255, step=8/255)").metrics["mAP@all"]
        for run in (plain, trained)
    ]
    assert lost[1] < lost[0] - 0.05
