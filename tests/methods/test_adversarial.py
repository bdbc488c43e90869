"""Projected gradients and center codes, against loops over images and pairs."""

import math

import pytest
import torch

from hashbench.methods import center_codes, projected_gradient


def images(count=5, dtype=torch.float32):
    drawn = torch.rand(count, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    drawn[0, 0] = 0
    drawn[1, 0] = 1
    return drawn


def wavy(moved):
    """An objective with many hills, so that a long step may lead down."""
    weights = torch.linspace(-9, 9, 18, dtype=moved.dtype).view(2, 3, 3)
    return (weights * moved).sin().sum(dim=(1, 2, 3))


def literal(image, eps, step, steps, start):
    """Return the values on the way of one image, pixel by pixel."""
    clean = [float(pixel) for pixel in image.flatten()]
    weights = [-9 + 18 * at / 17 for at in range(18)]
    box = [(max(pixel - eps, 0), min(pixel + eps, 1)) for pixel in clean]
    moved = [min(max(pixel + move, low), high)
             for pixel, move, (low, high) in zip(clean, start.flatten().tolist(), box, strict=True)]  # fmt: skip
    values = [sum(math.sin(w * pixel) for w, pixel in zip(weights, moved, strict=True))]
    for _ in range(steps):
        slopes = [w * math.cos(w * pixel) for w, pixel in zip(weights, moved, strict=True)]
        moved = [min(max(pixel + step * (slope > 0) - step * (slope < 0), low), high)
                 for pixel, slope, (low, high) in zip(moved, slopes, box, strict=True)]  # fmt: skip
        values.append(sum(math.sin(w * pixel) for w, pixel in zip(weights, moved, strict=True)))
    return values


@pytest.mark.parametrize(("eps", "step", "steps"), [(0.1, 0.03, 7), (0.3, 0.2, 4), (0.2, 0.05, 0)])
def test_the_best_position_of_the_way_is_returned(eps, step, steps):
    given = images(dtype=torch.float64)
    start = eps * (2 * torch.rand(given.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1)
    for best, of in ((True, max), (False, lambda values: values[-1])):
        moved = projected_gradient(given, wavy, eps=eps, step=step, steps=steps, start=start, best=best)
        expected = [of(literal(image, eps, step, steps, move)) for image, move in zip(given, start, strict=True)]
        torch.testing.assert_close(wavy(moved), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("eps", [8 / 255, 0.1, 1 / 3, 2.0])
def test_no_value_moves_by_more_than_eps(eps):
    given = images(count=40)
    start = eps * (2 * torch.rand(given.shape, generator=torch.Generator().manual_seed(1)) - 1)
    moved = projected_gradient(given, wavy, eps=eps, step=eps, steps=3, start=start)
    assert float((moved.double() - given.double()).abs().max()) <= eps
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    assert not torch.equal(moved, given)


def test_without_distance_the_images_stay_to_the_bit():
    given = images()
    moved = projected_gradient(given, wavy, eps=0, step=2 / 255, steps=3, start=torch.zeros_like(given))
    assert torch.equal(moved, given)


def test_more_steps_never_give_less():
    given, before = images(), torch.full((5,), -torch.inf)
    for steps in range(8):
        values = wavy(projected_gradient(given, wavy, eps=0.3, step=0.2, steps=steps))
        assert (values >= before).all()
        before = values


def test_it_takes_a_pass_for_each_step_and_one_forward():
    passes = []

    def counted(moved):
        passes.append(moved.requires_grad)
        return wavy(moved)

    projected_gradient(images(), counted, eps=0.1, step=0.1, steps=3)
    assert passes == [True, True, True, False]
    passes.clear()
    projected_gradient(images(), counted, eps=0.1, step=0.1, steps=3, best=False)
    assert passes == [True, True, True]


@pytest.mark.parametrize("weights", ["equal", "jaccard", "cosine"])
def test_center_codes_are_those_of_loops(weights):
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 2, (30, 8), generator=random).double() * 2 - 1
    labels = (torch.rand(30, 4, generator=random) < 0.4).to(torch.uint8)
    labels[3] = 0
    wanted = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0]], dtype=torch.uint8)
    found = center_codes(codes, labels, wanted, weights=weights)
    for at, query in enumerate(wanted.tolist()):
        alike, unlike, weight = [0.0] * 8, [0.0] * 8, [0.0, 0.0]
        for code, item in zip(codes.tolist(), labels.tolist(), strict=True):
            if not any(item):
                continue
            both = sum(a and b for a, b in zip(query, item, strict=True))
            either = sum(a or b for a, b in zip(query, item, strict=True))
            if both:
                length = math.sqrt(sum(query) * sum(item))
                share = {"equal": 1, "jaccard": both / either, "cosine": both / length}[weights]
                alike = [total + share * bit for total, bit in zip(alike, code, strict=True)]
                weight[0] += share
            else:
                unlike = [total + bit for total, bit in zip(unlike, code, strict=True)]
                weight[1] += 1
        center = [1 if a / (weight[0] or 1) >= b / (weight[1] or 1) else -1 for a, b in zip(alike, unlike, strict=True)]
        assert found[at].tolist() == center
    assert not torch.equal(center_codes(codes, labels, wanted, weights="equal")[1], found[0])
