"""ITQ-CCA: Iterative Quantization of canonical directions (Gong & Lazebnik, CVPR 2011)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

import hashbench
from hashbench.methods import project, quantizing_rotation, with_fixed_signs


@hashbench.method(
    "itq-cca", paper="doi:10.1109/CVPR.2011.5995432", version=1, fidelity="published", family="shallow", year=2011
)
class ITQCCA(hashbench.Method):
    """ITQ after canonical correlation analysis: directions of features that follow the labels, scaled, then rotated.

    The k-th direction w maximises the correlation of X w with some Y u, of centred features X and labels Y, with w' C w
    = 1 for the covariance C of X, and is scaled by its correlation; the rotation is ITQ's. There are at most as many
    directions as classes: with more bits the missing ones count as zero, and the rotation spreads the others over all
    bits (an extension). The authors' code adds 1e-4 to both covariances; here it is that share of their mean variance,
    so that the scale of features does not matter (ours). Inputs without a label are left out.
    """

    iterations: int = hashbench.option(50, "rounds of B, then R; the paper: 50")
    regularization: float = hashbench.option(1e-4, "added to the diagonal of covariances, times their mean variance")

    mean: Tensor  # (width,)
    projection: Tensor  # (width, K)

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse a negative number of rounds, and covariances that may not be inverted."""
        if self.iterations < 0 or self.regularization <= 0:
            return "iterations must be at least 0, and regularization more than 0."
        return None

    def fit(self, task: hashbench.Task, data: hashbench.TrainingData) -> None:
        """Find mean, directions and rotation; raises HashbenchError where features or labels do not vary."""
        features, labels = data.features(), data.labels
        assert labels is not None, "ITQ-CCA is supervised"
        labelled = labels.any(dim=1)
        features, targets = features[labelled], labels[labelled].double()
        mean = features.mean(dim=0) if len(features) else features.new_zeros(features.shape[1])
        directions, correlations = canonical_directions(features, mean, targets, self.regularization)
        kept = F.pad(directions * correlations, (0, max(task.bits - len(correlations), 0)))[:, : task.bits]
        along = torch.cat([project(rows, mean, kept) for rows in features.split(max(2**24 // features.shape[1], 1))])
        rotation = quantizing_rotation(along, task.generator("rotation"), iterations=self.iterations)
        self.register_buffer("mean", mean.double())
        self.register_buffer("projection", kept @ rotation)

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the codes, bool (n, bits), of `inputs` (n, width)."""
        return project(inputs, self.mean, self.projection) >= 0


def canonical_directions(
    features: Tensor, mean: Tensor, targets: Tensor, regularization: float
) -> tuple[Tensor, Tensor]:
    """Return canonical directions (width, r) of `features` (n, width) with `targets` (n, C), and correlations (r,).

    They descend; r is the smaller of width and C. Where each input has one class, the last correlation of C is 0.
    Raises HashbenchError where features or labels do not vary.
    """
    count, (width, classes) = max(len(features), 1), (features.shape[1], targets.shape[1])
    within = torch.zeros((width, width), dtype=torch.float64, device=features.device)
    across = torch.zeros((width, classes), dtype=torch.float64, device=features.device)
    centred_targets = targets - targets.mean(dim=0)
    size = max(2**24 // width, 1)
    for rows, some in zip(features.split(size), centred_targets.split(size), strict=True):
        centred = rows.double() - mean
        within += centred.T @ centred
        across += centred.T @ some
    whitened = []
    for covariance, what in ((within / count, "features"), (centred_targets.T @ centred_targets / count, "labels")):
        variance = covariance.diagonal().mean()
        if not variance > 0:
            raise hashbench.HashbenchError(
                f"itq-cca needs {what} that vary; all labelled training inputs have the same."
            )
        unit = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        whitened.append(torch.linalg.cholesky(covariance + regularization * variance * unit))
    inner = torch.linalg.solve_triangular(whitened[0], across / count, upper=False)
    inner = torch.linalg.solve_triangular(whitened[1], inner.T, upper=False).T
    left, correlations, _ = torch.linalg.svd(inner, full_matrices=False)
    directions = torch.linalg.solve_triangular(whitened[0].T, left, upper=True)
    return with_fixed_signs(directions), correlations
