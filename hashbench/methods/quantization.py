"""Terms of single samples: cross-entropies to a target word or to classes, and how far outputs are from the corners."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def labelled_mean(values: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of `values` (n,) over the samples with a label, a scalar; 0 where none has one.

    `labels` (n, C) multi-hot.
    """
    labelled = (labels.sum(dim=1) > 0).to(values.dtype)  # any() of floats takes ten times as long
    return (labelled / labelled.sum().clamp(min=1) * values).sum()


def bit_cross_entropy(out: Tensor, targets: Tensor) -> Tensor:
    """Return BCE((tanh v + 1) / 2, (c + 1) / 2) (n,), the mean over the bits: CSQ's central similarity loss.

    `out` (n, bits) are the outputs v before the tanh, `targets` (n, bits) in [-1, 1] (Yuan et al., arXiv:1908.00347).
    """
    # (tanh v + 1) / 2 = sigmoid(2 v); torch's own loss on logits has other last digits under vmap than without.
    logits = 2 * out
    return (F.softplus(logits, threshold=40) - (targets + 1) / 2 * logits).mean(dim=1)


def class_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy (n,) of softmax(logits) to y / |y|, equal shares of a sample's classes; 0 without label.

    `logits` and `labels` (n, C), the latter multi-hot.
    """
    shares = labels / labels.sum(dim=1, keepdim=True).clamp(min=1)
    return -(shares * logits.log_softmax(dim=1)).sum(dim=1)


def softmax_binary_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return -[y log P + (1 - y) log(1 - P)] (n,), the mean over classes, P the softmax of logits (n, C): MDS's loss.

    `labels` (n, C) multi-hot (Wang et al., CVPR 2023).
    """
    return -(labels * logits.log_softmax(dim=1) + (1 - labels) * log_complement(logits)).mean(dim=1)


def log_complement(logits: Tensor) -> Tensor:
    """Return log(1 - P) (n, C) of the softmax P of logits (n, C), without a difference where P is nearly 1."""
    largest = torch.arange(logits.shape[1], device=logits.device) == logits.argmax(dim=1, keepdim=True)
    others = logits.masked_fill(largest, -torch.inf).logsumexp(dim=1, keepdim=True)
    complement = (-logits.softmax(dim=1).masked_fill(largest, 0)).log1p()
    return torch.where(largest, others - logits.logsumexp(dim=1, keepdim=True), complement)


def squared_gap(values: Tensor) -> Tensor:
    """Return (|v| - 1)^2 of each value, which equals |sign v - v|^2."""
    return (values.abs() - 1) ** 2


def cubic_gap(values: Tensor) -> Tensor:
    """Return ||v| - 1|^3 of each value (GreedyHash, Su et al., NeurIPS 2018)."""
    return (values.abs() - 1).abs() ** 3


def log_cosh_gap(values: Tensor) -> Tensor:
    """Return log cosh(|v| - 1) of each value, without overflow (DHN, Zhu et al., AAAI 2016)."""
    gap = (values.abs() - 1).abs()
    return gap + F.softplus(-2 * gap) - math.log(2)
