"""Re-assignment around methods with fixed centers: the words stay, their classes follow the codes."""

import numpy as np
import pytest
import torch
from method_cases import make_batch, make_task, one_hot, some_outputs
from scipy.optimize import linear_sum_assignment

from baselines.centers.csq import CSQ
from baselines.pairwise.dpsh import DPSH
from baselines.pointwise.dpn import DPN
from baselines.proxy.dcwh import DCWH
from baselines.proxy.orthohash import OrthoHash
from baselines.wrappers.reassigned import Reassigned
from hashbench.methods.crh import CRH

C, K, N = 6, 16, 60


def ready(base, **fields):
    method, task = Reassigned(base=base, **fields), make_task(C, K, num_train=N)
    assert method.supports(task) is None
    method.setup(task, {})
    return method


def words(method):
    return sorted(tuple(row) for row in method.base.centers.tolist())


@pytest.mark.parametrize("base", [CSQ, OrthoHash])
def test_centers_move_between_classes_to_the_cheapest_assignment(base):
    method = ready(base(), solver="hungarian")
    labels, out = one_hot([i % C for i in range(N)], C).float(), some_outputs(N, K, seed=2).float()
    before, kept = method.base.centers.clone(), words(method)
    batch = make_batch(labels)
    sums = method.epoch_sums(out, batch)
    found = method.end_epoch(0, sums)
    codes = np.where(out.numpy() >= 0, 1, -1)
    cost = [
        [np.mean([((code - word) ** 2).sum() for code in codes[c::C]]) for word in before.numpy()] for c in range(C)
    ]
    _, columns = linear_sum_assignment(np.array(cost))
    assert torch.equal(method.base.centers, before[torch.from_numpy(columns)])
    assert words(method) == kept
    assert found["classes_moved"] == (columns != np.arange(C)).sum() > 0
    method.end_epoch(29, sums)  # the last epoch of 30
    assert torch.equal(method.base.centers, before[torch.from_numpy(columns)])


def test_a_class_that_was_not_seen_keeps_its_center():
    method = ready(CSQ())
    labels = one_hot([i % (C - 1) for i in range(N)], C).float()
    before = method.base.centers.clone()
    for epoch in range(3):
        method.end_epoch(epoch, method.epoch_sums(some_outputs(N, K, seed=epoch).float(), make_batch(labels)))
    assert torch.equal(method.base.centers[C - 1], before[C - 1])
    assert not torch.equal(method.base.centers, before)


def test_bases_without_fixed_centers_are_refused():
    task = make_task(C, K, num_train=N)
    assert "has no centers" in Reassigned(base=DPSH()).supports(task)
    assert "moves its centers itself" in Reassigned(base=CRH()).supports(task)
    assert "moves its centers itself" in Reassigned(base=DCWH()).supports(task)
    assert "moves its centers itself" in Reassigned(base=DPN()).supports(task)
    assert "at least 1" in Reassigned(then_every=0).supports(task)
