"""CgAT: Center-guided Adversarial Training (Wang et al., WWW 2023, arXiv:2204.10779)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

import hashbench
from hashbench.methods import SampleMemory, center_codes, labelled_mean, projected_gradient, signs


@hashbench.method("cgat", paper="arXiv:2204.10779", version=1, fidelity="published", family="robust", year=2023)
class CgAT(hashbench.DeepMethod):
    """Center-guided Adversarial Training: a base's loss on images, and codes of attacked images kept at their center.

    The center code b of a sample is the sign of the mean code of training samples that share a label, less the mean of
    the others. PGD from a random start lowers mean(tanh(v) b) within `eps`; the network then learns base loss -
    `weight` mean(tanh(v') b) + `quantization` mean (tanh(v') - sign v')^2 on the outputs v' so reached. Attacks take
    the network as it trains, and codes are those that each sample had last, as in the authors' code; a sample counts
    from its first step, so in the first epoch centers are of the samples seen. The paper's weights of positive codes
    are Jaccard's; in the authors' repository all are equal, `quantization` is 0, the base takes tanh v' and 0.001 mean
    (tanh v - sign v)^2, which is not here, and training is of 30 epochs by SGD (0.01). A later code, whose repository
    is not known here, has cosines, the quantization term, and 20 epochs at batch 32 by SGD (0.05, decayed by 0.1 after
    half and three quarters of the steps, a schedule that recipes do not have). Both begin from a finished run, as here
    with `--start-from`. A step takes about `steps` + 2 times the base's.
    """

    base: hashbench.DeepMethod = hashbench.base_method("dpsh", "the method whose loss is on the images as they are")
    eps: float = hashbench.option(8 / 255, "largest change of a value of the images, which are in [0, 1]")
    step: float = hashbench.option(2 / 255, "change of a value in a step of the attack")
    steps: int = hashbench.option(7, "steps of the attack")
    weight: float = hashbench.option(1.0, "of the term of attacked images")
    quantization: float = hashbench.option(1e-4, "of their quantization error; the authors' repository: 0")
    center_weights: Literal["equal", "jaccard", "cosine"] = hashbench.option(
        "jaccard",
        "weights of codes that share a label; equal: the authors' repository; all are equal on single labels",
    )

    keeps_samples = SampleMemory.KEPT

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse what is no image, bases whose codes are no signs, and settings without a meaning."""
        if task.inputs != "images":
            return f"attacks change images, and this task has {task.inputs}; choose a recipe that trains the backbone."
        if type(self.base).codes is not hashbench.DeepMethod.codes:
            return f"its base {self.base.info.name} makes codes in its own way, and attacks follow the outputs' signs."
        if min(self.eps, self.step, self.steps, self.weight, self.quantization) < 0:
            return "eps, step, steps, weight and quantization must not be below 0."
        return None

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Set up the base, and a memory of codes."""
        self.base.setup(task, prepared)
        self.memory = SampleMemory(task.num_train, task.bits, task.num_classes)

    def training_step(self, network: nn.Module, batch: hashbench.Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the base's terms and those of attacked images, and the outputs of the images as they are."""
        assert batch.labels is not None, "CgAT is supervised"
        center = self._centers(self.memory.outputs, self.memory.labels, batch.labels)

        def distance(images: Tensor) -> Tensor:
            return -(network(images).tanh() * center).mean(dim=1)

        start = torch.empty_like(batch.inputs).uniform_(-self.eps, self.eps)
        attack: dict[str, Any] = {"eps": self.eps, "step": self.step, "steps": self.steps, "start": start}
        attacked = network(projected_gradient(batch.inputs, distance, **attack, best=False))
        terms, out = self.base.training_step(network, batch)
        return {**terms, **self.attacked_terms(attacked, out, batch)}, out

    def attacked_terms(self, attacked: Tensor, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the terms of the outputs (n, K) of attacked images, whose centers are of the codes of now."""
        assert batch.labels is not None
        codes, labels = self.memory.with_batch(signs(out.detach()), batch)
        squashed = attacked.tanh()
        agreement = (squashed * self._centers(codes, labels, batch.labels)).mean(dim=1)
        error = ((squashed - signs(attacked.detach())) ** 2).mean(dim=1)
        return {
            "attacked": -self.weight * labelled_mean(agreement, batch.labels),
            "attacked_quantization": self.quantization * labelled_mean(error, batch.labels),
        }

    def after_step(self, network: nn.Module, batch: hashbench.Batch) -> None:
        """Update the base, and keep the batch's codes."""
        self.base.after_step(network, batch)
        self.memory.write(batch)

    def _centers(self, codes: Tensor, labels: Tensor, wanted: Tensor) -> Tensor:
        return center_codes(codes, labels, wanted, weights=self.center_weights)
