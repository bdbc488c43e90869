"""Small methods, one for each part of the contract that few methods need; not registered until `register` is called."""

import copy
import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import hashbench
from hashbench.methods import distinct_words


class TwoViews(hashbench.DeepMethod):
    """NT-Xent between two views of an image, of which the second is the stronger one; unsupervised."""

    supervised = False
    views = 2
    view_augments = ("", "resized-crop-flip-jitter")
    temperature: float = 0.5

    def training_step(self, network, batch):
        first, second = (F.normalize(network(view)) for view in batch.views)
        likeness = first @ second.T / self.temperature
        own = torch.arange(len(likeness), device=likeness.device)
        term = (F.cross_entropy(likeness, own) + F.cross_entropy(likeness.T, own)) / 2
        return {"contrast": term}, first


class Twin(hashbench.DeepMethod):
    """Outputs are pulled to their classes' centers, and to those of a twin that follows the network slowly."""

    per_sample = True

    def setup(self, task, prepared):
        self.register_buffer("centers", distinct_words(task.num_classes, task.bits, task.generator("centers")))

    def attach(self, network, task):
        self.twin = copy.deepcopy(network).requires_grad_(False)

    def training_step(self, network, batch):
        out = network(batch.inputs)
        center = (1 - out * (batch.labels @ self.centers)).clamp(min=0).mean()
        return {"center": center, "twin": (out - self.twin(batch.inputs)).square().mean()}, out

    def after_step(self, network, batch):
        for mine, theirs in zip(self.twin.parameters(), network.parameters(), strict=True):
            mine.lerp_(theirs, 0.1)


class Memory(hashbench.DeepMethod):
    """The pair likelihood of outputs against those that every training image had last, which a step then writes.

    A term depends on no other sample of the batch, so what ranks write is what one process writes.
    """

    per_sample = True
    keeps_samples = ("outputs", "labels", "steps")

    def setup(self, task, prepared):
        self.register_buffer("outputs", torch.zeros(task.num_train, task.bits))
        self.register_buffer("labels", torch.zeros(task.num_train, task.num_classes, dtype=torch.bool))
        self.register_buffer("steps", torch.full((task.num_train,), -1))

    def training_step(self, network, batch):
        out = network(batch.inputs)
        product = out @ self.outputs.T / 2
        same = (batch.labels @ self.labels.T.float() > 0).float()
        pairs = (F.softplus(product) - same * product).mean()
        self.latest = out.detach()  # written after the step: the backward pass needs the old rows
        return {"pairs": pairs, "size": (out.abs() - 1).square().mean()}, out

    def after_step(self, network, batch):
        self.outputs[batch.index] = self.latest
        self.labels[batch.index] = batch.labels > 0
        self.steps[batch.index] = batch.step


class Features(hashbench.DeepMethod):
    """Codes are as alike as the features of the same pass; unsupervised."""

    supervised = False

    def training_step(self, network, batch):
        features = network.features(batch.inputs)
        out = network.outputs(features)
        likeness, wanted = (F.normalize(rows) @ F.normalize(rows).T for rows in (out, features))
        return {"likeness": (likeness - wanted).square().mean()}, out


class DrawsEverywhere(hashbench.DeepMethod):
    """Draws from the global generators of torch, numpy and random in each hook."""

    def prepare(self, task, data, tools):
        return {"drawn": self._drawn()}

    def setup(self, task, prepared):
        self.register_buffer("prepared", prepared.get("drawn", torch.zeros(3)))
        self.register_buffer("at_setup", self._drawn())
        self.register_buffer("at_epochs", torch.zeros(3))

    def head(self, width, task):
        head = nn.Linear(width, task.bits)
        head.register_buffer("drawn", self._drawn())
        return head

    def attach(self, network, task):
        self.register_buffer("attached", self._drawn())

    def loss(self, out, batch):
        return {"size": (out - batch.labels.sum() * float(self._drawn().mean())).square().mean()}

    def end_epoch(self, epoch, sums):
        self.at_epochs += self._drawn().to(self.at_epochs)
        return {}

    @staticmethod
    def _drawn():
        return torch.tensor([float(torch.rand(())), np.random.rand(), random.random()])


class LowRank(hashbench.Method):
    """Principal components by a randomised algorithm of torch's, turned by a rotation that numpy and random draw."""

    supervised = False

    def fit(self, task, data):
        features = data.features()
        mean = features.mean(dim=0)
        _, _, components = torch.svd_lowrank(features - mean, q=task.bits, niter=0)
        rotation, _ = np.linalg.qr(np.random.randn(task.bits, task.bits))
        self.register_buffer("mean", mean)
        rotation = torch.from_numpy(rotation * random.uniform(1, 2)).to(components)
        self.register_buffer("directions", components @ rotation)

    def encode(self, inputs):
        return (inputs - self.mean) @ self.directions >= 0


DEEP = {"two-views": TwoViews, "twin": Twin, "memory": Memory, "features": Features, "draws": DrawsEverywhere}
CLASSES = DEEP | {"low-rank": LowRank}


def register(*names):
    """Register some of CLASSES, or all, under their names; for tests with the fixture `fresh_methods`."""
    for name in names or CLASSES:
        base = CLASSES[name]
        hashbench.method(name)(base)
