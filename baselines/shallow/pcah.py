"""PCAH: the signs of principal components (as in Gong & Lazebnik, CVPR 2011)."""

from __future__ import annotations

from torch import Tensor

import hashbench
from hashbench.methods import project, spanned_components


@hashbench.method(
    "pcah", paper="doi:10.1109/CVPR.2011.5995432", version=1, fidelity="published", family="shallow", year=2011
)
class PCAH(hashbench.Method):
    """PCA Hashing: bit k is the sign of the k-th principal component of an input.

    The row that ITQ is compared with, its code before the rotation. There are at most as many bits as features, and
    fewer than training inputs, for n of them span n - 1 directions at most.
    """

    supervised = False

    mean: Tensor  # (width,)
    components: Tensor  # (width, K)

    def fit(self, task: hashbench.Task, data: hashbench.TrainingData) -> None:
        """Find mean and principal components; raises HashbenchError where inputs span too little."""
        features = data.features()
        width = features.shape[1]
        if task.bits > width:
            raise hashbench.HashbenchError(
                f"The inputs have {width:,} features, and pcah one bit for each component; choose at most {width} bits."
            )
        mean, components, _ = spanned_components(features, task.bits, method="pcah")
        self.register_buffer("mean", mean.double())
        self.register_buffer("components", components)

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the codes, bool (n, bits), of `inputs` (n, width)."""
        return project(inputs, self.mean, self.components) >= 0
