"""LBHash against a literal re-statement of both its losses; who learns from which; what the surrogate comes to know."""

import dataclasses
from itertools import pairwise

import pytest
import torch
from method_cases import make_batch, make_task, one_hot, some_labels, some_outputs
from torch import nn

from baselines.centers.csq import CSQ
from baselines.centers.ics import ICS
from baselines.centers.mds import MDS
from baselines.centers.mlh import MLH
from baselines.centers.shc import SHC
from baselines.pairwise.dfh import DFH
from baselines.pairwise.dpsh import DPSH
from baselines.pointwise.dpn import DPN
from baselines.proxy.hyp2 import HyP2
from baselines.proxy.orthohash import OrthoHash
from baselines.wrappers.lbhash import LBHash
from hashbench import recipes
from hashbench.datasets.loading.batch import Batch
from hashbench.methods.crh import CRH
from hashbench.methods.wrapping import unsupported
from hashbench.networks.network import HashNetwork

N, C, BITS, BLOCK, HIDDEN = 5, 4, 6, 3, 4


def ready(bits=BITS, classes=C, *, task=None, **fields) -> LBHash:
    small = {"block": BLOCK, "hidden": HIDDEN, "dropout": 0.0, "flips": 0}
    method, made = LBHash(**{**small, **fields}), make_task(classes, bits, **{"num_train": 20, **(task or {})})
    assert unsupported(method, made) is None
    method.setup(made, {})
    return method.double()


def default(bits, **fields) -> LBHash:
    return ready(bits, **{"block": 8, "hidden": 256, "dropout": 0.5, "flips": None, **fields})


def stepped(method, out, labels):
    """Return the terms of the loss, the outputs' gradient and those of the surrogate's weights."""
    leaf = out.clone().requires_grad_()
    terms = method.loss(leaf, make_batch(labels))
    total = torch.stack([*terms.values()]).sum()
    found = torch.autograd.grad(total, [leaf, *method.surrogate.parameters()], allow_unused=True)
    return terms, *found


def drawn(out, count):
    """Return the outputs with the signs of `count` bits of each sample flipped, by the next random numbers."""
    ranks = torch.rand(out.shape, dtype=out.dtype).argsort(dim=1).tolist()
    return [[-x if rank < count else x for x, rank in zip(row, ranks[i], strict=True)] for i, row in enumerate(out)]


def log_probabilities(weights, block, outputs):
    """Return the log-probability of each value of a block, by the network of this block."""
    first_bias, first, second_bias, second = (one[block] for one in weights)
    hidden = []
    for h in range(first.shape[1]):
        x = first_bias[0, h] + sum(outputs[k] * first[k, h] for k in range(len(outputs)))
        hidden.append(x / (1 + (-x).exp()))
    logits = [second_bias[0, v] + sum(h * second[i, v] for i, h in enumerate(hidden)) for v in range(second.shape[1])]
    whole = torch.stack([logit.exp() for logit in logits]).sum().log()
    return [logit - whole for logit in logits]


def value(bits):
    return sum(2**k for k, bit in enumerate(bits) if bit >= 0)


