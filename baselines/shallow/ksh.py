"""KSH: Supervised Hashing with Kernels (Liu et al., CVPR 2012)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import hashbench
from hashbench.methods import draw_anchors, mean_distance, radial_features, similar, with_fixed_signs

#: Share of the mean diagonal that is added to the kernel's Gram matrix, which may be singular.
JITTER = 1e-6
#: A change of the relaxed objective, for each sample, that ends its descent.
TOLERANCE = 1e-2
#: How often a step may be halved.
DOUBLINGS = 51


@hashbench.method(
    "ksh", paper="doi:10.1109/CVPR.2012.6247912", version=1, fidelity="published", family="shallow", year=2012
)
class KSH(hashbench.Method):
    """Supervised Hashing with Kernels: bits whose inner products follow similarity, found greedily one by one.

    For a labelled sample with S = 1 or -1, codes H = sign(phi(X) A) are to minimise |H H' / K - S|^2; phi are radial
    basis functions around anchors, less their means. For each bit, with residue R = K S - (bits so far), the a of the
    largest a' phi' R phi a is followed by accelerated gradient steps on sigmoids in place of signs, and the better of
    both is kept. Labelled sample and anchors are drawn at random. The authors' code settles what the paper may not: the
    width of phi is the root of the mean squared distance to the anchors, and a step's bound doubles until it holds. The
    fit of the sample runs on the CPU, whatever the device, so that codes do not depend on it.
    """

    anchors: int = hashbench.option(300, "training inputs that the basis functions are around")
    sample: int = hashbench.option(1000, "labelled training inputs whose pairs are compared")
    steps: int = hashbench.option(500, "gradient steps for a bit, at most")

    anchor_inputs: Tensor  # (anchors, width)
    width: Tensor  # (): of the basis functions
    offset: Tensor  # (anchors,): mean of the basis functions over the training set
    projection: Tensor  # (anchors, K): A

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse settings without a meaning."""
        if min(self.anchors, self.sample) < 1 or self.steps < 0:
            return "anchors and sample must be at least 1, and steps at least 0."
        return None

    def fit(self, task: hashbench.Task, data: hashbench.TrainingData) -> None:
        """Find a projection for each bit; raises HashbenchError where no training input has a label, or all are one."""
        assert data.labels is not None, "KSH is supervised"
        features = data.features()
        anchors = draw_anchors(features, self.anchors, task.generator("anchors"))
        width = mean_distance(features, anchors, power=2)
        labelled = data.labels.any(dim=1).nonzero()[:, 0]
        if width <= 0 or not len(labelled):
            raise hashbench.HashbenchError("ksh needs training inputs that differ, and some with labels.")
        mapped = radial_features(features, anchors, width).double()
        offset = mapped.mean(dim=0)
        chosen = draw_anchors(labelled, self.sample, task.generator("sample"))
        labels, kernel = data.labels[chosen].cpu(), (mapped[chosen] - offset).cpu()
        residue = task.bits * (2 * similar(labels, labels).double() - 1)
        projections = []
        for _ in range(task.bits):
            spectral = largest_direction(kernel, residue)
            candidates = torch.stack([spectral, ascended(kernel, residue, spectral, self.steps)], dim=1)
            bits = torch.where(kernel @ candidates >= 0, 1.0, -1.0).double()
            better = (bits * (residue @ bits)).sum(dim=0).argmax()  # the spectral one where both are equal
            projections.append(candidates[:, better])
            residue = residue - torch.outer(bits[:, better], bits[:, better])
        self.register_buffer("anchor_inputs", anchors)
        self.register_buffer("width", torch.tensor(width, dtype=torch.float64, device=anchors.device))
        self.register_buffer("offset", offset)
        self.register_buffer("projection", torch.stack(projections, dim=1).to(anchors.device))

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the codes, bool (n, bits), of `inputs` (n, width)."""
        mapped = radial_features(inputs.double(), self.anchor_inputs.double(), self.width)
        return (mapped - self.offset) @ self.projection >= 0


def largest_direction(kernel: Tensor, residue: Tensor) -> Tensor:
    """Return the a (m,) of the largest a' K' R K a under a' K' K a = n, of `kernel` K (n, m) and `residue` R (n, n)."""
    gram = kernel.T @ kernel
    unit = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    root = torch.linalg.cholesky(gram + (JITTER * gram.diagonal().mean()).clamp(min=1e-300) * unit)
    whitened = torch.linalg.solve_triangular(root, kernel.T, upper=False)  # (m, n)
    _, directions = torch.linalg.eigh(whitened @ residue @ whitened.T)
    found = torch.linalg.solve_triangular(root.T, directions[:, -1:], upper=True)
    found = with_fixed_signs(found)[:, 0]
    return found * (len(kernel) ** 0.5 / (kernel @ found).norm().clamp(min=1e-300))


def ascended(kernel: Tensor, residue: Tensor, start: Tensor, steps: int) -> Tensor:
    """Return an a (m,) of larger h' R h, h = 2 sigmoid(K a) - 1, by Nesterov's accelerated gradient from `start`.

    In numpy, on the CPU: thousands of small steps, each with a decision.
    """
    k, r = kernel.numpy(), residue.numpy()

    def relaxed(a: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        bits = np.tanh(k @ a / 2)
        pull = r @ bits
        return -float(bits @ pull), bits, pull

    now = before = start.numpy()
    bound, momentum, next_momentum = 1.0, 0.0, 1.0
    last = relaxed(now)[0]
    for _ in range(steps):
        ahead = now + (momentum - 1) / next_momentum * (now - before)
        cost, bits, pull = relaxed(ahead)
        gradient = -k.T @ (pull * (1 - bits**2))  # of which h' = (1 - h^2) / 2, and 2 R h
        for _ in range(DOUBLINGS):
            moved = ahead - gradient / bound
            reached, step = relaxed(moved)[0], moved - ahead
            if reached <= cost + gradient @ step + bound / 2 * step @ step:
                break
            bound *= 2
        else:
            break  # steps are too small for the numbers' precision
        before, now = now, moved
        momentum, next_momentum = next_momentum, (1 + (1 + 4 * next_momentum**2) ** 0.5) / 2
        if abs(last - reached) / len(k) <= TOLERANCE:
            break
        last = reached
    return torch.from_numpy(now)
