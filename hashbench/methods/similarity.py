"""Similarity without labels: of features and codes, of two views, and where the distances of a training set lie."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

#: Bins of cosine distances from 0 to 1, among which the fullest is sought.
BINS = 100
#: Distances that are held at once.
BLOCK = 2**24


def cosine_gap(features: Tensor, codes: Tensor) -> Tensor:
    """Return the mean of (cos(b_i, b_j) - cos(x_i, x_j))^2 over n // 2 pairs of a batch, a scalar; 0 for one sample.

    A pair is a sample of the first half of the batch with that of the second half in the same place; an odd last sample
    has none. `codes` b (n, bits) get the gradient, `features` x (n, width) none (Su et al., NeurIPS 2018, their code).
    """
    pairs = len(codes) // 2
    of_codes, of_features = (
        F.cosine_similarity(rows[:pairs], rows[pairs : 2 * pairs]) for rows in (codes, features.detach())
    )
    return (of_codes - of_features).square().sum() / max(pairs, 1)


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return NT-Xent of two views (n, width), a scalar: cross-entropy of picking a row's other view among 2 n - 1.

    The logits are cosines divided by `temperature`; the mean is over the 2 n rows (SimCLR, Chen et al., ICML 2020).
    """
    rows = F.normalize(torch.cat([first, second]), dim=1)
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    logits = (rows @ rows.T / temperature).masked_fill(itself, -torch.inf)
    other_view = torch.arange(len(rows), device=rows.device).roll(len(first))
    return F.cross_entropy(logits, other_view)


def half_gaussians(features: Tensor) -> Tensor:
    """Return (mode, deviation below, deviation above) (3,), float64, of the cosine distances of `features` (n, width).

    The mode is the lower end of the fullest of 100 bins from 0 to 1, in which no row counts with itself. A deviation is
    the root mean square of the distances up to the mode, or beyond it, from the mode: that of the Gaussian fitted to
    this side and its mirror image. A pair counts twice, and a row with itself below (SSDH, Yang et al., IJCAI 2018;
    CIMON, Luo et al., arXiv:2010.07804).
    """
    unit = F.normalize(features, dim=1)
    blocks = unit.split(max(BLOCK // len(unit), 1))
    counts = torch.zeros(BINS + 1, dtype=torch.int64, device=unit.device)  # the last one: beyond 1
    for block in blocks:
        bins = ((1 - block @ unit.T) * BINS).floor().clamp(0, BINS).long()
        counts += torch.bincount(bins.flatten(), minlength=BINS + 1)
    counts[0] -= len(unit)
    fullest = int(counts[:BINS].cpu().numpy().argmax())  # numpy: the first of several
    sums = torch.zeros(4, dtype=torch.float64, device=unit.device)
    for block in blocks:
        gap = (1 - block @ unit.T).double() - fullest / BINS
        below, squared = gap <= 0, gap.square()
        sums += torch.stack([squared[side].sum() for side in (below, ~below)] + [below.sum(), (~below).sum()])
    deviations = (sums[:2] / sums[2:].clamp(min=1)).sqrt()
    return torch.cat([deviations.new_tensor([fullest / BINS]), deviations])
