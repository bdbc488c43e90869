"""DLBHC: Deep Learning of Binary Hash Codes for Fast Image Retrieval (Lin et al., CVPR workshops 2015)."""

from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import labelled_mean


@hashbench.method("dlbhc", paper="Lin et al., CVPR workshops 2015", version=1, family="pointwise", year=2015)
class DLBHC(hashbench.DeepMethod):
    """A classifier on a layer of sigmoids: CE(W sigmoid(v) + c, y); a bit is on where its sigmoid is 0.5 or more.

    A sample of several classes counts equally for each of them; the paper has one class a sample. Unverified: the
    authors' code, which could not be read.
    """

    quantization: float = hashbench.option(0.0, "weight of mean 1 - |2 sigmoid(v) - 1|, which the paper does not have")

    per_sample = True

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Create the classifier on the sigmoids, trained along with the network."""
        self.classifier = nn.Linear(task.bits, task.num_classes)

    def loss(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the classification of the sigmoids, and the weighted distance to the codes, of labelled samples."""
        assert batch.labels is not None, "DLBHC is supervised"
        shares = batch.labels / batch.labels.sum(dim=1, keepdim=True).clamp(min=1)
        hidden = out.sigmoid()
        return {
            "classification": labelled_mean(
                F.cross_entropy(self.classifier(hidden), shares, reduction="none"), batch.labels
            ),
            "quantization": self.quantization * labelled_mean(1 - (2 * hidden - 1).abs().mean(dim=1), batch.labels),
        }
