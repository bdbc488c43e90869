"""ITQ: Iterative Quantization (Gong & Lazebnik, CVPR 2011), the reference row that learns from fixed features alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

import hashbench


@hashbench.method("itq", paper="doi:10.1109/CVPR.2011.5995432", version=1, fidelity="published")
class ITQ(hashbench.Method):
    """Iterative Quantization: the principal components, rotated so that the signs lose least: min ||B - V R||^2.

    From a random rotation R, B = sign(V R) and the orthogonal R that brings V nearest to B are found in turn. With more
    bits than features the missing components count as zero, and R spreads the others over all bits (an extension).
    """

    iterations: int = hashbench.option(50, "rounds of B, then R; the paper: 50")

    supervised = False

    mean: Tensor  # (width,)
    projection: Tensor  # (width, K): principal components, rotated

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse a negative number of rounds."""
        return None if self.iterations >= 0 else "iterations must be at least 0."

    def fit(self, task: hashbench.Task, data: hashbench.TrainingData) -> None:
        """Find mean, principal components and rotation."""
        features = data.features()
        mean = features.mean(dim=0)
        centred = features - mean
        components = principal_components(centred, task.bits)
        projected = (centred @ components.float()).double()
        rotation = random_rotation(task.bits, task.generator("rotation")).to(projected.device)
        for _ in range(self.iterations):
            rotation = nearest_rotation(projected, torch.where(projected @ rotation >= 0, 1.0, -1.0).double())
        self.register_buffer("mean", mean.double())
        self.register_buffer("projection", components @ rotation)

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the codes, bool (n, bits), of `inputs` (n, width)."""
        return (inputs.double() - self.mean) @ self.projection >= 0


def principal_components(centred: Tensor, count: int) -> Tensor:
    """Return the `count` directions of largest variance (width, count), zeros where there are fewer; float64."""
    _, directions = torch.linalg.eigh((centred.T @ centred).double())  # in ascending order of variance
    directions = directions.flip(1)[:, :count]
    # A direction's sign is arbitrary; with its largest entry positive, the codes are the same on every machine.
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    directions = directions * largest.sign()
    return F.pad(directions, (0, count - directions.shape[1]))


def random_rotation(size: int, generator: torch.Generator) -> Tensor:
    """Return an orthogonal matrix (size, size), float64, uniformly distributed."""
    q, r = torch.linalg.qr(torch.randn((size, size), generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()


def nearest_rotation(projected: Tensor, codes: Tensor) -> Tensor:
    """Return the orthogonal R (K, K) that minimises ||codes - projected R||^2, both (n, K): the Procrustes problem."""
    left, _, right = torch.linalg.svd(projected.T @ codes)
    return left @ right
