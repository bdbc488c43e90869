"""SpH: Spherical Hashing (Heo et al., CVPR 2012)."""

from __future__ import annotations

import torch
from torch import Tensor

import hashbench


@hashbench.method(
    "sph", paper="doi:10.1109/CVPR.2012.6248024", version=1, fidelity="published", family="shallow", year=2012
)
class SpH(hashbench.Method):
    """Spherical Hashing: a bit for each hypersphere, 1 inside; spheres hold half the inputs, two a quarter together.

    The radius is the median distance from the pivot. Pivots move by forces (o_ij - m/4) / (m/4) (p_i - p_j) / 2, the
    mean over j, o_ij of m inputs being in both spheres, until the mean of |o_ij - m/4| and the deviation of o_ij are
    within the tolerances. Codes are compared by Hamming distance like all others; the paper's own spherical distance is
    not here. Unverified: how the first pivots are made, here means of five training inputs each, as in public code.
    """

    mean_tolerance: float = hashbench.option(0.1, "of the mean of |o_ij - m/4|, as a share of m/4")
    deviation_tolerance: float = hashbench.option(0.15, "of the standard deviation of o_ij, as a share of m/4")
    iterations: int = hashbench.option(100, "most rounds of forces")
    start_inputs: int = hashbench.option(5, "training inputs whose mean a first pivot is")

    supervised = False

    pivots: Tensor  # (K, width)
    radii: Tensor  # (K,)

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse pivots of no input, and a negative number of rounds."""
        if self.start_inputs < 1 or self.iterations < 0:
            return "start_inputs must be at least 1, and iterations at least 0."
        return None

    def fit(self, task: hashbench.Task, data: hashbench.TrainingData) -> None:
        """Move the pivots until the spheres are balanced; raises HashbenchError for fewer than two inputs."""
        features = data.features()
        count, bits = len(features), task.bits
        if count < 2:
            raise hashbench.HashbenchError("sph needs two training inputs, of which one is in a sphere.")
        drawn = torch.randint(count, (bits, self.start_inputs), generator=task.generator("pivots"))
        pivots = features[drawn.to(features.device)].double().mean(dim=1)
        for _ in range(self.iterations):
            inside, _ = _spheres(features, pivots)
            excess = inside.T @ inside / (count / 4) - 1  # (o_ij - m/4) / (m/4)
            off = excess[~torch.eye(bits, dtype=torch.bool, device=excess.device)]
            if off.numel() == 0 or (
                off.abs().mean() <= self.mean_tolerance and off.std(unbiased=False) <= self.deviation_tolerance
            ):
                break
            excess.fill_diagonal_(0)
            pivots = pivots + (excess.sum(dim=1, keepdim=True) * pivots - excess @ pivots) / (2 * bits)
        self.register_buffer("pivots", pivots)
        self.register_buffer("radii", _spheres(features, pivots)[1])

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the codes, bool (n, bits), of `inputs` (n, width)."""
        return _distances(inputs, self.pivots) <= self.radii


def _spheres(features: Tensor, pivots: Tensor) -> tuple[Tensor, Tensor]:
    """Return which half of `features` (n, width) is in each sphere around `pivots`, (n, K) float64, and the radii."""
    distances = _distances(features, pivots)
    nearest = distances.sort(dim=0).values
    half = len(features) // 2
    radii = (nearest[half - 1] + nearest[half]) / 2  # between two inputs, so that none is on the sphere
    return (distances <= radii).double(), radii


def _distances(inputs: Tensor, pivots: Tensor) -> Tensor:
    """Return the Euclidean distances (n, K), float64, of `inputs` (n, width) from `pivots` (K, width)."""
    blocks = inputs.split(max(2**24 // inputs.shape[1], 1))
    return torch.cat([torch.cdist(rows.double(), pivots) for rows in blocks])
