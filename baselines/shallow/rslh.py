"""RSLH: Reinforcing Short-Length Hashing (Liu et al., arXiv:2004.11511), without its fusion of codes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

import hashbench
from hashbench.methods import draw_anchors, radial_features, random_words, ridge, signs, similarity_sums

#: Training inputs whose distances to all anchors are held at once.
BLOCK = 4096


@hashbench.method("rslh", paper="arXiv:2004.11511", version=1, fidelity="sibling", family="shallow", year=2020)
class RSLH(hashbench.Method):
    """Reinforcing Short-Length Hashing: codes and labels that reconstruct each other, through a real twin of the codes.

    For labels Y (n, C), codes H (n, K) and their twin B with B'B = I, minimises alpha |H - Y W|^2 + |Y - B W'|^2 + beta
    |S - H B'|^2 + gamma |H - B|^2, exactly in turn over W, B and H, S being 1 or -1. New inputs are mapped by ridge
    regression from radial basis functions around random training inputs, less their means, as wide as the mean distance
    to the nearest anchor (other than the input itself: ours). Inputs without a label are left out. The paper's fusion
    of several codes is not here. Known from other code of the authors, which takes Y W once, not alpha times, for H: a
    field. Unverified: where it starts (here random words, and B near them), S of dissimilar pairs, and the norm of B:
    with B'B = I the twin hardly moves the codes, and a class's word stays what it was at random.
    """

    reconstruction: float = hashbench.option(7.0, "alpha, weight of the distance between codes and Y W")
    pairs: float = hashbench.option(1e-4, "beta, weight of the error of inner products")
    twin: float = hashbench.option(1e-2, "gamma, weight of the distance between codes and their twin")
    twin_norm: Literal["1", "n"] = hashbench.option("1", "B'B = I, or n I: then the twin is as long as the codes")
    code_step: Literal["alpha", "1"] = hashbench.option(
        "alpha", "weight of Y W where codes are found: alpha minimises the objective, the authors' code has 1"
    )
    dissimilar: float = hashbench.option(-1.0, "S of dissimilar pairs; that of similar ones is 1")
    rounds: int = hashbench.option(6, "of W, B and H")
    anchors: int = hashbench.option(1000, "training inputs that the basis functions are around")
    map_decay: float = hashbench.option(1e-6, "weight of |P|^2, of the map P from basis functions to codes")

    anchor_inputs: Tensor  # (anchors, width)
    width: Tensor  # (): of the basis functions
    offset: Tensor  # (anchors,): mean of the basis functions over the training set
    projection: Tensor  # (anchors, K): P

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse settings without a meaning."""
        if min(self.reconstruction, self.map_decay) <= 0 or min(self.pairs, self.twin) < 0:
            return "reconstruction and map_decay must be more than 0, pairs and twin not less."
        return None if min(self.rounds, self.anchors) >= 1 else "rounds and anchors must be at least 1."

    def fit(self, task: hashbench.Task, data: hashbench.TrainingData) -> None:
        """Find codes and map; raises HashbenchError for fewer labelled inputs than bits, or inputs all the same."""
        assert data.labels is not None, "RSLH is supervised"
        labelled = data.labels.any(dim=1)
        features, labels = data.features()[labelled].float(), data.labels[labelled].double()
        if len(features) < task.bits:
            raise hashbench.HashbenchError(
                f"rslh needs as many training inputs with labels as there are bits, {task.bits}, not {len(features)}."
            )
        chosen = draw_anchors(torch.arange(len(features), device=features.device), self.anchors,
                              task.generator("anchors"))  # fmt: skip
        width = nearest_anchor_distance(features, chosen)
        if not 0 < width < float("inf"):
            raise hashbench.HashbenchError("rslh needs features that differ; all training inputs have the same.")
        start = random_words(len(features), task.bits, task.generator("codes")).to(labels)
        codes = self.fit_codes(start, labels)[0]
        mapped = radial_features(features, features[chosen], width).double()
        self.register_buffer("anchor_inputs", features[chosen])
        self.register_buffer("width", torch.tensor(width, dtype=torch.float64, device=features.device))
        self.register_buffer("offset", mapped.mean(dim=0))
        self.register_buffer("projection", ridge(mapped - self.offset, codes, self.map_decay))

    def fit_codes(self, codes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return H and B (n, K), and W (C, K), after the rounds that begin at `codes`."""
        square = 1.0 if self.twin_norm == "1" else float(len(codes))  # B'B = square I
        gram = self.reconstruction * labels.T @ labels
        gram = gram + square * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        twin, weight = square**0.5 * orthonormal(codes), self.reconstruction if self.code_step == "alpha" else 1.0
        for _ in range(self.rounds):
            words = torch.linalg.solve(gram, labels.T @ (self.reconstruction * codes + twin))
            of_labels = labels @ words
            nearby = (
                of_labels + self.pairs * similarity_sums(codes, labels, dissimilar=self.dissimilar) + self.twin * codes
            )
            twin = square**0.5 * orthonormal(nearby)
            sums = similarity_sums(twin, labels, dissimilar=self.dissimilar)
            codes = signs(weight * of_labels + self.pairs * sums + self.twin * twin)
        return codes, twin, words

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the codes, bool (n, bits), of `inputs` (n, width)."""
        mapped = radial_features(inputs.double(), self.anchor_inputs.double(), self.width)
        return (mapped - self.offset) @ self.projection >= 0


def orthonormal(values: Tensor) -> Tensor:
    """Return the nearest matrix (n, K) with orthonormal columns, n >= K."""
    left, _, right = torch.linalg.svd(values, full_matrices=False)
    return left @ right


def nearest_anchor_distance(features: Tensor, chosen: Tensor) -> float:
    """Return the mean distance of `features` (n, d) to the nearest other row of those `chosen` (m,)."""
    total, places = 0.0, torch.arange(len(features), device=features.device)
    for rows in places.split(BLOCK):
        distances = torch.cdist(features[rows], features[chosen])
        distances = distances.masked_fill(rows[:, None] == chosen, float("inf"))
        total += float(distances.min(dim=1).values.sum(dtype=torch.float64))
    return total / len(features)
