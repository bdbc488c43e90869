"""CIMON: Towards High-quality Hash Codes (Luo et al., IJCAI 2021, arXiv:2010.07804)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import half_gaussians, nt_xent

#: Training samples at most: spectral clustering holds the affinities of all pairs twice, here 6 GiB.
MOST_SAMPLES = 20_000


@hashbench.method("cimon", paper="arXiv:2010.07804", version=1, fidelity="published", family="unsupervised", year=2021)
class CIMON(hashbench.DeepMethod):
    """CIMON: codes of two views follow similarities of fixed features, as far as distances and clusters trust them.

    Before training, on the fixed features of one draw of both views: S = 1 where the cosine distance is at most a
    threshold t, else -1; W is 0 where spectral clusters disagree with S, else the share by which the distance is beyond
    t on its side, of a Gaussian fitted to either side of the mode of distances. With h = tanh v, the loss is the sum
    over both views' codes and both views' S and W of the mean of W (h_i' h_j / K - S)^2 over all pairs of a batch, and
    eta times NT-Xent of h. All that is the authors' code's. Their features lie before the ReLU of VGG16's last hidden
    layer, and their head has no dropout; here the backbone's own features serve both, so t cuts other distances: of
    MobileNetV2's hardly any is below .1. The log of a run has the share of similar pairs, which t should leave above 0.
    Their strong view crops to .2 of the area at least, jitters 8 of 10 images, and grays and blurs some; here it crops
    to less and jitters all. Their clusters have one seed, here the run's. Kept of the features: directions, in half
    precision. Without a pretrained backbone they are the pixels. Unverified: the paper's text.
    """

    threshold: float = hashbench.option(0.1, "t, the largest cosine distance of a similar pair")
    clusters: int = hashbench.option(70, "number of spectral clusters")
    contrast: float = hashbench.option(0.3, "eta, weight of NT-Xent")
    temperature: float = hashbench.option(0.5, "by which NT-Xent divides the cosines")

    supervised = False
    views = 2
    view_augments = ("", "resized-crop-flip-jitter")
    prepared_by: ClassVar[tuple[str, ...]] = ("clusters",)
    #: The authors' code for CIFAR-10 with 5,000 training images.
    paper_recipe: ClassVar[dict[str, Any]] = {
        "backbone": "vgg16",
        "optimizer": "sgd",
        "learning_rate": 1e-3,
        "momentum": 0.9,
        "weight_decay": 1e-5,
        "schedule": "constant",
        "batch_size": 24,
        "epochs": 150,
    }

    directions: Tensor  # (2, num_train, width), half precision: of each view
    members: Tensor  # (2, num_train): its cluster
    distances: Tensor  # (2, 3): mode, deviation below, deviation above

    def supports(self, task: hashbench.Task) -> str | None:
        """Refuse settings without a meaning, training sets too small or too large, and a missing scikit-learn."""
        if self.temperature <= 0 or self.clusters < 2:
            return "temperature must be more than 0, clusters at least 2."
        if not self.clusters < task.num_train <= MOST_SAMPLES:
            return (
                f"it clusters {task.num_train:,} training samples by all their pairs, into {self.clusters} clusters; "
                f"it needs more samples than clusters, and at most {MOST_SAMPLES:,}."
            )
        if find_spec("sklearn") is None:
            return "it clusters with scikit-learn, which is not installed; pip install 'hashbench[clusters]'."
        return None

    def prepare(self, task: hashbench.Task, data: hashbench.TrainingData, tools: hashbench.Tools) -> dict[str, Tensor]:
        """Return the directions of both views' fixed features, where their distances lie, and their clusters."""
        from sklearn.cluster import SpectralClustering

        directions = torch.stack([F.normalize(features, dim=1).half() for features in tools.view_features()])
        seed = int(torch.randint(2**31, (), generator=task.generator("clusters")))
        members = []
        for view in directions.float().cpu():
            clustering = SpectralClustering(self.clusters, random_state=seed, assign_labels="discretize")
            members.append(torch.from_numpy(clustering.fit_predict(view.double().numpy())).to(directions.device))
        distances = torch.stack([half_gaussians(view.float()) for view in directions])
        return {"directions": directions, "members": torch.stack(members), "distances": distances}

    def setup(self, task: hashbench.Task, prepared: dict[str, Tensor]) -> None:
        """Keep what was prepared; it is saved with the run already."""
        for name in ("directions", "members", "distances"):
            self.register_buffer(name, prepared[name], persistent=False)

    def training_step(self, network: nn.Module, batch: hashbench.Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the gap between inner products and similarities, and eta times NT-Xent of the views."""
        outputs = [network(view) for view in batch.views]
        hashed = torch.stack([out.tanh() for out in outputs])
        similarity, weight = self.similarity(batch.index, hashed.dtype)
        products = hashed @ hashed.mT / hashed.shape[2]
        gaps = weight * (products[:, None] - similarity).square()  # (codes of a view, similarities of a view, n, n)
        return {
            "similarity": gaps.sum(dim=(0, 1)).mean(),
            "contrast": self.contrast * nt_xent(hashed[0], hashed[1], self.temperature),
        }, outputs[0]

    def similarity(self, index: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Return S and W (2, n, n), by each view's features, of the training samples at `index` (n,)."""
        unit = F.normalize(self.directions[:, index].to(dtype), dim=2)
        distance, threshold = 1 - unit @ unit.mT, self.threshold
        mode, below, above = self.distances.to(dtype)[:, :, None, None].unbind(dim=1)

        def share_beyond(deviation: Tensor, side: int) -> Tensor:
            scale = side / deviation.clamp(min=1e-6)
            tails = [torch.special.log_ndtr(scale * (at - mode)) for at in (distance, threshold)]
            return 1 - (tails[0] - tails[1]).exp()

        near = distance <= threshold
        trusted = torch.where(near, share_beyond(below, 1), share_beyond(above, -1)).clamp(0, 1)
        members = self.members[:, index]
        agreed = (members[:, :, None] == members[:, None]) == near
        return torch.where(near, 1.0, -1.0).to(dtype), trusted * agreed.to(dtype)

    def epoch_sums(self, out: Tensor, batch: hashbench.Batch) -> dict[str, Tensor]:
        """Return the sums over pairs of different samples of S = 1 and of W, and how many there were."""
        apart = 1 - torch.eye(len(out), dtype=torch.float64, device=out.device)
        similarity, weight = self.similarity(batch.index)
        return {"similar": (apart * (similarity > 0)).sum(), "weight": (apart * weight).sum(), "pairs": 2 * apart.sum()}

    def end_epoch(self, epoch: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the share of similar pairs and the mean weight, of both views; and the modes of their distances."""
        pairs = sums["pairs"].clamp(min=1)
        modes = dict(zip(("mode_of_view_1", "mode_of_view_2"), self.distances[:, 0].tolist(), strict=True))
        return {**{name: float(sums[name] / pairs) for name in ("similar", "weight")}, **modes}
