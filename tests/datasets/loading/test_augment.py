"""Every augmentation against a slow reference, sample by sample, for the parameters that were drawn."""

import sys

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from hashbench.datasets.loading import kernels_numba
from hashbench.datasets.loading.augment import (
    AUGMENTATIONS,
    Parameters,
    augmentation,
    dense_resample,
    resample,
    resize,
    shift,
)
from hashbench.datasets.loading.colour import BRIGHTNESS, CONTRAST, HUE, SATURATION, draw_colours, jitter
from hashbench.datasets.loading.kernels_numba import compiled_resample
from hashbench.errors import HashbenchError
from hashbench.metrics import compiling
from hashbench.system.seeds import generator

SHAPES = [(3, 32, 32), (1, 28, 28), (3, 24, 40)]
MOVING = ["flip", "pad-crop", "pad-crop-flip"]
RESAMPLING = ["resized-crop", "resized-crop-flip"]
JITTERING = [name for name in AUGMENTATIONS if AUGMENTATIONS[name].jitters]


def pictures(shape, count=12):
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator(0, "pictures"))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("size", [0, 20, 56])
def test_crops_and_flips_equal_torchvision_sample_by_sample(name, shape, size):
    images = pictures(shape)
    drawn = augmentation(name).draw(generator(1), len(images), height=shape[1], width=shape[2])
    views = augmentation(name).apply(images, drawn, size=size)
    for image, box, flip, view in zip(images, drawn.boxes.tolist(), drawn.flips, views, strict=True):
        pad = max(shape[1:])
        expected = reference.crop(reference.pad(image, [pad] * 4), box[0] + pad, box[1] + pad, box[2], box[3])
        expected = reference.horizontal_flip(expected) if flip else expected
        expected = expected.float() / 255
        if size:
            expected = reference.resize(expected, [size, size], antialias=True)
        torch.testing.assert_close(view, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [0, 7, 24, 64])
@pytest.mark.parametrize("name", RESAMPLING)
@pytest.mark.parametrize("numba", [True, False], ids=["numba", "no numba"])
def test_resized_crops_equal_torchvision_sample_by_sample(name, shape, size, numba, monkeypatch):
    if not numba:
        monkeypatch.setitem(sys.modules, "hashbench.datasets.loading.kernels_numba", None)
    images = pictures(shape)
    chosen = augmentation(name)
    drawn = chosen.draw(generator(1), len(images), height=shape[1], width=shape[2])
    views = chosen.apply(images, drawn, size=size)
    assert drawn.flips.any() == chosen.flips
    for image, box, flip, view in zip(images, drawn.boxes.tolist(), drawn.flips, views, strict=True):
        target = [size, size] if size else list(shape[1:])
        expected = reference.resized_crop(image.float() / 255, *box, target, antialias=True)
        torch.testing.assert_close(view, reference.horizontal_flip(expected) if flip else expected, atol=1e-5, rtol=0)