def literal(method, out, labels, *, flips, everywhere, shared):
    """Return both losses, a sample, block and class at a time."""
    weights = [*method.surrogate.parameters()]
    frozen = weights if shared else [one.detach() for one in weights]
    permuted = torch.stack([out[:, k] for k in method.order.tolist()], dim=1)
    fixed = permuted.detach()
    seen = drawn(fixed, flips)
    taught = drawn(fixed, flips) if everywhere else fixed.tolist()
    words = [[float(method.base.centers[c, k]) for k in method.order.tolist()] for c in range(C)]
    labelled = [i for i in range(N) if labels[i].any()]
    surrogate, blocks, capped = out.new_zeros(()), out.new_zeros(()), 0
    for i in labelled:
        for at in range(0, BITS, BLOCK):
            part = range(at, at + BLOCK)
            log_p = log_probabilities(weights, at // BLOCK, [seen[i][k] for k in part])
            right = value([taught[i][k] for k in part])
            wrong = value([-1.0 if taught[i][k] >= 0 else 1.0 for k in part])
            capped += float(-log_p[wrong].detach()) > 16
            surrogate = surrogate - log_p[right] - (-log_p[wrong]).clamp(max=16)
            entered = [permuted[i, k] for k in part]
            if everywhere:
                entered = [x + float(seen[i][k] - fixed[i, k]) for x, k in zip(entered, part, strict=True)]
            log_p = log_probabilities(frozen, at // BLOCK, entered)
            mine = [c for c in range(C) if labels[i, c]]
            blocks = blocks - sum(log_p[value([words[c][k] for k in part])] for c in mine) / len(mine)
    return surrogate / len(labelled), blocks / len(labelled), capped


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    ("fields", "flips", "scale"),
    [
        ({}, 0, 1),
        ({"flips": 2}, 2, 1),
        ({"flips": 2, "flipped": "all", "shared_gradient": True}, 2, 1),
        ({"shared_gradient": True}, 0, 30),  # where the entropy at the complement is capped
    ],
)
def test_losses_and_gradients_are_those_of_the_code(multi_label, fields, flips, scale):
    method = ready(task={"multi_label": multi_label}, **fields)
    out, labels = scale * some_outputs(N, BITS), some_labels(N, C, multi_label=multi_label)
    torch.manual_seed(4)
    terms, gradient, *of_weights = stepped(method, out, labels)
    leaf = out.clone().requires_grad_()
    torch.manual_seed(4)
    shared, everywhere = "shared_gradient" in fields, "flipped" in fields
    surrogate, blocks, capped = literal(method, leaf, labels, flips=flips, everywhere=everywhere, shared=shared)
    assert list(terms) == ["surrogate", "blocks"]
    torch.testing.assert_close([*terms.values()], [surrogate, blocks], rtol=1e-10, atol=1e-12)
    wanted = torch.autograd.grad(surrogate + blocks, [leaf, *method.surrogate.parameters()])
    torch.testing.assert_close([gradient, *of_weights], [*wanted], rtol=1e-8, atol=1e-12)
    assert gradient[-1].eq(0).all()  # the row without a label carries no loss
    assert (capped > 0) == (scale > 1)


def test_each_network_learns_from_its_own_loss():
    out, labels = some_outputs(N, BITS).requires_grad_(), some_labels(N, C, multi_label=False)
    for shared in (False, True):
        method = ready(shared_gradient=shared)
        terms = method.loss(out, make_batch(labels))
        weights = [*method.surrogate.parameters()]

        def reached(term, by, terms=terms):
            found = torch.autograd.grad(terms[term], by, allow_unused=True, retain_graph=True)
            return [one is not None and bool(one.any()) for one in found]

        assert (reached("surrogate", [out]), reached("blocks", [out])) == ([False], [True])
        assert (reached("surrogate", weights), reached("blocks", weights)) == ([True] * 4, [shared] * 4)


def test_an_untrained_surrogate_has_no_loss_and_learns_at_most_by_the_networks():
    out, batch = some_outputs(N, BITS).requires_grad_(), make_batch(some_labels(N, C, multi_label=False))
    for shared in (False, True):
        method = ready(surrogate_trained=False, shared_gradient=shared)
        terms = method.loss(out, batch)
        assert list(terms) == ["blocks"]
        assert torch.equal(terms["blocks"], ready().loss(out, batch)["blocks"])
        assert all(parameter.requires_grad == shared for parameter in method.surrogate.parameters())


def test_a_trained_surrogate_tells_blocks_and_leads_outputs_to_the_centers():
    method = default(16, classes=6, block=4, hidden=64, flips=1).float()
    adam, chance = torch.optim.Adam(method.surrogate.parameters(), 5e-3), torch.Generator().manual_seed(0)
    labels = torch.eye(6).repeat(20, 1)
    for _ in range(200):
        method.loss(2 * torch.randn(120, 16, generator=chance), make_batch(labels))["surrogate"].backward()
        adam.step()
        adam.zero_grad()
    out = 2 * torch.randn(500, 16, generator=chance)
    method.eval()
    values = [[value(row[at : at + 4]) for at in range(0, 16, 4)] for row in out.tolist()]
    found = method.surrogate(out).argmax(dim=2)
    assert (found == torch.tensor(values)).double().mean() > 0.75  # of 16 values, where some outputs are near 0
    method.train()
    out = (0.1 * torch.randn(120, 16, generator=chance)).requires_grad_()
    adam = torch.optim.Adam([out], 0.1)
    for _ in range(60):
        method.loss(out, make_batch(labels))["blocks"].backward()
        adam.step()
        adam.zero_grad()
    assert ((out >= 0) == (labels @ method.base.centers > 0)).float().mean() > 0.97


def test_flipped_bits_grow_with_the_square_of_the_bits():
    for bits, count in ((16, 0), (24, 0), (32, 1), (64, 4), (96, 9), (128, 16)):
        method = default(bits)
        seen = []
        method.surrogate.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0].detach()))
        out = some_outputs(N, bits)
        method.loss(out, make_batch(some_labels(N, C, multi_label=False)))
        flipped = seen[0] != out[:, method.order]
        assert flipped.sum(dim=1).eq(count).all()
        assert torch.equal(seen[0].abs(), out[:, method.order].abs())
        assert torch.equal(seen[1], out[:, method.order])
        assert count in (0, 1) or len(flipped.unique(dim=0)) > 1


def test_bits_are_permuted_anew_every_fourth_epoch_and_the_base_is_updated():
    method = ready(24, task={"epochs": 30}, base=CRH(head_width=8, codebook_size=8))
    orders = [method.order.clone()]
    for epoch in range(9):
        out, batch = some_outputs(N, 24, seed=epoch), make_batch(some_labels(N, C, multi_label=False))
        found = method.end_epoch(epoch, method.epoch_sums(out, batch))
        assert {"classes_moved", "center_distance_min"} <= set(found)
        orders.append(method.order.clone())
    assert all(torch.equal(order.sort().values, torch.arange(24)) for order in orders)
    changes = [not torch.equal(*pair) for pair in pairwise(orders)]
    assert changes == [False, False, False, True, False, False, False, True, False]
    assert not torch.equal(orders[0], orders[-1])
    assert "order" in method.state_dict()
    other = ready(24, task={"seed": 1})
    assert not torch.equal(other.order, orders[0])
    assert not torch.equal(other.surrogate.first_weight, method.surrogate.first_weight)


