"""SDH: Supervised Discrete Hashing (Shen et al., CVPR 2015)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

import hashbench
from hashbench.methods import coordinate_descent, draw_anchors, mean_distance, radial_features, random_words, ridge


@hashbench.method(
    "sdh", paper="doi:10.1109/CVPR.2015.7298598", version=1, fidelity="published", family="shallow", year=2015
)
class SDH(hashbench.Method):
    """Supervised Discrete Hashing: codes that classify linearly, found bit by bit, and a kernel map towards them.

    Minimises |Y - B W|^2 + lambda |W|^2 + nu |B - F|^2, F = phi(X) P, in turn over W (ridge), B (DCC) and P (ridge),
    from random codes; phi are radial basis functions around random training inputs. Inputs without a label are left
    out. The authors' code fixes the width of phi for its features; here it is the mean distance to the anchors (ours).
    It also gives phi a constant 1, which the paper does not have: `intercept`. Unverified: the ridge of P in the paper,
    0.01 in the code, and how DCC begins, in the code and here with the codes before.
    """

    classifier_decay: float = hashbench.option(1.0, "lambda, weight of |W|^2")
    map_weight: float = hashbench.option(1e-5, "nu, weight of the distance between codes and map")
    map_decay: float = hashbench.option(1e-2, "weight of |P|^2, beside |B - F|^2")
    anchors: int = hashbench.option(1000, "training inputs that the basis functions are around")
    intercept: bool = hashbench.option(False, "the map has a constant, too, as in the authors' code")
    rounds: int = hashbench.option(5, "of W, B and P")
    sweeps: int = hashbench.option(10, "of DCC over the bits in a round, at most")

    anchor_inputs: Tensor  # (anchors, width)
    width: Tensor  # (): of the basis functions
    projection: Tensor  # (anchors, K), with a row more for the intercept: P

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse settings without a meaning."""
        if min(self.classifier_decay, self.map_decay) <= 0 or self.map_weight < 0:
            return "classifier_decay and map_decay must be more than 0, and map_weight not less."
        if min(self.anchors, self.rounds, self.sweeps) < 1:
            return "anchors, rounds and sweeps must be at least 1."
        return None

    def fit(self, task: hashbench.Task, data: hashbench.TrainingData) -> None:
        """Find codes and map; raises HashbenchError where no training input has a label, or all are the same."""
        assert data.labels is not None, "SDH is supervised"
        labelled = data.labels.any(dim=1)
        features, targets = data.features()[labelled].float(), data.labels[labelled].double()
        if not len(features):
            raise hashbench.HashbenchError("sdh needs training inputs with labels; there are none.")
        anchors = draw_anchors(features, self.anchors, task.generator("anchors"))
        width = mean_distance(features, anchors)
        if width <= 0:
            raise hashbench.HashbenchError("sdh needs features that differ; all training inputs have the same.")
        mapped = self._mapped(features, anchors, width).double()
        codes = random_words(len(features), task.bits, task.generator("codes")).to(mapped)
        for _ in range(self.rounds):
            classifier = ridge(codes, targets, self.classifier_decay)
            projection = ridge(mapped, codes, self.map_decay)
            linear = targets @ classifier.T + self.map_weight * mapped @ projection
            codes = coordinate_descent(codes, classifier @ classifier.T, linear, sweeps=self.sweeps)
        self.register_buffer("anchor_inputs", anchors)
        self.register_buffer("width", torch.tensor(width, dtype=torch.float64, device=anchors.device))
        self.register_buffer("projection", ridge(mapped, codes, self.map_decay))

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the codes, bool (n, bits), of `inputs` (n, width)."""
        return self._mapped(inputs.double(), self.anchor_inputs.double(), self.width) @ self.projection >= 0

    def _mapped(self, inputs: Tensor, anchors: Tensor, width: float | Tensor) -> Tensor:
        """Return the basis functions of `inputs` (n, d), and 1 where there is an intercept."""
        mapped = radial_features(inputs, anchors, width)
        return F.pad(mapped, (0, 1), value=1.0) if self.intercept else mapped
