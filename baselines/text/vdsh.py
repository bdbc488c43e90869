"""VDSH: Variational Deep Semantic Hashing for Text Documents (Chaidaroon and Fang, SIGIR 2017)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hashbench


@hashbench.method(
    "vdsh", paper="doi:10.1145/3077136.3080816", version=2, fidelity="published", family="text", year=2017
)
class VDSH(hashbench.DeepMethod):
    """VDSH: a variational autoencoder of bags of words; a bit tells whether a latent mean reaches its median.

    An encoder of two layers (ReLU, dropout) gives the mean and log-variance of a Gaussian, from which a vector z is
    drawn; the words' probabilities are the softmax of R z + b. The loss is minus the sum over the document's words of
    the logarithm of probability times weight in the input, and the divergence of the Gaussian from N(0, I), whose
    weight rises from 0 to 1; both are means over the documents. The weights add a constant, but products below `floor`
    count as it, so that these words are not learned. The medians are those of the means of the training set, after each
    epoch. All that is the authors' code's, which takes one document a step and the medians at the end, draws R from
    N(0, 1), and squashes the log-variance by a sigmoid. Unverified: the paper's own settings.
    """

    hidden: int = hashbench.option(500, "width of the encoder's two layers")
    dropout: float = hashbench.option(0.1, "share of the second layer that is dropped")
    floor: float = hashbench.option(1e-10, "least probability times weight that is learned; 0: all are")
    annealing: int = hashbench.option(5000, "steps after which the divergence counts in full; 0: from the first step")

    supervised = False
    keeps_samples = ("means",)
    #: The authors' code for 20 Newsgroups, whose rate falls every 10,000 steps; a batch is one document.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "identity",
        "pretrained": False,
        "augment": "none",
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "schedule": "step",
        "step_epochs": 1,
        "step_factor": 0.96,
        "batch_size": 1,
        "epochs": 25,
    }

    medians: Tensor  # (K,)
    means: Tensor  # (num_train, K)

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse images, and settings without a meaning."""
        if task.inputs not in ("vectors", "text"):
            return "it learns from term vectors, and images have no words; use a data set of documents."
        if self.hidden < 1 or min(self.annealing, self.floor) < 0 or not 0 <= self.dropout < 1:
            return "hidden must be at least 1, annealing and floor at least 0, and dropout from 0 to less than 1."
        return None

    def prepare(self, task: hashbench.Task, data: hashbench.TrainingData, tools: Any) -> dict[str, Tensor]:
        """Return the number of words, which a network with a backbone of another width does not know.

        Raises HashbenchError for vectors with a value below 0, which weighs no word.
        """
        for batch in data.fresh():
            if batch.inputs.amin() < 0:
                raise hashbench.HashbenchError(
                    "vdsh learns from weights of words, and some are below 0; shift or drop them."
                )
        return {"words": torch.tensor(batch.inputs.shape[1])}

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Make the decoder, and medians of zero."""
        words = int(prepared["words"])
        self.embedding = nn.Parameter(torch.randn(words, task.bits))
        self.bias = nn.Parameter(torch.zeros(words))
        self.register_buffer("medians", torch.zeros(task.bits))
        self.register_buffer("means", torch.zeros(task.num_train, task.bits), persistent=False)

    def head(self, width: int, task: hashbench.Task) -> nn.Module:
        """Return the encoder: from features (n, width) to mean and log-variance, (n, 2 bits)."""
        return Encoder(width, self.hidden, task.bits, self.dropout)

    def training_step(self, network: nn.Module, batch: hashbench.Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the loss of the words and the weighted divergence, and the outputs."""
        out = network(batch.inputs)
        mean, log_variance = out.chunk(2, dim=1)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        return self.terms(out, z, batch), out

    def terms(self, out: Tensor, z: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the terms for outputs (n, 2 bits) and the vectors z (n, bits) drawn from their Gaussians."""
        mean, log_variance = out.chunk(2, dim=1)
        log_p = F.log_softmax(z @ self.embedding.T + self.bias, dim=1)
        there = batch.inputs > 0
        weighted = log_p + torch.where(there, batch.inputs, 1).log()
        if self.floor:
            weighted = weighted.clamp(min=math.log(self.floor))
        words = torch.where(there, weighted, 0).sum(dim=1)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1) / 2
        weight = min(batch.step / self.annealing, 1) if self.annealing else 1
        return {"words": -words.mean(), "divergence": weight * divergence.mean()}

    def wants_fresh_pass(self, epoch: int) -> bool:
        """Ask for a pass over the training set, for the medians."""
        return True

    def epoch_sums(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Keep the batch's means; there is nothing to add up."""
        self.means[batch.index] = out.chunk(2, dim=1)[0].to(self.means.dtype)
        return {}

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Take the medians of the means; returns nothing to log."""
        ascending = self.means.sort(dim=0).values
        count = len(ascending)
        self.medians.copy_((ascending[(count - 1) // 2] + ascending[count // 2]) / 2)
        return {}

    def codes(self, out: Tensor) -> Tensor:
        """Return where the means of outputs (n, 2 bits) are not below the medians, bool (n, bits)."""
        return out.chunk(2, dim=1)[0] >= self.medians


class Encoder(nn.Module):
    """Two layers with ReLU, then the mean and the squashed log-variance of a Gaussian."""

    def __init__(self, width: int, hidden: int, bits: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)
        )
        self.mean, self.log_variance = nn.Linear(hidden, bits), nn.Linear(hidden, bits)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return mean and log-variance (n, 2 bits) of features (n, width)."""
        found = self.layers(features)
        return torch.cat([self.mean(found), self.log_variance(found).sigmoid()], dim=1)
