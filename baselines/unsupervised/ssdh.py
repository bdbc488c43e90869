"""SSDH: Semantic Structure-based Unsupervised Deep Hashing (Yang et al., IJCAI 2018)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

import hashbench
from hashbench.methods import half_gaussians


@hashbench.method(
    "ssdh", paper="Yang et al., IJCAI 2018", version=1, fidelity="account", family="unsupervised", year=2018
)
class SSDH(hashbench.DeepMethod):
    """Semantic Structure-based Deep Hashing: pairs at clear distances of the fixed features get alike or unlike codes.

    Of the cosine distances d between the training set's fixed features, a Gaussian is fitted to either side of the
    mode. A pair is similar, S = 1, where d is more than alpha deviations below the mode, dissimilar, S = -1, more than
    beta above, and else S = 0. With h = tanh v the loss is the mean over all pairs of a batch of |S| (h_i' h_j / K -
    S)^2, pairs of a sample with itself included. S is that of the authors' code; a suite mirrors the sides at the mode
    only where alpha = beta = 2. The code trains on VGG16 for 10 epochs at batch 24 by Adam (0.001) with an epsilon of
    1, which recipes do not have. The features are those of the recipe's pretrained backbone, without one the pixels,
    and of vectors these themselves. Kept of them: directions, in half precision.
    """

    similar: float = hashbench.option(2.0, "alpha, deviations below the mode from which a pair is similar")
    dissimilar: float = hashbench.option(2.0, "beta, deviations above the mode from which a pair is dissimilar")

    supervised = False

    directions: Tensor  # (num_train, width), half precision
    limits: Tensor  # (2,): similar below, dissimilar above

    def prepare(self, task: hashbench.Task, data: hashbench.TrainingData, tools: hashbench.Tools) -> dict[str, Tensor]:
        """Return the directions of the fixed features, and where their distances lie."""
        directions = F.normalize(data.features(), dim=1).half()
        return {"directions": directions, "distances": half_gaussians(directions.float())}

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Find the distances below and above which pairs count."""
        mode, below, above = prepared["distances"].unbind()
        self.register_buffer("directions", prepared["directions"], persistent=False)  # kept with what was prepared
        self.register_buffer("limits", torch.stack([mode - self.similar * below, mode + self.dissimilar * above]))

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the mean of |S| (h_i' h_j / K - S)^2 over the pairs of the batch."""
        similarity, hashed = self.similarity(batch.index, out.dtype), out.tanh()
        gap = hashed @ hashed.T / out.shape[1] - similarity
        return {"similarity": (similarity.abs() * gap.square()).mean()}

    def similarity(self, index: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return S (n, n) of the training samples at `index` (n,): 1, 0 or -1."""
        unit = F.normalize(self.directions[index].to(dtype), dim=1)
        distance = 1 - unit @ unit.T
        return (distance < self.limits[0]).to(dtype) - (distance > self.limits[1]).to(dtype)

    def epoch_sums(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return how many pairs of different samples were similar, dissimilar, and there at all."""
        apart = 1 - torch.eye(len(out), dtype=torch.float64, device=out.device)
        similarity = apart * self.similarity(batch.index)
        return {
            "similar": similarity.clamp(min=0).sum(),
            "dissimilar": (-similarity).clamp(min=0).sum(),
            "pairs": apart.sum(),
        }

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the shares of similar and dissimilar pairs, and the distances that make them so."""
        pairs = sums["pairs"].clamp(min=1)
        limits = dict(zip(("similar_below", "dissimilar_above"), self.limits.tolist(), strict=True))
        return {**{name: float(sums[name] / pairs) for name in ("similar", "dissimilar")}, **limits}
