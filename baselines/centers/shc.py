"""SHC: Semantic Hash Centers (Chen et al., TOIS 2025, arXiv:2507.08404), in three stages.

A classifier tells how similar the classes are; hash centers are solved for that are as similar as their classes and yet
a minimum distance apart; a network is trained towards these centers with CSQ's loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import (
    bit_cross_entropy,
    gilbert_varshamov_distance,
    labelled_mean,
    majority,
    random_words,
    spaced_words,
    spread,
    squared_gap,
)


@hashbench.method("shc", paper="arXiv:2507.08404", version=1, fidelity="published", family="centers", year=2025)
class SHC(hashbench.DeepMethod):
    """Semantic Hash Centers: CSQ's loss towards centers whose similarity follows that of the classes.

    A departure: the default `solver` is ours, for the paper's problem without its mu term, because the paper's own
    augmented Lagrangian misses its minimum distance. Unverified: the order of the Lagrangian's inner steps (here three
    sweeps over the columns), and whether the mean of a row of similarities includes the class itself (here it does).
    `release` in both fields follows an account of the released code, which that code contradicts: it trains the
    classifier through a second softmax and takes the similarity from one of the logits, where `variant=release` has the
    two the other way round, and its solver starts from MDS's centers. An extension: for samples of several classes all
    of them are masked in the classifier's output, and the rest counts for each of them; the released code takes one.
    """

    variant: Literal["paper", "release"] = hashbench.option(
        "paper", "how class similarity is computed: as the paper says, or as an account of its released code does"
    )
    solver: Literal["flip", "release", "paper"] = hashbench.option(
        "flip", "how centers are found: single-bit flips (ours), the released code's steps, or the paper's Lagrangian"
    )
    quantization: float = hashbench.option(1e-4, "gamma, weight of the quantization term")

    per_sample = True
    maps_over_seeds = True
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "resnet34",
        "optimizer": "rmsprop",
        "learning_rate": 1e-4,  # for CIFAR-100: 7e-5
        "final_learning_rate": 1e-7,
        "momentum": 0.0,
        "weight_decay": 1e-5,
        "batch_size": 64,
        "epochs": 300,
    }

    centers: Tensor  # (C, K) in {-1, +1}
    ties: Tensor  # (K,): the word that decides where a sample's centers are evenly split

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse a single class, and more classes than words at the minimum distance can be found for."""
        if task.num_classes < 2:
            return "with one class there is no class similarity; use data with two or more."
        try:
            self._start(task)
        except ValueError as error:
            return str(error)
        return None

    def prepare(self, task: hashbench.Task, data: hashbench.TrainingData, tools: hashbench.Tools) -> dict[str, Tensor]:
        """Stage 1: train a classifier, once for both variants; returns the class similarity (C, C) of each."""
        assert data.labels is not None, "SHC is supervised"
        labels = data.labels

        def classify(out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
            assert batch.labels is not None
            if task.multi_label:
                return {"classifier": F.binary_cross_entropy_with_logits(out, batch.labels)}
            log_p = F.log_softmax(out, dim=1)
            return {"classifier": -(batch.labels * log_p).sum() / batch.labels.sum().clamp(min=1)}

        logits = tools.outputs(tools.train(task.num_classes, classify))
        return {
            variant: class_similarity(logits, labels, variant=variant, multi_label=task.multi_label)
            for variant in ("paper", "release")
        }

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Stage 2: solve for the centers, from random words at the minimum distance."""
        similarity = prepared[self.variant].double().cpu().numpy()
        distance = gilbert_varshamov_distance(task.num_classes, task.bits)
        start = self._start(task).double().numpy()
        solve = {"flip": flipped, "release": released, "paper": lagrangian}[self.solver]
        solved = solve(start, similarity, distance)
        centers = torch.from_numpy(solved).float()
        self._diagnostics = {
            "center_distance_target": float(distance),
            "center_distance_min": spread(centers)[0],
            "center_distance_mean": spread(centers)[1],
            "center_loss_start": similarity_loss(start, similarity),
            "center_loss": similarity_loss(solved, similarity),
        }
        if self.solver != "paper":  # which guarantees neither
            assert self._diagnostics["center_distance_min"] >= distance
            assert self._diagnostics["center_loss"] <= self._diagnostics["center_loss_start"]
        self.register_buffer("centers", centers)
        self.register_buffer("ties", random_words(1, task.bits, task.generator("ties"))[0])

    def head(self, width: int, task: hashbench.Task) -> nn.Module:
        """Return the paper's linear layer: weights from N(0, .01), bias 0."""
        linear = nn.Linear(width, task.bits)
        nn.init.normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)
        return linear

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Stage 3: return CSQ's loss, mean BCE((tanh v + 1) / 2, (c + 1) / 2) and gamma mean((|tanh v| - 1)^2)."""
        assert batch.labels is not None, "SHC is supervised"
        target = majority(batch.labels, self.centers, self.ties)
        terms = {"center": labelled_mean(bit_cross_entropy(out, target), batch.labels)}
        if self.quantization:
            gap = squared_gap(out.tanh()).mean(dim=1)
            terms["quantization"] = self.quantization * labelled_mean(gap, batch.labels)
        return terms

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the centers' distances in bits and mean squared similarity losses, the same after every epoch."""
        return self._diagnostics

    def _start(self, task: hashbench.Task) -> Tensor:
        distance = gilbert_varshamov_distance(task.num_classes, task.bits)
        return spaced_words(task.num_classes, task.bits, distance, task.generator("centers"))


