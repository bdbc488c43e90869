"""Adversarial images: projected gradients of an objective, and the codes that they lead away from or towards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Weights = Literal["equal", "jaccard", "cosine"]


def projected_gradient(
    images: Tensor,
    objective: Callable[[Tensor], Tensor],
    *,
    eps: float,
    step: float,
    steps: int,
    start: Tensor | None = None,
    best: bool = True,
) -> Tensor:
    """Return images (n, ...) in [0, 1] within `eps` of those given, where `objective` (n,) is large.

    Each of `steps` steps adds `step` times the sign of the gradient and returns to the box (PGD, Madry et al., ICLR
    2018, arXiv:1706.06083). `start` (n, ...), within `eps` of zero, is added first. The best of all positions is taken,
    so that more steps never give less, or the last one. It takes `steps` passes forward and back and, for the best, one
    forward; `objective` must treat images one by one.
    """
    low, high = _within(images, -eps), _within(images, eps)
    chosen = moved = images if start is None else (images + start).clamp(low, high)
    largest = torch.full_like(images.flatten(1)[:, 0], -torch.inf)
    for left in range(steps, -1 if best else 0, -1):
        with torch.set_grad_enabled(left > 0):
            moved = moved.detach().requires_grad_(left > 0)
            value = objective(moved)
        better = value.detach() > largest
        chosen = torch.where(better.view(-1, *[1] * (images.ndim - 1)), moved.detach(), chosen)
        largest = torch.where(better, value.detach(), largest)
        if left:
            (gradient,) = torch.autograd.grad(value.sum(), moved)
            moved = (moved.detach() + step * gradient.sign()).clamp(low, high)
    return chosen if best else moved


def _within(images: Tensor, eps: float) -> Tensor:
    """Return images + `eps` in [0, 1], rounded towards the images, so that the difference is never above |eps|."""
    moved = (images.double() + eps).to(images)
    too_far = (moved.double() - images.double()).abs() > abs(eps)
    return torch.where(too_far, torch.nextafter(moved, images), moved).clamp(0, 1)


def center_codes(codes: Tensor, labels: Tensor, wanted: Tensor, *, weights: Weights = "equal") -> Tensor:
    """Return the center code (q, K) in {-1, +1} of each row of labels `wanted` (q, C) among `codes` (N, K) in {-1, +1}.

    It is the sign of the mean of the codes that share a label less the mean of the others, +1 at zero (CgAT, Wang et
    al., WWW 2023, arXiv:2204.10779). The first are weighed equally, by |y & y'| / |y or y'| (`jaccard`), or by the
    cosine of the labels (`cosine`). `labels` is (N, C) multi-hot; no code without label counts.
    """
    wanted, labels = (wanted > 0).to(codes), (labels > 0).to(codes)
    both = wanted @ labels.T  # (q, N)
    alike = (both > 0).to(codes)
    unlike = (1 - alike) * labels.amax(dim=1)
    if weights == "jaccard":
        alike = both / (wanted.sum(dim=1, keepdim=True) + labels.sum(dim=1) - both).clamp(min=1)
    elif weights == "cosine":
        alike = both / (wanted.sum(dim=1, keepdim=True) * labels.sum(dim=1)).clamp(min=1).sqrt()
    positive, negative = (
        share @ codes / share.sum(dim=1, keepdim=True).clamp(min=torch.finfo(codes.dtype).tiny)
        for share in (alike, unlike)
    )
    return torch.where(positive >= negative, 1, -1).to(codes)
