import random

import numpy as np
import torch

from hashbench.system.seeds import derive, generator, globals_kept, seed_globals


def test_streams_differ_by_seed_and_purpose_and_repeat():
    drawn = {(s, p): torch.rand(4, generator=generator(s, p)).tolist() for s in (0, 1) for p in ("order", "centers")}
    assert len({tuple(v) for v in drawn.values()}) == 4
    assert torch.rand(4, generator=generator(0, "order")).tolist() == drawn[0, "order"]


def test_purpose_parts_are_kept_apart():
    assert derive(0, "order", 11) != derive(0, "order", 1, 1)
    assert 0 <= derive(0, "order") < 2**63


def drawn():
    return float(torch.rand(())), np.random.rand(), random.random()


def test_the_global_generators_start_anew_in_streams_of_their_own():
    found = []
    for seed, purpose, rank in ((0, "fit", 0), (0, "fit", 0), (1, "fit", 0), (0, "init", 0), (0, "fit", 1)):
        seed_globals(seed, purpose, rank=rank)
        found.append(drawn())
    assert found[0] == found[1]
    assert len({number for numbers in found[1:] for number in numbers}) == 12
    seed_globals(0, "epoch", 4)
    assert float(torch.rand(())) == float(torch.rand((), generator=generator(0, "epoch", 4)))


def test_the_global_generators_are_put_back():
    seed_globals(0, "fit")
    expected = drawn()
    seed_globals(0, "fit")
    with globals_kept():
        seed_globals(5, "other")
        drawn()
    assert drawn() == expected