def jittered(image, brightness, contrast, saturation, hue):
    """The four of torchvision's ColorJitter in our order, for one image."""
    image = reference.adjust_contrast(reference.adjust_brightness(image, brightness), contrast)
    return reference.adjust_hue(reference.adjust_saturation(image, saturation), hue)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_colour_jitter_equals_torchvision_sample_by_sample(shape):
    images = pictures(shape).float() / 255
    images[:, :, :4] = 0  # black, white and grey have no hue
    images[:, :, 4:8] = 1
    images[:, :, 8:12] = 0.25
    colours = draw_colours(generator(2), len(images))
    colours[0], colours[1] = torch.tensor([0.0, 1, 1, 0]), torch.tensor([1.0, 1, 1, 0])  # all black; as it is
    views = jitter(images, colours)
    torch.testing.assert_close(views[1], images[1], atol=2e-6, rtol=0)
    for image, numbers, view in zip(images, colours.tolist(), views, strict=True):
        torch.testing.assert_close(view, jittered(image, *numbers), atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", JITTERING)
@pytest.mark.parametrize("size", [0, 20])
def test_jitter_comes_last_and_moves_nothing_that_was_drawn_before(name, size):
    images = pictures((3, 24, 40))
    chosen = augmentation(name)
    drawn = chosen.draw(generator(1), len(images), height=24, width=40)
    without = augmentation(name.removesuffix("-jitter") if name != "jitter" else "none")
    plain = without.draw(generator(1), len(images), height=24, width=40)
    assert plain.colours is None
    assert torch.equal(plain.boxes, drawn.boxes)
    assert torch.equal(plain.flips, drawn.flips)
    before = without.apply(images, plain, size=size)
    views = chosen.apply(images, drawn, size=size)
    for image, numbers, view in zip(before, drawn.colours.tolist(), views, strict=True):
        torch.testing.assert_close(view, jittered(image, *numbers), atol=5e-5, rtol=0)


def test_colours_are_drawn_from_torchvisions_ranges():
    from torchvision.transforms.v2 import ColorJitter

    ours = draw_colours(generator(0), 4_000)
    torch.manual_seed(0)
    transform = ColorJitter(BRIGHTNESS, CONTRAST, SATURATION, HUE)
    names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
    theirs = [transform.make_params([]) for _ in range(4_000)]
    for column, name in enumerate(names):
        expected = torch.tensor([float(drawn[name]) for drawn in theirs]).sort().values
        found = ours[:, column].sort().values
        assert (found - expected).abs().mean() < 0.05 * expected.std()
        assert expected.min() - 1e-3 < found.min()
        assert found.max() < expected.max() + 1e-3


def test_a_crop_over_the_edge_is_zero_there():
    image = torch.arange(1, 10, dtype=torch.uint8).reshape(1, 1, 3, 3)
    moved = shift(image, Parameters(torch.tensor([[1, -1, 3, 3]]), torch.tensor([False])))
    assert moved[0, 0].tolist() == [[0, 4, 5], [0, 7, 8], [0, 0, 0]]
    moved = shift(image, Parameters(torch.tensor([[1, -1, 3, 3]]), torch.tensor([True])))
    assert moved[0, 0].tolist() == [[5, 4, 0], [8, 7, 0], [0, 0, 0]]


def test_pad_crop_reaches_every_offset_evenly_and_no_other():
    boxes = augmentation("pad-crop").draw(generator(0), 9_000, height=32, width=16).boxes
    for column, pad in ((0, 4), (1, 2)):
        offsets, counts = boxes[:, column].unique(return_counts=True)
        assert offsets.tolist() == list(range(-pad, pad + 1))
        assert counts.min() > 0.8 * 9_000 / (2 * pad + 1)
    assert boxes[:, 2:].unique(dim=0).tolist() == [[32, 16]]


def test_half_of_the_views_are_flipped():
    for name in ("flip", "pad-crop-flip", "resized-crop-flip"):
        share = augmentation(name).draw(generator(0), 4_000, height=8, width=8).flips.float().mean()
        assert 0.45 < share < 0.55
    for name in ("none", "pad-crop"):
        assert not augmentation(name).draw(generator(0), 100, height=8, width=8).flips.any()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (224, 160), (8, 80), (90, 9), (1, 1)])
def test_resized_crop_boxes_lie_inside_and_have_the_allowed_shapes(height, width):
    boxes = augmentation("resized-crop-flip").draw(generator(0), 3_000, height=height, width=width).boxes
    tops, lefts, heights, widths = boxes.unbind(1)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] > 0).all()
    assert (tops + heights <= height).all()
    assert (lefts + widths <= width).all()
    ratio = widths / heights
    slack = 1 / heights + 1 / widths  # boxes are whole pixels
    assert ((ratio <= 4 / 3 * (1 + slack)) & (ratio >= 3 / 4 * (1 - slack))).all()


def test_resized_crop_areas_are_distributed_as_torchvisions():
    from torchvision.transforms.v2 import RandomResizedCrop

    ours = augmentation("resized-crop-flip").draw(generator(0), 2_000, height=64, width=64).boxes
    torch.manual_seed(0)
    transform, image = RandomResizedCrop(64), torch.zeros(1, 64, 64)
    theirs = torch.tensor([list(transform.make_params([image]).values())[:4] for _ in range(2_000)])
    for pick in (lambda b: (b[:, 2] * b[:, 3]).float(), lambda b: b[:, 2] / b[:, 3], lambda b: b[:, 0].float()):
        a, b = pick(ours).sort().values, pick(theirs).sort().values
        assert (a - b).abs().mean() < 0.05 * b.std() + 0.02 * b.mean()


