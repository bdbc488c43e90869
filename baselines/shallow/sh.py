"""SH: Spectral Hashing (Weiss et al., NeurIPS 2008)."""

from __future__ import annotations

from torch import Tensor

import hashbench
from hashbench.methods import Waves, signs_of_waves, smoothest_waves


@hashbench.method("sh", paper="NeurIPS 2008", version=1, fidelity="published", family="shallow", year=2008)
class SH(hashbench.Method):
    """Spectral Hashing: signs of the smoothest waves along the principal components, as if inputs were uniform.

    Along a component whose projections x range over [a, b], the eigenfunctions are cos(m pi (x - a) / (b - a)), m = 1,
    2, ...; those of the smallest m / (b - a) over all components give the bits. There are as many components as bits,
    and at most as many as features. Waves of more than one component are left out, as in the authors' code.
    """

    supervised = False

    mean: Tensor  # (width,)
    components: Tensor  # (width, components)
    lowest: Tensor  # (components,): a
    frequencies: Tensor  # (K,): m pi / (b - a)
    chosen: Tensor  # (K,): the component of each bit

    def fit(self, task: hashbench.Task, data: hashbench.TrainingData) -> None:
        """Find components, ranges and smoothest waves; raises HashbenchError where inputs span too little."""
        for name, value in smoothest_waves(data.features(), task.bits, method="sh")._asdict().items():
            self.register_buffer(name, value)

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the codes, bool (n, bits), of `inputs` (n, width)."""
        return signs_of_waves(inputs, Waves(self.mean, self.components, self.lowest, self.frequencies, self.chosen))
