"""What a run keeps of its classes beside codes: the method's hash centers, and how alike the classes are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from hashbench.datasets.sparse import dense
from hashbench.methods.contract import Method, Task
from hashbench.metrics import pack

if TYPE_CHECKING:
    from hashbench.datasets.sparse import Inputs

IMAGES_PER_CLASS = 100  # enough for a mean, and little to read of a data set that is larger than memory


def class_centers(
    method: Method, task: Task, *, inputs: Inputs, labels: np.ndarray, index: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the arrays of centers.npz, {} for a method without a buffer `centers` (num_classes, bits) of signs.

    `centers` (C, ceil(bits / 8)) uint8, packed; `similarity` (C, C) float32: the `class_similarity` of the training
    inputs at `index`.
    """
    centers = getattr(method, "centers", None)
    if not isinstance(centers, Tensor) or centers.shape != (task.num_classes, task.bits):
        return {}
    return {"centers": pack((centers > 0).cpu().numpy()), "similarity": class_similarity(inputs, labels, index)}


def class_similarity(inputs: Inputs, labels: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the cosine of each two classes' mean inputs, the mean over classes taken off, (C, C) float32.

    `inputs` (N, ...) and `labels` (N, C) are the data set's; inputs are what no training changes: features of a fixed
    backbone, vectors, or pixels. A class's mean is that of its first images at `index`; nan for a class without images.
    """
    marked = labels[index] > 0
    means = np.full((labels.shape[1], int(np.prod(inputs.shape[1:]))), np.nan, dtype=np.float32)
    for number in np.flatnonzero(marked.any(axis=0)):
        images = dense(inputs[index[marked[:, number]][:IMAGES_PER_CLASS]])
        means[number] = images.reshape(len(images), -1).mean(axis=0, dtype=np.float32)
    means -= np.nanmean(means, axis=0)
    length = np.linalg.norm(means, axis=1, keepdims=True)
    means /= np.where(length > 0, length, 1)
    return means @ means.T
