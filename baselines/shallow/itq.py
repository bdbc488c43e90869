"""ITQ: Iterative Quantization (Gong & Lazebnik, CVPR 2011), the reference row that learns from fixed features alone."""

from __future__ import annotations

from torch import Tensor

import hashbench
from hashbench.methods import project, quantizing_rotation, spanned_components


@hashbench.method(
    "itq", paper="doi:10.1109/CVPR.2011.5995432", version=1, fidelity="published", family="shallow", year=2011
)
class ITQ(hashbench.Method):
    """Iterative Quantization: the principal components, rotated so that the signs lose least: min ||B - V R||^2.

    From a random rotation R, B = sign(V R) and the orthogonal R that brings V nearest to B are found in turn. With more
    bits than features the missing components count as zero, and R spreads the others over all bits (an extension).
    There must be more training inputs than bits, for n of them span n - 1 directions at most.
    """

    iterations: int = hashbench.option(50, "rounds of B, then R; the paper: 50")

    supervised = False

    mean: Tensor  # (width,)
    projection: Tensor  # (width, K): principal components, rotated

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse a negative number of rounds."""
        return None if self.iterations >= 0 else "iterations must be at least 0."

    def fit(self, task: hashbench.Task, data: hashbench.TrainingData) -> None:
        """Find mean, principal components and rotation; raises HashbenchError where inputs span too little."""
        mean, components, along = spanned_components(data.features(), task.bits, method="itq")
        rotation = quantizing_rotation(along, task.generator("rotation"), iterations=self.iterations)
        self.register_buffer("mean", mean.double())
        self.register_buffer("projection", components @ rotation)

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the codes, bool (n, bits), of `inputs` (n, width)."""
        return project(inputs, self.mean, self.projection) >= 0