def test_the_base_counts_by_its_weight():
    out, batch = some_outputs(N, BITS).requires_grad_(), make_batch(some_labels(N, C, multi_label=False))
    method = ready(base_weight=0.3)
    terms = method.loss(out, batch)
    assert list(terms) == ["center", "quantization", "surrogate", "blocks"]
    for name, term in method.base.loss(out, batch).items():
        assert torch.equal(terms[name], 0.3 * term)


def test_a_base_with_a_step_of_its_own_takes_it_where_it_counts():
    for weight in (0.0, 1.0):
        method = ready(base=MDS(momentum=0.0), base_weight=weight).float()
        network = HashNetwork(nn.Linear(3, 5), method.head(5, make_task(C, BITS)), "fp32")
        method.attach(network, make_task(C, BITS))
        batch = Batch((torch.randn(N, 3),), some_labels(N, C, multi_label=False).float(), torch.arange(N), 0, 0)
        with torch.no_grad():
            network.head[0].weight.add_(1)
        terms, out = method.training_step(network, batch)
        method.after_step(network, batch)
        assert list(terms) == ([] if not weight else ["center", "pairs", "quantization"]) + ["surrogate", "blocks"]
        assert torch.equal(method.base.twin.head[0].weight, network.head[0].weight) == bool(weight)
        assert method.base.memory.outputs.any() == bool(weight)
        assert out.shape == (N, BITS)


def test_parameters_are_optimised_once_at_their_rates():
    recipe = recipes.load("scratch", overrides={"learning_rate": 0.1}, multi_label=False)
    network = HashNetwork(nn.Linear(3, 5), nn.Linear(5, BITS), "fp32")
    for trained, shared in ((True, False), (False, True), (False, False)):
        method = ready(surrogate_trained=trained, shared_gradient=shared, learning_rate_scale=3.0)
        groups = method.parameter_groups(network, recipe)
        rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
        own = {id(parameter) for parameter in method.surrogate.parameters()}
        assert len(rates) == sum(len(group["params"]) for group in groups) == 4 + 4 * (trained or shared)
        assert rates == pytest.approx({key: 0.3 if key in own else 0.1 for key in rates})
        assert (own <= set(rates)) == (trained or shared)


@pytest.mark.parametrize("base", [CSQ, CRH, SHC, DPN, MDS, OrthoHash, ICS])
@pytest.mark.parametrize("multi_label", [False, True])
def test_every_method_with_centers_can_be_wrapped(base, multi_label):
    method, task = LBHash(base=base()), make_task(5, 16, multi_label=multi_label)
    assert unsupported(method, task) is None
    assert "centers" in {field.name for field in dataclasses.fields(method.base)}
    method.setup(task, {"paper": torch.eye(5)} if base is SHC else {})
    out = some_outputs(N, 16).float().requires_grad_()
    terms = method.loss(out, make_batch(some_labels(N, 5, multi_label=multi_label).float()))
    assert list(terms) == ["surrogate", "blocks"]
    assert torch.autograd.grad(sum(terms.values()), out)[0].any()


def test_what_cannot_be_wrapped_is_refused_with_a_reason():
    for base in (DPSH(), HyP2(), DFH()):  # the last has an option of that name
        reason = unsupported(LBHash(base=base), make_task())
        assert f"its base {base.info.name} declares no buffer `centers`" in reason
    assert "its base mlh makes codes in its own way" in unsupported(LBHash(base=MLH()), make_task(5))
    assert "12 bits are no multiple of the block's 8" in LBHash().supports(make_task(bits=12))
    assert LBHash(block=4).supports(make_task(bits=12)) is None
    for fields, text in (
        ({"block": 13}, "from 1 to 12"),
        ({"block": 0}, "from 1 to 12"),
        ({"permute_every": 0}, "at least 1"),
        ({"hidden": 0}, "at least 1"),
        ({"dropout": 1.0}, "less than 1"),
        ({"flips": 17}, "from 0 to the 16 bits"),
    ):
        assert text in LBHash(**fields).supports(make_task())
    assert "too few for 1000 classes" in unsupported(LBHash(block=4), make_task(1000, 12))


def test_batches_without_labels_and_large_outputs_stay_finite():
    for labels, scale in (
        (torch.zeros(3, C, dtype=torch.float64), 1),
        (one_hot([0], C), 1),
        (one_hot([1, 1, 2], C), 1e4),
        (one_hot([1, 1, 2], C), 0),
    ):
        out = some_outputs(len(labels), 32) * scale
        terms, *gradients = stepped(default(32), out, labels)
        assert all(torch.isfinite(term) for term in terms.values())
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        assert all(bool(gradient.any()) == bool(labels.any()) for gradient in gradients[:1] if scale)
