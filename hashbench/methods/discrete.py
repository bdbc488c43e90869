"""Binary codes as variables of a quadratic objective: ridge regression, and cyclic coordinate descent over the bits."""

from __future__ import annotations

import torch
from torch import Tensor


def ridge(inputs: Tensor, targets: Tensor, weight: float) -> Tensor:
    """Return W (d, c) that minimises |Y - X W|^2 + weight |W|^2, of `inputs` X (n, d) and `targets` Y (n, c)."""
    gram = inputs.T @ inputs
    return torch.linalg.solve(gram + weight * torch.eye(len(gram), dtype=gram.dtype, device=gram.device),
                              inputs.T @ targets)  # fmt: skip


def coordinate_descent(codes: Tensor, quadratic: Tensor, linear: Tensor, *, sweeps: int = 1) -> Tensor:
    """Return codes B (n, K) in {-1, +1} after sweeps of discrete cyclic coordinate descent on tr(B A B') - 2 tr(B Q').

    `quadratic` A (K, K) is symmetric, or one for each sample, (n, K, K); `linear` Q (n, K). Bit by bit, all samples
    take the sign that is best while the other bits stay, and keep theirs where both are equally good, so the objective
    never rises (DCC of SDH, Shen et al., CVPR 2015). `codes` (n, K), where it starts, stay as they are.
    """
    codes = codes.clone()
    off_diagonal = quadratic - torch.diag_embed(quadratic.diagonal(dim1=-2, dim2=-1))
    for _ in range(sweeps):
        for k in range(codes.shape[1]):
            others = off_diagonal[..., k]
            pull = linear[:, k] - (codes @ others if others.ndim == 1 else (codes * others).sum(dim=1))
            codes[:, k] = torch.where(pull == 0, codes[:, k], pull.sign())
    return codes
