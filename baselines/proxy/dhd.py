"""DHD: Deep Hash Distillation (Jang et al., ECCV 2022)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import labelled_mean, squared_gap


@hashbench.method(
    "dhd", paper="doi:10.1007/978-3-031-19781-9_21", version=1, fidelity="published", family="proxy", year=2022
)
class DHD(hashbench.DeepMethod):
    """Deep Hash Distillation: cosines to learned proxies, and a strongly augmented view that follows a weak one.

    With h = tanh v of an image's weak view and h' of its strong one, the loss is the mean cross-entropy of the softmax
    of cos(h, p) / tau with y / |y|, plus lambda_1 times the mean of 1 - cos(h', h), h without gradient, plus lambda_2
    times the mean of BCE(g+, t) + BCE(g-, 1 - t), g+- = exp(-(h -+ 1)^2 / (2 sigma^2)), t = 1 where h is positive. All
    that, the head (a linear layer without bias, and layer norm) and the proxies' start are the authors' code's. An
    account of the paper classifies the strong view: a field. Their augmentations crop, flip, jitter, blur and gray; in
    the weak view each of them has 0.2 to 0.5 times the chance. Here the weak view is the recipe's, the strong one has
    jitter too, in another range; nothing blurs or grays. Unverified: where the paper's settings differ.
    """

    temperature: float = hashbench.option(0.2, "tau, by which the cosines to the proxies are divided")
    distillation: float = hashbench.option(0.1, "lambda_1, weight of the distance between the views")
    quantization: float = hashbench.option(0.1, "lambda_2, weight of the quantization term")
    deviation: float = hashbench.option(0.5, "sigma of the quantization term")
    classified: Literal["weak", "strong"] = hashbench.option(
        "weak", "the view that the cross-entropy and the quantization term see"
    )

    views = 2
    view_augments = ("", "resized-crop-flip-jitter")
    #: The authors' code with AlexNet, whose rate stays for ten epochs, and then falls and rises along a cosine: half a
    #: period has as many epochs as an epoch has batches. Here it falls once.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "alexnet",
        "optimizer": "adam",
        "learning_rate": 3e-4,
        "backbone_learning_rate_scale": 0.05,
        "weight_decay": 1e-5,
        "batch_size": 128,
        "epochs": 500,
    }

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse a softmax or a bell without width."""
        return None if min(self.temperature, self.deviation) > 0 else "temperature and deviation must be more than 0."

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Draw the proxies."""
        self.proxies = nn.Parameter(torch.empty(task.num_classes, task.bits))
        nn.init.xavier_uniform_(self.proxies, gain=nn.init.calculate_gain("tanh"))

    def head(self, width: int, task: hashbench.Task) -> nn.Module:
        """Return a linear layer without bias, and layer norm; the tanh that follows is part of the loss."""
        return nn.Sequential(nn.Linear(width, task.bits, bias=False), nn.LayerNorm(task.bits))

    def training_step(self, network: nn.Module, batch: hashbench.Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the terms of the view that is classified, and of the distance between both; and its outputs."""
        assert batch.labels is not None, "DHD is supervised"
        weak, strong = (network(view) for view in batch.views)
        out = weak if self.classified == "weak" else strong
        apart = 1 - F.cosine_similarity(strong.tanh(), weak.tanh().detach(), dim=1)
        return {
            **self.loss(out, batch),
            "distillation": self.distillation * labelled_mean(apart, batch.labels),
        }, out

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the cross-entropy with the proxies, and lambda_2 times the quantization term, of labelled samples."""
        assert batch.labels is not None, "DHD is supervised"
        labels, hashed = batch.labels, out.tanh()
        target = labels / labels.sum(dim=1, keepdim=True).clamp(min=1)
        cosine = F.normalize(hashed, dim=1) @ F.normalize(self.proxies, dim=1).T
        entropy = -(target * (cosine / self.temperature).log_softmax(dim=1)).sum(dim=1)
        # Of both cross-entropies a bit's own corner leaves -log g, the other one -log(1 - g).
        bell = 1 / (2 * self.deviation**2)
        off_corner = bell * squared_gap(hashed) - (-(-bell * (hashed.abs() + 1) ** 2).exp()).log1p()
        return {
            "proxies": labelled_mean(entropy, labels),
            "quantization": self.quantization * labelled_mean(off_corner.mean(dim=1), labels),
        }
