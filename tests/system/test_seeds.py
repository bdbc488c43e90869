import torch

from hashbench.system.seeds import derive, generator


def test_streams_differ_by_seed_and_purpose_and_repeat():
    drawn = {(s, p): torch.rand(4, generator=generator(s, p)).tolist() for s in (0, 1) for p in ("order", "centers")}
    assert len({tuple(v) for v in drawn.values()}) == 4
    assert torch.rand(4, generator=generator(0, "order")).tolist() == drawn[0, "order"]


def test_purpose_parts_are_kept_apart():
    assert derive(0, "order", 11) != derive(0, "order", 1, 1)
    assert 0 <= derive(0, "order") < 2**63