@pytest.mark.parametrize("how", [compiled_resample, dense_resample])
def test_resampling_ignores_reduced_precision_around_it(how):
    images, box = pictures((3, 32, 32), 2), torch.tensor([[2, 3, 20, 25]]).expand(2, 4)
    drawn = Parameters(box, torch.tensor([False, True]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = how(images, drawn, height=16, width=16)
    torch.testing.assert_close(inside, how(images, drawn, height=16, width=16))


def boxes_within(height, width, count):
    """Boxes of every size and place, the whole image, its last pixel and its last row among them."""
    heights, widths = (torch.randint(1, side + 1, (count,), generator=generator(3)) for side in (height, width))
    places = torch.rand(2, count, generator=generator(4))
    tops, lefts = (places[0] * (height - heights + 1)).long(), (places[1] * (width - widths + 1)).long()
    edges = [[0, 0, height, width], [height - 1, width - 1, 1, 1], [height - 1, 0, 1, width]]
    return torch.cat([torch.stack([tops, lefts, heights, widths], dim=1), torch.tensor(edges)])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (41, 64), (90, 57)])
def test_the_compiled_resampling_equals_the_dense_products(channels, channels_last, height, width):
    boxes = boxes_within(height, width, 30)
    images = pictures((channels, height, width), len(boxes))
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    drawn = Parameters(boxes, torch.arange(len(boxes)) % 2 == 0)
    for size in ({"height": 64, "width": 96}, {"height": 24, "width": 40}, {"height": 1, "width": 5}):
        views, expected = (how(images, drawn, **size) for how in (compiled_resample, dense_resample))
        torch.testing.assert_close(views, expected, atol=1e-5, rtol=0)
        assert (views.dtype, views.stride()) == (expected.dtype, expected.stride())
    assert torch.equal(compiled_resample(images[:0], drawn[:0], **size), expected[:0])


def test_the_number_of_threads_changes_no_view(monkeypatch):
    images, boxes = pictures((3, 20, 30), 23), boxes_within(20, 30, 20)
    drawn = Parameters(boxes, torch.arange(23) % 3 == 0)
    handed_out = []
    monkeypatch.setattr(
        kernels_numba, "over_rows", lambda *given: handed_out.append(given[2]) or compiling.over_rows(*given)
    )
    views = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        views.append(compiled_resample(images, drawn, height=16, width=16))
        assert torch.equal(views[-1], views[0])
    assert handed_out == [1, 2, 5]


def test_the_products_resample_where_numba_is_missing(monkeypatch):
    images, drawn = pictures((3, 20, 30), 13), Parameters(boxes_within(20, 30, 10), torch.arange(13) % 3 == 0)
    size = {"height": 16, "width": 16}
    assert torch.equal(resample(images, drawn, **size), compiled_resample(images, drawn, **size))
    monkeypatch.setitem(sys.modules, "hashbench.datasets.loading.kernels_numba", None)
    assert torch.equal(resample(images, drawn, **size), dense_resample(images, drawn, **size))


@pytest.mark.parametrize(
    "box", [[-1, 0, 5, 5], [0, -1, 5, 5], [16, 0, 5, 5], [0, 26, 5, 5], [3, 3, 0, 5], [3, 3, 5, 0]]
)
def test_the_kernel_reads_nothing_beyond_the_image(box):
    drawn = Parameters(torch.tensor([box]), torch.tensor([False]))
    with pytest.raises(ValueError, match="must hold pixels and lie within the image"):
        compiled_resample(pictures((3, 20, 30), 1), drawn, height=8, width=8)


def test_resize_is_torchvisions_antialiased_one_within_a_level():
    images = pictures((3, 64, 48))
    for size in (17, 32, 224):
        expected = reference.resize(images, [size, size], antialias=True).float()
        assert (resize(images.float(), size).round() - expected).abs().max() <= 1
    kept = images.float()
    assert resize(kept, 0) is kept


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_views_are_float_images_in_the_unit_interval(name):
    images = pictures((3, 32, 32))
    drawn = augmentation(name).draw(generator(0), len(images), height=32, width=32)
    for size in (0, 24):
        views = augmentation(name).apply(images, drawn, size=size)
        assert views.shape == (len(images), 3, size or 32, size or 32)
        assert views.dtype == torch.float32
        assert views.min() >= 0
        assert views.max() <= 1 + 1e-5


def test_no_augmentation_leaves_the_pixels_alone():
    images = pictures((1, 28, 28))
    drawn = augmentation("none").draw(generator(0), len(images), height=28, width=28)
    torch.testing.assert_close(augmentation("none").apply(images, drawn) * 255, images.float())


def test_unknown_augmentations_get_a_suggestion():
    with pytest.raises(HashbenchError, match=r"Unknown augmentation 'padcrop'\. Did you mean 'pad-crop'\?"):
        augmentation("padcrop")
