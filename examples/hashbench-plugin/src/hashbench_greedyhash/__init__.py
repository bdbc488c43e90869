"""GreedyHash (Su et al., NeurIPS 2018): codes trained through the sign function as if it were not there."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hashbench


@hashbench.method("greedyhash", paper="Su et al., NeurIPS 2018", version=1)
class GreedyHash(hashbench.DeepMethod):
    """CE(W b, y) + alpha mean ||v| - 1|^3, with b = sign(v) and the gradient of b taken as that of v.

    A sample of several classes counts equally for each of them; the paper has one class a sample.
    """

    alpha: float = hashbench.option(0.1, "weight of the penalty; the paper's 0.1 is for CIFAR-10, ImageNet takes 1")

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Create the classifier W on the codes, trained along with the network."""
        self.classifier = nn.Linear(task.bits, task.num_classes, bias=False)

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the classification of the codes and the penalty on outputs that are far from them."""
        assert batch.labels is not None, "GreedyHash is supervised"
        sign = torch.where(out >= 0, 1.0, -1.0)
        codes = out + (sign - out).detach()  # the value of sign, the gradient of out
        target = batch.labels / batch.labels.sum(dim=1, keepdim=True).clamp(min=1)
        return {
            "classification": F.cross_entropy(self.classifier(codes), target),
            "quantization": self.alpha * (out.abs() - 1).abs().pow(3).mean(),
        }
