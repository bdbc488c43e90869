"""Small tasks and batches for the tests of methods, as the trainer would make them."""

import torch

from hashbench.datasets.loading.batch import Batch
from hashbench.methods.contract import Task


def make_task(classes=10, bits=16, **given) -> Task:
    usual = {"multi_label": False, "inputs": "images", "num_train": 100, "epochs": 30, "steps_per_epoch": 1, "seed": 0}
    return Task(num_classes=classes, bits=bits, device=torch.device("cpu"), **{**usual, **given})


def make_batch(labels, epoch=0) -> Batch:
    """Return a batch with these labels (n, C); losses see nothing else of it."""
    return Batch((torch.zeros(len(labels), 1),), labels, torch.arange(len(labels)), epoch, 0)


def one_hot(numbers, classes) -> torch.Tensor:
    return torch.eye(classes, dtype=torch.float64)[torch.as_tensor(numbers)]


def some_outputs(count, bits, seed=0) -> torch.Tensor:
    """Return outputs (count, bits), float64, on both sides of every hinge and corner."""
    return 1.5 * torch.randn((count, bits), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_labels(count, classes, *, multi_label, seed=0) -> torch.Tensor:
    """Return labels (count, classes), float64; the last row has none, and with several classes some rows have ties."""
    chance = torch.Generator().manual_seed(seed)
    if multi_label:
        labels = (torch.rand((count, classes), generator=chance) < 0.4).double()
        labels[0], labels[0, :2] = 0, 1
    else:
        labels = one_hot(torch.randint(classes, (count,), generator=chance), classes)
    labels[-1] = 0
    return labels


def terms_and_gradients(method, out, labels):
    """Return the method's loss terms as floats, and the gradient of their sum by the outputs."""
    leaf = out.clone().requires_grad_()
    terms = method.double().loss(leaf, make_batch(labels))
    torch.stack(list(terms.values())).sum().backward()
    return {name: float(term.detach()) for name, term in terms.items()}, leaf.grad


def gradients(total, leaf):
    """Return the gradient of a loss that was computed from `leaf`."""
    return torch.autograd.grad(total, leaf)[0]