def class_similarity(logits: Tensor, labels: Tensor, *, variant: str, multi_label: bool) -> Tensor:
    """Return the similarity of classes (C, C) in [-1, 1], diagonal 1: what else a classifier sees in images of a class.

    `logits` (n, C), `labels` (n, C) multi-hot. `paper`: softmax without the arg-max class, averaged per class, each row
    centred and scaled to at most 1, then made symmetric. `release`: softmax of the softmax without the true class,
    summed per class, made symmetric, then centred and scaled.
    """
    classes = logits.shape[1]
    masked = labels.bool()
    if variant == "release":
        logits = logits.softmax(dim=1)
    elif not multi_label:
        masked = F.one_hot(logits.argmax(dim=1), classes).bool()
    rest = logits.masked_fill(masked, -torch.inf).softmax(dim=1).nan_to_num()  # all classes active: nothing is left
    sums = labels.double().T @ rest.double()
    if variant == "release":
        similarity = _rows_centred((sums + sums.T) / 2)
    else:
        rows = _rows_centred(sums / labels.double().sum(dim=0).clamp(min=1)[:, None])
        similarity = (rows + rows.T) / 2
    return similarity.fill_diagonal_(1)


def _rows_centred(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(dim=1, keepdim=True)
    return centred / centred.abs().amax(dim=1, keepdim=True).clamp(min=1e-300)  # an absent class is like no other


def similarity_loss(words: np.ndarray, similarity: np.ndarray) -> float:
    """Return the mean of (S - W W' / K)^2 over all pairs, of words W (C, K) and class similarity S (C, C)."""
    return float(np.mean((similarity - words @ words.T / words.shape[1]) ** 2))


def flipped(words: np.ndarray, similarity: np.ndarray, distance: int) -> np.ndarray:
    """Return words (C, K) as similar as their classes, all `distance` or more apart as those given are.

    Word by word, the one bit is flipped that lowers ||S - W W' / K||^2 most among those that leave every distance large
    enough; until a sweep over the words finds none. Flipping bit k of word i lowers the loss by 8 / K^2 of the `gain`.
    """
    words = words.copy()
    count, bits = words.shape
    inner = words @ words.T
    wanted = bits * (similarity + similarity.T) / 2  # what is not symmetric adds a constant to the loss
    improving = True
    while improving:
        improving = False
        for i in range(count):
            gap = inner[i] - wanted[i]
            gap[i] = 0
            gain = words[i] * (gap @ words) - (count - 1)
            nearest = words[inner[i] == bits - 2 * distance]  # no step may come nearer to these
            gain[(nearest != words[i]).any(axis=0)] = -np.inf
            k = gain.argmax()
            if gain[k] > 1e-9:
                improving = True
                inner[i] -= 2 * words[i, k] * words[:, k]
                inner[i, i] = bits
                inner[:, i] = inner[i]
                words[i, k] *= -1
    return words


def released(words: np.ndarray, similarity: np.ndarray, distance: int) -> np.ndarray:
    """Return the best words (C, K) of the Lagrangian's steps as the released code takes them.

    Its penalties count 1e-4, alpha stays 0, and a word moves only where it stays `distance` from all others.
    """
    best = words
    for state in _lagrangian_rounds(words, similarity, distance, rounds=30, penalty=1e-4, guarded=True):
        best = min(best, state, key=lambda candidate: similarity_loss(candidate, similarity))
    return best


def lagrangian(words: np.ndarray, similarity: np.ndarray, distance: int) -> np.ndarray:
    """Return the words (C, K) at which the paper's augmented Lagrangian arrives after its 20 rounds."""
    *_, last = _lagrangian_rounds(words, similarity, distance, rounds=20, penalty=1.0, guarded=False)
    return last


def _lagrangian_rounds(
    words: np.ndarray,
    similarity: np.ndarray,
    distance: int,
    *,
    rounds: int,
    penalty: float,
    guarded: bool,
    rho: float = 0.2,
    mu: float = 0.625,
    beta: float = 1e-6,
    eta: float = 0.5,
) -> Iterator[np.ndarray]:
    """Yield the words after each round; in the paper's notation, H and its copy M are (K, C), a word in each column."""
    H, S = words.T.copy(), similarity
    K, C = H.shape
    M, Lambda, alpha = H.copy(), np.full((K, C), 0.1), np.zeros((C, C))
    most = K - 2 * distance  # h_i' h_j of words at the minimum distance
    for _ in range(rounds):
        M = np.linalg.solve(2 / K**2 * H @ H.T + rho * np.eye(K), 2 / K * H @ S + Lambda + rho * H)
        Q = np.maximum(most - H.T @ H + alpha / beta, 0)
        MM, MS = M @ M.T, M @ S
        for _ in range(3):
            for i in range(C):
                h = H[:, i]
                others = 2 * mu - 2 * alpha[i] + beta * (2 * H.T @ h - 2 * (most - Q[i]))
                others[i] = 0
                g = 2 / K**2 * MM @ h - 2 / K * MS[:, i] + Lambda[:, i] + rho * (h - M[:, i]) + penalty * H @ others
                moved = np.where(h - g / eta >= 0, 1.0, -1.0)
                inner = H.T @ moved
                inner[i] = -K
                if not guarded or inner.max() <= most:
                    H[:, i] = moved
        Lambda += rho * (H - M)
        if not guarded:
            alpha += beta * (most - H.T @ H - Q)
        yield H.T.copy()
