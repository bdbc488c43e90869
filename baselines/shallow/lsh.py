"""LSH: random hyperplanes (Charikar, STOC 2002), the reference row of a method that learns nothing."""

from __future__ import annotations

import torch
from torch import Tensor

import hashbench
from hashbench.methods import project


@hashbench.method(
    "lsh", paper="doi:10.1145/509907.509965", version=1, fidelity="reference", family="shallow", year=2002
)
class LSH(hashbench.Method):
    """Random hyperplanes: bit k tells on which side of the k-th plane a vector lies; its normal is drawn from N(0, I).

    The planes go through the mean of the training set, as in the comparisons of Gong & Lazebnik (CVPR 2011), because
    features behind a ReLU all lie on one side of many planes through the origin, which are Charikar's: `center=false`.
    """

    center: bool = hashbench.option(True, "the planes go through the training set's mean; false: through the origin")

    supervised = False

    mean: Tensor  # (width,)
    planes: Tensor  # (width, K): normals

    def fit(self, task: hashbench.Task, data: hashbench.TrainingData) -> None:
        """Draw the planes, and find the mean."""
        features = data.features()
        planes = torch.randn((features.shape[1], task.bits), generator=task.generator("planes"), dtype=torch.float64)
        mean = features.mean(dim=0).double()
        self.register_buffer("mean", mean if self.center else torch.zeros_like(mean))
        self.register_buffer("planes", planes.to(features.device))

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the codes, bool (n, bits), of `inputs` (n, width)."""
        return project(inputs, self.mean, self.planes) >= 0
