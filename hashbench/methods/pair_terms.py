"""Terms over pairs of samples: which are similar, the pair likelihood, weights of pairs, soft histograms of distances.

Labels are multi-hot, (n, C) and (m, C); what comes out is (n, m), a row for each of the first. A pair
counts where both samples have a label.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

#: Rows of the similarity of label patterns that are held at once.
BLOCK = 2048
#: From where softplus is taken for linear: exact in float64, as torch's own 20 is not.
_LINEAR_FROM = 40


def similar(labels: Tensor, others: Tensor, *, multi_label: bool = True) -> Tensor:
    """Return s (n, m), 1 where two samples share a label, else 0, of the type of `labels`.

    Where no sample has several labels, `multi_label` may be false: it takes a fraction of the time at many classes.
    """
    if multi_label:
        return (labels @ others.T).sign()
    classes, other_classes = class_numbers(labels), class_numbers(others)
    return (classes.masked_fill(classes == 0, -1)[:, None] - other_classes).eq_(0)


def class_numbers(labels: Tensor) -> Tensor:
    """Return the classes (n,) of samples with one label, counted from 1, of the type of `labels`; 0 without a label."""
    numbers = torch.arange(1, labels.shape[1] + 1, dtype=labels.dtype, device=labels.device)
    return (labels * numbers).sum(dim=1)  # no product of matrices, which a user may have set to fewer digits


def similarity_sums(values: Tensor, labels: Tensor, *, dissimilar: float) -> Tensor:
    """Return S V (n, K) of `values` V, S (n, n) being 1 where two samples share a label, else `dissimilar`.

    S, which has the same row for all samples with the same labels, is never held as a whole.
    """
    patterns, pattern_of = torch.unique(labels, dim=0, return_inverse=True)
    sums = values.new_zeros((len(patterns), values.shape[1])).index_add(0, pattern_of, values)
    alike = torch.cat([similar(rows, patterns).to(values.dtype) @ sums for rows in patterns.split(BLOCK)])
    return ((1 - dissimilar) * alike + dissimilar * sums.sum(dim=0))[pattern_of]


def counted_pairs(labels: Tensor, others: Tensor | None = None) -> Tensor:
    """Return which pairs (n, m), bool, have a label on both sides.

    Without `others` they are the pairs of `labels` with each other, (n, n), and no sample is paired with itself.
    """
    labelled = labels.any(dim=1)
    if others is not None:
        return labelled[:, None] & others.any(dim=1)
    return labelled[:, None] & labelled & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)


def softplus(values: Tensor) -> Tensor:
    """Return log(1 + e^v) of each value v, a cost of which the gradient is torch's to the bit.

    In float32 on a CPU the cost itself is within 1e-7 (1 + |v|) of torch's and takes a third of the time: torch spends
    most of it on log1p, one value at a time. Where a gradient follows from the cost itself, use `F.softplus`.
    """
    if values.dtype != torch.float32 or values.device.type != "cpu":
        return F.softplus(values, threshold=_LINEAR_FROM)
    return _Softplus.apply(values)


class _Softplus(torch.autograd.Function):
    """The cost by a plain logarithm, the gradient by torch's own operation."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor) -> Tensor:
        return values.abs().neg_().exp_().add_(1).log_().add_(values.clamp(min=0))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        return torch.ops.aten.softplus_backward(gradient, values, 1, _LINEAR_FROM)


def pair_likelihood(inner: Tensor, similar: Tensor) -> Tensor:
    """Return log(1 + e^t) - s t of scaled inner products t (n, m): minus the log-likelihood of each pair.

    The likelihood of a similar pair is sigmoid(t), as in DPSH (Li et al., IJCAI 2016) and DHN (Zhu et al., AAAI 2016).
    """
    return softplus(inner) - similar * inner


def balanced_pairs(similar: Tensor, counted: Tensor) -> Tensor:
    """Return HashNet's weights of pairs (n, m), |S|/|S1| for similar, |S|/|S0| for dissimilar ones; others weigh 0.

    |S|, |S1| and |S0| are the numbers of all, similar and dissimilar pairs counted (Cao et al., ICCV 2017).
    """
    counted = counted.to(similar.dtype)
    alike = counted * similar
    unlike = counted - alike
    total = counted.sum()
    return alike * (total / alike.sum().clamp(min=1)) + unlike * (total / unlike.sum().clamp(min=1))


def label_overlap(labels: Tensor, others: Tensor) -> Tensor:
    """Return |y_i and y_j| / |y_i or y_j| (n, m), 0 for a pair without any label (HashNet)."""
    both = labels @ others.T
    either = labels.sum(dim=1)[:, None] + others.sum(dim=1) - both
    return both / either.clamp(min=1)


def mean_of_pairs(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of `values` (n, m) over the pairs counted, a scalar; 0 where there is none."""
    return (values * counted).sum() / counted.sum().clamp(min=1)


def mean_of_labelled_pairs(values: Tensor, labels: Tensor, others: Tensor) -> Tensor:
    """Return the mean of `values` (n, m) over the pairs with a label on both sides, a scalar; 0 where there is none.

    It is `mean_of_pairs(values, counted_pairs(labels, others))`, to the bit and in less time.
    """
    rows, columns, count = labelled_pairs(labels, others)
    return (values * (rows * columns.to(values.dtype))).sum() / count


def labelled_pairs(labels: Tensor, others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return which samples have a label, bool (n, 1) and (m,), and the number of their pairs, 1 where there is none."""
    rows, columns = (of.sum(dim=1) > 0 for of in (labels, others))
    return rows[:, None], columns, (rows.sum() * columns.sum()).clamp(min=1)


def mean_pair_likelihood(inner: Tensor, similar: Tensor, labels: Tensor, others: Tensor) -> Tensor:
    """Return the mean of `pair_likelihood(inner, similar)` over the pairs with a label on both sides, a scalar.

    `similar` (n, m) is 0 or 1. It is `mean_of_labelled_pairs` of the likelihood to the bit, in less time and memory.
    """
    rows, columns, count = labelled_pairs(labels, others)
    similar = similar.to(inner.dtype)
    return _MeanPairLikelihood.apply(inner, similar, rows.to(inner.dtype), columns.to(inner.dtype), count)


class _MeanPairLikelihood(torch.autograd.Function):
    """The operations that torch would record, in the same order, most of them in place."""

    @staticmethod
    def forward(ctx: Any, inner: Tensor, similar: Tensor, rows: Tensor, columns: Tensor, count: Tensor) -> Tensor:
        ctx.save_for_backward(inner, similar, rows, columns, count)
        cost = softplus(inner).addcmul_(similar, inner, value=-1)
        return cost.mul_(rows).mul_(columns).sum() / count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inner, similar, rows, columns, count = ctx.saved_tensors
        weights = gradient / count * rows * columns
        of_softplus = torch.ops.aten.softplus_backward(weights, inner, 1, _LINEAR_FROM)
        return of_softplus.addcmul_(similar, weights, value=-1), None, None, None, None


def soft_bins(distances: Tensor, count: int, *, largest: float) -> Tensor:
    """Return each distance's shares (..., count) in bins centred at 0, ..., `largest`, equally spaced: triangles.

    A distance between two centres is shared between both, so the shares of one in [0, `largest`] add up to 1; on a
    centre it counts there alone (MIHash, Cakir et al., ICCV 2017).
    """
    width = largest / (count - 1)
    centres = torch.arange(count, device=distances.device, dtype=distances.dtype) * width
    return (1 - (distances[..., None] - centres).abs() / width).clamp(min=0)
