"""SH: Spectral Hashing (Weiss et al., NeurIPS 2008)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import hashbench
from hashbench.methods import project, spanned_components


@hashbench.method("sh", paper="NeurIPS 2008", version=1, fidelity="published", family="shallow", year=2008)
class SH(hashbench.Method):
    """Spectral Hashing: signs of the smoothest waves along the principal components, as if inputs were uniform.

    Along a component whose projections x range over [a, b], the eigenfunctions are cos(m pi (x - a) / (b - a)), m = 1,
    2, ...; those of the smallest m / (b - a) over all components give the bits. There are as many components as bits,
    and at most as many as features. Waves of more than one component are left out, as in the authors' code.
    """

    supervised = False

    mean: Tensor  # (width,)
    components: Tensor  # (width, components)
    lowest: Tensor  # (components,): a
    frequencies: Tensor  # (K,): m pi / (b - a)
    chosen: Tensor  # (K,): the component of each bit

    def fit(self, task: hashbench.Task, data: hashbench.TrainingData) -> None:
        """Find components, ranges and smoothest waves; raises HashbenchError where inputs span too little."""
        features = data.features()
        mean, components, along = spanned_components(features, min(task.bits, features.shape[1]), method="sh")
        lowest, highest = along.min(dim=0).values, along.max(dim=0).values
        modes = torch.arange(1, task.bits + 1, dtype=along.dtype, device=along.device)
        frequencies = math.pi * modes[:, None] / (highest - lowest)  # (mode, component)
        smoothest = frequencies.flatten().argsort(stable=True)[: task.bits]
        self.register_buffer("mean", mean.double())
        self.register_buffer("components", components)
        self.register_buffer("lowest", lowest)
        self.register_buffer("frequencies", frequencies.flatten()[smoothest])
        self.register_buffer("chosen", smoothest % frequencies.shape[1])

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the codes, bool (n, bits), of `inputs` (n, width)."""
        along = project(inputs, self.mean, self.components) - self.lowest
        return (along[:, self.chosen] * self.frequencies).cos() >= 0
