"""HyP2: proxies of classes, and pairs of samples of several classes (Xu et al., ACM MM 2022, arXiv:2208.06866)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import counted_pairs, mean_of_pairs, similar

#: By how many bits a linear code of dimension k (row, from 1) and distance d = 1, 2, ..., 64 is longer than the bound
#: of Griesmer, sum_{i<k} ceil(d / 2^i): hexadecimal, without zeros at the end. From the authors' table of zeta.
EXCESS = (
    "", "", "", "", "001111", "00111111111111000011", "00111111111122221111111122221100001111111111",
    "00111111222222222222111133333333222222222222222222222222223311",
    "0011111122223333222233333333434432323232333343433333434343434344",
    "0011221122224344323243434343444433333333434344444343434344545555",
    "0011221133224344334344445454544444444444455555654656555556676666",
    "0022221133334354444444545555555545554554466757675677676767897877",
)  # fmt: skip


@hashbench.method("hyp2", paper="arXiv:2208.06866", version=1, fidelity="published", family="proxy", year=2022)
class HyP2(hashbench.DeepMethod):
    """HyP2: cosines to learned proxies, and cosines below zeta between samples of several classes that share none.

    The loss is the mean of 1 - cos(v, p) over samples and their classes' proxies, plus the mean of max(cos(v, p) -
    zeta, 0) over samples and other classes, plus beta times that of max(cos(v_i, v_j) - zeta, 0) over pairs of samples
    of several classes that share none: nothing for one label. Means, proxies, their start and zeta are those of the
    authors' code: zeta = 1 - 2 d / K, d the largest known distance of a linear code with C or more words. There,
    samples without label are negatives of all classes; here they count for nothing. Unverified: the paper's settings.
    """

    threshold: float | None = hashbench.option(None, "zeta, the cosine allowed to others; none: by bits and classes")
    pairs: float = hashbench.option(0.5, "beta, weight of the pairs of samples of several classes")
    proxy_learning_rate_scale: float = hashbench.option(1.0, "learning rate of the proxies by that of the head")

    #: The authors' code with AlexNet; with GoogLeNet its rates are 0.02 for all.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "alexnet",
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "step",
        "step_epochs": 10,
        "step_factor": 0.5,
        "batch_size": 100,
        "epochs": 100,
        "augment": "flip",
    }
    paper_fields: ClassVar[dict[str, Any]] = {"proxy_learning_rate_scale": 2.0}

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse bits and classes that the table of zeta does not hold, and rates without a meaning."""
        dimension = _dimension(task.num_classes)
        if self.threshold is None and dimension > task.bits:
            return f"{task.bits} bits give {2**task.bits} words, too few for {task.num_classes} classes; use more bits."
        if self.threshold is None and (task.bits > 128 or dimension > len(EXCESS)):
            return "zeta is known up to 128 bits and 4,096 classes; give one, for example --set hyp2.threshold=0.2."
        return None if self.proxy_learning_rate_scale >= 0 else "proxy_learning_rate_scale must be 0 or more."

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Draw the proxies from a normal distribution, and look up zeta."""
        self.proxies = nn.Parameter(torch.empty(task.num_classes, task.bits))
        nn.init.kaiming_normal_(self.proxies, mode="fan_out")
        if self.threshold is None:
            self._zeta = 1 - 2 * largest_distance(task.bits, _dimension(task.num_classes)) / task.bits
        else:
            self._zeta = self.threshold

    def parameter_groups(self, network: nn.Module, recipe: Any) -> list[dict[str, Any]]:
        """Return the usual groups, without the proxies, which are a group of their own."""
        groups = super().parameter_groups(network, recipe)
        for group in groups:
            group["params"] = [parameter for parameter in group["params"] if parameter is not self.proxies]
        rate = recipe.learning_rate * self.proxy_learning_rate_scale
        return [*(group for group in groups if group["params"]), {"params": [self.proxies], "lr": rate}]

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the means over own proxies, over others, and beta times that over pairs, of labelled samples."""
        assert batch.labels is not None, "HyP2 is supervised"
        labels = batch.labels
        unit = F.normalize(out, dim=1)
        cosine = unit @ F.normalize(self.proxies, dim=1).T
        several = labels * (labels.sum(dim=1, keepdim=True) > 1)
        strangers = counted_pairs(several) & (similar(several, several) == 0)
        return {
            "own proxies": mean_of_pairs(1 - cosine, labels),
            "other proxies": mean_of_pairs(F.relu(cosine - self._zeta), (1 - labels) * labels.any(dim=1, keepdim=True)),
            "pairs": self.pairs * mean_of_pairs(F.relu(unit @ unit.T - self._zeta), strangers),
        }


def largest_distance(bits: int, dimension: int) -> int:
    """Return the largest distance of a linear code of that many bits, up to 128, and dimension, up to 12, as known."""

    def length(distance: int) -> int:
        griesmer = sum(-(-distance // 2**i) for i in range(dimension))
        return griesmer + int(EXCESS[dimension - 1][distance - 1 : distance] or "0", 16)

    return max(distance for distance in range(1, bits + 1) if length(distance) <= bits)


def _dimension(classes: int) -> int:
    return max((classes - 1).bit_length(), 1)
