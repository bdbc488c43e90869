"""Bits inside a network: exact in the forward pass, with a gradient that goes straight through."""

from __future__ import annotations

import torch
from torch import Tensor


def signs(values: Tensor) -> Tensor:
    """Return -1 where a value is negative, else +1, as codes are made: 0 becomes +1; without gradient."""
    return torch.where(values.detach() < 0, -1.0, 1.0).to(values.dtype)


def straight_through_signs(values: Tensor) -> Tensor:
    """Return `signs(values)` whose gradient is passed on to `values` unchanged (GreedyHash, NeurIPS 2018)."""
    return signs(values) + (values - values.detach())


def straight_through_draws(probabilities: Tensor) -> Tensor:
    """Return bits in {0, 1}, each 1 with its probability; the gradient is passed on to `probabilities` unchanged.

    They are drawn from torch's global generator, which the run's seed sets before each epoch (JMLH, Shen et al.,
    ICCVW 2019).
    """
    drawn = (torch.rand_like(probabilities) < probabilities.detach()).to(probabilities.dtype)
    return drawn + (probabilities - probabilities.detach())
