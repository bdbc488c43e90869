"""Projections of fixed features: principal components, and rotations that bring them near the corners."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.nn import functional as F

from hashbench.errors import HashbenchError

#: Entries of the training matrix that are centred at once: half a gigabyte of float32.
BLOCK = 2**27
#: Rows and columns of mostly zeros beyond which a few components are found without a Gram matrix, and their share.
WIDE, MOSTLY_ZERO = 4096, 0.1
#: A direction whose variance is this share of the largest, or less, is rounding: a millionth of the largest deviation.
NO_VARIANCE = 1e-12


def project(inputs: Tensor, mean: Tensor, directions: Tensor) -> Tensor:
    """Return `inputs` (n, width) less their `mean` (width,) along `directions` (width, K): (n, K), float64."""
    return inputs.to(torch.float64, copy=True).sub_(mean) @ directions


def spanned_components(features: Tensor, bits: int, *, method: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (width,), principal components (width, bits), and `features` (n, width) along them, (n, bits).

    Components beyond the width are zeros. Raises HashbenchError, which names the method, where the inputs span fewer
    directions than there are bits and features.
    """
    count, width = features.shape
    mean = features.mean(dim=0)
    components = principal_components(features, bits)
    blocks = features.split(_block(width))
    along = torch.cat([((rows - mean) @ components.float()).double() for rows in blocks])
    variances = along.square().sum(dim=0)
    spanned = min(int((variances > NO_VARIANCE * variances.max()).sum()), count - 1)
    if spanned < 1:
        raise HashbenchError(f"The {count:,} training inputs are all the same, and {method} needs some that differ.")
    if spanned < min(bits, width):
        raise HashbenchError(
            f"The {count:,} training inputs span {spanned} of their {width:,} dimensions, and {method} needs as many "
            f"as there are bits, {bits}; choose at most {spanned} bits, or a protocol with more training inputs."
        )
    return mean, components, along


class Waves(NamedTuple):
    """The waves along principal components whose signs are the bits of Spectral Hashing."""

    mean: Tensor  # (width,)
    components: Tensor  # (width, components)
    lowest: Tensor  # (components,): a
    frequencies: Tensor  # (K,): m pi / (b - a)
    chosen: Tensor  # (K,): the component of each bit


def smoothest_waves(features: Tensor, bits: int, *, method: str) -> Waves:
    """Return the `bits` smoothest waves along the principal components of `features` (n, width).

    Along a component whose projections x range over [a, b] they are cos(m pi (x - a) / (b - a)), m = 1, 2, ...; the
    smoothest have the smallest m / (b - a) over all components (Weiss et al., NeurIPS 2008). Raises HashbenchError, as
    `spanned_components` does.
    """
    mean, components, along = spanned_components(features, min(bits, features.shape[1]), method=method)
    lowest, highest = along.min(dim=0).values, along.max(dim=0).values
    modes = torch.arange(1, bits + 1, dtype=along.dtype, device=along.device)
    frequencies = math.pi * modes[:, None] / (highest - lowest)  # (mode, component)
    smoothest = frequencies.flatten().argsort(stable=True)[:bits]
    return Waves(mean.double(), components, lowest, frequencies.flatten()[smoothest], smoothest % frequencies.shape[1])


def signs_of_waves(inputs: Tensor, waves: Waves) -> Tensor:
    """Return where the `waves` are not negative at `inputs` (n, width): the codes of Spectral Hashing, bool (n, K)."""
    along = project(inputs, waves.mean, waves.components) - waves.lowest
    return (along[:, waves.chosen] * waves.frequencies).cos() >= 0


def principal_components(features: Tensor, count: int) -> Tensor:
    """Return the `count` directions of largest variance of `features` (n, width): (width, count), float64.

    Those beyond the width, and those in which fewer rows than the width do not vary, are zeros. The smaller of the two
    Gram matrices of the centred features is decomposed, so n x n is the most for inputs as wide as photographs. None is
    made for thousands of rows and columns of mostly zeros, on a CPU: the same directions, but for rounding. Raises
    HashbenchError where it overflows.
    """
    rows, width = features.shape
    side = min(rows, width)
    few = features.device.type == "cpu" and side > WIDE and count < side // 16
    if few and int(features.count_nonzero()) < MOSTLY_ZERO * features.numel():
        return with_fixed_signs(_of_sparse(features, count))
    gram = torch.zeros((side, side), dtype=torch.float64, device=features.device)
    if width <= rows:
        mean = features.mean(dim=0)
        for part in features.split(_block(width)):
            centred = part - mean
            gram += (centred.T @ centred).double()
    else:
        for _, centred in _centred_columns(features):
            gram += centred @ centred.T
    if not torch.isfinite(gram).all():
        if torch.isnan(features).any():
            raise HashbenchError("The training inputs hold values that are no numbers; drop or fill these.")
        largest = float(features.abs().max())
        raise HashbenchError(f"The training inputs are too large for float32, up to {largest:.0e}; scale them down.")
    variances, directions = torch.linalg.eigh(gram)  # in ascending order of variance
    directions = directions.flip(1)[:, :count]
    if width > rows:
        of_rows, varies = directions, variances.flip(0)[:count] > NO_VARIANCE * variances[-1]
        directions = torch.empty((width, of_rows.shape[1]), dtype=torch.float64, device=features.device)
        for columns, centred in _centred_columns(features):
            directions[columns] = centred.T @ of_rows
        directions = F.normalize(directions, dim=0) * varies
    return F.pad(with_fixed_signs(directions), (0, count - directions.shape[1]))


def _of_sparse(features: Tensor, count: int) -> Tensor:
    """Return the principal components (width, count) of `features` (n, width) that are mostly zeros, in seconds.

    The covariance is applied to vectors and never made: that of 10,000 words takes minutes to decompose.
    """
    rows = csr_array(features.numpy().astype("float64"))
    mean, total = rows.mean(axis=0), rows.shape[0]
    covariance = LinearOperator(
        (features.shape[1],) * 2, matvec=lambda v: rows.T @ (rows @ v) - total * mean * (mean @ v), dtype="float64"
    )
    start = torch.linspace(1, 2, features.shape[1], dtype=torch.float64).numpy()  # not random: the same every time
    variances, directions = eigsh(covariance, k=count, v0=start)  # in ascending order of variance
    varies = variances > NO_VARIANCE * variances[-1]
    return torch.from_numpy((directions * varies)[:, ::-1].copy())


def with_fixed_signs(directions: Tensor) -> Tensor:
    """Return `directions` (width, K) whose largest entries are positive: the signs of eigenvectors are arbitrary.

    With these, codes are the same on every machine.
    """
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    return directions * largest.sign()


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


def nearest_rotation(along: Tensor, codes: Tensor) -> Tensor:
    """Return the orthogonal R (K, K) that minimises ||codes - along R||^2, both (n, K): the Procrustes problem."""
    left, _, right = torch.linalg.svd(along.T @ codes)
    return left @ right


def quantizing_rotation(along: Tensor, generator: torch.Generator, *, iterations: int) -> Tensor:
    """Return the orthogonal R (K, K) of ITQ for projections V `along` (n, K): B = sign(V R), then R nearest, in turn.

    It begins with a random rotation and ends after `iterations` rounds (Gong & Lazebnik, CVPR 2011).
    """
    rotation = random_rotation(along.shape[1], generator).to(along.device)
    for _ in range(iterations):
        rotation = nearest_rotation(along, torch.where(along @ rotation >= 0, 1.0, -1.0).double())
    return rotation
