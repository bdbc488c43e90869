"""ITQ: Iterative Quantization (Gong & Lazebnik, CVPR 2011), the reference row that learns from fixed features alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

import hashbench

#: Entries of the training matrix that are centred at once: half a gigabyte of float32.
BLOCK = 2**27
#: A direction whose variance is this share of the largest, or less, is rounding: a millionth of the largest deviation.
NO_VARIANCE = 1e-12


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
        features = data.features()
        count, width = features.shape
        mean = features.mean(dim=0)
        components = principal_components(features, task.bits)
        projected = torch.cat([((rows - mean) @ components.float()).double() for rows in features.split(_block(width))])
        variances = projected.square().sum(dim=0)
        spanned = min(int((variances > NO_VARIANCE * variances.max()).sum()), count - 1)
        if spanned < min(task.bits, width):
            raise hashbench.HashbenchError(
                f"The {count:,} training inputs span {spanned} of their {width:,} dimensions, and itq needs as many as "
                f"there are bits, {task.bits}; choose at most {spanned} bits, or a protocol with more training inputs."
            )
        rotation = random_rotation(task.bits, task.generator("rotation")).to(projected.device)
        for _ in range(self.iterations):
            rotation = nearest_rotation(projected, torch.where(projected @ rotation >= 0, 1.0, -1.0).double())
        self.register_buffer("mean", mean.double())
        self.register_buffer("projection", components @ rotation)

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the codes, bool (n, bits), of `inputs` (n, width)."""
        return inputs.to(torch.float64, copy=True).sub_(self.mean) @ self.projection >= 0


def principal_components(features: Tensor, count: int) -> Tensor:
    """Return the `count` directions of largest variance of `features` (n, width): (width, count), float64.

    Those beyond the width, and those in which fewer rows than the width do not vary, are zeros. The smaller of the two
    Gram matrices of the centred features is decomposed, so n x n is the most for inputs as wide as photographs.
    """
    rows, width = features.shape
    side = min(rows, width)
    gram = torch.zeros((side, side), dtype=torch.float64, device=features.device)
    if width <= rows:
        mean = features.mean(dim=0)
        for part in features.split(_block(width)):
            centred = part - mean
            gram += (centred.T @ centred).double()
    else:
        for _, centred in _centred_columns(features):
            gram += centred @ centred.T
    variances, directions = torch.linalg.eigh(gram)  # in ascending order of variance
    directions = directions.flip(1)[:, :count]
    if width > rows:
        of_rows, varies = directions, variances.flip(0)[:count] > NO_VARIANCE * variances[-1]
        directions = torch.empty((width, of_rows.shape[1]), dtype=torch.float64, device=features.device)
        for columns, centred in _centred_columns(features):
            directions[columns] = centred.T @ of_rows
        directions = F.normalize(directions, dim=0) * varies
    # A direction's sign is arbitrary; with its largest entry positive, the codes are the same on every machine.
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    directions = directions * largest.sign()
    return F.pad(directions, (0, count - directions.shape[1]))


def _centred_columns(features: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield some columns of the centred features at a time, (n, columns), float64, and which they are."""
    for start in range(0, features.shape[1], _block(len(features))):
        columns = slice(start, start + _block(len(features)))
        part = features[:, columns].double()
        yield columns, part - part.mean(dim=0)


def _block(length: int) -> int:
    """Return how many rows or columns of a `length` are taken at once."""
    return max(BLOCK // length, 1)


def random_rotation(size: int, generator: torch.Generator) -> Tensor:
    """Return an orthogonal matrix (size, size), float64, uniformly distributed."""
    q, r = torch.linalg.qr(torch.randn((size, size), generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()


def nearest_rotation(projected: Tensor, codes: Tensor) -> Tensor:
    """Return the orthogonal R (K, K) that minimises ||codes - projected R||^2, both (n, K): the Procrustes problem."""
    left, _, right = torch.linalg.svd(projected.T @ codes)
    return left @ right
