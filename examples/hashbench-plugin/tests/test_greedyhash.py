"""The contract's checks, and the one thing that is GreedyHash's own: the gradient passes the sign unchanged."""

import torch
from hashbench_greedyhash import GreedyHash

import hashbench


def test_keeps_the_contract():
    verdict = hashbench.check("greedyhash")
    assert verdict.ok, verdict.render()


def test_sign_passes_the_gradient():
    task = hashbench.Task(
        num_classes=3, bits=8, multi_label=False, inputs="images", num_train=4, epochs=1, steps_per_epoch=1,
        device=torch.device("cpu"), seed=0,
    )  # fmt: skip
    method = GreedyHash(alpha=0.0)
    method.setup(task, {})
    out = torch.randn(4, 8, requires_grad=True)
    labels = torch.eye(3)[[0, 1, 2, 0]]
    batch = hashbench.Batch(views=(), labels=labels, index=torch.arange(4), epoch=0, step=0)
    sum(method.loss(out, batch).values()).backward()

    codes = out.detach().sign().requires_grad_()
    torch.nn.functional.cross_entropy(method.classifier(codes), labels).backward()
    torch.testing.assert_close(out.grad, codes.grad)
