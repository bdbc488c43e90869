"""HCLM: Hash-Consistent Large Margin proxies (Morgado et al., IJCV 2020, arXiv:2007.13912)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import (
    class_cross_entropy,
    labelled_mean,
    principal_components,
    project,
    quantizing_rotation,
    signs,
    spread,
)

#: Sharpness of the soft maximum of cosines, stage by stage; the first moves all vectors, and is left out where they
#: begin as a classifier's weights.
SHARPNESS = (10.0, 100.0, 1000.0)


@hashbench.method("hclm", paper="arXiv:2007.13912", version=1, fidelity="reconstructed", family="proxy", year=2020)
class HCLM(hashbench.DeepMethod):
    """Hash-Consistent Large Margin proxies: a classifier of fixed weights that are far apart and near the corners.

    The proxies w_c are C unit vectors of the greatest smallest distance, rotated so that the signs lose least; the loss
    is the mean cross-entropy of the softmax of s <tanh v, w_c>, which grows smaller until the bits saturate. With K >=
    C - 1 the vectors are a regular simplex, else gradient descent on a soft maximum of their cosines finds them; the
    rotation is ITQ's. With `semantic` (the paper's sHCLM) the descent begins at the weights of a classifier, trained
    beforehand by the same recipe, along their leading directions; it keeps little of how they lie, and nothing with K
    >= C - 1, where all proxies end equally far apart. Known from abstract and digests: ours are s, the descent, how
    weights are brought to K dimensions, the number of rotations drawn, and the target y / |y| of several classes.
    """

    semantic: bool = hashbench.option(False, "sHCLM: proxies begin as the weights of a trained classifier")
    scale: float = hashbench.option(1.0, "s, scale of the inner products")
    steps: int = hashbench.option(
        200, "steps of a stage of the descent, at most; fewer keep more of how a classifier's weights lie"
    )
    rotate: bool = hashbench.option(True, "rotate the proxies towards the corners; false: at random")
    rotation_draws: int = hashbench.option(10, "random rotations that the search begins at; the best one is kept")
    iterations: int = hashbench.option(50, "rounds of signs, then rotation")

    per_sample = True
    prepared_by: ClassVar[tuple[str, ...]] = ("semantic",)

    proxies: Tensor  # (C, K), of length 1

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse a single class, and settings without a meaning."""
        if task.num_classes < 2:
            return "with one class there are no distances between proxies; use data with two or more."
        if self.scale <= 0 or self.rotation_draws < 1 or min(self.steps, self.iterations) < 0:
            return "scale must be more than 0, rotation_draws at least 1, steps and iterations at least 0."
        return None

    def prepare(self, task: hashbench.Task, data: hashbench.TrainingData, tools: hashbench.Tools) -> dict[str, Tensor]:
        """Return the weights (C, width) of a classifier, trained for them, where the proxies begin there."""
        if not self.semantic:
            return {}

        def classify(out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
            assert batch.labels is not None, "HCLM is supervised"
            return {"classifier": labelled_mean(class_cross_entropy(out, batch.labels), batch.labels)}

        head = tools.train(task.num_classes, classify).get_submodule("head")
        *_, classifier = (layer for layer in head.modules() if isinstance(layer, nn.Linear))
        return {"weights": classifier.weight.detach()}

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Find the proxies, and rotate them."""
        classes, bits, generator = task.num_classes, task.bits, task.generator("proxies")
        start = torch.randn((classes, bits), generator=generator, dtype=torch.float64)
        if self.semantic:
            weights = prepared["weights"].double().cpu()
            along = project(weights, weights.mean(dim=0), principal_components(weights, bits))
            start = along / along.square().mean().sqrt() + 0.01 * start  # random where the weights have no direction
        if self.semantic:
            proxies = set_apart(start, SHARPNESS[1:], self.steps)
        else:
            proxies = simplex(classes, bits) if bits >= classes - 1 else set_apart(start, SHARPNESS, self.steps)
        rounds, draws = (self.iterations, self.rotation_draws) if self.rotate else (0, 1)
        rotations = [quantizing_rotation(proxies, generator, iterations=rounds) for _ in range(draws)]
        proxies = min((proxies @ rotation for rotation in rotations), key=quantization_error)
        self.register_buffer("proxies", proxies.float())
        cosines = proxies @ proxies.T
        self._diagnostics = {
            "proxy_cosine_max": float(cosines.fill_diagonal_(-1).max()),
            "proxy_quantization_error": quantization_error(proxies),
            "center_distance_min": spread(signs(proxies))[0],
        }

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the mean cross-entropy of the softmax over the proxies, of labelled samples."""
        assert batch.labels is not None, "HCLM is supervised"
        logits = self.scale * out.tanh() @ self.proxies.to(out.dtype).T
        return {"proxies": labelled_mean(class_cross_entropy(logits, batch.labels), batch.labels)}

    def epoch_sums(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the sum of |tanh v|, and the number of its entries."""
        hashed = out.tanh().abs().double()
        return {"saturation": hashed.sum(), "entries": torch.ones_like(hashed).sum()}

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return how saturated the epoch's outputs were, mean |tanh v|, and what the proxies are like."""
        return {"saturation": float(sums["saturation"] / sums["entries"].clamp(min=1)), **self._diagnostics}


def simplex(count: int, size: int) -> Tensor:
    """Return `count` unit vectors (count, size), any two at a cosine of -1 / (count - 1); size >= count - 1."""
    centred = torch.eye(count, dtype=torch.float64) - 1 / count
    _, directions = torch.linalg.eigh(centred)  # that of the eigenvalue 0 comes first
    return F.pad(F.normalize(centred @ directions[:, 1:], dim=1), (0, size - count + 1))


def set_apart(start: Tensor, stages: Sequence[float] = SHARPNESS, steps: int = 200) -> Tensor:
    """Return unit vectors (n, size) whose largest cosine is as small as descent from `start` gets it.

    A stage takes at most so many steps of L-BFGS on log(sum over pairs of e^(sharpness cosine)) / sharpness.
    """
    free = start.clone().requires_grad_()
    itself = 3 * torch.eye(len(start), dtype=start.dtype)  # a cosine below all others, of a vector with itself

    def soft_maximum(sharpness: float) -> Tensor:
        vectors = F.normalize(free, dim=1)
        free.grad = None
        loss = (sharpness * (vectors @ vectors.T - itself)).flatten().logsumexp(dim=0) / sharpness
        loss.backward()
        return loss

    with torch.enable_grad():
        for sharpness in stages:
            optimizer = torch.optim.LBFGS([free], max_iter=steps, line_search_fn="strong_wolfe")
            optimizer.step(lambda sharpness=sharpness: soft_maximum(sharpness))
    return F.normalize(free.detach(), dim=1)


def quantization_error(proxies: Tensor) -> float:
    """Return the mean of |sign w - sqrt(K) w|^2 / K over unit vectors w (C, K)."""
    return float((signs(proxies) - proxies.shape[1] ** 0.5 * proxies).square().mean())
